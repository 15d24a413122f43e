// What a GGUF's metadata means: config, tokenizer, and everything that is refused with a name.

#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <numbers>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/base/file.h"
#include "trainer/base/json.h"
#include "trainer/import/model_source.h"
#include "trainer/import/tiny_model.h"
#include "trainer/model/llama_tensors.h"

namespace deltaworks::trainer {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using Change = std::function<void(GgufBuilder&)>;

absl::StatusOr<std::unique_ptr<ModelSource>> Open(const Change& change,
                                                  const TinyModel& model = MakeTinyModel()) {
  GgufBuilder builder = TinyGguf(model);
  change(builder);
  const std::string path = ::testing::TempDir() + "/tiny.gguf";
  EXPECT_TRUE(WriteFileAtomically(path, builder.Build()).ok());
  return OpenModelSource(path);
}

std::string ErrorOf(const Change& change, const TinyModel& model = MakeTinyModel()) {
  const auto source = Open(change, model);
  EXPECT_TRUE(source.ok() || absl::IsInvalidArgument(source.status())) << source.status();
  return std::string(source.status().message());
}

// The source after `key` was replaced.
Change Setting(const std::string& key, uint32_t value) {
  return [=](GgufBuilder& b) {
    b.Remove(key);
    b.AddUint32(key, value);
  };
}
Change Setting(const std::string& key, const std::string& value) {
  return [=](GgufBuilder& b) {
    b.Remove(key);
    b.AddString(key, value);
  };
}

Json Tokenizer(const ModelSource& source) {
  auto json = ParseJson(source.tokenizer().tokenizer_json, "tokenizer.json");
  EXPECT_TRUE(json.ok()) << json.status();
  return *std::move(json);
}
Json TokenizerConfig(const ModelSource& source) {
  auto json = ParseJson(source.tokenizer().tokenizer_config_json, "tokenizer_config.json");
  EXPECT_TRUE(json.ok()) << json.status();
  return *std::move(json);
}

const Change kNothing = [](GgufBuilder&) {};

TEST(GgufSourceTest, TheConfigIsRead) {
  const TinyModel model = MakeTinyModel();
  const auto source = Open(kNothing, model);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ((*source)->config(), model.config);
}

TEST(GgufSourceTest, AnOutputTensorMeansUntiedEmbeddings) {
  const auto source = Open(kNothing, MakeTinyModel(/*tie_word_embeddings=*/false));
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_FALSE((*source)->config().tie_word_embeddings);
  EXPECT_TRUE((*source)->tensors().contains("lm_head.weight"));
}

TEST(GgufSourceTest, TheOrderOfRowsOfQAndKIsUndoneByTheFormula) {
  const TinyModel model = MakeTinyModel();
  const auto source = Open(kNothing, model);
  ASSERT_TRUE(source.ok()) << source.status();
  for (const char* module : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}) {
    const std::string name = LayerTensor(1, module);
    const std::vector<float>& want = model.weights.at(name);
    const int64_t rows = static_cast<int64_t>(want.size()) / 32;
    for (int64_t row = 0; row < rows; ++row) {
      std::vector<float> got(32);
      (*source)->ReadRows(name, row, row + 1, absl::MakeSpan(got));
      EXPECT_EQ(got, std::vector<float>(want.begin() + row * 32, want.begin() + row * 32 + 32))
          << name << " row " << row;
    }
  }
  // In the file, row 1 of q is row D/2 = 4 of Hugging Face's.
  const SourceTensor& q = (*source)->tensors().at(LayerTensor(0, "self_attn.q_proj"));
  float first;
  std::memcpy(&first, q.bytes.data() + 32 * sizeof(float), sizeof(first));
  EXPECT_EQ(first, model.weights.at(LayerTensor(0, "self_attn.q_proj"))[4 * 32]);
}

TEST(GgufSourceTest, TheEndOfATurnEndsAGenerationToo) {
  const auto source = Open([](GgufBuilder& b) { b.AddUint32("tokenizer.ggml.eot_token_id", 0); });
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_THAT((*source)->config().eos_token_ids, ElementsAre(2, 0));
}

