// ScriptedWorker: a worker that trains by counting. It says what a real one says, obeys what it is
// told, and gives every job the same numbers and digests however often it is interrupted. No
// thread, no clock: a test moves reports and answers.

#ifndef DELTAWORKS_SERVICES_SCHEDULER_TESTING_SCRIPTED_WORKER_H_
#define DELTAWORKS_SERVICES_SCHEDULER_TESTING_SCRIPTED_WORKER_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "proto/deltaworks/v1/worker_service.pb.h"

namespace deltaworks::services {

// Facts of MakeValidation() of //scheduler/testing: 100 steps.
inline constexpr int64_t kScriptedSteps = 100;

// What ScriptedWorker reports of a job: checkpoint at a step, result.
std::string ScriptedCheckpoint(const std::string& job, int64_t step);
std::string ScriptedResult(const std::string& job);

class ScriptedWorker {
 public:
  explicit ScriptedWorker(const std::string& id);

  // The process dies and comes back with empty hands.
  void Restart();
  void Drain() { draining_ = true; }
  void SetGangSizeMax(int32_t size) {
    environment_.set_gang_size_max(size);
    environment_.set_gang_address("127.0.0.1:1");
  }
  // Each step from now on takes so long of the device; nothing by default.
  void SetStepTime(absl::Duration step_time) { step_ms_ = absl::ToInt64Milliseconds(step_time); }

  // Trains `steps` steps of all that it is to run; at the last one it is DONE. With
  // `checkpoint`, it has one of where it then is.
  void Train(int64_t steps, bool checkpoint = false);
  // With `with_news` false only phases and steps.
  v1::SyncRequest NextReport(bool with_news = true);
  void TakeAnswer(const v1::SyncResponse& answer);

  const std::string& name() const { return name_; }
  bool idle() const { return held_.empty(); }
  // Jobs that it trains.
  std::set<std::string> jobs() const;
  // Of the last answer.
  const v1::SyncResponse& answer() const { return answer_; }

 private:
  struct Held {
    v1::Assignment assignment;
    v1::AttemptReport::Phase phase = v1::AttemptReport::PREPARING;
    int64_t step = 0;
    int64_t device_ms = 0;
    int64_t checkpoint_step = 0;          // Not committed yet; 0: none.
    std::vector<v1::MetricPoint> points;  // Number n is points[n - 1].
    int64_t points_acknowledged = 0;
    int64_t lines = 0;
    int64_t lines_acknowledged = 0;
    bool result_accepted = false;
    bool yielding = false;
  };

  static v1::AttemptReport ReportOf(const Held& held, bool with_news);
  void Obey(const v1::Assignment& assignment);
  void Stop(const v1::Assignment& assignment);

  const std::string name_;
  v1::WorkerEnvironment environment_;
  int64_t incarnation_ = 1;
  int64_t report_number_ = 0;
  bool draining_ = false;
  int64_t step_ms_ = 0;
  v1::SyncResponse answer_;
  std::map<std::string, Held> held_;  // By attempt id.
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_SCHEDULER_TESTING_SCRIPTED_WORKER_H_
