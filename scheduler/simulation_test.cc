// The scheduler among workers that die, repeat, reorder and lie, a store that forgets to commit,
// and people who change their minds, on a clock that moves when told. Everything comes from one
// seed, which a failure prints; SIMULATION_SEED=17 runs that one alone.
//
// Checked all along:
//   - by the workers' own clocks, two of them never hold a lease of one job
//   - epochs only grow, attempt ids never come again, checkpoints grow and are the current
//   attempt's
//   - a step's metrics are recorded once, a job has at most one version, the one that was accepted
//   - attempts on one worker may share it, and memory holds them all
//   - no grant puts a tenant on more devices than its quota allows
//   - a waiting job tells why; what is stored replays to what is in memory
// and at the end, when the faults stop: every job ends.

#include <cstdlib>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "scheduler/job_record.h"
#include "scheduler/job_state.h"
#include "scheduler/proto_time.h"
#include "scheduler/resource_name.h"
#include "scheduler/testing/harness.h"
#include "scheduler/version_request.h"

namespace deltaworks::scheduler {
namespace {

constexpr int64_t kSteps = 100;

// ---- A worker, as the protocol wants it ----

struct HeldAttempt {
  v1::Assignment assignment;
  v1::AttemptReport::Phase phase = v1::AttemptReport::PREPARING;
  int64_t step = 0;
  int64_t checkpoint_step = 0;
  absl::Time lease_until;
  std::vector<v1::MetricPoint> points;  // Number n is points[n - 1].
  int64_t acknowledged_n = 0;
  bool yielding = false;
};

int64_t Hash(const std::string& text) {
  return static_cast<int64_t>(std::hash<std::string>()(text) >> 1);
}

class SimulatedWorker {
 public:
  explicit SimulatedWorker(int index) : name_(absl::StrCat("workers/w", index)) {}

  // The process dies and comes back with empty hands.
  void Crash() {
    ++incarnation_;
    report_number_ = 0;
    term_ = revision_ = 0;
    held_.clear();
    gone_.clear();
  }

  // Trains for a moment, where a lease allows it.
  void Work(absl::Time now, std::mt19937_64* random) {
    for (auto& [id, a] : held_) {
      if (a.phase == v1::AttemptReport::LEFT || a.phase == v1::AttemptReport::DONE) continue;
      if (now >= a.lease_until) {
        a.phase = v1::AttemptReport::PARKED;
        continue;
      }
      a.phase = v1::AttemptReport::TRAINING;
      for (int64_t n = (*random)() % 8; n > 0 && a.step < kSteps; --n) {
        ++a.step;
        a.points.push_back(MakePoint(a.step, static_cast<double>(Hash(a.assignment.job()) % 1000) /
                                                 static_cast<double>(a.step)));
      }
      if (a.yielding || (*random)() % 8 == 0) a.checkpoint_step = a.step;
      if (a.step == kSteps) {
        a.phase = v1::AttemptReport::DONE;
      } else if (a.yielding) {
        a.phase = v1::AttemptReport::LEFT;
      }
    }
  }

  v1::SyncRequest NextReport(bool draining) {
    v1::SyncRequest report;
    report.set_worker(name_);
    report.set_incarnation(incarnation_);
    report.set_report_number(++report_number_);
    report.set_draining(draining);
    *report.mutable_environment() = FakeWorker("x").environment;
    for (const auto& [id, a] : held_) *report.add_attempts() = ReportOf(a);
    return report;
  }

  void TakeAnswer(const v1::SyncResponse& answer, int64_t incarnation, absl::Time sent_at) {
    if (incarnation != incarnation_ ||
        std::make_pair(answer.term(), answer.revision()) < std::make_pair(term_, revision_)) {
      return;
    }
    term_ = answer.term();
    revision_ = answer.revision();
    const absl::Time until = sent_at + FromProto(answer.lease_duration());
    for (const v1::Assignment& assignment : answer.assignments()) Obey(assignment, until);
  }

  // Ids of attempts of `job` that this worker may train now.
  bool HoldsLease(const std::string& job, absl::Time now) const {
    for (const auto& [id, a] : held_) {
      if (a.assignment.job() == job && now < a.lease_until && a.phase != v1::AttemptReport::LEFT &&
          a.phase != v1::AttemptReport::DONE) {
        return true;
      }
    }
    return false;
  }

