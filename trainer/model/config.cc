#include "trainer/model/config.h"

#include <initializer_list>
#include <utility>

#include "absl/strings/str_cat.h"
#include "trainer/base/json.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::trainer {
namespace {

absl::Status Wrong(absl::string_view subject, absl::string_view field, absl::string_view got,
                   absl::string_view want) {
  return absl::InvalidArgumentError(
      absl::StrCat(subject, ": ", field, " is ", got, ", want ", want));
}

std::string Short(const Json& value) {
  const std::string text = JsonText(value);
  return text.size() <= 80 ? text : absl::StrCat(text.substr(0, 80), "...");
}

absl::StatusOr<int64_t> IntOr(const Json& json, const std::string& name, int64_t otherwise,
                              absl::string_view subject) {
  if (!JsonHas(json, name)) return otherwise;
  return JsonInt(json, name, subject);
}

absl::StatusOr<double> DoubleOr(const Json& json, const std::string& name, double otherwise,
                                absl::string_view subject) {
  if (!JsonHas(json, name)) return otherwise;
  return JsonDouble(json, name, subject);
}

// A token id, absent for null and for the -1 that old configs have.
absl::StatusOr<std::optional<int64_t>> TokenId(const Json& json, const std::string& name,
                                               absl::string_view subject) {
  if (!JsonHas(json, name)) return std::nullopt;
  DW_ASSIGN_OR_RETURN(const int64_t id, JsonInt(json, name, subject));
  if (id == -1) return std::nullopt;
  return id;
}

// An id or a list of ids.
absl::StatusOr<std::vector<int64_t>> EosTokenIds(const Json& json, absl::string_view subject) {
  constexpr char kName[] = "eos_token_id";
  std::vector<int64_t> ids;
  if (!JsonHas(json, kName) || !json[kName].is_array()) {
    DW_ASSIGN_OR_RETURN(const std::optional<int64_t> id, TokenId(json, kName, subject));
    if (id.has_value()) ids.push_back(*id);
    return ids;
  }
  for (const Json& entry : json[kName]) {
    if (!entry.is_number_unsigned() || entry.get<uint64_t>() > INT64_MAX) {
      return Wrong(subject, kName, Short(json[kName]), "an integer or a list of integers");
    }
    ids.push_back(entry.get<int64_t>());
  }
  return ids;
}

// Fields that change what a model computes, with the only value that we compute; null and absent
// mean that value.
absl::Status CheckSupported(const Json& json, absl::string_view subject) {
  if (!json.is_object()) return Wrong(subject, "the text", json.type_name(), "an object");
  DW_ASSIGN_OR_RETURN(const std::string model_type, JsonString(json, "model_type", subject));
  if (model_type != "llama") {
    return Wrong(subject, "model_type", absl::StrCat("\"", model_type, "\""),
                 "\"llama\", the only supported one");
  }
  if (JsonHas(json, "architectures") &&
      json["architectures"] != Json::array({"LlamaForCausalLM"})) {
    return Wrong(subject, "architectures", Short(json["architectures"]), "[\"LlamaForCausalLM\"]");
  }
  const std::initializer_list<std::pair<const char*, Json>> only = {
      {"hidden_act", "silu"},      {"attention_bias", false},      {"mlp_bias", false},
      {"rope_interleaved", false}, {"partial_rotary_factor", 1.0},
  };
  for (const auto& [name, value] : only) {
    if (JsonHas(json, name) && json[name] != value) {
      return Wrong(subject, name, Short(json[name]), absl::StrCat(JsonText(value), " or none"));
    }
  }
  for (const char* name : {"quantization_config", "sliding_window"}) {
    if (JsonHas(json, name)) {
      return Wrong(subject, name, Short(json[name]), "none: it is not supported");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Llama3RopeScaling> ParseLlama3(const Json& json, absl::string_view subject) {
  Llama3RopeScaling scaling;
  DW_ASSIGN_OR_RETURN(scaling.factor, JsonDouble(json, "factor", subject));
  DW_ASSIGN_OR_RETURN(scaling.low_freq_factor, JsonDouble(json, "low_freq_factor", subject));
  DW_ASSIGN_OR_RETURN(scaling.high_freq_factor, JsonDouble(json, "high_freq_factor", subject));
  DW_ASSIGN_OR_RETURN(scaling.original_max_position_embeddings,
                      JsonInt(json, "original_max_position_embeddings", subject));
  return scaling;
}

// transformers 4: "rope_theta" and "rope_scaling" {"rope_type" or, older, "type"}.
// transformers 5: "rope_parameters" with both.
absl::Status ParseRope(const Json& json, absl::string_view subject, ModelConfig& config) {
  const std::string name = JsonHas(json, "rope_parameters") ? "rope_parameters" : "rope_scaling";
  constexpr double kDefaultTheta = 10000;  // Hugging Face's.
  DW_ASSIGN_OR_RETURN(config.rope_theta, DoubleOr(json, "rope_theta", kDefaultTheta, subject));
  if (!JsonHas(json, name)) return absl::OkStatus();
  const Json& rope = json[name];
  const std::string rope_subject = absl::StrCat(subject, ": ", name);
  if (!rope.is_object()) return Wrong(subject, name, Short(rope), "an object or none");
  DW_ASSIGN_OR_RETURN(config.rope_theta,
                      DoubleOr(rope, "rope_theta", config.rope_theta, rope_subject));
  if (JsonHas(rope, "partial_rotary_factor") && rope["partial_rotary_factor"] != Json(1.0)) {
    return Wrong(rope_subject, "partial_rotary_factor", Short(rope["partial_rotary_factor"]),
                 "1.0 or none");
  }
  std::string kind = "default";
  const char* const kind_name = JsonHas(rope, "rope_type") ? "rope_type" : "type";
  if (JsonHas(rope, kind_name)) {
    DW_ASSIGN_OR_RETURN(kind, JsonString(rope, kind_name, rope_subject));
  }
  if (kind == "default") return absl::OkStatus();
  if (kind != "llama3") {
    return Wrong(rope_subject, kind_name, absl::StrCat("\"", kind, "\""),
                 "\"default\" or \"llama3\"");
  }
  DW_ASSIGN_OR_RETURN(config.rope_scaling, ParseLlama3(rope, rope_subject));
  return absl::OkStatus();
}

absl::Status ParseShape(const Json& json, absl::string_view subject, ModelConfig& config) {
  DW_ASSIGN_OR_RETURN(config.vocab_size, JsonInt(json, "vocab_size", subject));
  DW_ASSIGN_OR_RETURN(config.hidden_size, JsonInt(json, "hidden_size", subject));
  DW_ASSIGN_OR_RETURN(config.intermediate_size, JsonInt(json, "intermediate_size", subject));
  DW_ASSIGN_OR_RETURN(config.num_hidden_layers, JsonInt(json, "num_hidden_layers", subject));
  DW_ASSIGN_OR_RETURN(config.num_attention_heads, JsonInt(json, "num_attention_heads", subject));
  DW_ASSIGN_OR_RETURN(config.num_key_value_heads,
                      IntOr(json, "num_key_value_heads", config.num_attention_heads, subject));
  if (JsonHas(json, "head_dim")) {
    DW_ASSIGN_OR_RETURN(config.head_dim, JsonInt(json, "head_dim", subject));
    return absl::OkStatus();
  }
  if (config.num_attention_heads < 1 || config.hidden_size % config.num_attention_heads != 0) {
    return Wrong(
        subject, "num_attention_heads", absl::StrCat(config.num_attention_heads),
        absl::StrCat("a divisor of hidden_size ", config.hidden_size, ", or a head_dim beside it"));
  }
  config.head_dim = config.hidden_size / config.num_attention_heads;
  return absl::OkStatus();
}

struct IntBound {
  const char* name;
  int64_t value;
  int64_t max;
};

absl::Status CheckSizes(const ModelConfig& config, absl::string_view subject) {
  constexpr int64_t kMillion = 1'000'000;
  const IntBound bounds[] = {
      {"vocab_size", config.vocab_size, 10 * kMillion},
      {"hidden_size", config.hidden_size, kMillion},
      {"intermediate_size", config.intermediate_size, 10 * kMillion},
      {"num_hidden_layers", config.num_hidden_layers, 1000},
      {"num_attention_heads", config.num_attention_heads, 10'000},
      {"num_key_value_heads", config.num_key_value_heads, 10'000},
      {"head_dim", config.head_dim, 256},
      {"max_position_embeddings", config.max_position_embeddings, 1000 * kMillion},
  };
  for (const IntBound& bound : bounds) {
    if (bound.value < 1 || bound.value > bound.max) {
      return Wrong(subject, bound.name, absl::StrCat(bound.value), absl::StrCat("1..", bound.max));
    }
  }
  if (config.head_dim % 2 != 0) {
    return Wrong(subject, "head_dim", absl::StrCat(config.head_dim),
                 "an even number: RoPE turns pairs");
  }
  if (config.num_attention_heads % config.num_key_value_heads != 0) {
    return Wrong(subject, "num_key_value_heads", absl::StrCat(config.num_key_value_heads),
                 absl::StrCat("a divisor of num_attention_heads ", config.num_attention_heads));
  }
  return absl::OkStatus();
}

absl::Status CheckTokenIds(const ModelConfig& config, absl::string_view subject) {
  std::vector<std::pair<const char*, int64_t>> ids;
  if (config.bos_token_id.has_value()) ids.emplace_back("bos_token_id", *config.bos_token_id);
  if (config.pad_token_id.has_value()) ids.emplace_back("pad_token_id", *config.pad_token_id);
  for (const int64_t id : config.eos_token_ids) ids.emplace_back("eos_token_id", id);
  for (const auto& [name, id] : ids) {
    if (id < 0 || id >= config.vocab_size) {
      return Wrong(subject, name, absl::StrCat(id), absl::StrCat("0..", config.vocab_size - 1));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckScaling(const Llama3RopeScaling& scaling, absl::string_view subject) {
  // Written so that NaN fails.
  if (!(scaling.factor >= 1 && scaling.factor <= 1e6)) {
    return Wrong(subject, "factor", absl::StrCat(scaling.factor), "1..1e6");
  }
  if (!(scaling.low_freq_factor > 0 && scaling.high_freq_factor > scaling.low_freq_factor &&
        scaling.high_freq_factor <= 1e6)) {
    return Wrong(subject, "low_freq_factor, high_freq_factor",
                 absl::StrCat(scaling.low_freq_factor, ", ", scaling.high_freq_factor),
                 "0 < low < high <= 1e6");
  }
  if (scaling.original_max_position_embeddings < 1 ||
      scaling.original_max_position_embeddings > 1'000'000'000) {
    return Wrong(subject, "original_max_position_embeddings",
                 absl::StrCat(scaling.original_max_position_embeddings), "1..1000000000");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> ModelConfig::Parse(absl::string_view text, absl::string_view subject) {
  DW_ASSIGN_OR_RETURN(const Json json, ParseJson(text, subject));
  DW_RETURN_IF_ERROR(CheckSupported(json, subject));
  ModelConfig config;
  DW_RETURN_IF_ERROR(ParseShape(json, subject, config));
  // What is absent has Hugging Face's default for Llama.
  DW_ASSIGN_OR_RETURN(config.max_position_embeddings,
                      IntOr(json, "max_position_embeddings", 2048, subject));
  DW_ASSIGN_OR_RETURN(config.rms_norm_eps, DoubleOr(json, "rms_norm_eps", 1e-6, subject));
  DW_RETURN_IF_ERROR(ParseRope(json, subject, config));
  if (JsonHas(json, "tie_word_embeddings")) {
    DW_ASSIGN_OR_RETURN(config.tie_word_embeddings, JsonBool(json, "tie_word_embeddings", subject));
  }
  DW_ASSIGN_OR_RETURN(config.bos_token_id, TokenId(json, "bos_token_id", subject));
  DW_ASSIGN_OR_RETURN(config.eos_token_ids, EosTokenIds(json, subject));
  DW_ASSIGN_OR_RETURN(config.pad_token_id, TokenId(json, "pad_token_id", subject));
  for (const char* name : {"dtype", "torch_dtype"}) {  // transformers 5, transformers 4.
    if (!JsonHas(json, name)) continue;
    DW_ASSIGN_OR_RETURN(config.torch_dtype, JsonString(json, name, subject));
    break;
  }
  DW_RETURN_IF_ERROR(config.Validate(subject));
  return config;
}

absl::Status ModelConfig::Validate(absl::string_view subject) const {
  DW_RETURN_IF_ERROR(CheckSizes(*this, subject));
  if (!(rms_norm_eps > 0 && rms_norm_eps < 1)) {
    return Wrong(subject, "rms_norm_eps", absl::StrCat(rms_norm_eps), "more than 0, less than 1");
  }
  if (!(rope_theta >= 1 && rope_theta <= 1e15)) {
    return Wrong(subject, "rope_theta", absl::StrCat(rope_theta), "1..1e15");
  }
  if (rope_scaling.has_value()) {
    DW_RETURN_IF_ERROR(CheckScaling(*rope_scaling, absl::StrCat(subject, ": rope_scaling")));
  }
  return CheckTokenIds(*this, subject);
}

std::string ModelConfig::ToJson() const {
  Json json = {
      {"architectures", Json::array({"LlamaForCausalLM"})},
      {"model_type", "llama"},
      {"attention_bias", false},
      {"mlp_bias", false},
      {"hidden_act", "silu"},
      {"vocab_size", vocab_size},
      {"hidden_size", hidden_size},
      {"intermediate_size", intermediate_size},
      {"num_hidden_layers", num_hidden_layers},
      {"num_attention_heads", num_attention_heads},
      {"num_key_value_heads", num_key_value_heads},
      {"head_dim", head_dim},
      {"max_position_embeddings", max_position_embeddings},
      {"rms_norm_eps", rms_norm_eps},
      {"rope_theta", rope_theta},
      {"tie_word_embeddings", tie_word_embeddings},
      // null, not absent: transformers has defaults of its own for absent ids.
      {"bos_token_id", nullptr},
      {"eos_token_id", nullptr},
      {"pad_token_id", nullptr},
  };
  if (rope_scaling.has_value()) {
    json["rope_scaling"] = {
        {"rope_type", "llama3"},
        {"factor", rope_scaling->factor},
        {"low_freq_factor", rope_scaling->low_freq_factor},
        {"high_freq_factor", rope_scaling->high_freq_factor},
        {"original_max_position_embeddings", rope_scaling->original_max_position_embeddings},
    };
  }
  if (bos_token_id.has_value()) json["bos_token_id"] = *bos_token_id;
  if (pad_token_id.has_value()) json["pad_token_id"] = *pad_token_id;
  if (eos_token_ids.size() == 1) json["eos_token_id"] = eos_token_ids[0];
  if (eos_token_ids.size() > 1) json["eos_token_id"] = eos_token_ids;
  if (torch_dtype.has_value()) json["torch_dtype"] = *torch_dtype;
  return absl::StrCat(JsonText(json, 2), "\n");
}

}  // namespace deltaworks::trainer
