#include "trainer/import/model_source.h"

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "trainer/base/file.h"
#include "trainer/import/gguf_source.h"
#include "trainer/import/hf_source.h"

namespace deltaworks::trainer {

absl::StatusOr<std::unique_ptr<ModelSource>> OpenModelSource(const std::string& path) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) {
    return ErrnoStatus(error ? error.value() : ENOENT, path, "stat");
  }
  if (std::filesystem::is_directory(status)) return OpenHfSource(path);
  return OpenGgufSource(path);
}

}  // namespace deltaworks::trainer
