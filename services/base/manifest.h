// Manifests of the store: what a set of files is (message Manifest of store_service.proto), and the
// digests that prove it.
//
// The bytes are the identity: a manifest is serialised once, by whoever makes it, and from then on
// only read. Parsing takes hostile input. Errors are InvalidArgument: subject, got, want. Plain
// functions, thread-safe.

#ifndef DELTAWORKS_SERVICES_BASE_MANIFEST_H_
#define DELTAWORKS_SERVICES_BASE_MANIFEST_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/deltaworks/v1/store_service.pb.h"
#include "trainer/base/sha256.h"

namespace deltaworks::services {

inline constexpr int64_t kChunkBytes = int64_t{4} << 20;
// A manifest of 55 TB of files; also what one message may carry.
inline constexpr int64_t kManifestBytesMax = int64_t{4} << 20;
inline constexpr int kManifestFilesMax = 10'000;

// Digest of a stream and of its 4 MiB chunks, in one pass. Thread-compatible.
class ChunkDigester {
 public:
  void Update(absl::string_view data);
  // Fills in size, digest and chunk digests. Once only.
  void Finish(v1::ManifestFile& file);

 private:
  Sha256Stream whole_;
  Sha256Stream chunk_;
  int64_t size_ = 0;
  std::vector<std::string> chunks_;
};

// The entry `path` for these bytes, or for the file at `file_path`.
v1::ManifestFile DescribeBytes(absl::string_view path, absl::string_view data);
absl::StatusOr<v1::ManifestFile> DescribeFile(absl::string_view path, const std::string& file_path);

// Sorts the files, checks everything that ParseManifest does, and returns the bytes.
absl::StatusOr<std::string> SerializeManifest(v1::Manifest manifest);

// The manifest in `bytes`; `subject` begins every message. Unknown fields are refused: two readers
// must not see two things.
absl::StatusOr<v1::Manifest> ParseManifest(absl::string_view bytes, absl::string_view subject);

// The file `path`; null if there is none.
const v1::ManifestFile* FindFile(const v1::Manifest& manifest, absl::string_view path);

// Relative, "/" between parts, none of them "", "." or "..", at most 512 bytes, no control
// characters.
absl::Status CheckManifestPath(absl::string_view path);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_MANIFEST_H_
