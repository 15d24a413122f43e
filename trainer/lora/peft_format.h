// Adapters in PEFT's format: adapter_model.safetensors (F32, names of Adapter::tensors()) and
// adapter_config.json, as PeftModel.save_pretrained writes and PeftModel.from_pretrained reads.
//
// Writing is deterministic, and free of times, job and host names: the SHA-256 of the safetensors
// is the adapter's digest. Its metadata holds "format": "pt" and "deltaworks.base": the source
// digest of the base, so that the adapter is refused on another one. Reading takes hostile input:
// what LoRA this trainer cannot apply is refused with a sentence, and every tensor that the
// configuration asks for must be there, in shape, finite, and no other.

#ifndef DELTAWORKS_TRAINER_LORA_PEFT_FORMAT_H_
#define DELTAWORKS_TRAINER_LORA_PEFT_FORMAT_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "trainer/lora/adapter.h"
#include "trainer/lora/lora_config.h"

namespace deltaworks::trainer {

// The two files of an adapter's folder.
inline constexpr char kAdapterModelFile[] = "adapter_model.safetensors";
inline constexpr char kAdapterConfigFile[] = "adapter_config.json";

struct PeftFiles {
  std::string adapter_model;   // Bytes of kAdapterModelFile.
  std::string adapter_config;  // Text of kAdapterConfigFile.
};

// `values`: Adapter::ReadParameters() of an adapter with `tensors`. `base_name`: the hub id or path
// given at import. `base_digest` may be empty: then the adapter is bound to no base.
PeftFiles SerializePeft(const LoraConfig& config, absl::Span<const AdapterTensor> tensors,
                        absl::Span<const float> values, const std::string& base_name,
                        const std::string& base_digest);

struct PeftAdapter {
  LoraConfig config;
  std::vector<LoraTarget> targets;  // Resolved against the modules given.
  std::vector<float> values;        // In the order of Adapter::tensors() of these targets.
  std::string base_digest;          // Empty if the file names none.
};

// InvalidArgument for anything that is not a LoRA adapter of a base with these modules.
absl::StatusOr<PeftAdapter> ParsePeft(absl::string_view adapter_model,
                                      absl::string_view adapter_config,
                                      absl::Span<const LinearModule> modules);

// ParsePeft of the two files of a folder.
absl::StatusOr<PeftAdapter> ReadPeftFolder(const std::string& folder,
                                           absl::Span<const LinearModule> modules);

// Writes the two files; the folder is made if it is missing.
absl::Status WritePeftFolder(const std::string& folder, const PeftFiles& files);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_LORA_PEFT_FORMAT_H_