  int64_t incarnation() const { return incarnation_; }

 private:
  static v1::AttemptReport ReportOf(const HeldAttempt& a) {
    v1::AttemptReport report = Harness::Report(a.assignment, a.phase, a.step);
    report.set_first_metric_n(a.acknowledged_n + 1);
    for (size_t n = a.acknowledged_n; n < a.points.size(); ++n) *report.add_metrics() = a.points[n];
    if (a.checkpoint_step > 0) {
      report.mutable_checkpoint()->set_step(a.checkpoint_step);
      report.mutable_checkpoint()->set_manifest_digest(
          FakeDigest(Hash(a.assignment.job()) + a.checkpoint_step));
    }
    if (a.phase == v1::AttemptReport::DONE) {
      report.mutable_result()->set_manifest_digest(FakeDigest(Hash(a.assignment.job())));
      report.mutable_result()->set_step(kSteps);
    }
    return report;
  }

  void Obey(const v1::Assignment& assignment, absl::Time until) {
    const std::string& id = assignment.attempt_id();
    const auto found = held_.find(id);
    if (assignment.desired() == v1::Assignment::STOP) {
      if (found == held_.end()) return;
      if (found->second.phase == v1::AttemptReport::DONE && assignment.result_accepted() &&
          !assignment.job_final()) {
        return;  // Keeps its files.
      }
      // Says LEFT once more, and forgets it when that is answered with STOP again.
      if (found->second.phase == v1::AttemptReport::LEFT || assignment.job_final()) {
        held_.erase(found);
        gone_.insert(id);
      } else {
        found->second.phase = v1::AttemptReport::LEFT;
      }
      return;
    }
    if (gone_.contains(id)) return;
    if (found == held_.end()) {
      if (!assignment.has_train()) return;
      HeldAttempt& a = held_[id];
      a.assignment = assignment;
      a.step = assignment.train().start_checkpoint().step();
      a.lease_until = until;
      return;
    }
    HeldAttempt& a = found->second;
    a.lease_until = std::max(a.lease_until, until);
    a.acknowledged_n = std::max(a.acknowledged_n, assignment.metrics_acknowledged_n());
    a.yielding = a.yielding || assignment.desired() == v1::Assignment::YIELD;
  }

  const std::string name_;
  int64_t incarnation_ = 1;
  int64_t report_number_ = 0;
  int64_t term_ = 0;
  int64_t revision_ = 0;
  std::map<std::string, HeldAttempt> held_;  // By attempt id.
  std::set<std::string> gone_;
};

// ---- The world ----

class World {
 public:
  World(uint64_t seed, Options options) : random_(seed), h_(options) {
    for (int i = 0; i < 3; ++i) workers_.emplace_back(i);
  }

  void Run() {
    for (int i = 0; i < 600 && !::testing::Test::HasFailure(); ++i) {
      Step(/*faults=*/true);
      Check();
    }
    Settle();
  }

  // Moments in which a worker held more than one job.
  int64_t shared() const { return shared_; }

  int64_t Count(v1::JobState state) const {
    int64_t count = 0;
    for (const auto& [name, record] : h_.scheduler->state()->jobs()) {
      count += StateOf(record) == state ? 1 : 0;
    }
    return count;
  }

 private:
  struct Report {
    absl::Time arrives_at;
    absl::Time sent_at;
    v1::SyncRequest sync;
  };
  struct Answer {
    absl::Time arrives_at;
    absl::Time sent_at;
    int worker = 0;
    int64_t incarnation = 0;
    v1::SyncResponse response;
  };
  struct HeldAnswer {
    int64_t position = 0;
    absl::Time received_at;
    v1::SyncRequest sync;
    absl::Time sent_at;
    v1::SyncResponse response;
  };

  bool Chance(int percent) { return static_cast<int>(random_() % 100) < percent; }
  auto Bits() {
    return [this] { return random_(); };
  }
  absl::Duration Delay(bool faults) {
    if (!faults) return absl::Milliseconds(10);
    return Chance(3) ? absl::Seconds(random_() % 60) : absl::Milliseconds(random_() % 3000);
  }

