#include "services/worker/artifact.h"

#include <utility>

#include "absl/status/statusor.h"
#include "glog/logging.h"
#include "services/base/manifest.h"
#include "trainer/base/sha256.h"

namespace deltaworks::services {

Artifact::File::File(const std::string& path, std::string file_bytes)
    : entry(DescribeBytes(path, file_bytes)), bytes(std::move(file_bytes)) {}

const Artifact::File* Artifact::Find(const std::string& path) const {
  for (const File& file : files) {
    if (file.entry.path() == path) return &file;
  }
  return nullptr;
}

Artifact MakeArtifact(v1::Manifest manifest, std::vector<Artifact::File> files) {
  Artifact artifact;
  artifact.step = manifest.step();
  manifest.set_format_version(1);
  manifest.clear_files();
  for (const Artifact::File& file : files) {
    *manifest.add_files() = file.entry;
    artifact.size_bytes += file.entry.size_bytes();
  }
  absl::StatusOr<std::string> bytes = SerializeManifest(std::move(manifest));
  CHECK(bytes.ok()) << bytes.status();  // Paths and kinds are ours.
  artifact.files = std::move(files);
  artifact.manifest = *std::move(bytes);
  artifact.manifest_digest = Sha256Digest(artifact.manifest);
  return artifact;
}

}  // namespace deltaworks::services
