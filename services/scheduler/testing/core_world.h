// CoreWorld: a SchedulerCore on a fake loop and clock, over a real database whose disk fails when
// told, with fakes of store and registry. Calls run the loop until nothing is ready, so a test
// reads like a conversation.

#ifndef DELTAWORKS_SERVICES_SCHEDULER_TESTING_CORE_WORLD_H_
#define DELTAWORKS_SERVICES_SCHEDULER_TESTING_CORE_WORLD_H_

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "services/base/event_loop.h"
#include "services/base/metrics.h"
#include "services/clients/fake_registry_client.h"
#include "services/clients/fake_store_client.h"
#include "services/scheduler/scheduler_core.h"
#include "services/scheduler/sqlite_event_store.h"
#include "services/scheduler/testing/faulty_event_store.h"
#include "services/scheduler/testing/scripted_worker.h"

namespace deltaworks::services {

// Runs a call at once, or when the test says so.
class InlineCallPool final : public CallPool {
 public:
  void Run(Call call) override {
    if (hold) {
      held.push_back(std::move(call));
    } else {
      call();
    }
  }
  void RunHeld() {
    for (Call& call : std::exchange(held, {})) call();
  }

  bool hold = false;
  std::vector<Call> held;
};

// A Sync: empty while it is held.
using SyncAnswer = std::shared_ptr<std::optional<absl::StatusOr<v1::SyncResponse>>>;

class CoreWorld {
 public:
  // `name` makes the database's path; it begins empty.
  explicit CoreWorld(const std::string& name, SchedulerCore::Options options = {},
                     SqliteEventStore::Options events = {});

  // A new process on the same file; the old one is killed, or ended with Stop.
  void Restart(bool kill = true);
  void Advance(absl::Duration step) { loop.Advance(step); }

  absl::StatusOr<v1::Job> Change(const scheduler::Command& command);
  // Accepted, valid and QUEUED, or RUNNING if a worker was free. Of tenants/t.
  std::string Submit(const std::string& job_id);
  absl::StatusOr<v1::Job> Cancel(const std::string& job);
  absl::StatusOr<v1::Job> Pause(const std::string& job);
  absl::StatusOr<v1::Job> Resume(const std::string& job);
  absl::Status Delete(const std::string& job, const std::string& request_id = "");
  absl::StatusOr<v1::Job> Get(const std::string& job);
  v1::JobState StateOf(const std::string& job) { return Get(job)->status().state(); }
  // Every event of the job, read through the core.
  std::vector<v1::JobEvent> Events(const std::string& job);
  std::vector<v1::MetricPoint> Points(const std::string& job);
  // What `read` returns of the committed view.
  template <typename Result, typename ReadFunction>
  absl::StatusOr<Result> Read(ReadFunction read) {
    std::optional<absl::StatusOr<Result>> result;
    core->Read([&](absl::StatusOr<CommittedView> view) {
      result = view.ok() ? absl::StatusOr<Result>(read(*view)) : view.status();
    });
    loop.RunReady();
    return *result;
  }

  // Sends the worker's next report. The answer, if it came at once, is taken by the worker.
  SyncAnswer Sync(ScriptedWorker& worker, bool with_news = true);
  // Gives a held answer, if it came meanwhile, to the worker.
  static void Take(const SyncAnswer& answer, ScriptedWorker& worker);
  // Reports, trains and waits a second, until the worker has nothing left.
  void Finish(ScriptedWorker& worker, int64_t steps_per_second = 20);

  // The number of a metric without labels, or with `labels` as written: {state="failed"}.
  double Metric(const std::string& name_and_labels) const;

  FakeClock clock;
  FakeEventLoop loop{clock};
  InlineCallPool pool;
  FakeStoreClient store;
  FakeRegistryClient registry;
  std::unique_ptr<Metrics> prometheus;
  std::unique_ptr<SchedulerMetrics> metrics;
  std::unique_ptr<FaultyEventStore> events;
  std::unique_ptr<SchedulerCore> core;

 private:
  void Begin();

  const SchedulerCore::Options options_;
  SqliteEventStore::Options event_options_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_SCHEDULER_TESTING_CORE_WORLD_H_
