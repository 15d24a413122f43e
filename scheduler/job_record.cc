#include "scheduler/job_record.h"

#include <algorithm>

#include "scheduler/proto_time.h"

namespace deltaworks::scheduler {
namespace {

// The row of the attempt whose result was accepted; it is the last, since none was granted after.
const v1::Attempt* ResultAttempt(const JobRecord& record) {
  const v1::JobStatus& status = record.job().status();
  if (record.result_attempt_id().empty() || status.attempts().empty()) return nullptr;
  return &*status.attempts().rbegin();
}

}  // namespace

bool IsCurrent(const JobRecord& record, int64_t lease_epoch, absl::string_view attempt_id) {
  return record.has_current() && record.current().lease_epoch() == lease_epoch &&
         record.current().attempt_id() == attempt_id;
}

bool IsResultAttempt(const JobRecord& record, int64_t lease_epoch, absl::string_view attempt_id) {
  const v1::Attempt* attempt = ResultAttempt(record);
  return attempt != nullptr && attempt->lease_epoch() == lease_epoch &&
         attempt->attempt_id() == attempt_id;
}

bool IsMember(const CurrentAttempt& current, absl::string_view worker, int64_t incarnation) {
  if (current.members().empty()) {
    return current.worker() == worker && current.worker_incarnation() == incarnation;
  }
  return std::any_of(
      current.members().begin(), current.members().end(), [&](const GangMember& member) {
        return member.worker() == worker && member.worker_incarnation() == incarnation;
      });
}

void VisitHolders(const CurrentAttempt& current,
                  absl::FunctionRef<void(const std::string& worker)> visit) {
  if (current.members().empty()) return visit(current.worker());
  for (const GangMember& member : current.members()) {
    if (!member.left()) visit(member.worker());
  }
}

int HolderCount(const CurrentAttempt& current) {
  int count = 0;
  VisitHolders(current, [&](const std::string&) { ++count; });
  return count;
}

bool IsHolder(const CurrentAttempt& current, absl::string_view worker) {
  bool is_one = false;
  VisitHolders(current, [&](const std::string& holder) { is_one |= holder == worker; });
  return is_one;
}

std::string ResultWorker(const JobRecord& record) {
  const v1::Attempt* attempt = ResultAttempt(record);
  return attempt == nullptr ? std::string() : attempt->worker();
}

bool IsBackingOff(const JobRecord& record) {
  return record.has_waits_until() &&
         FromProto(record.waits_until()) != FromProto(record.job().timing().start_after());
}

int64_t CheckpointStep(const JobRecord& record) {
  return record.job().status().checkpoint().step();
}

double RemainingSteps(const JobRecord& record) {
  const v1::Progress& progress = record.job().status().progress();
  return static_cast<double>(std::max<int64_t>(0, progress.total_steps() - progress.step()));
}

double StepTokens(const JobRecord& record) {
  return static_cast<double>(std::max<int64_t>(1, record.job().status().facts().step_tokens()));
}

double RemainingFlops(const JobRecord& record) {
  const v1::TrainFacts& facts = record.job().status().facts();
  // Forward and backward of the frozen weights, and one product more for A and B.
  return RemainingSteps(record) * StepTokens(record) *
         (4 * static_cast<double>(facts.total_parameters()) +
          6 * static_cast<double>(facts.trainable_parameters()));
}

std::vector<std::string> NeededDigests(const JobRecord& record) {
  std::vector<std::string> digests;
  for (const v1::Checkpoint& checkpoint : record.checkpoints()) {
    digests.push_back(checkpoint.manifest_digest());
  }
  if (StateOf(record) == v1::FINALIZING) {
    digests.push_back(record.job().status().result().manifest_digest());
  }
  return digests;
}

}  // namespace deltaworks::scheduler
