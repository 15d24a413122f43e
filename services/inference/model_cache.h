// ModelCache: models of one kind by key, loaded once however many ask for them at the same time,
// and bounded by their bytes: to make room, those that nobody holds are dropped, the longest unused
// first.
//
// A load tells its bytes before it takes them (Room). What is loaded is shared by everybody; why it
// could not be loaded is said to those only who ask through the same resource. Thread-safe.

#ifndef DELTAWORKS_SERVICES_INFERENCE_MODEL_CACHE_H_
#define DELTAWORKS_SERVICES_INFERENCE_MODEL_CACHE_H_

#include <prometheus/counter.h>
#include <prometheus/gauge.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "trainer/base/mutex.h"

namespace deltaworks::services {

template <typename Value>
class ModelCache {
 public:
  using Pointer = std::shared_ptr<Value>;
  // Called by a load with the bytes that it is about to take, or, negative, does not need after
  // all. ResourceExhausted if they do not fit beside what is in use.
  using Room = std::function<absl::Status(int64_t bytes)>;
  using Load = std::function<absl::StatusOr<Pointer>(const Room& room)>;

  // `what` ("adapters") and `flag` ("--adapter_bytes_max") are for messages. References outlive it.
  ModelCache(std::string what, std::string flag, int64_t bytes_max, prometheus::Gauge& bytes,
             prometheus::Counter& loads, prometheus::Counter& evictions)
      : what_(std::move(what)),
        flag_(std::move(flag)),
        bytes_max_(bytes_max),
        bytes_gauge_(bytes),
        loads_(loads),
        evictions_(evictions) {}

  // The model `key`, by `load` if it is not there; `resource` names what is asked for and through
  // which the load has access. Of callers that come while it is being loaded, one loads and the
  // others wait. Those of the same resource get its error, unless that was Cancelled; the others
  // then load themselves.
  absl::StatusOr<Pointer> Get(const std::string& key, const std::string& resource,
                              const std::function<bool()>& cancelled, const Load& load) {
    {
      MutexLock lock(&mutex_);
      auto found = entries_.find(key);
      while (found != entries_.end()) {
        if (found->second.value != nullptr) {
          found->second.last_use = ++uses_;
          return found->second.value;
        }
        const std::shared_ptr<Outcome> outcome = found->second.outcome;
        while (!outcome->done) {
          if (cancelled()) return absl::CancelledError(absl::StrCat(key, ": no longer wanted"));
          changed_.WaitWithTimeout(&mutex_, kPoll);
        }
        if (!outcome->status.ok() && !absl::IsCancelled(outcome->status) &&
            outcome->resource == resource) {
          return outcome->status;
        }
        found = entries_.find(key);
      }
      const auto outcome = std::make_shared<Outcome>();
      outcome->resource = resource;
      entries_[key].outcome = outcome;
    }
    absl::StatusOr<Pointer> value = load([&](int64_t bytes) { return Reserve(key, bytes); });
    MutexLock lock(&mutex_);
    const auto entry = entries_.find(key);
    entry->second.outcome->done = true;
    entry->second.outcome->status = value.status();
    changed_.SignalAll();
    if (!value.ok()) {
      Forget(entry->second.bytes);
      entries_.erase(entry);
      return value;
    }
    entry->second.value = *value;
    entry->second.last_use = ++uses_;
    loads_.Increment();
    return value;
  }

  // The model if it is there; does not wait for one that is being loaded.
  Pointer Find(const std::string& key) {
    MutexLock lock(&mutex_);
    const auto found = entries_.find(key);
    return found == entries_.end() ? nullptr : found->second.value;
  }

  // Drops everything that nobody holds.
  void DropIdle() {
    std::vector<Pointer> dropped;  // Destroyed without the lock.
    MutexLock lock(&mutex_);
    while (EvictOne(&dropped)) {
    }
  }

  // Under the cache's lock: `visit` must be short and must not keep the pointer.
  void ForEach(const std::function<void(const Value& value, int64_t bytes)>& visit) const {
    MutexLock lock(&mutex_);
    for (const auto& [key, entry] : entries_) {
      if (entry.value != nullptr) visit(*entry.value, entry.bytes);
    }
  }

 private:
  static constexpr absl::Duration kPoll = absl::Milliseconds(20);

  // Of a load; kept by those who wait for it.
  struct Outcome {
    std::string resource;
    bool done = false;
    absl::Status status;
  };
  struct Entry {
    Pointer value;  // Null while it is being loaded.
    std::shared_ptr<Outcome> outcome;
    int64_t bytes = 0;
    int64_t last_use = 0;
  };

  absl::Status Reserve(const std::string& key, int64_t bytes) {
    std::vector<Pointer> dropped;
    MutexLock lock(&mutex_);
    while (bytes_ + bytes > bytes_max_ && bytes <= bytes_max_) {
      if (!EvictOne(&dropped)) break;
    }
    if (bytes_ + bytes > bytes_max_) {
      return absl::ResourceExhaustedError(absl::StrCat(key, " needs ", bytes, " bytes, ", what_,
                                                       " in use take ", bytes_, ", want at most ",
                                                       flag_, " = ", bytes_max_, " together"));
    }
    bytes_ += bytes;
    entries_[key].bytes += bytes;
    bytes_gauge_.Set(static_cast<double>(bytes_));
    return absl::OkStatus();
  }

  // False if everything is held by somebody.
  bool EvictOne(std::vector<Pointer>* dropped) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    auto oldest = entries_.end();
    for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
      // Others get a pointer from here only, under the lock.
      if (entry->second.value == nullptr || entry->second.value.use_count() > 1) continue;
      if (oldest == entries_.end() || entry->second.last_use < oldest->second.last_use) {
        oldest = entry;
      }
    }
    if (oldest == entries_.end()) return false;
    dropped->push_back(std::move(oldest->second.value));
    Forget(oldest->second.bytes);
    entries_.erase(oldest);
    evictions_.Increment();
    return true;
  }

  void Forget(int64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    bytes_ -= bytes;
    bytes_gauge_.Set(static_cast<double>(bytes_));
  }

  const std::string what_;
  const std::string flag_;
  const int64_t bytes_max_;
  prometheus::Gauge& bytes_gauge_;
  prometheus::Counter& loads_;
  prometheus::Counter& evictions_;
  mutable Mutex mutex_;
  CondVar changed_;
  std::map<std::string, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  int64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t uses_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_INFERENCE_MODEL_CACHE_H_
