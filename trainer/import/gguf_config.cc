#include "trainer/import/gguf_config.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "trainer/base/status_macros.h"
#include "trainer/tensor.h"

namespace deltaworks::trainer {
namespace {

absl::Status Wrong(const Gguf& gguf, absl::string_view what, absl::string_view got,
                   absl::string_view want) {
  return absl::InvalidArgumentError(
      absl::StrCat(gguf.subject(), ": ", what, " is ", got, ", want ", want));
}

absl::StatusOr<int64_t> IntOr(const Gguf& gguf, const std::string& key, int64_t otherwise) {
  if (!gguf.Has(key)) return otherwise;
  return gguf.Int(key);
}

// A number that, if it is there, may only be `want`.
absl::Status WantInt(const Gguf& gguf, const std::string& key, int64_t want) {
  DW_ASSIGN_OR_RETURN(const int64_t got, IntOr(gguf, key, want));
  if (got == want) return absl::OkStatus();
  return Wrong(gguf, key, absl::StrCat(got), absl::StrCat(want));
}

absl::Status CheckSupported(const Gguf& gguf) {
  DW_ASSIGN_OR_RETURN(const absl::string_view architecture, gguf.String("general.architecture"));
  if (architecture != "llama") {
    return Wrong(gguf, "general.architecture",
                 absl::StrCat("\"", absl::CEscape(architecture.substr(0, 80)), "\""),
                 "\"llama\", the only supported one");
  }
  DW_RETURN_IF_ERROR(WantInt(gguf, "llama.expert_count", 0));
  DW_RETURN_IF_ERROR(WantInt(gguf, "llama.attention.sliding_window", 0));
  // ggml changed its block layouts once; all files since 2023 have version 2.
  DW_RETURN_IF_ERROR(WantInt(gguf, "general.quantization_version", 2));
  const std::string scaling = "llama.rope.scaling.type";
  if (!gguf.Has(scaling)) return absl::OkStatus();
  DW_ASSIGN_OR_RETURN(const absl::string_view kind, gguf.String(scaling));
  if (kind == "none") return absl::OkStatus();
  return Wrong(gguf, scaling, absl::StrCat("\"", absl::CEscape(kind.substr(0, 80)), "\""),
               "\"none\", or Llama 3's scaling in a tensor rope_freqs.weight");
}

absl::Status ReadSizes(const Gguf& gguf, ModelConfig& config) {
  DW_ASSIGN_OR_RETURN(config.hidden_size, gguf.Int("llama.embedding_length"));
  DW_ASSIGN_OR_RETURN(config.intermediate_size, gguf.Int("llama.feed_forward_length"));
  DW_ASSIGN_OR_RETURN(config.num_hidden_layers, gguf.Int("llama.block_count"));
  DW_ASSIGN_OR_RETURN(config.max_position_embeddings, gguf.Int("llama.context_length"));
  const std::string heads = "llama.attention.head_count";
  DW_ASSIGN_OR_RETURN(config.num_attention_heads, gguf.Int(heads));
  if (config.num_attention_heads < 1) {
    return Wrong(gguf, heads, absl::StrCat(config.num_attention_heads), "at least 1");
  }
  DW_ASSIGN_OR_RETURN(config.num_key_value_heads,
                      IntOr(gguf, "llama.attention.head_count_kv", config.num_attention_heads));
  const std::string key_length = "llama.attention.key_length";
  if (!gguf.Has(key_length) && config.hidden_size % config.num_attention_heads != 0) {
    return Wrong(gguf, heads, absl::StrCat(config.num_attention_heads),
                 absl::StrCat("a divisor of llama.embedding_length ", config.hidden_size));
  }
  DW_ASSIGN_OR_RETURN(config.head_dim,
                      IntOr(gguf, key_length, config.hidden_size / config.num_attention_heads));
  DW_RETURN_IF_ERROR(WantInt(gguf, "llama.attention.value_length", config.head_dim));
  return WantInt(gguf, "llama.rope.dimension_count", config.head_dim);
}

absl::Status ReadVocabulary(const Gguf& gguf, ModelConfig& config) {
  DW_ASSIGN_OR_RETURN(const std::vector<absl::string_view> tokens,
                      gguf.Strings("tokenizer.ggml.tokens"));
  config.vocab_size = static_cast<int64_t>(tokens.size());
  DW_RETURN_IF_ERROR(WantInt(gguf, "llama.vocab_size", config.vocab_size));
  const auto token_id = [&](const char* name) -> absl::StatusOr<std::optional<int64_t>> {
    const std::string key = absl::StrCat("tokenizer.ggml.", name, "_token_id");
    if (!gguf.Has(key)) return std::nullopt;
    DW_ASSIGN_OR_RETURN(const int64_t id, gguf.Int(key));
    return id;
  };
  DW_ASSIGN_OR_RETURN(config.bos_token_id, token_id("bos"));
  DW_ASSIGN_OR_RETURN(config.pad_token_id, token_id("padding"));
  // The end of a text and, in chat models, the end of a turn.
  for (const char* name : {"eos", "eot"}) {
    DW_ASSIGN_OR_RETURN(const std::optional<int64_t> id, token_id(name));
    std::vector<int64_t>& ids = config.eos_token_ids;
    if (id.has_value() && std::find(ids.begin(), ids.end(), *id) == ids.end()) ids.push_back(*id);
  }
  return absl::OkStatus();
}

// What rope_freqs.weight divides the frequency of pair `i` by, for this scaling.
double ExpectedFactor(const ModelConfig& config, const Llama3RopeScaling& scaling, int64_t i) {
  const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(config.head_dim);
  const double wavelength = 2 * std::numbers::pi * std::pow(config.rope_theta, exponent);
  const double turns = static_cast<double>(scaling.original_max_position_embeddings) / wavelength;
  if (turns > scaling.high_freq_factor) return 1;
  if (turns < scaling.low_freq_factor) return scaling.factor;
  const double smooth =
      (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
  return 1 / ((1 - smooth) / scaling.factor + smooth);
}

absl::Status ReadRopeScaling(const Gguf& gguf, ModelConfig& config) {
  const GgufTensor* tensor = gguf.Find(kGgufRopeFactors);
  if (tensor == nullptr) return absl::OkStatus();
  const std::vector<int64_t> shape = {config.head_dim / 2};
  if (tensor->shape != shape) {
    return Wrong(gguf, kGgufRopeFactors, ShapeText(tensor->shape), ShapeText(shape));
  }
  std::vector<float> factors(static_cast<size_t>(shape[0]));
  DequantizeRows(*tensor, 0, 1, absl::MakeSpan(factors));
  Llama3RopeScaling scaling;  // The longest wave is scaled in full.
  scaling.factor = factors.back();
  for (size_t i = 0; i < factors.size(); ++i) {
    const double want = ExpectedFactor(config, scaling, static_cast<int64_t>(i));
    // The converter computed in f32 and stored f32; 1e-4 is far above that, far below a step.
    if (!(std::abs(factors[i] - want) <= 1e-4 * want)) {
      return Wrong(gguf, absl::StrCat(kGgufRopeFactors, "[", i, "]"), absl::StrCat(factors[i]),
                   absl::StrCat(want,
                                " as in Llama 3 (low_freq_factor 1, high_freq_factor 4, "
                                "original_max_position_embeddings 8192)"));
    }
  }
  config.rope_scaling = scaling;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> GgufModelConfig(const Gguf& gguf) {
  DW_RETURN_IF_ERROR(CheckSupported(gguf));
  ModelConfig config;
  DW_RETURN_IF_ERROR(ReadSizes(gguf, config));
  DW_RETURN_IF_ERROR(ReadVocabulary(gguf, config));
  DW_ASSIGN_OR_RETURN(config.rms_norm_eps, gguf.Float("llama.attention.layer_norm_rms_epsilon"));
  config.rope_theta = 10000;  // llama.cpp's default.
  if (gguf.Has("llama.rope.freq_base")) {
    DW_ASSIGN_OR_RETURN(config.rope_theta, gguf.Float("llama.rope.freq_base"));
  }
  config.tie_word_embeddings = gguf.Find("output.weight") == nullptr;
  DW_RETURN_IF_ERROR(config.Validate(gguf.subject()));
  DW_RETURN_IF_ERROR(ReadRopeScaling(gguf, config));  // Relies on sizes that are valid.
  DW_RETURN_IF_ERROR(config.Validate(gguf.subject()));
  return config;
}

}  // namespace deltaworks::trainer
