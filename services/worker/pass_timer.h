// PassTimer: how long a pass over a base takes on this worker, from the passes that it did:
//
//   seconds = fixed + tokens * seconds_per_token
//
// the least squares of all passes, of which old ones fade. Passes of one size cannot tell the two
// apart, so there is one more, made up: fixed is kFixedTokens' worth, that is, a pass of minus so
// many tokens takes no time. It counts as one pass, and passes of several sizes outweigh it.
//
// Thread-compatible.

#ifndef DELTAWORKS_SERVICES_WORKER_PASS_TIMER_H_
#define DELTAWORKS_SERVICES_WORKER_PASS_TIMER_H_

#include <cstddef>
#include <deque>

#include "proto/deltaworks/v1/worker_service.pb.h"
#include "services/worker/seams.h"

namespace deltaworks::services {

class PassTimer {
 public:
  static constexpr size_t kBasesMax = 16;  // The one not used for longest goes.
  // The weights are read from memory once for a pass, however few its tokens; a processor reads a
  // weight in about the time of so many multiplications with it.
  static constexpr double kFixedTokens = 64;
  // Passes after which one counts half.
  static constexpr double kHalfLife = 64;

  // Takes no notice of a pass without tokens or time.
  void Add(const PassMeasure& pass);
  // Of each base, the one used last first.
  void AppendTo(v1::SyncRequest* request) const;

 private:
  // Sums over the passes of a base, each times its weight.
  struct Sums {
    std::string base_manifest_digest;
    v1::NumberType compute_type = v1::NUMBER_TYPE_UNSPECIFIED;
    double weight = 0;
    double tokens = 0;
    double seconds = 0;
    double tokens_tokens = 0;
    double tokens_seconds = 0;
  };

  Sums& Front(const PassMeasure& pass);
  static v1::PassTime FitOf(const Sums& sums);

  std::deque<Sums> bases_;  // The one used last first.
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_PASS_TIMER_H_
