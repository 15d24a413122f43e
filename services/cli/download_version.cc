#include "services/cli/download_version.h"

#include <memory>

#include "absl/strings/str_cat.h"
#include "services/clients/version_download.h"
#include "trainer/base/file.h"
#include "trainer/base/status_macros.h"
#include "trainer/lora/peft_format.h"

namespace deltaworks::services {

absl::Status DownloadVersion(RegistryClient& registry, const v1::AdapterVersion& version,
                             const std::string& folder, const RetryPolicy& policy,
                             const DownloadProgress& progress) {
  for (const char* name : {trainer::kAdapterConfigFile, trainer::kAdapterModelFile}) {
    DW_ASSIGN_OR_RETURN(const std::unique_ptr<AtomicFile> file,
                        AtomicFile::Create(absl::StrCat(folder, "/", name)));
    int64_t done = 0;
    DW_RETURN_IF_ERROR(DownloadVersionFile(registry, version, name, {.retry = policy},
                                           [&](absl::string_view data, int64_t size_bytes) {
                                             done += static_cast<int64_t>(data.size());
                                             if (progress != nullptr)
                                               progress(name, done, size_bytes);
                                             return file->Append(data);
                                           }));
    DW_RETURN_IF_ERROR(file->Commit());
  }
  return absl::OkStatus();
}

}  // namespace deltaworks::services