  void Step(bool faults) {
    h_.now += absl::Milliseconds(faults ? random_() % 2000 : 1000);
    if (faults) Disturb();
    for (size_t i = 0; i < workers_.size(); ++i) {
      workers_[i].Work(h_.now, &random_);
      Send(workers_[i].NextReport(faults && Chance(2)), faults);
    }
    if (faults && Chance(20)) Lie();
    Deliver(faults);
    const Scheduler::Due due = h_.scheduler->Tick(h_.now, Bits());
    AnswerValidations(faults);
    AnswerVersions(due, faults);
    if (!faults || Chance(80)) Commit();
    TakeAnswers();
  }

  // ---- People, and what breaks ----

  void Disturb() {
    if (Chance(6) && jobs_.size() < 12) Submit();
    if (Chance(6)) Ask<v1::PauseJobRequest>();
    if (Chance(10)) Ask<v1::ResumeJobRequest>();
    if (Chance(3)) Update();
    if (Chance(2)) SetQuota();
    if (Chance(2)) SetMode();
    if (Chance(1)) Ask<v1::CancelJobRequest>();
    if (Chance(2)) workers_[random_() % workers_.size()].Crash();
    if (Chance(4)) {
      const absl::Time until = h_.now + absl::Seconds(random_() % 30);
      (Chance(50) ? unheard_until_ : deaf_until_)[random_() % workers_.size()] = until;
    }
    if (Chance(2)) Reload(/*stored=*/Chance(50));
    if (Chance(1)) Restart();
    if (Chance(1)) {
      h_.scheduler->Unload();
      answers_to_commit_.clear();
    } else if (!h_.scheduler->loaded() && Chance(30)) {
      h_.Reload();
    }
  }

  void Submit() {
    v1::CreateJobRequest request = MakeCreateRequest("");
    request.set_request_id(absl::StrCat("request-", jobs_.size()));
    request.mutable_job()->set_priority_class(static_cast<v1::PriorityClass>(1 + random_() % 3));
    if (Chance(70)) request.mutable_job()->mutable_retry_policy()->set_max_retries(-1);
    const std::string tenant = absl::StrCat("tenants/t", Chance(50) ? 1 : 2);
    request.set_parent(tenant);
    request.mutable_job()->mutable_train()->set_base_model(tenant + "/baseModels/base");
    request.mutable_job()->mutable_train()->set_dataset(tenant + "/datasets/data");
    request.mutable_job()->mutable_placement()->set_cohort(
        static_cast<v1::Placement::Cohort>(random_() % 4));
    if (Chance(20)) FillTiming(request.mutable_job()->mutable_timing());
    const auto created = h_.scheduler->Execute(request, h_.now, Bits());
    if (!created.ok()) return;
    EXPECT_EQ(h_.scheduler->Execute(request, h_.now, Bits())->job, created->job);
    jobs_.push_back(created->job);
  }

  template <typename Request>
  void Ask() {
    if (jobs_.empty()) return;
    Request request;
    request.set_name(jobs_[random_() % jobs_.size()]);
    (void)h_.scheduler->Execute(request, h_.now, Bits());  // Refusals are part of the game.
  }

  void FillTiming(v1::Timing* timing) {
    if (Chance(50))
      *timing->mutable_start_after() = ToProto(h_.now + absl::Seconds(random_() % 100));
    if (Chance(30)) *timing->mutable_deadline() = ToProto(h_.now + absl::Seconds(random_() % 1000));
    if (Chance(30)) *timing->mutable_time_limit() = ToProto(absl::Seconds(1 + random_() % 1000));
  }

  void Update() {
    if (jobs_.empty()) return;
    v1::UpdateJobRequest request;
    request.set_name(jobs_[random_() % jobs_.size()]);
    if (Chance(70)) request.set_priority_class(static_cast<v1::PriorityClass>(1 + random_() % 3));
    if (Chance(30)) FillTiming(request.mutable_timing());
    (void)h_.scheduler->Execute(request, h_.now, Bits());
  }

