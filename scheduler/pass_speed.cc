#include "scheduler/pass_speed.h"

#include <algorithm>
#include <initializer_list>

namespace deltaworks::scheduler {
namespace {

// Tokens for which a pass's products take as long as reading the weights does: what a device can
// compute a byte of memory that it reads.
constexpr double kOverheadTokensCpu = 64;
constexpr double kOverheadTokensGpu = 512;
// A measured one is believed up to here.
constexpr double kOverheadTokensMax = 4096;

// FLOPs a second of one device, where nothing was measured.
constexpr double kRateCpu = 1e11;
constexpr double kRateGpu = 1e14;

// The means of ten thousand workers take some milliseconds.
constexpr absl::Duration kUpdateInterval = absl::Seconds(10);

// nullptr if the worker did not measure it, or the numbers make no sense.
const v1::PassTime* MeasuredBy(const WorkerInfo& worker, const JobShape& shape) {
  for (const v1::PassTime& time : worker.pass_times) {
    if (time.base_manifest_digest() == shape.base_manifest_digest &&
        time.compute_type() == shape.compute_type && time.fixed_seconds() >= 0 &&
        time.seconds_per_token() > 0) {
      return &time;
    }
  }
  return nullptr;
}

PassSpeed Assumed(const Work& work, bool gpu) {
  const double flops_by_token = static_cast<double>(work.gigaflops) * 1e9 /
                                static_cast<double>(std::max<int64_t>(1, work.tokens));
  const double by_token = flops_by_token / (gpu ? kRateGpu : kRateCpu);
  return {.fixed_seconds = by_token * (gpu ? kOverheadTokensGpu : kOverheadTokensCpu),
          .seconds_per_token = by_token};
}

}  // namespace

double OverheadTokens(const JobShape& shape, const WorkerInfo& worker) {
  if (const v1::PassTime* time = MeasuredBy(worker, shape)) {
    return std::min(time->fixed_seconds() / time->seconds_per_token(), kOverheadTokensMax);
  }
  return worker.environment.device_kind() == "cpu" ? kOverheadTokensCpu : kOverheadTokensGpu;
}

PassSpeed SpeedOf(const JobShape& shape, const Work& work, const WorkerInfo& worker) {
  if (const v1::PassTime* time = MeasuredBy(worker, shape)) {
    return {.fixed_seconds = time->fixed_seconds(),
            .seconds_per_token = time->seconds_per_token(),
            .measured = true};
  }
  return Assumed(work, worker.environment.device_kind() != "cpu");
}

void Speeds::Update(const Fleet& fleet, absl::Time now) {
  if (now < next_update_) return;
  next_update_ = now + kUpdateInterval;
  means_.clear();
  has_gpu_ = has_cpu_ = false;
  for (const auto& [name, worker] : fleet.workers()) {
    if (!worker.online) continue;
    const std::string& kind = worker.environment.device_kind();
    (kind == "cpu" ? has_cpu_ : has_gpu_) = true;
    for (const v1::PassTime& time : worker.pass_times) {
      if (!(time.fixed_seconds() >= 0 && time.seconds_per_token() > 0)) continue;
      for (const std::string& of : {kind, std::string()}) {
        Mean& mean = means_[{of, time.base_manifest_digest(), time.compute_type()}];
        mean.fixed_seconds += time.fixed_seconds();
        mean.seconds_per_token += time.seconds_per_token();
        ++mean.count;
      }
    }
  }
}

PassSpeed Speeds::Of(const JobShape& shape, const Work& work) const {
  const auto found =
      means_.find({shape.device_kind, shape.base_manifest_digest, shape.compute_type});
  if (found != means_.end()) {
    const Mean& mean = found->second;
    return {.fixed_seconds = mean.fixed_seconds / mean.count,
            .seconds_per_token = mean.seconds_per_token / mean.count,
            .measured = true};
  }
  const bool gpu = shape.device_kind.empty() ? has_gpu_ && !has_cpu_ : shape.device_kind != "cpu";
  return Assumed(work, gpu);
}

}  // namespace deltaworks::scheduler
