#include "scheduler/decide.h"

#include <algorithm>
#include <variant>

#include "scheduler/decide_operator.h"
#include "scheduler/decide_platform.h"
#include "scheduler/decide_report.h"
#include "scheduler/decide_request.h"

namespace deltaworks::scheduler {
namespace {

struct Decider {
  using Result = absl::StatusOr<Decision>;
  const DecisionContext& context;

  Result operator()(const v1::CreateJobRequest& c) const { return DecideCreate(c, context); }
  Result operator()(const v1::CancelJobRequest& c) const { return DecideCancel(c, context); }
  Result operator()(const v1::PauseJobRequest& c) const { return DecidePause(c, context); }
  Result operator()(const v1::ResumeJobRequest& c) const { return DecideResume(c, context); }
  Result operator()(const v1::UpdateJobRequest& c) const { return DecideUpdate(c, context); }
  Result operator()(const v1::RerunJobRequest& c) const { return DecideRerun(c, context); }
  Result operator()(const v1::DeleteJobRequest& c) const { return DecideDelete(c, context); }
  Result operator()(const ArchiveJob& c) const { return DecideArchive(c, context); }
  Result operator()(const DropJob& c) const { return DecideDrop(c, context); }
  Result operator()(const v1::SetQuotaRequest& c) const { return DecideSetQuota(c, context); }
  Result operator()(const v1::SetWorkerModeRequest& c) const {
    return DecideSetWorkerMode(c, context);
  }
  Result operator()(const ValidationAnswer& c) const { return DecideValidation(c, context); }
  Result operator()(const VersionAnswer& c) const { return DecideVersion(c, context); }
  Result operator()(const WorkerReport& c) const { return DecideReport(c.report, context); }
  Result operator()(const StartScheduler&) const { return DecideStart(context); }
  Result operator()(const EndLease& c) const { return DecideEndLease(c, context); }
  Result operator()(const GrantAttempt& c) const { return DecideGrant(c, context); }
  Result operator()(const Preempt& c) const { return DecidePreempt(c, context); }
  Result operator()(const ReleaseJob& c) const { return DecideRelease(c, context); }
  Result operator()(const RenewStartBound& c) const { return DecideRenewStartBound(c, context); }
  Result operator()(const QuarantineWorker& c) const { return DecideQuarantine(c, context); }
  Result operator()(const ReleaseWorker& c) const { return DecideReleaseWorker(c, context); }
  Result operator()(const ExpireJob& c) const { return DecideExpire(c, context); }
};

}  // namespace

absl::StatusOr<Decision> Decide(const Command& command, DecisionContext context) {
  context.now = std::max(context.now, context.state.last_time());
  return std::visit(Decider{context}, command);
}

}  // namespace deltaworks::scheduler
