// Writes the seeds that hold binary tensors: models of one layer and a few hundred bytes, small
// enough that a mutation often hits a length, a shape or a type. Every one of them is accepted.
//
//   make_corpus FOLDER    writes FOLDER/gguf/*, FOLDER/safetensors/*, FOLDER/hf_folder/*

#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "trainer/base/file.h"
#include "trainer/formats/gguf_builder.h"
#include "trainer/formats/safetensors.h"
#include "trainer/tensor.h"

namespace deltaworks::trainer {
namespace {

// ggml's types of tensors, with the bytes of a row of 32.
struct RowType {
  const char* name;
  uint32_t id;
  size_t row_bytes;
};
constexpr RowType kF32 = {"f32", 0, 128};
constexpr RowType kRowTypes[] = {
    kF32, {"f16", 1, 64}, {"q4_0", 2, 18}, {"q4_1", 3, 20}, {"q8_0", 8, 34}, {"bf16", 30, 64}};
constexpr uint64_t kHidden = 32;
constexpr uint64_t kHeadDim = 2;
constexpr uint64_t kIntermediate = 1;

// Bytes that are small finite numbers in every type.
std::string Weights(size_t bytes) { return std::string(bytes, '\x11'); }

void Save(const std::string& path, const std::string& bytes) {
  const absl::Status status = WriteFileAtomically(path, bytes);
  CHECK(status.ok()) << status;
}

void AddMetadata(GgufBuilder& gguf) {
  gguf.AddString("general.architecture", "llama");
  gguf.AddUint32("llama.block_count", 1);
  gguf.AddUint32("llama.context_length", 64);
  gguf.AddUint32("llama.embedding_length", kHidden);
  gguf.AddUint32("llama.feed_forward_length", kIntermediate);
  gguf.AddUint32("llama.attention.head_count", 1);
  gguf.AddUint32("llama.attention.key_length", kHeadDim);
  gguf.AddFloat32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  gguf.AddString("tokenizer.ggml.model", "gpt2");
  gguf.AddString("tokenizer.ggml.pre", "llama3");
  gguf.AddStrings("tokenizer.ggml.tokens", {"<s>", "a", "b", "ab", "\xc4\xa0"});
  gguf.AddInt32s("tokenizer.ggml.token_type", {3, 1, 1, 4, 1});
  gguf.AddStrings("tokenizer.ggml.merges", {"a b"});
  gguf.AddUint32("tokenizer.ggml.bos_token_id", 0);
  gguf.AddUint32("tokenizer.ggml.eos_token_id", 0);
  gguf.AddString("tokenizer.chat_template", "{{ messages[0].content }}");
}

// Norms and what is multiplied from the right are F32, as converters write them.
void AddTensors(const RowType& type, GgufBuilder& gguf) {
  const auto matrix = [&](const char* name, uint64_t rows) {
    gguf.AddTensor({.name = name,
                    .dimensions = {kHidden, rows},
                    .type = type.id,
                    .data = Weights(rows * type.row_bytes)});
  };
  const auto floats = [&](const char* name, std::vector<uint64_t> dimensions) {
    size_t bytes = sizeof(float);
    for (const uint64_t size : dimensions) bytes *= size;
    gguf.AddTensor({.name = name,
                    .dimensions = std::move(dimensions),
                    .type = kF32.id,
                    .data = Weights(bytes)});
  };
  matrix("token_embd.weight", 5);
  floats("output_norm.weight", {kHidden});
  floats("blk.0.attn_norm.weight", {kHidden});
  matrix("blk.0.attn_q.weight", kHeadDim);
  matrix("blk.0.attn_k.weight", kHeadDim);
  matrix("blk.0.attn_v.weight", kHeadDim);
  floats("blk.0.attn_output.weight", {kHeadDim, kHidden});
  floats("blk.0.ffn_norm.weight", {kHidden});
  matrix("blk.0.ffn_gate.weight", kIntermediate);
  matrix("blk.0.ffn_up.weight", kIntermediate);
  floats("blk.0.ffn_down.weight", {kIntermediate, kHidden});
}

// An entry of every type that there is, and no tensor.
std::string AllMetadataTypes() {
  GgufBuilder gguf;
  gguf.version = 2;
  const std::string eight = GgufBuilder::Bytes<uint64_t>(0x4010000000000001);
  for (uint32_t type = 0; type <= 12; ++type) {
    if (type == 8 || type == 9) continue;
    const size_t bytes = type == 0 || type == 1 || type == 7 ? 1
                         : type == 2 || type == 3            ? 2
                         : type >= 10                        ? 8
                                                             : 4;
    gguf.AddRaw(absl::StrCat("scalar.", type), type, eight.substr(0, bytes));
    gguf.AddRaw(absl::StrCat("array.", type), 9,
                GgufBuilder::Bytes(type) + GgufBuilder::Bytes<uint64_t>(2) +
                    eight.substr(0, bytes) + eight.substr(0, bytes));
  }
  gguf.AddString("string", "text");
  gguf.AddStrings("strings", {"", "a"});
  return gguf.Build();
}

void SaveGguf(const std::string& folder) {
  for (const RowType& type : kRowTypes) {
    GgufBuilder gguf;
    AddMetadata(gguf);
    AddTensors(type, gguf);
    Save(absl::StrCat(folder, "/model_", type.name), gguf.Build());
  }
  GgufBuilder gguf;
  gguf.alignment = 64;
  AddMetadata(gguf);
  gguf.AddUint32("general.alignment", 64);
  gguf.AddUint32("llama.vocab_size", 5);
  gguf.AddBool("tokenizer.ggml.add_bos_token", true);
  AddTensors(kRowTypes[4], gguf);
  // Llama 3's scaling of a head with one pair, which turns too fast to be scaled.
  gguf.AddFloatTensor("rope_freqs.weight", {1}, {1.0f});
  Save(folder + "/model_rope_scaling", gguf.Build());
  Save(folder + "/all_metadata_types", AllMetadataTypes());
}

constexpr DType kDTypes[] = {DType::kF64, DType::kF32, DType::kF16, DType::kBF16,
                             DType::kI32, DType::kI64, DType::kU8};

void SaveSafetensors(const std::string& folder) {
  const std::string data = Weights(64);
  TensorMap tensors;
  for (const DType dtype : kDTypes) {
    tensors[absl::StrCat("t.", NameOf(dtype))] = ConstTensorView(data.data(), dtype, {2, 3});
  }
  Save(folder + "/all_types", SerializeSafetensors(tensors, {{"format", "pt"}}));
  tensors = {{"empty", ConstTensorView(data.data(), DType::kF32, {0, 4})},
             {"scalar", ConstTensorView(data.data(), DType::kF32, {})}};
  Save(folder + "/empty_and_scalar", SerializeSafetensors(tensors, {}));
  Save(folder + "/no_tensors", SerializeSafetensors({}, {}));
}

// A model of the same shapes as above, with less in a row.
struct HfFiles {
  std::map<std::string, std::string> texts;
  TensorMap tensors;
};

const std::string& HfWeights() {
  static const auto* const weights = new std::string(Weights(256));
  return *weights;
}

HfFiles MakeHfFiles(DType dtype) {
  HfFiles files;
  const std::string layer = "model.layers.0.";
  const std::map<std::string, std::vector<int64_t>> shapes = {
      {"model.embed_tokens.weight", {4, 2}},       {"model.norm.weight", {2}},
      {layer + "input_layernorm.weight", {2}},     {layer + "post_attention_layernorm.weight", {2}},
      {layer + "self_attn.q_proj.weight", {2, 2}}, {layer + "self_attn.k_proj.weight", {2, 2}},
      {layer + "self_attn.v_proj.weight", {2, 2}}, {layer + "self_attn.o_proj.weight", {2, 2}},
      {layer + "mlp.gate_proj.weight", {1, 2}},    {layer + "mlp.up_proj.weight", {1, 2}},
      {layer + "mlp.down_proj.weight", {2, 1}}};
  for (const auto& [name, shape] : shapes) {
    files.tensors[name] = ConstTensorView(HfWeights().data(), dtype, shape);
  }
  files.texts["config.json"] =
      R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 4, )"
      R"("hidden_size": 2, "intermediate_size": 1, "num_hidden_layers": 1, )"
      R"("num_attention_heads": 1, "tie_word_embeddings": true, "eos_token_id": [1, 2]})";
  files.texts["tokenizer.json"] =
      R"({"added_tokens": [{"id": 3, "content": "<s>"}], )"
      R"("model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}})";
  files.texts["tokenizer_config.json"] =
      R"({"bos_token": {"content": "<s>"}, "eos_token": "b", "chat_template": )"
      R"([{"name": "default", "template": "{{ messages }}"}]})";
  return files;
}

