// FaultyEventStore: an event store whose disk fails when a test says so. Thread-safe switches; the
// rest is thread-compatible, as what it wraps.

#ifndef DELTAWORKS_SERVICES_SCHEDULER_TESTING_FAULTY_EVENT_STORE_H_
#define DELTAWORKS_SERVICES_SCHEDULER_TESTING_FAULTY_EVENT_STORE_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "services/scheduler/testing/forwarding_event_store.h"
#include "trainer/base/mutex.h"

namespace deltaworks::services {

class FaultyEventStore final : public ForwardingEventStore {
 public:
  // What an Append that fails does first.
  enum class Fault { kNone, kFull, kLost, kStored };

  using ForwardingEventStore::ForwardingEventStore;

  // The next `count` appends fail: kFull with ResourceExhausted; kLost and kStored with Internal,
  // which leaves open what was stored (nothing, everything).
  void FailAppends(Fault fault, int count = 1) {
    MutexLock lock(&mutex_);
    fault_ = fault;
    faults_left_ = count;
  }
  // The next snapshot fails with `status`.
  void FailSnapshot(absl::Status status) {
    MutexLock lock(&mutex_);
    snapshot_fault_ = std::move(status);
  }
  // Loads fail until told otherwise.
  void FailLoads(bool fail) {
    MutexLock lock(&mutex_);
    fail_loads_ = fail;
  }
  int64_t appends() const {
    MutexLock lock(&mutex_);
    return appends_;
  }
  // Queries for events and metrics.
  int64_t reads() const {
    MutexLock lock(&mutex_);
    return reads_;
  }

  absl::StatusOr<Stored> Load() override {
    {
      MutexLock lock(&mutex_);
      if (fail_loads_) return absl::InternalError("events.db: the disk does not answer");
    }
    return store().Load();
  }

  absl::Status Append(int64_t first_position, absl::Span<const scheduler::Event> events,
                      bool* is_known) override {
    const Fault fault = TakeFault();
    *is_known = fault == Fault::kFull;
    if (fault == Fault::kFull) return absl::ResourceExhaustedError("events.db: disk is full");
    if (fault == Fault::kLost) return absl::InternalError("events.db: the commit was lost");
    const absl::Status status = store().Append(first_position, events, is_known);
    if (fault == Fault::kNone || !status.ok()) return status;
    *is_known = false;
    return absl::InternalError("events.db: the answer of the commit was lost");
  }

  absl::Status WriteSnapshot(const scheduler::State& state) override {
    {
      MutexLock lock(&mutex_);
      if (!snapshot_fault_.ok()) return std::exchange(snapshot_fault_, absl::OkStatus());
    }
    return store().WriteSnapshot(state);
  }
  absl::StatusOr<std::vector<v1::JobEvent>> ReadEvents(const std::string& job, int64_t since_seq,
                                                       const ReadLimits& limits) override {
    CountRead();
    return store().ReadEvents(job, since_seq, limits);
  }
  absl::StatusOr<int64_t> OldestEvent(const std::string& job) override {
    CountRead();
    return store().OldestEvent(job);
  }
  absl::StatusOr<std::vector<v1::MetricPoint>> ReadMetrics(const std::string& job,
                                                           int64_t since_index,
                                                           const ReadLimits& limits) override {
    CountRead();
    return store().ReadMetrics(job, since_index, limits);
  }
  absl::StatusOr<int64_t> IndexBeforeStep(const std::string& job, int64_t step_min) override {
    CountRead();
    return store().IndexBeforeStep(job, step_min);
  }

 private:
  void CountRead() {
    MutexLock lock(&mutex_);
    ++reads_;
  }

  Fault TakeFault() {
    MutexLock lock(&mutex_);
    ++appends_;
    if (faults_left_ == 0) return Fault::kNone;
    --faults_left_;
    return fault_;
  }

  mutable Mutex mutex_;
  Fault fault_ ABSL_GUARDED_BY(mutex_) = Fault::kNone;
  int faults_left_ ABSL_GUARDED_BY(mutex_) = 0;
  bool fail_loads_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status snapshot_fault_ ABSL_GUARDED_BY(mutex_);
  int64_t appends_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t reads_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_SCHEDULER_TESTING_FAULTY_EVENT_STORE_H_
