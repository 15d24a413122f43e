#include "scheduler/worker_trouble.h"

#include <algorithm>

#include "scheduler/proto_time.h"

namespace deltaworks::scheduler {
namespace {

// Constant and not a setting, because replay must not depend on settings.
constexpr int kJobsMax = 64;  // The oldest go.

}  // namespace

void WorkerTroubles::Died(const std::string& worker, const std::string& job,
                          const google::protobuf::Timestamp& time) {
  WorkerTrouble& trouble = troubles_[worker];
  trouble.set_worker(worker);
  const auto& jobs = trouble.jobs();
  if (std::find(jobs.begin(), jobs.end(), job) != jobs.end()) return;
  trouble.add_jobs(job);
  if (trouble.jobs_size() > kJobsMax) trouble.mutable_jobs()->DeleteSubrange(0, 1);
  if (trouble.has_last_incident() && FromProto(trouble.last_incident()) == FromProto(time)) return;
  *trouble.mutable_last_incident() = time;
  trouble.set_incidents(trouble.incidents() + 1);
}

void WorkerTroubles::Quarantined(const std::string& worker) {
  WorkerTrouble& trouble = troubles_[worker];
  trouble.set_worker(worker);
  trouble.set_quarantines(trouble.quarantines() + 1);
  trouble.set_incidents(trouble.incidents() - 1);
  trouble.clear_jobs();
}

}  // namespace deltaworks::scheduler
