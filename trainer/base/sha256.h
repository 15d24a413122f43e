// Digests: SHA-256 (OpenSSL's), always written "sha256:" + 64 lower-case hex digits.

#ifndef DELTAWORKS_TRAINER_BASE_SHA256_H_
#define DELTAWORKS_TRAINER_BASE_SHA256_H_

#include <memory>
#include <string>

#include "absl/strings/string_view.h"

namespace deltaworks {

// The digest of `data`.
std::string Sha256Digest(absl::string_view data);

// True if `digest` has the form above.
bool IsSha256Digest(absl::string_view digest);

// The digest of a stream. Thread-compatible.
class Sha256Stream {
 public:
  Sha256Stream();
  ~Sha256Stream();
  Sha256Stream(Sha256Stream&&) noexcept;
  Sha256Stream& operator=(Sha256Stream&&) noexcept;

  void Update(absl::string_view data);

  // Returns the digest of everything so far; the stream may not be updated afterwards.
  std::string Finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace deltaworks

#endif  // DELTAWORKS_TRAINER_BASE_SHA256_H_
