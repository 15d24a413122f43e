// CallQueue: many calls under way, and timers, on one thread: what a load is made of.
//
// Everything runs within Run and RunUntil, on their caller's thread, so what calls and timers touch
// needs no lock. Thread-compatible.

#ifndef DELTAWORKS_TESTS_BENCH_SCHEDULER_LOAD_CALL_QUEUE_H_
#define DELTAWORKS_TESTS_BENCH_SCHEDULER_LOAD_CALL_QUEUE_H_

#include <grpcpp/grpcpp.h>

#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "services/clients/channel.h"

namespace deltaworks::bench {

// Seconds on CLOCK_MONOTONIC.
double Monotonic();

class CallQueue {
 public:
  using Task = absl::AnyInvocable<void()>;

  CallQueue() = default;
  // Gives up what is under way.
  ~CallQueue();

  // A call under way, for Cancel; void once its `done` was called.
  class Call {
   public:
    virtual ~Call() = default;
    void Cancel() { context_.TryCancel(); }

   protected:
    friend class CallQueue;
    virtual void Finished() = 0;
    grpc::ClientContext context_;
    grpc::Status status_;
  };

  // `prepare(context, queue)` is a stub's PrepareAsync method with its request; `done(status,
  // response)` gets the answer, also of a call that was cancelled.
  template <typename Response, typename Prepare>
  Call* Start(const services::Channel& channel, absl::Duration timeout, const Prepare& prepare,
              absl::AnyInvocable<void(const grpc::Status&, const Response&)> done) {
    auto call = std::make_unique<CallOf<Response>>();
    channel.Prepare(call->context_, timeout);
    call->done = std::move(done);
    call->reader = prepare(&call->context_, &queue_);
    call->reader->StartCall();
    call->reader->Finish(&call->response, &call->status_, call.get());
    under_way_.insert(call.get());
    return call.release();  // Until it comes out of the queue.
  }

  // Of CLOCK_MONOTONIC, in seconds.
  void At(double time, Task task) { timers_.emplace(time, std::move(task)); }

  // Until `condition` is true, which is looked at after each answer and timer, and every 10 ms.
  // False if `timeout` came first.
  bool RunUntil(const std::function<bool()>& condition, absl::Duration timeout);
  void Run(absl::Duration duration) {
    RunUntil([] { return false; }, duration);
  }

 private:
  template <typename Response>
  class CallOf final : public Call {
   public:
    void Finished() override { done(status_, response); }
    Response response;
    std::unique_ptr<grpc::ClientAsyncResponseReader<Response>> reader;
    absl::AnyInvocable<void(const grpc::Status&, const Response&)> done;
    friend class CallQueue;
  };

  // The next answer or timer. Returns at `deadline` at the latest.
  void RunOne(double deadline);

  grpc::CompletionQueue queue_;
  absl::flat_hash_set<Call*> under_way_;
  std::multimap<double, Task> timers_;
};

}  // namespace deltaworks::bench

#endif  // DELTAWORKS_TESTS_BENCH_SCHEDULER_LOAD_CALL_QUEUE_H_