  void SetQuota() {
    v1::SetQuotaRequest request;
    v1::Quota& quota = *request.mutable_quota();
    quota.set_name(absl::StrCat("tenants/t", Chance(50) ? 1 : 2, "/quota"));
    quota.set_weight(1 + static_cast<double>(random_() % 4));
    quota.set_guaranteed_devices(static_cast<int64_t>(random_() % 2));
    if (Chance(70)) quota.set_limit_devices(static_cast<int64_t>(1 + random_() % 3));
    request.set_force(true);
    (void)h_.scheduler->Execute(request, h_.now, Bits());
  }

  void SetMode(v1::WorkerMode mode = v1::WORKER_MODE_UNSPECIFIED) {
    v1::SetWorkerModeRequest request;
    request.set_worker(absl::StrCat("workers/w", random_() % workers_.size()));
    request.set_mode(mode != v1::WORKER_MODE_UNSPECIFIED
                         ? mode
                         : static_cast<v1::WorkerMode>(1 + random_() % 3));
    (void)h_.scheduler->Execute(request, h_.now, Bits());
  }

  void Resume(const std::string& job) {
    v1::ResumeJobRequest request;
    request.set_name(job);
    EXPECT_TRUE(h_.scheduler->Execute(request, h_.now, Bits()).ok()) << job;
  }

  // A commit fails; `stored`: its outcome is unknown, and it is stored after all.
  void Reload(bool stored) {
    if (!h_.scheduler->loaded()) return;
    if (stored) Append(h_.scheduler->TakeEvents());
    answers_to_commit_.clear();
    h_.Reload();
  }

  void Restart() {
    answers_to_commit_.clear();
    h_.Restart();
  }

  // Somebody knows every id and claims to be the one.
  void Lie() {
    v1::SyncRequest sync;
    sync.set_worker("workers/liar");
    sync.set_incarnation(1);
    sync.set_report_number(++lies_);
    sync.set_draining(true);  // So that nobody grants it anything.
    for (const auto& [job, id] : granted_) {
      v1::AttemptReport& report = *sync.add_attempts();
      report.set_job(job);
      report.set_attempt_id(id.first);
      report.set_lease_epoch(id.second);
      report.set_phase(static_cast<v1::AttemptReport::Phase>(1 + random_() % 6));
      report.set_step(static_cast<int64_t>(random_()));
      report.mutable_checkpoint()->set_step(kSteps);
      report.mutable_checkpoint()->set_manifest_digest(FakeDigest(666));
      report.mutable_result()->set_manifest_digest(FakeDigest(666));
      report.mutable_result()->set_step(kSteps);
      report.set_first_metric_n(1);
      *report.add_metrics() = MakePoint(1, -1);
    }
    (void)h_.scheduler->ReceiveSync(sync, h_.now, Bits());
  }

  // ---- The network ----

  static int WorkerOf(const v1::SyncRequest& sync) { return sync.worker().back() - '0'; }

  void Send(const v1::SyncRequest& sync, bool faults) {
    int copies = !faults ? 1 : Chance(10) ? 0 : Chance(10) ? 2 : 1;
    if (faults && h_.now < unheard_until_[WorkerOf(sync)]) copies = 0;
    for (int i = 0; i < copies; ++i) reports_.push_back({h_.now + Delay(faults), h_.now, sync});
  }

  void Deliver(bool faults) {
    std::vector<Report> arrived;
    for (size_t i = 0; i < reports_.size();) {
      if (reports_[i].arrives_at > h_.now) {
        ++i;
        continue;
      }
      arrived.push_back(std::move(reports_[i]));
      reports_[i] = std::move(reports_.back());
      reports_.pop_back();
    }
    for (const Report& report : arrived) {
      if (!h_.scheduler->ReceiveSync(report.sync, h_.now, Bits()).ok()) continue;
      (void)h_.scheduler->Tick(h_.now, Bits());
      Scheduler::Sync answer = h_.scheduler->AnswerSync(report.sync, h_.now);
      answers_to_commit_.push_back({.position = answer.position,
                                    .received_at = h_.now,
                                    .sync = report.sync,
                                    .sent_at = report.sent_at,
                                    .response = std::move(answer.response)});
    }
    SendCommittedAnswers(faults);
  }

