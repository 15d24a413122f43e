// MergeFolders: a stored base model and a PEFT folder become one Hugging Face folder, which
// transformers loads without knowing of LoRA: config.json, model.safetensors, tokenizer.json,
// tokenizer_config.json. The tokenizer's files are copied byte for byte. Thread-safe.

#ifndef DELTAWORKS_SERVICES_CLI_MERGE_VERSION_H_
#define DELTAWORKS_SERVICES_CLI_MERGE_VERSION_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace deltaworks::services {

struct MergeResult {
  int64_t matrices = 0;    // That the adapter changed.
  int64_t size_bytes = 0;  // Of model.safetensors.
  // See trainer/lora/merge.h: in units of the last place's power of two.
  double merge_error = 0;
  std::string digest;  // Of model.safetensors.
};

// Writes into the existing `output_folder`. FailedPrecondition: the adapter is bound to another
// base; both digests are in the message.
absl::StatusOr<MergeResult> MergeFolders(const std::string& base_folder,
                                         const std::string& adapter_folder,
                                         const std::string& output_folder);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_MERGE_VERSION_H_
