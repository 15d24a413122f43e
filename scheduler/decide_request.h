// What people ask: create, rerun, cancel, pause, resume, change and delete a job; and how a job
// leaves the state. Pure functions but for reads of the archive.
//
// A request id that was used answers with the job it was about and changes nothing; an operation
// that finds the job where it should bring it succeeds and changes nothing but the request log
// (not even that if the job is archived: it never changes again).

#ifndef DELTAWORKS_SCHEDULER_DECIDE_REQUEST_H_
#define DELTAWORKS_SCHEDULER_DECIDE_REQUEST_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "scheduler/decide.h"

namespace deltaworks::scheduler {

// InvalidArgument names `field` if the deadline has passed.
absl::Status CheckDeadline(absl::string_view field, const v1::Timing& timing, absl::Time now);

absl::StatusOr<Decision> DecideCreate(const v1::CreateJobRequest& request,
                                      const DecisionContext& context);
absl::StatusOr<Decision> DecideRerun(const v1::RerunJobRequest& request,
                                     const DecisionContext& context);
absl::StatusOr<Decision> DecideDelete(const v1::DeleteJobRequest& request,
                                      const DecisionContext& context);
Decision DecideArchive(const ArchiveJob& command, const DecisionContext& context);
// An archive that cannot be read drops nothing.
Decision DecideDrop(const DropJob& command, const DecisionContext& context);
absl::StatusOr<Decision> DecideCancel(const v1::CancelJobRequest& request,
                                      const DecisionContext& context);
absl::StatusOr<Decision> DecidePause(const v1::PauseJobRequest& request,
                                     const DecisionContext& context);
absl::StatusOr<Decision> DecideUpdate(const v1::UpdateJobRequest& request,
                                      const DecisionContext& context);
absl::StatusOr<Decision> DecideResume(const v1::ResumeJobRequest& request,
                                      const DecisionContext& context);

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_DECIDE_REQUEST_H_
