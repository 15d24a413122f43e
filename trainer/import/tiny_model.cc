#include "trainer/import/tiny_model.h"

#include <cstring>
#include <random>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "glog/logging.h"
#include "trainer/base/file.h"
#include "trainer/base/json.h"
#include "trainer/formats/safetensors.h"
#include "trainer/model/llama_tensors.h"

namespace deltaworks::trainer {
namespace {

constexpr uint32_t kGgufF32 = 0;
constexpr uint32_t kGgufF16 = 1;
constexpr uint32_t kGgufBF16 = 30;

constexpr int32_t kNormal = 1;
constexpr int32_t kControl = 3;

std::string Utf8(int code_point) {  // Below 0x800.
  if (code_point < 0x80) return std::string(1, static_cast<char>(code_point));
  return {static_cast<char>(0xc0 | (code_point >> 6)),
          static_cast<char>(0x80 | (code_point & 0x3f))};
}

// GPT-2's alphabet: printable bytes stand for themselves, the others for characters from 256 on.
std::vector<std::string> ByteAlphabet() {
  std::vector<std::string> alphabet;
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) ||
                           (byte >= 0xae && byte <= 0xff);
    alphabet.push_back(Utf8(printable ? byte : next++));
  }
  return alphabet;
}

void AddTokenizer(TinyModel& model) {
  for (const char* special : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}) {
    model.tokens.push_back(special);
    model.token_types.push_back(kControl);
  }
  for (const std::string& byte : ByteAlphabet()) {
    model.tokens.push_back(byte);
    model.token_types.push_back(kNormal);
  }
  const std::string space = Utf8(0x120);
  model.merges = {absl::StrCat(space, " t"), "h e", absl::StrCat(space, "t he"), "1 2"};
  for (const std::string& merge : model.merges) {
    model.tokens.push_back(absl::StrReplaceAll(merge, {{" ", ""}}));
    model.token_types.push_back(kNormal);
  }
  model.chat_template =
      "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "
      "message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
}

uint16_t HalfBits(float value) {
  if (value == 0) return 0;
  uint32_t word;
  std::memcpy(&word, &value, sizeof(word));
  CHECK_EQ(word & 0x1fffu, 0u) << value << " is not exact in F16";
  return static_cast<uint16_t>(((word >> 16) & 0x8000u) | ((((word >> 23) & 0xffu) - 112) << 10) |
                               ((word >> 13) & 0x3ffu));
}

DType TypeOf(uint32_t gguf_type) {
  if (gguf_type == kGgufF32) return DType::kF32;
  if (gguf_type == kGgufF16) return DType::kF16;
  CHECK_EQ(gguf_type, kGgufBF16) << "a tiny model has no tensors of this type";
  return DType::kBF16;
}

struct Renaming {
  const char* from;
  const char* to;
};
constexpr Renaming kRenamings[] = {
    {"model.embed_tokens", "token_embd"},
    {"model.norm", "output_norm"},
    {"lm_head", "output"},
    {"model.layers", "blk"},
    {"input_layernorm", "attn_norm"},
    {"post_attention_layernorm", "ffn_norm"},
    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},
    {"self_attn.o_proj", "attn_output"},
    {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
};

std::string GgufName(std::string name) {
  for (const Renaming& renaming : kRenamings) {
    name = absl::StrReplaceAll(name, {{renaming.from, renaming.to}});
  }
  return name;
}

// As llama.cpp's converter does it: [heads, 2, D/2, columns] becomes [heads, D/2, 2, columns].
std::vector<float> Permuted(const std::vector<float>& rows, int64_t head_dim, int64_t columns) {
  std::vector<float> result;
  const int64_t heads = static_cast<int64_t>(rows.size()) / columns / head_dim;
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t i = 0; i < head_dim / 2; ++i) {
      for (int64_t j = 0; j < 2; ++j) {
        const auto row = rows.begin() + (head * head_dim + j * head_dim / 2 + i) * columns;
        result.insert(result.end(), row, row + columns);
      }
    }
  }
  return result;
}