TEST(GgufSourceTest, WhatIsNotALlamaModelIsRefused) {
  EXPECT_THAT(ErrorOf(Setting("general.architecture", "qwen2")),
              HasSubstr("general.architecture is \"qwen2\", want \"llama\""));
  EXPECT_THAT(ErrorOf([](GgufBuilder& b) { b.Remove("general.architecture"); }),
              HasSubstr("general.architecture is absent, want a string"));
  EXPECT_THAT(ErrorOf(Setting("llama.expert_count", 8)),
              HasSubstr("llama.expert_count is 8, want 0"));
  EXPECT_THAT(ErrorOf(Setting("llama.attention.sliding_window", 4096)),
              HasSubstr("sliding_window is 4096, want 0"));
  EXPECT_THAT(ErrorOf(Setting("llama.rope.scaling.type", "yarn")),
              HasSubstr("llama.rope.scaling.type is \"yarn\", want \"none\""));
  EXPECT_THAT(ErrorOf(Setting("llama.rope.dimension_count", 4)),
              HasSubstr("llama.rope.dimension_count is 4, want 8"));
  EXPECT_THAT(ErrorOf(Setting("llama.attention.value_length", 16)),
              HasSubstr("value_length is 16, want 8"));
  EXPECT_THAT(ErrorOf(Setting("general.quantization_version", 1)),
              HasSubstr("general.quantization_version is 1, want 2"));
}

TEST(GgufSourceTest, SizesThatAreMissingOrWrongAreNamed) {
  EXPECT_THAT(ErrorOf([](GgufBuilder& b) { b.Remove("llama.block_count"); }),
              HasSubstr("llama.block_count is absent"));
  EXPECT_THAT(ErrorOf(Setting("llama.attention.head_count", 0)),
              HasSubstr("llama.attention.head_count is 0, want at least 1"));
  EXPECT_THAT(ErrorOf(Setting("llama.attention.head_count", 5)),
              HasSubstr("head_count is 5, want a divisor of llama.embedding_length 32"));
  EXPECT_THAT(ErrorOf(Setting("llama.attention.head_count_kv", 3)),
              HasSubstr("num_key_value_heads is 3, want a divisor"));
  EXPECT_THAT(ErrorOf([](GgufBuilder& b) {
                b.Remove("llama.attention.head_count_kv");
                b.AddInt32s("llama.attention.head_count_kv", {2, 1});
              }),
              HasSubstr("is an array of int32, want an integer"));
  EXPECT_THAT(ErrorOf(Setting("llama.feed_forward_length", 65)),
              HasSubstr("mlp.down_proj.weight has shape [32, 64], want [32, 65] by the config"));
  EXPECT_THAT(ErrorOf(Setting("llama.block_count", 3)),
              HasSubstr("without model.layers.2.input_layernorm.weight [32]"));
  EXPECT_THAT(ErrorOf(Setting("llama.block_count", 1)),
              HasSubstr("has model.layers.1.input_layernorm.weight [32]"));
}

TEST(GgufSourceTest, MissingExtraAndUnknownTensorsAreNamed) {
  EXPECT_THAT(ErrorOf([](GgufBuilder& b) {
                std::erase_if(b.tensors(), [](const auto& tensor) {
                  return tensor.name == "output_norm.weight";
                });
              }),
              HasSubstr("without model.norm.weight [32]"));
  for (const char* name : {"blk.0.attn_q.bias", "blk.00.attn_q.weight", "blk.x.attn_q.weight",
                           "blk.0.ffn_gate_inp.weight", "blk.-1.attn_q.weight", "cls.weight"}) {
    EXPECT_THAT(ErrorOf([&](GgufBuilder& b) {
                  b.AddFloatTensor(name, {2}, {1, 2});
                }),
                HasSubstr(absl::StrCat("has a tensor ", name, " [2]")));
  }
}

TEST(GgufSourceTest, ATensorOfAWrongShapeIsRefusedWithTheShapeOfTheConfig) {
  EXPECT_THAT(ErrorOf([](GgufBuilder& b) {
                for (GgufBuilder::Tensor& tensor : b.tensors()) {
                  if (tensor.name == "blk.1.ffn_down.weight") tensor.dimensions = {32, 64};
                }
              }),
              HasSubstr("layers.1.mlp.down_proj.weight has shape [64, 32], want [32, 64] by the"));
}

