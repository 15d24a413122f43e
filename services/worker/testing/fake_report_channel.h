// FakeReportChannel: keeps what a WorkerCore sends until the test answers it. Thread-compatible.

#ifndef DELTAWORKS_SERVICES_WORKER_TESTING_FAKE_REPORT_CHANNEL_H_
#define DELTAWORKS_SERVICES_WORKER_TESTING_FAKE_REPORT_CHANNEL_H_

#include <memory>
#include <utility>
#include <vector>

#include "services/worker/report_channel.h"

namespace deltaworks::services {

class FakeReportChannel final : public ReportChannel {
 public:
  struct Call {
    v1::SyncRequest request;
    Done done;
    bool over = false;
  };

  void Send(const v1::SyncRequest& request, absl::Duration, Done done) override {
    GiveUp();
    calls_.push_back(std::make_unique<Call>());
    calls_.back()->request = request;
    calls_.back()->done = std::move(done);
  }
  void GiveUp() override {
    if (!calls_.empty()) Answer(absl::CancelledError("given up"));
  }

  // All that were sent, oldest first; the last may be under way.
  size_t size() const { return calls_.size(); }
  const v1::SyncRequest& last() const { return calls_.back()->request; }
  bool under_way() const { return !calls_.empty() && !calls_.back()->over; }

  // Answers the one under way; nothing if there is none.
  void Answer(absl::StatusOr<v1::SyncResponse> answer) {
    Call& call = *calls_.back();
    if (std::exchange(call.over, true)) return;
    call.done(std::move(answer));
  }

 private:
  std::vector<std::unique_ptr<Call>> calls_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_TESTING_FAKE_REPORT_CHANNEL_H_
