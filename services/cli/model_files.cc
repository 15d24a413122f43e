#include "services/cli/model_files.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "trainer/base/file.h"

namespace deltaworks::services {
namespace {

namespace fs = std::filesystem;

bool IsPartOfModel(const std::string& name) {
  return name == "config.json" || name == "tokenizer.json" || name == "tokenizer_config.json" ||
         name == "chat_template.jinja" || name == "model.safetensors.index.json" ||
         absl::EndsWith(name, ".safetensors");
}

}  // namespace

absl::StatusOr<std::vector<ModelFile>> ModelFiles(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) return ErrnoStatus(ENOENT, path, "stat");
  if (fs::is_regular_file(status)) {
    return std::vector<ModelFile>{{fs::path(path).filename().string(), path}};
  }
  std::vector<ModelFile> files;
  for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    std::error_code no_file;
    if (!IsPartOfModel(name) || !fs::is_regular_file(it->path(), no_file)) continue;
    files.push_back({name, it->path().string()});
  }
  if (error) return ErrnoStatus(error.value(), path, "readdir");
  std::sort(files.begin(), files.end(),
            [](const ModelFile& a, const ModelFile& b) { return a.name < b.name; });
  const bool has_config = std::any_of(
      files.begin(), files.end(), [](const ModelFile& file) { return file.name == "config.json"; });
  if (!has_config) {
    return absl::InvalidArgumentError(
        absl::StrCat(path,
                     " is a folder without config.json, want a GGUF file or a folder of "
                     "Hugging Face transformers"));
  }
  return files;
}

}  // namespace deltaworks::services