TEST(GgufSourceTest, AVocabularyThatIsNotTheEmbeddingsIsRefused) {
  EXPECT_THAT(ErrorOf(Setting("llama.vocab_size", 264)),
              HasSubstr("llama.vocab_size is 264, want 263"));
  TinyModel model = MakeTinyModel();
  model.tokens.push_back("extra");
  model.token_types.push_back(1);
  EXPECT_THAT(ErrorOf(kNothing, model),
              HasSubstr("embed_tokens.weight has shape [263, 32], want [264, 32] by the config"));
}

// Factors as llama.cpp's converter computes them for head_dim 8 and rope_theta 500000.
std::vector<float> Llama3Factors(double factor) {
  std::vector<float> factors;
  for (int i = 0; i < 4; ++i) {
    const double wavelength = 2 * std::numbers::pi * std::pow(500000.0, i / 4.0);
    if (wavelength < 8192 / 4.0) {
      factors.push_back(1);
    } else if (wavelength > 8192 / 1.0) {
      factors.push_back(static_cast<float>(factor));
    } else {
      const double smooth = (8192 / wavelength - 1) / 3;
      factors.push_back(static_cast<float>(1 / ((1 - smooth) / factor + smooth)));
    }
  }
  return factors;
}

TEST(GgufSourceTest, Llama3RopeScalingIsRecognisedFromItsFactors) {
  const auto with_factors = [](const std::vector<float>& factors) {
    return [=](GgufBuilder& b) {
      b.Remove("llama.rope.freq_base");
      b.AddFloat32("llama.rope.freq_base", 500000);
      b.AddFloatTensor("rope_freqs.weight", {factors.size()}, factors);
    };
  };
  const std::vector<float> factors = Llama3Factors(32);
  ASSERT_TRUE(factors[2] > 1 && factors[2] < 32) << "the case between is not covered";
  const auto source = Open(with_factors(factors));
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ((*source)->config().rope_scaling, (Llama3RopeScaling{.factor = 32}));
  EXPECT_FALSE((*source)->tensors().contains("rope_freqs.weight"));

  std::vector<float> wrong = factors;
  wrong[2] *= 1.01f;
  EXPECT_THAT(ErrorOf(with_factors(wrong)), HasSubstr("rope_freqs.weight[2] is "));
  EXPECT_THAT(ErrorOf(with_factors({1, 2})), HasSubstr("rope_freqs.weight is [2], want [4]"));
}

TEST(GgufTokenizerTest, VocabularyMergesAndSpecialTokensAreKept) {
  const TinyModel model = MakeTinyModel();
  const auto source = Open(kNothing, model);
  ASSERT_TRUE(source.ok()) << source.status();
  const Json json = Tokenizer(**source);
  const Json& vocab = json["model"]["vocab"];
  ASSERT_EQ(vocab.size(), model.tokens.size());
  for (size_t id = 0; id < model.tokens.size(); ++id) EXPECT_EQ(vocab[model.tokens[id]], id);
  EXPECT_EQ(json["model"]["merges"], Json(model.merges));
  EXPECT_EQ(json["model"]["type"], "BPE");
  EXPECT_EQ(json["model"]["unk_token"], nullptr);
  ASSERT_EQ(json["added_tokens"].size(), 3);
  EXPECT_EQ(json["added_tokens"][1]["content"], "<|im_start|>");
  EXPECT_EQ(json["added_tokens"][1]["id"], 1);
  EXPECT_EQ(json["added_tokens"][1]["special"], true);
  EXPECT_EQ(json["post_processor"], nullptr);
}

TEST(GgufTokenizerTest, TheConfigHasTheTemplateAndTheSpecialTokens) {
  const TinyModel model = MakeTinyModel();
  const auto source = Open(kNothing, model);
  ASSERT_TRUE(source.ok()) << source.status();
  const Json want = {{"add_bos_token", false},
                     {"add_eos_token", false},
                     {"bos_token", "<|im_start|>"},
                     {"chat_template", model.chat_template},
                     {"clean_up_tokenization_spaces", false},
                     {"eos_token", "<|im_end|>"},
                     {"pad_token", "<|im_end|>"},
                     {"tokenizer_class", "PreTrainedTokenizerFast"},
                     {"unk_token", "<|endoftext|>"}};
  EXPECT_EQ(TokenizerConfig(**source), want);
}