  void SendCommittedAnswers(bool faults) {
    const auto committed = static_cast<int64_t>(h_.log.size());
    std::vector<HeldAnswer> waiting;
    for (HeldAnswer& held : answers_to_commit_) {
      if (held.position > committed) {
        waiting.push_back(std::move(held));
        continue;
      }
      h_.scheduler->SyncAnswered(held.sync, held.response, held.received_at);
      const int worker = WorkerOf(held.sync);
      if (faults && (Chance(10) || h_.now < deaf_until_[worker])) continue;
      answers_.push_back(
          {h_.now + Delay(faults), held.sent_at, worker, held.sync.incarnation(), held.response});
    }
    answers_to_commit_ = std::move(waiting);
  }

  void TakeAnswers() {
    for (size_t i = 0; i < answers_.size();) {
      if (answers_[i].arrives_at > h_.now) {
        ++i;
        continue;
      }
      const Answer answer = std::move(answers_[i]);
      answers_[i] = std::move(answers_.back());
      answers_.pop_back();
      workers_[answer.worker].TakeAnswer(answer.response, answer.incarnation, answer.sent_at);
    }
  }

  // ---- Store and registry ----

  void AnswerValidations(bool faults) {
    if (!h_.scheduler->loaded()) return;
    const State::Names validating = h_.scheduler->state()->validating();
    for (const std::string& job : validating) {
      if (faults && Chance(50)) continue;
      ValidationAnswer answer{.job = job, .response = MakeValidation()};
      // Some know their memory, and may share; two bases; a worker holds about six.
      if (Hash(job) % 4 != 0) {
        *answer.response.mutable_facts() = MakeSharingFacts(64);
        answer.response.mutable_facts()->set_base_manifest_digest(FakeDigest(1 + Hash(job) % 2));
        answer.response.mutable_facts()->mutable_memory()->set_own_bytes(int64_t{1} << 30);
      }
      if (faults && Chance(5)) answer.response.mutable_failure()->set_code("DATASET_INVALID");
      (void)h_.scheduler->Execute(answer, h_.now, Bits());
    }
  }

  // The registry knows only what was committed when it was asked.
  void AnswerVersions(const Scheduler::Due& due, bool faults) {
    if (!h_.scheduler->loaded()) return;
    if (due.position > static_cast<int64_t>(h_.log.size())) return;
    for (const std::string& job : h_.WantVersions()) {
      if (faults && Chance(50)) continue;
      const v1::CreateVersionRequest request = MakeVersionRequest(h_.Record(job));
      const std::string& manifest = request.adapter_version().manifest_digest();
      const std::string& kept = versions_.try_emplace(job, manifest).first->second;
      EXPECT_EQ(kept, manifest) << job;
      absl::StatusOr<v1::AdapterVersion> answer = request.adapter_version();
      answer->set_name(absl::StrCat(request.parent(), "/versions/1"));
      answer->set_state(v1::AdapterVersion::READY);
      if (faults && Chance(30)) answer = absl::UnavailableError("the answer was lost");
      (void)h_.scheduler->Execute(VersionAnswer{job, answer}, h_.now, Bits());
    }
  }

  // ---- The log ----

  void Commit() {
    if (!h_.scheduler->loaded()) return;
    Append(h_.scheduler->TakeEvents());
    h_.scheduler->Committed(static_cast<int64_t>(h_.log.size()), h_.now);
    SendCommittedAnswers(/*faults=*/true);
  }

  void Append(std::vector<Event> events) {
    for (Event& event : events) h_.log.push_back(std::move(event));
  }

