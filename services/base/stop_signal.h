// StopSignal: waits until the process is told to stop, by a signal or by one of its own threads.

#ifndef DELTAWORKS_SERVICES_BASE_STOP_SIGNAL_H_
#define DELTAWORKS_SERVICES_BASE_STOP_SIGNAL_H_

#include "absl/status/status.h"
#include "trainer/base/mutex.h"

namespace deltaworks::services {

class StopSignal {
 public:
  // Blocks SIGTERM and SIGINT in this thread and in those made later, so make it before any other
  // thread.
  StopSignal();
  // Restores the signal mask of this thread.
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  // Thread-safe; the first reason counts.
  void Request(absl::Status reason);

  // OK after a signal. From then on another signal ends the process. Once only.
  absl::Status Wait();

 private:
  int signal_fd_ = -1;
  int event_fd_ = -1;
  Mutex mutex_;
  bool requested_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status reason_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_STOP_SIGNAL_H_
