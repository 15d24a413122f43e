#include "services/registry/adapter_manifest.h"

#include "absl/strings/str_cat.h"
#include "services/base/json_escape.h"
#include "services/base/manifest.h"
#include "services/base/resource_names.h"
#include "trainer/base/status_macros.h"
#include "trainer/lora/peft_format.h"

namespace deltaworks::services {

absl::Status CheckAdapterManifest(const v1::Manifest& manifest) {
  const bool adapter = manifest.kind() == v1::Manifest::ADAPTER;
  if (!adapter && manifest.kind() != v1::Manifest::CHECKPOINT) {
    return absl::InvalidArgumentError(absl::StrCat("manifest: kind is ",
                                                   v1::Manifest::Kind_Name(manifest.kind()),
                                                   ", want ADAPTER or CHECKPOINT"));
  }
  DW_RETURN_IF_ERROR(CheckDigest("manifest: base_source_digest", manifest.base_source_digest()));
  if (manifest.base_form() != v1::F32 && manifest.base_form() != v1::BF16) {
    return absl::InvalidArgumentError(
        absl::StrCat("manifest: base_form is ", manifest.base_form(), ", want F32 or BF16"));
  }
  for (const char* const path : {trainer::kAdapterConfigFile, trainer::kAdapterModelFile}) {
    if (FindFile(manifest, path) == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("manifest: ", path, " is absent"));
    }
  }
  // A checkpoint was not read back and probed; its digests are checked all the same.
  if (adapter) {
    DW_RETURN_IF_ERROR(CheckDigest("manifest: probe_digest", manifest.probe_digest()));
  }
  if (!adapter && manifest.adapter_digest().empty()) return absl::OkStatus();
  const std::string& digest = FindFile(manifest, trainer::kAdapterModelFile)->digest();
  if (manifest.adapter_digest() == digest) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("manifest: adapter_digest is ",
                                                 JsonQuote(manifest.adapter_digest()), ", want ",
                                                 digest, ", that of ", trainer::kAdapterModelFile));
}

}  // namespace deltaworks::services
