// Artifact: a checkpoint or an adapter on its way to the store: files and their manifest.
//
// Manifests are serialised by services/base/manifest.h: equal content gives equal bytes and digest.
// Plain data, immutable once made.

#ifndef DELTAWORKS_SERVICES_WORKER_ARTIFACT_H_
#define DELTAWORKS_SERVICES_WORKER_ARTIFACT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "proto/deltaworks/v1/store_service.pb.h"

namespace deltaworks::services {

inline constexpr char kCheckpointFile[] = "checkpoint.safetensors";
// The last step's numbers, without times: a serialised MetricPoint.
inline constexpr char kLastStepFile[] = "last_step.binpb";

struct Artifact {
  struct File {
    // Hashes the bytes, once for all who need digests.
    File(const std::string& path, std::string file_bytes);

    v1::ManifestFile entry;
    std::string bytes;
  };

  int64_t step = 0;
  std::vector<File> files;
  std::string manifest;  // Bytes of the manifest blob.
  std::string manifest_digest;
  int64_t size_bytes = 0;  // Of the files.

  // nullptr if there is none.
  const File* Find(const std::string& path) const;
};

// `manifest` says everything but format_version and files, which are filled in here.
Artifact MakeArtifact(v1::Manifest manifest, std::vector<Artifact::File> files);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_ARTIFACT_H_
