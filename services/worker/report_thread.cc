#include <utility>

#include "services/worker/report_channel.h"

namespace deltaworks::services {

ReportThread::ReportThread(WorkerSyncClient& client)
    : client_(client), thread_([this] { Run(); }) {}

ReportThread::~ReportThread() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.SignalAll();
  }
  GiveUp();
  thread_.join();
}

void ReportThread::Send(const v1::SyncRequest& request, absl::Duration timeout, Done done) {
  GiveUp();
  MutexLock lock(&mutex_);
  next_ = std::make_unique<Call>(Call{request, timeout, std::move(done)});
  changed_.SignalAll();
}

void ReportThread::GiveUp() {
  std::unique_ptr<Call> dropped;
  int64_t running = 0;
  {
    MutexLock lock(&mutex_);
    dropped = std::move(next_);
    running = running_;
  }
  if (running != 0) client_.CancelSync(running);
  if (dropped != nullptr) dropped->done(absl::CancelledError("the report was given up"));
}

void ReportThread::Run() {
  while (true) {
    std::unique_ptr<Call> call;
    {
      MutexLock lock(&mutex_);
      running_ = 0;
      while (next_ == nullptr && !stopping_) changed_.Wait(&mutex_);
      if (stopping_) return;
      call = std::move(next_);
      running_ = call->request.report_number();
    }
    call->done(client_.Sync(call->request, call->timeout));
  }
}

}  // namespace deltaworks::services