void AddTokenizerMetadata(const TinyModel& model, GgufBuilder& builder) {
  builder.AddString("tokenizer.ggml.model", "gpt2");
  builder.AddString("tokenizer.ggml.pre", "smollm");
  builder.AddStrings("tokenizer.ggml.tokens", model.tokens);
  builder.AddInt32s("tokenizer.ggml.token_type", model.token_types);
  builder.AddStrings("tokenizer.ggml.merges", model.merges);
  builder.AddUint32("tokenizer.ggml.bos_token_id", 1);
  builder.AddUint32("tokenizer.ggml.eos_token_id", 2);
  builder.AddUint32("tokenizer.ggml.unknown_token_id", 0);
  builder.AddUint32("tokenizer.ggml.padding_token_id", 2);
  builder.AddBool("tokenizer.ggml.add_bos_token", false);
  builder.AddString("tokenizer.chat_template", model.chat_template);
}

void Write(const std::string& path, const std::string& text) {
  const absl::Status status = WriteFileAtomically(path, text);
  CHECK(status.ok()) << status;
}

}  // namespace

TinyModel MakeTinyModel(bool tie_word_embeddings, uint32_t seed) {
  TinyModel model;
  AddTokenizer(model);
  model.config.vocab_size = static_cast<int64_t>(model.tokens.size());
  model.config.hidden_size = 32;
  model.config.intermediate_size = 64;
  model.config.num_hidden_layers = 2;
  model.config.num_attention_heads = 4;
  model.config.num_key_value_heads = 2;
  model.config.head_dim = 8;
  model.config.max_position_embeddings = 128;
  model.config.rms_norm_eps = 1e-5;
  model.config.rope_theta = 10000;
  model.config.tie_word_embeddings = tie_word_embeddings;
  model.config.bos_token_id = 1;
  model.config.eos_token_ids = {2};
  model.config.pad_token_id = 2;
  std::mt19937 random(seed);
  for (const auto& [name, shape] : LlamaTensorShapes(model.config)) {
    // Norm weights around 1, the others around 0.
    const int middle = shape.size() == 1 ? 64 : 0;
    std::vector<float>& values = model.weights[name];
    values.resize(static_cast<size_t>(ConstTensorView(nullptr, DType::kF32, shape).elements()));
    for (float& value : values) {
      value = static_cast<float>(middle + static_cast<int>(random() % 64) - 32) / 64.0f;
    }
  }
  return model;
}

GgufBuilder TinyGguf(const TinyModel& model, uint32_t matrix_type) {
  const ModelConfig& config = model.config;
  GgufBuilder builder;
  builder.AddString("general.architecture", "llama");
  builder.AddUint32("llama.block_count", static_cast<uint32_t>(config.num_hidden_layers));
  builder.AddUint32("llama.context_length", static_cast<uint32_t>(config.max_position_embeddings));
  builder.AddUint32("llama.embedding_length", static_cast<uint32_t>(config.hidden_size));
  builder.AddUint32("llama.feed_forward_length", static_cast<uint32_t>(config.intermediate_size));
  builder.AddUint32("llama.attention.head_count",
                    static_cast<uint32_t>(config.num_attention_heads));
  builder.AddUint32("llama.attention.head_count_kv",
                    static_cast<uint32_t>(config.num_key_value_heads));
  builder.AddFloat32("llama.rope.freq_base", static_cast<float>(config.rope_theta));
  builder.AddFloat32("llama.attention.layer_norm_rms_epsilon",
                     static_cast<float>(config.rms_norm_eps));
  AddTokenizerMetadata(model, builder);
  for (const auto& [name, shape] : LlamaTensorShapes(config)) {
    std::vector<float> values = model.weights.at(name);
    const bool rotary = absl::StrContains(name, "q_proj") || absl::StrContains(name, "k_proj");
    if (rotary) values = Permuted(values, config.head_dim, shape.back());
    const uint32_t type = shape.size() == 1 ? kGgufF32 : matrix_type;
    GgufBuilder::Tensor tensor;
    tensor.name = GgufName(name);
    tensor.dimensions.assign(shape.rbegin(), shape.rend());
    tensor.type = type;
    tensor.data = EncodeExactly(values, TypeOf(type));
    builder.AddTensor(std::move(tensor));
  }
  return builder;
}

