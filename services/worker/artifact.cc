#include "services/worker/artifact.h"

#include <utility>

#include "absl/status/statusor.h"
#include "glog/logging.h"
#include "services/base/manifest.h"
#include "trainer/base/sha256.h"

namespace deltaworks::services {

const Artifact::File* Artifact::Find(const std::string& path) const {
  for (const File& file : files) {
    if (file.path == path) return &file;
  }
  return nullptr;
}

Artifact MakeArtifact(v1::Manifest manifest, std::vector<Artifact::File> files) {
  Artifact artifact;
  artifact.step = manifest.step();
  manifest.set_format_version(1);
  manifest.clear_files();
  for (Artifact::File& file : files) {
    v1::ManifestFile& entry = *manifest.add_files();
    entry = DescribeBytes(file.path, file.bytes);
    file.digest = entry.digest();
    artifact.size_bytes += entry.size_bytes();
  }
  absl::StatusOr<std::string> bytes = SerializeManifest(std::move(manifest));
  CHECK(bytes.ok()) << bytes.status();  // Paths and kinds are ours.
  artifact.files = std::move(files);
  artifact.manifest = *std::move(bytes);
  artifact.manifest_digest = Sha256Digest(artifact.manifest);
  return artifact;
}

}  // namespace deltaworks::services
