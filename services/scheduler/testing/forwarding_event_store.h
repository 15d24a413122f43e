// ForwardingEventStore: asks another event store for everything; what stands around one overrides
// the calls that it is about. Thread-compatible.

#ifndef DELTAWORKS_SERVICES_SCHEDULER_TESTING_FORWARDING_EVENT_STORE_H_
#define DELTAWORKS_SERVICES_SCHEDULER_TESTING_FORWARDING_EVENT_STORE_H_

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "services/scheduler/event_store.h"

namespace deltaworks::services {

class ForwardingEventStore : public EventStore {
 public:
  explicit ForwardingEventStore(std::unique_ptr<EventStore> store) : store_(std::move(store)) {}

  absl::StatusOr<Stored> Load() override { return store_->Load(); }
  absl::Status Append(int64_t first_position, absl::Span<const scheduler::Event> events,
                      bool* is_known) override {
    return store_->Append(first_position, events, is_known);
  }
  absl::Status WriteSnapshot(const scheduler::State& state) override {
    return store_->WriteSnapshot(state);
  }
  int64_t log_size() const override { return store_->log_size(); }
  absl::StatusOr<std::vector<v1::JobEvent>> ReadEvents(const std::string& job, int64_t since_seq,
                                                       const ReadLimits& limits) override {
    return store_->ReadEvents(job, since_seq, limits);
  }
  absl::StatusOr<int64_t> OldestEvent(const std::string& job) override {
    return store_->OldestEvent(job);
  }
  absl::StatusOr<std::vector<v1::MetricPoint>> ReadMetrics(const std::string& job,
                                                           int64_t since_index,
                                                           const ReadLimits& limits) override {
    return store_->ReadMetrics(job, since_index, limits);
  }
  absl::StatusOr<int64_t> IndexBeforeStep(const std::string& job, int64_t step_min) override {
    return store_->IndexBeforeStep(job, step_min);
  }
  absl::StatusOr<std::optional<scheduler::ArchivedJob>> FindArchived(
      const std::string& name) override {
    return store_->FindArchived(name);
  }
  absl::StatusOr<std::optional<scheduler::StoredRequest>> FindArchivedRequest(
      absl::string_view tenant, absl::string_view rpc, absl::string_view request_id) override {
    return store_->FindArchivedRequest(tenant, rpc, request_id);
  }
  absl::StatusOr<std::vector<std::shared_ptr<const scheduler::JobRecord>>> ListArchived(
      const ArchiveQuery& query) override {
    return store_->ListArchived(query);
  }
  absl::StatusOr<std::vector<std::string>> EndedBefore(absl::Time time,
                                                       int64_t count_max) override {
    return store_->EndedBefore(time, count_max);
  }

 protected:
  EventStore& store() { return *store_; }

 private:
  const std::unique_ptr<EventStore> store_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_SCHEDULER_TESTING_FORWARDING_EVENT_STORE_H_