  void CheckEvent(const Event& event) {
    if (event.has_attempt_granted()) {
      const v1::Attempt& attempt = event.attempt_granted().attempt();
      EXPECT_TRUE(ids_.insert(attempt.attempt_id()).second) << attempt.attempt_id();
      auto& [id, epoch] = granted_[event.job()];
      EXPECT_EQ(attempt.lease_epoch(), epoch + 1) << event.job();
      id = attempt.attempt_id();
      epoch = attempt.lease_epoch();
      const std::string tenant(TenantOf(event.job()));
      on_[event.job()] = attempt.worker();
      std::set<std::string> devices;
      for (const auto& [job, worker] : on_) {
        if (TenantOf(job) == tenant) devices.insert(worker);
      }
      // A limit that was lowered stops nobody: who joins a device that it is on is not on more.
      const auto limit = limits_.find(tenant);
      if (limit != limits_.end() && !was_on_[tenant].contains(attempt.worker())) {
        EXPECT_LE(static_cast<int64_t>(devices.size()), limit->second) << event.job();
      }
      was_on_[tenant] = devices;
    }
    if (event.has_attempt_ended() || event.has_result_accepted()) {
      on_.erase(event.job());
      std::set<std::string>& devices = was_on_[std::string(TenantOf(event.job()))];
      devices.clear();
      for (const auto& [job, worker] : on_) {
        if (TenantOf(job) == TenantOf(event.job())) devices.insert(worker);
      }
    }
    if (event.has_quota_set()) {
      const v1::Quota& quota = event.quota_set().quota();
      limits_.erase(std::string(TenantOf(quota.name())));
      if (quota.has_limit_devices()) {
        limits_[std::string(TenantOf(quota.name()))] = quota.limit_devices();
      }
    }
    if (event.has_checkpoint_committed()) {
      const v1::Checkpoint& checkpoint = event.checkpoint_committed().checkpoint();
      EXPECT_EQ(checkpoint.attempt_id(), granted_[event.job()].first);
      EXPECT_GT(checkpoint.step(), checkpoint_step_[event.job()]) << event.job();
      EXPECT_NE(checkpoint.manifest_digest(), FakeDigest(666));
      checkpoint_step_[event.job()] = checkpoint.step();
    }
    for (const v1::MetricPoint& point : event.metrics_recorded().points()) {
      EXPECT_GT(point.step(), metric_step_[event.job()]) << event.job();
      EXPECT_GE(point.loss(), 0);
      metric_step_[event.job()] = point.step();
    }
    if (event.has_shown()) {
      EXPECT_EQ(event.shown().seq(), ++seq_[event.job()]) << event.job();
      EXPECT_NE(event.shown().level(), v1::JobEvent::ALERT) << event.shown().message();
    }
  }

  // ---- Invariants ----

  void CheckWorkers() {
    const State& state = *h_.scheduler->state();
    for (const auto& [worker, jobs] : state.jobs_by_worker()) {
      const WorkerLoad& load = state.LoadOf(worker);
      ASSERT_EQ(load.attempts(), static_cast<int64_t>(jobs.size())) << worker;
      EXPECT_LE(load.attempts(), h_.options.attempts_per_worker) << worker;
      MemoryParts memory;
      for (const WorkerLoad::Piece& piece : load.pieces()) {
        memory.Add(piece.shape.memory);
        EXPECT_TRUE(load.attempts() == 1 || !piece.alone) << worker << " holds " << piece.job;
        EXPECT_EQ(piece.shape.base_manifest_digest, load.pieces()[0].shape.base_manifest_digest);
      }
      shared_ += load.attempts() > 1 ? 1 : 0;
      const WorkerInfo* const info = h_.scheduler->fleet().Find(worker);
      if (info != nullptr && load.attempts() > 1) {
        EXPECT_LE(memory.Bytes(), info->environment.memory_bytes()) << worker;
      }
    }
  }

  void Check() {
    for (; checked_ < h_.log.size(); ++checked_) CheckEvent(h_.log[checked_]);
    for (const std::string& job : jobs_) {
      int holders = 0;
      for (const SimulatedWorker& worker : workers_) holders += worker.HoldsLease(job, h_.now);
      EXPECT_LE(holders, 1) << job << " has two workers at " << h_.now;
    }
    if (!h_.scheduler->loaded()) return;
    CheckWorkers();
    for (const auto& [name, record] : h_.scheduler->state()->jobs()) {
      EXPECT_EQ(record.has_current(), IsOnWorker(StateOf(record))) << name;
      if (StateOf(record) == v1::QUEUED) {
        EXPECT_NE(h_.WaitingOf(name).message(), "") << name;
        EXPECT_GE(h_.WaitingOf(name).queue_position(), record.has_waits_until() ? 0 : 1) << name;
      }
      if (StateOf(record) == v1::SUCCEEDED) {
        EXPECT_EQ(versions_[name], record.job().status().result().manifest_digest()) << name;
        EXPECT_NE(record.job().status().result().version(), "") << name;
      }
    }
  }