TEST(GgufTokenizerTest, EachPreTokenizerIsWrittenOut) {
  const auto pre = [](const std::string& name) {
    const auto source = Open(Setting("tokenizer.ggml.pre", name));
    EXPECT_TRUE(source.ok()) << source.status();
    return Tokenizer(**source);
  };
  const Json smollm = pre("smollm")["pre_tokenizer"];
  EXPECT_EQ(smollm["type"], "Sequence");
  EXPECT_EQ(smollm["pretokenizers"][0], (Json{{"type", "Digits"}, {"individual_digits", true}}));
  EXPECT_EQ(smollm["pretokenizers"][1]["type"], "ByteLevel");
  EXPECT_EQ(smollm["pretokenizers"][1]["use_regex"], true);
  EXPECT_EQ(smollm["pretokenizers"][1]["add_prefix_space"], false);

  EXPECT_EQ(pre("gpt-2")["pre_tokenizer"], smollm["pretokenizers"][1]);
  EXPECT_EQ(pre("default"), pre("gpt-2"));

  const Json llama = pre("llama-bpe");
  EXPECT_THAT(llama["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"].get<std::string>(),
              HasSubstr(R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"));
  EXPECT_EQ(llama["pre_tokenizer"]["pretokenizers"][1]["use_regex"], false);
  EXPECT_EQ(llama["model"]["ignore_merges"], true);

  const Json qwen2 = pre("qwen2");
  EXPECT_THAT(qwen2["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"].get<std::string>(),
              HasSubstr(R"(|\p{N}| ?[^\s)"));
  EXPECT_EQ(qwen2["normalizer"], (Json{{"type", "NFC"}}));
  EXPECT_EQ(qwen2["model"]["ignore_merges"], false);

  EXPECT_THAT(ErrorOf(Setting("tokenizer.ggml.pre", "dbrx")),
              HasSubstr("tokenizer.ggml.pre is \"dbrx\", want one of smollm, gpt-2, default"));
}

TEST(GgufTokenizerTest, BosAndEosAreAddedWhereTheFileSaysSo) {
  const auto source = Open([](GgufBuilder& b) {
    b.Remove("tokenizer.ggml.add_bos_token");
    b.AddBool("tokenizer.ggml.add_bos_token", true);
    b.AddBool("tokenizer.ggml.add_eos_token", true);
  });
  ASSERT_TRUE(source.ok()) << source.status();
  const Json processor = Tokenizer(**source)["post_processor"];
  EXPECT_EQ(processor["type"], "TemplateProcessing");
  ASSERT_EQ(processor["single"].size(), 3);
  EXPECT_EQ(processor["single"][0]["SpecialToken"]["id"], "<|im_start|>");
  EXPECT_EQ(processor["single"][1]["Sequence"]["id"], "A");
  EXPECT_EQ(processor["single"][2]["SpecialToken"]["id"], "<|im_end|>");
  EXPECT_EQ(processor["pair"].size(), 6);
  EXPECT_THAT(processor["special_tokens"]["<|im_start|>"]["ids"], ElementsAre(1));
  EXPECT_EQ(TokenizerConfig(**source)["add_bos_token"], true);
}

TEST(GgufTokenizerTest, Llama3AddsBosUnlessTheFileSaysOtherwise) {
  const auto without_flag = Open([](GgufBuilder& b) {
    Setting("tokenizer.ggml.pre", "llama-bpe")(b);
    b.Remove("tokenizer.ggml.add_bos_token");
  });
  ASSERT_TRUE(without_flag.ok()) << without_flag.status();
  EXPECT_EQ(TokenizerConfig(**without_flag)["add_bos_token"], true);
  const auto with_flag = Open(Setting("tokenizer.ggml.pre", "llama-bpe"));
  ASSERT_TRUE(with_flag.ok()) << with_flag.status();
  EXPECT_EQ(TokenizerConfig(**with_flag)["add_bos_token"], false);
  EXPECT_THAT(ErrorOf([](GgufBuilder& b) {
                b.Remove("tokenizer.ggml.bos_token_id");
                b.Remove("tokenizer.ggml.add_bos_token");
                b.AddBool("tokenizer.ggml.add_bos_token", true);
              }),
              HasSubstr("add_bos_token is true, but there is no bos_token"));
}

TEST(GgufTokenizerTest, UserDefinedTokensAreAddedAndUnusedOnesLeftOut) {
  TinyModel model = MakeTinyModel();
  model.token_types[262] = 5;
  model.merges.pop_back();  // The one that gave token 262.
  model.token_types[261] = 4;
  const auto source = Open(kNothing, model);
  ASSERT_TRUE(source.ok()) << source.status();
  const Json json = Tokenizer(**source);
  EXPECT_EQ(json["model"]["vocab"].size(), 262);
  EXPECT_FALSE(json["model"]["vocab"].contains(model.tokens[262]));
  ASSERT_EQ(json["added_tokens"].size(), 4);
  EXPECT_EQ(json["added_tokens"][3]["content"], model.tokens[261]);
  EXPECT_EQ(json["added_tokens"][3]["special"], false);
}

TEST(GgufTokenizerTest, ListsThatContradictEachOtherAreRefused) {
  TinyModel model = MakeTinyModel();
  model.token_types.pop_back();
  EXPECT_THAT(ErrorOf(kNothing, model),
              HasSubstr("tokenizer.ggml.token_type has 262 entries, want 263"));
  model = MakeTinyModel();
  model.token_types[5] = 9;
  EXPECT_THAT(ErrorOf(kNothing, model), HasSubstr("token_type[5] is 9, want 1 (normal)"));
  model = MakeTinyModel();
  model.tokens[7] = model.tokens[6];
  EXPECT_THAT(ErrorOf(kNothing, model), HasSubstr("tokens[7] is "));
  model = MakeTinyModel();
  model.tokens[7] = "\xff\xfe";
  EXPECT_THAT(ErrorOf(kNothing, model), HasSubstr("tokens[7] is \"\\377\\376\", want UTF-8"));
  model = MakeTinyModel();
  model.chat_template = "\xff";
  EXPECT_THAT(ErrorOf(kNothing, model), HasSubstr("tokenizer.chat_template is"));
  for (const char* merge : {"ab", " b", "a ", "a b c", ""}) {
    model = MakeTinyModel();
    model.merges[1] = merge;
    EXPECT_THAT(ErrorOf(kNothing, model),
                HasSubstr(absl::StrCat("tokenizer.ggml.merges[1] is \"", merge,
                                       "\", want two tokens and a space")));
  }
  model = MakeTinyModel();
  model.merges[1] = "h h";
  EXPECT_THAT(ErrorOf(kNothing, model),
              HasSubstr("merges[1] is \"h h\", but \"hh\" is no token, want it in"));
}

TEST(GgufTokenizerTest, OtherTokenizersAndSpecialTokensOutOfRangeAreRefused) {
  EXPECT_THAT(ErrorOf(Setting("tokenizer.ggml.model", "llama")),
              HasSubstr("tokenizer.ggml.model is \"llama\", want \"gpt2\" (byte-level BPE)"));
  EXPECT_THAT(ErrorOf(Setting("tokenizer.ggml.bos_token_id", 263)),
              HasSubstr("bos_token_id is 263, want 0..262"));
  EXPECT_THAT(ErrorOf(Setting("tokenizer.ggml.unknown_token_id", 263)),
              HasSubstr("unknown_token_id is 263, want a token that is used"));
}

TEST(GgufTokenizerTest, AFileWithoutSpecialTokensOrTemplateHasNone) {
  const auto source = Open([](GgufBuilder& b) {
    for (const char* name : {"bos_token_id", "eos_token_id", "unknown_token_id", "padding_token_id",
                             "add_bos_token"}) {
      b.Remove(absl::StrCat("tokenizer.ggml.", name));
    }
    b.Remove("tokenizer.chat_template");
  });
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_FALSE((*source)->config().bos_token_id.has_value());
  EXPECT_THAT((*source)->config().eos_token_ids, IsEmpty());
  const Json config = TokenizerConfig(**source);
  EXPECT_FALSE(config.contains("bos_token"));
  EXPECT_FALSE(config.contains("chat_template"));
}

}  // namespace
}  // namespace deltaworks::trainer
