#include "trainer/lora/peft_format.h"

#include <cmath>
#include <cstring>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "trainer/base/file.h"
#include "trainer/base/json.h"
#include "trainer/base/status_macros.h"
#include "trainer/formats/float16.h"
#include "trainer/formats/safetensors.h"

namespace deltaworks::trainer {
namespace {

constexpr char kBaseKey[] = "deltaworks.base";

// Settings of PEFT that change what the adapter computes and that we do not apply: each must be
// absent or have this value.
struct FixedField {
  const char* name;
  Json value;
};

std::vector<FixedField> FixedFields() {
  return {{"bias", "none"},
          {"fan_in_fan_out", false},
          {"use_dora", false},
          {"lora_bias", false},
          {"modules_to_save", nullptr},
          {"layers_to_transform", nullptr},
          {"layer_replication", nullptr},
          {"trainable_token_indices", nullptr},
          {"target_parameters", nullptr},
          {"use_qalora", false}};
}

absl::Status CheckFixedFields(const Json& json) {
  for (const FixedField& field : FixedFields()) {
    if (!json.contains(field.name) || json[field.name].is_null()) continue;
    const bool empty = json[field.name].is_structured() && json[field.name].empty();
    if (json[field.name] == field.value || empty) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(kAdapterConfigFile, ": ", field.name, " is ", JsonText(json[field.name]),
                     ", want ", JsonText(field.value), ": no other value is supported"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> TargetModules(const Json& json) {
  if (JsonHas(json, "target_modules")) {
    const Json& value = json["target_modules"];
    if (value == "all-linear") return std::vector<std::string>{"all-linear"};
    if (value.is_array() && !value.empty()) {
      std::vector<std::string> names;
      for (const Json& name : value) {
        if (name.is_string()) names.push_back(name.get<std::string>());
      }
      if (names.size() == value.size()) return names;
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat(kAdapterConfigFile, ": target_modules is ",
                   JsonHas(json, "target_modules") ? JsonText(json["target_modules"]) : "absent",
                   ", want a list of names or all-linear (a regular expression is not supported)"));
}

absl::StatusOr<LoraConfig> ParseConfig(absl::string_view text) {
  DW_ASSIGN_OR_RETURN(const Json json, ParseJson(text, kAdapterConfigFile));
  DW_ASSIGN_OR_RETURN(const std::string type, JsonString(json, "peft_type", kAdapterConfigFile));
  if (type != "LORA") {
    return absl::InvalidArgumentError(
        absl::StrCat(kAdapterConfigFile, ": peft_type is ", type, ", want LORA"));
  }
  DW_RETURN_IF_ERROR(CheckFixedFields(json));
  LoraConfig config;
  DW_ASSIGN_OR_RETURN(config.rank, JsonInt(json, "r", kAdapterConfigFile));
  DW_ASSIGN_OR_RETURN(config.lora_alpha, JsonDouble(json, "lora_alpha", kAdapterConfigFile));
  if (JsonHas(json, "lora_dropout")) {
    DW_ASSIGN_OR_RETURN(config.lora_dropout, JsonDouble(json, "lora_dropout", kAdapterConfigFile));
  }
  if (JsonHas(json, "use_rslora")) {
    DW_ASSIGN_OR_RETURN(config.use_rslora, JsonBool(json, "use_rslora", kAdapterConfigFile));
  }
  DW_ASSIGN_OR_RETURN(config.target_modules, TargetModules(json));
  if (JsonHas(json, "rank_pattern")) {
    for (const auto& item : json["rank_pattern"].items()) {
      DW_ASSIGN_OR_RETURN(config.rank_pattern[item.key()],
                          JsonInt(json["rank_pattern"], item.key(), kAdapterConfigFile));
    }
  }
  if (JsonHas(json, "alpha_pattern")) {
    for (const auto& item : json["alpha_pattern"].items()) {
      DW_ASSIGN_OR_RETURN(config.alpha_pattern[item.key()],
                          JsonDouble(json["alpha_pattern"], item.key(), kAdapterConfigFile));
    }
  }
  return config;
}

// The elements as f32. The data may lie unaligned.
absl::Status ToFloats(const ConstTensorView& tensor, absl::string_view name, float* out) {
  const char* bytes = static_cast<const char*>(tensor.data);
  for (int64_t i = 0; i < tensor.elements(); ++i) {
    uint16_t half = 0;
    BFloat16 brain;
    switch (tensor.dtype) {
      case DType::kF32:
        std::memcpy(&out[i], bytes + 4 * i, 4);
        break;
      case DType::kF16:
        std::memcpy(&half, bytes + 2 * i, 2);
        out[i] = FloatFromHalf(half);
        break;
      case DType::kBF16:
        std::memcpy(&brain.bits, bytes + 2 * i, 2);
        out[i] = static_cast<float>(brain);
        break;
      default:
        return absl::InvalidArgumentError(absl::StrCat(kAdapterModelFile, ": ", name, " is ",
                                                       NameOf(tensor.dtype),
                                                       ", want F32, F16 or BF16"));
    }
    if (!std::isfinite(out[i])) {
      return absl::InvalidArgumentError(absl::StrCat(kAdapterModelFile, ": ", name, " element ", i,
                                                     " is ", out[i], ", want finite"));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadValues(const Safetensors& file, absl::Span<const AdapterTensor> wanted,
                        std::vector<float>* values) {
  for (const AdapterTensor& tensor : wanted) {
    const ConstTensorView* found = file.Find(tensor.name);
    if (found == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(kAdapterModelFile, ": ", tensor.name,
                                                     " is absent, want ", ShapeText(tensor.shape)));
    }
    if (found->shape != tensor.shape) {
      return absl::InvalidArgumentError(absl::StrCat(kAdapterModelFile, ": ", tensor.name, " is ",
                                                     ShapeText(found->shape), ", want ",
                                                     ShapeText(tensor.shape)));
    }
    DW_RETURN_IF_ERROR(ToFloats(*found, tensor.name, values->data() + tensor.offset));
  }
  if (file.tensors.size() == wanted.size()) return absl::OkStatus();
  std::map<std::string, bool> known;
  for (const AdapterTensor& tensor : wanted) known[tensor.name] = true;
  for (const auto& [name, tensor] : file.tensors) {
    if (!known.contains(name)) {
      return absl::InvalidArgumentError(absl::StrCat(kAdapterModelFile, ": ", name,
                                                     " belongs to no target of ",
                                                     kAdapterConfigFile, " on this base"));
    }
  }
  return absl::OkStatus();
}

std::string ConfigText(const LoraConfig& config, const std::string& base_name) {
  Json json;
  for (const FixedField& field : FixedFields()) json[field.name] = field.value;
  json["peft_type"] = "LORA";
  json["task_type"] = "CAUSAL_LM";
  json["base_model_name_or_path"] = base_name;
  json["inference_mode"] = true;
  json["init_lora_weights"] = true;
  json["r"] = config.rank;
  json["lora_alpha"] = config.lora_alpha;
  json["lora_dropout"] = config.lora_dropout;
  json["use_rslora"] = config.use_rslora;
  if (config.target_modules[0] == "all-linear") {
    json["target_modules"] = "all-linear";
  } else {
    json["target_modules"] = config.target_modules;
  }
  json["rank_pattern"] = config.rank_pattern.empty() ? Json::object() : Json(config.rank_pattern);
  json["alpha_pattern"] =
      config.alpha_pattern.empty() ? Json::object() : Json(config.alpha_pattern);
  return JsonText(json, 2) + "\n";
}

}  // namespace

PeftFiles SerializePeft(const LoraConfig& config, absl::Span<const AdapterTensor> tensors,
                        absl::Span<const float> values, const std::string& base_name,
                        const std::string& base_digest) {
  TensorMap map;
  for (const AdapterTensor& tensor : tensors) {
    map[tensor.name] = ConstTensorView(values.data() + tensor.offset, DType::kF32, tensor.shape);
  }
  StringMap metadata = {{"format", "pt"}};
  if (!base_digest.empty()) metadata[kBaseKey] = base_digest;
  return {SerializeSafetensors(map, metadata), ConfigText(config, base_name)};
}

absl::StatusOr<PeftAdapter> ParsePeft(absl::string_view adapter_model,
                                      absl::string_view adapter_config,
                                      absl::Span<const LinearModule> modules) {
  PeftAdapter adapter;
  DW_ASSIGN_OR_RETURN(adapter.config, ParseConfig(adapter_config));
  DW_ASSIGN_OR_RETURN(adapter.targets, ResolveTargets(adapter.config, modules));
  DW_ASSIGN_OR_RETURN(const Safetensors file, ParseSafetensors(adapter_model, kAdapterModelFile));
  const std::vector<AdapterTensor> wanted = AdapterTensors(adapter.targets);
  // The file must be at least as long as what is allocated for it.
  const int64_t elements = TrainableParameters(adapter.targets);
  if (elements * 2 > static_cast<int64_t>(adapter_model.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat(kAdapterModelFile, ": has ", adapter_model.size(), " bytes, want at least ",
                     elements * 2, " for the targets of ", kAdapterConfigFile));
  }
  adapter.values.resize(elements);
  DW_RETURN_IF_ERROR(ReadValues(file, wanted, &adapter.values));
  if (const auto base = file.metadata.find(kBaseKey); base != file.metadata.end()) {
    adapter.base_digest = base->second;
  }
  return adapter;
}

absl::StatusOr<PeftAdapter> ReadPeftFolder(const std::string& folder,
                                           absl::Span<const LinearModule> modules) {
  DW_ASSIGN_OR_RETURN(const std::string config,
                      ReadFile(absl::StrCat(folder, "/", kAdapterConfigFile)));
  DW_ASSIGN_OR_RETURN(const auto model,
                      MappedFile::Open(absl::StrCat(folder, "/", kAdapterModelFile)));
  return ParsePeft(model->bytes(), config, modules);
}

absl::Status WritePeftFolder(const std::string& folder, const PeftFiles& files) {
  DW_RETURN_IF_ERROR(MakeDirectories(folder));
  DW_RETURN_IF_ERROR(
      WriteFileAtomically(absl::StrCat(folder, "/", kAdapterModelFile), files.adapter_model));
  return WriteFileAtomically(absl::StrCat(folder, "/", kAdapterConfigFile), files.adapter_config);
}

}  // namespace deltaworks::trainer
