// ModelFiles: which files on this machine make up a base model that is to be imported.

#ifndef DELTAWORKS_SERVICES_CLI_MODEL_FILES_H_
#define DELTAWORKS_SERVICES_CLI_MODEL_FILES_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace deltaworks::services {

struct ModelFile {
  std::string name;  // In the manifest: the plain file name.
  std::string path;
};

// A GGUF file alone, or of a Hugging Face folder what an import reads: config, tokenizer, chat
// template, *.safetensors and their index. Sorted by name. Errors: NotFound, InvalidArgument (a
// folder without config.json).
absl::StatusOr<std::vector<ModelFile>> ModelFiles(const std::string& path);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_MODEL_FILES_H_
