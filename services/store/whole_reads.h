// WholeReads: a bound on calls that read a blob as a whole, each of which holds a thread of the
// server for as long as the disk takes. What comes beyond it is refused at once: waiting would hold
// a thread, too.
//
// Thread-safe.

#ifndef DELTAWORKS_SERVICES_STORE_WHOLE_READS_H_
#define DELTAWORKS_SERVICES_STORE_WHOLE_READS_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace deltaworks::services {

class WholeReads {
 public:
  explicit WholeReads(int64_t at_once_max) : at_once_max_(at_once_max) {}

  struct Release {
    void operator()(std::atomic<int64_t>* count) const { --*count; }
  };
  // Held by a call while it reads; must not outlive this.
  using Turn = std::unique_ptr<std::atomic<int64_t>, Release>;

  // ResourceExhausted: at_once_max are under way.
  absl::StatusOr<Turn> Begin() {
    const int64_t before = count_++;
    Turn turn(&count_);
    if (before < at_once_max_) return turn;
    return absl::ResourceExhaustedError(absl::StrCat(before,
                                                     " blobs are read as a whole, want fewer than ",
                                                     at_once_max_, " (whole_reads_at_once_max)"));
  }

 private:
  const int64_t at_once_max_;
  std::atomic<int64_t> count_{0};
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_STORE_WHOLE_READS_H_