  // The faults stop; everything must come to an end.
  void Settle() {
    if (!h_.scheduler->loaded()) h_.Reload();
    for (int i = 0; i < 3000; ++i) {
      SetMode(v1::WORKER_ACTIVE);
      Step(/*faults=*/false);
      Check();
      for (const std::string& job : jobs_) {
        const JobRecord* record = h_.scheduler->state()->FindJob(job);
        if (record != nullptr && StateOf(*record) == v1::PAUSED) Resume(job);
      }
      if (h_.scheduler->state()->active_jobs() == 0) break;
    }
    Commit();
    EXPECT_EQ(h_.scheduler->state()->active_jobs(), 0);
    for (const auto& [name, record] : h_.scheduler->state()->jobs()) {
      EXPECT_TRUE(IsFinal(StateOf(record))) << name << ": " << record.ShortDebugString();
    }
    EXPECT_EQ(h_.LiveBytes(), h_.ReplayedBytes());
  }

  std::mt19937_64 random_;
  Harness h_;
  std::vector<SimulatedWorker> workers_;
  std::vector<Report> reports_;
  std::vector<HeldAnswer> answers_to_commit_;
  std::vector<Answer> answers_;
  // A cut wire, in one direction.
  std::map<int, absl::Time> unheard_until_;
  std::map<int, absl::Time> deaf_until_;
  int64_t lies_ = 0;
  size_t checked_ = 0;  // Events of the log.

  std::vector<std::string> jobs_;  // Some of them lost with a commit that failed.
  std::set<std::string> ids_;
  std::map<std::string, std::pair<std::string, int64_t>> granted_;
  std::map<std::string, std::string> on_;                // By job.
  std::map<std::string, std::set<std::string>> was_on_;  // By tenant.
  std::map<std::string, int64_t> limits_;
  int64_t shared_ = 0;
  std::map<std::string, int64_t> checkpoint_step_;
  std::map<std::string, int64_t> metric_step_;
  std::map<std::string, int64_t> seq_;
  std::map<std::string, std::string> versions_;
};

TEST(SimulationTest, WhateverWorkersAndStoreDoNothingIsLostAndNothingHappensTwice) {
  uint64_t first = 1;
  uint64_t last = 150;
  if (const char* seed = std::getenv("SIMULATION_SEED")) {
    ASSERT_TRUE(absl::SimpleAtoi(seed, &first)) << seed;
    last = first;
  }
  int64_t succeeded = 0;
  int64_t failed = 0;
  int64_t shared = 0;
  for (uint64_t seed = first; seed <= last; ++seed) {
    SCOPED_TRACE(absl::StrCat("SIMULATION_SEED=", seed));
    Options options;
    options.deaths_until_poison = seed % 2 == 0 ? 0 : 3;
    options.attempts_per_worker = seed % 3 == 0 ? 1 : 8;
    options.cohort_floor = static_cast<v1::Placement::Cohort>(seed % 7 == 0 ? 2 : 1);
    if (seed % 4 == 0) options.max_overtake = absl::Seconds(30);
    options.preempt_after = absl::Seconds(5);
    options.yield_grace = absl::Seconds(10);
    if (seed % 5 != 0) options.lease_duration = absl::Seconds(8);
    World world(seed, options);
    world.Run();
    succeeded += world.Count(v1::SUCCEEDED);
    failed += world.Count(v1::FAILED);
    shared += world.shared();
    if (HasFailure()) return;
  }
  // The faults must not be so many that nothing is tested.
  EXPECT_GT(succeeded, static_cast<int64_t>(last - first));
  EXPECT_GT(shared, 10 * static_cast<int64_t>(last - first));
  RecordProperty("succeeded", static_cast<int>(succeeded));
  RecordProperty("failed", static_cast<int>(failed));
}

}  // namespace
}  // namespace deltaworks::scheduler