std::string EncodeExactly(const std::vector<float>& values, DType dtype) {
  std::string bytes;
  for (const float value : values) {
    switch (dtype) {
      case DType::kF32:
        bytes += GgufBuilder::Bytes(value);
        break;
      case DType::kF16:
        bytes += GgufBuilder::Bytes(HalfBits(value));
        break;
      case DType::kBF16:
        CHECK_EQ(static_cast<float>(BFloat16(value)), value) << "is not exact in BF16";
        bytes += GgufBuilder::Bytes(BFloat16(value));
        break;
      default:
        LOG(FATAL) << "a tiny model has no tensors of " << NameOf(dtype);
    }
  }
  return bytes;
}

std::string TinyTokenizerJson(const TinyModel& model) {
  Json vocab = Json::object();
  Json added_tokens = Json::array();
  for (size_t id = 0; id < model.tokens.size(); ++id) {
    vocab[model.tokens[id]] = id;
    if (model.token_types[id] != kControl) continue;
    added_tokens.push_back({{"id", id},
                            {"content", model.tokens[id]},
                            {"single_word", false},
                            {"lstrip", false},
                            {"rstrip", false},
                            {"normalized", false},
                            {"special", true}});
  }
  const Json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           {"use_regex", true}};
  const Json json = {{"version", "1.0"},
                     {"added_tokens", added_tokens},
                     {"pre_tokenizer", byte_level},
                     {"decoder", byte_level},
                     {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", model.merges}}}};
  return JsonText(json, 1);
}

void WriteTinyHfFolder(const TinyModel& model, const std::string& folder,
                       const TinyHfOptions& options) {
  const absl::Status made = MakeDirectories(folder);
  CHECK(made.ok()) << made;
  Write(folder + "/config.json", model.config.ToJson());
  Write(folder + "/tokenizer.json", TinyTokenizerJson(model));
  Json tokenizer_config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                           {"bos_token", "<|im_start|>"},
                           {"eos_token", {{"__type", "AddedToken"}, {"content", "<|im_end|>"}}},
                           {"pad_token", nullptr}};
  if (options.template_in_file) {
    Write(folder + "/chat_template.jinja", model.chat_template);
  } else {
    tokenizer_config["chat_template"] = model.chat_template;
  }
  Write(folder + "/tokenizer_config.json", JsonText(tokenizer_config));

  std::map<std::string, std::string> bytes;
  std::vector<TensorMap> shards(static_cast<size_t>(options.shards));
  Json weight_map = Json::object();
  size_t next = 0;
  const auto file_name = [&](size_t shard) {
    if (options.shards == 1) return std::string("model.safetensors");
    return absl::StrFormat("model-%05d-of-%05d.safetensors", shard + 1, options.shards);
  };
  for (const auto& [name, shape] : LlamaTensorShapes(model.config)) {
    bytes[name] = EncodeExactly(model.weights.at(name), options.dtype);
    const size_t shard = next++ % shards.size();
    shards[shard][name] = ConstTensorView(bytes[name].data(), options.dtype, shape);
    weight_map[name] = file_name(shard);
  }
  for (size_t i = 0; i < shards.size(); ++i) {
    Write(folder + "/" + file_name(i), SerializeSafetensors(shards[i], {{"format", "pt"}}));
  }
  if (options.shards > 1) {
    Write(folder + "/model.safetensors.index.json",
          JsonText(Json{{"metadata", Json::object()}, {"weight_map", weight_map}}, 2));
  }
}

}  // namespace deltaworks::trainer