std::string Joined(const std::map<std::string, std::string>& texts) {
  std::string input;
  for (const auto& [name, text] : texts) absl::StrAppend(&input, "=== ", name, "\n", text, "\n");
  return input;
}

void SaveHfFolder(const std::string& folder) {
  HfFiles files = MakeHfFiles(DType::kBF16);
  files.texts["model.safetensors"] = SerializeSafetensors(files.tensors, {{"format", "pt"}});
  // Last, where no line feed of the container follows: a safetensors file has no tail.
  std::string last = absl::StrCat("=== model.safetensors\n", files.texts["model.safetensors"]);
  files.texts.erase("model.safetensors");
  Save(folder + "/one_file", Joined(files.texts) + last);

  files = MakeHfFiles(DType::kF16);
  files.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] =
      ConstTensorView(HfWeights().data(), DType::kF32, {1});
  files.tensors["lm_head.weight"] = files.tensors["model.embed_tokens.weight"];
  TensorMap shards[2];
  std::string index;
  for (const auto& [name, view] : files.tensors) {
    const size_t shard = index.size() % 2;
    shards[shard][name] = view;
    absl::StrAppend(&index, index.empty() ? "" : ", ", "\"", name, "\": \"", shard,
                    ".safetensors\"");
  }
  files.texts["model.safetensors.index.json"] = absl::StrCat("{\"weight_map\": {", index, "}}");
  files.texts["chat_template.jinja"] = "{{ messages }}";
  files.texts["tokenizer_config.json"] = "{}";
  Save(folder + "/shards",
       absl::StrCat(Joined(files.texts), "=== 0.safetensors\n", SerializeSafetensors(shards[0], {}),
                    "\n=== 1.safetensors\n", SerializeSafetensors(shards[1], {})));
}

}  // namespace
}  // namespace deltaworks::trainer

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "got %d arguments, want the folder of the corpus\n", argc - 1);
    return 2;
  }
  const std::string root = argv[1];
  for (const char* target : {"gguf", "safetensors", "hf_folder"}) {
    const absl::Status status = deltaworks::MakeDirectories(absl::StrCat(root, "/", target));
    CHECK(status.ok()) << status;
  }
  deltaworks::trainer::SaveGguf(root + "/gguf");
  deltaworks::trainer::SaveSafetensors(root + "/safetensors");
  deltaworks::trainer::SaveHfFolder(root + "/hf_folder");
  return 0;
}
