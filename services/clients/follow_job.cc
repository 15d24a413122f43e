#include "services/clients/follow_job.h"

#include "absl/strings/str_cat.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

absl::Status Gap(const std::string& name, absl::string_view what, int64_t got, int64_t want) {
  return absl::DataLossError(
      absl::StrCat(name, ": ", what, " ", got, " came, want ", want, ": the watch has a gap"));
}

// Checks that `response` goes on where `position` is, and moves it.
absl::Status Advance(const v1::WatchJobResponse& response, v1::WatchJobRequest& position) {
  for (const v1::JobEvent& event : response.events()) {
    if (event.seq() != position.since_seq() + 1) {
      return Gap(position.name(), "event", event.seq(), position.since_seq() + 1);
    }
    position.set_since_seq(event.seq());
  }
  if (response.metrics_size() == 0) return absl::OkStatus();
  if (response.first_metric() != position.since_metric() + 1) {
    return Gap(position.name(), "metric", response.first_metric(), position.since_metric() + 1);
  }
  position.set_since_metric(position.since_metric() + response.metrics_size());
  return absl::OkStatus();
}

}  // namespace

absl::Status FollowJob(TrainingClient& client, v1::WatchJobRequest request,
                       const RetryPolicy& policy, const TrainingClient::JobSink& sink) {
  RetryState retry(policy);
  while (true) {
    // What `sink` says is final, whatever its code.
    absl::Status refused;
    bool answered = false;
    const absl::Status status =
        client.WatchJob(request, [&](const v1::WatchJobResponse& response) -> absl::Status {
          refused = Advance(response, request);
          if (refused.ok()) refused = sink(response);
          answered = true;
          return refused;
        });
    DW_RETURN_IF_ERROR(refused);
    if (!absl::IsUnavailable(status) && !absl::IsResourceExhausted(status)) return status;
    // The wait for the scheduler begins when it goes away, however long it had been silent.
    if (answered) retry.Progressed();
    if (!retry.Pause()) return status;
  }
}

}  // namespace deltaworks::services
