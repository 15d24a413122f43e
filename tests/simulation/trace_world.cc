#include "tests/simulation/trace_world.h"

#include <malloc.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "glog/logging.h"
#include "scheduler/forecast.h"
#include "scheduler/job_record.h"
#include "scheduler/proto_time.h"
#include "scheduler/queue_order.h"
#include "scheduler/testing/harness.h"

namespace deltaworks::simulation {
namespace {

namespace core = ::deltaworks::scheduler;

// As placement.cc assumes of a GPU.
constexpr double kOverheadTokens = 512;
// Of a pass of one token.
constexpr double kOverheadSeconds = 0.1;
constexpr double kCudaShare = 0.8;

struct TraceJob {
  int64_t tenant = 0;
  v1::PriorityClass priority_class = v1::NORMAL;
  absl::Time submit, first_grant = absl::InfiniteFuture(), end = absl::InfiniteFuture();
  int64_t base = 0;
  int64_t tokens = 0;
  int64_t passes = 0;
  bool cuda = true;

  double AloneSeconds() const {
    return static_cast<double>(passes) * kOverheadSeconds *
           (kOverheadTokens + static_cast<double>(tokens)) / kOverheadTokens;
  }
};

struct Running {
  int64_t job = 0;
  int64_t lease_epoch = 0;
  std::string attempt_id;
  double passes_left = 0;
  double device_seconds = 0;
  bool leaving = false;
};

struct TraceWorker {
  std::string name;
  int64_t incarnation = 1;
  int64_t report_number = 0;
  v1::WorkerEnvironment environment;
  std::vector<Running> running;
  absl::Time updated;
  int64_t version = 0;  // Of its next finish.
};

class World {
 public:
  explicit World(const TraceOptions& options)
      : options_(options),
        random_(options.seed),
        scheduler_(Policy(options), /*archive=*/nullptr, kStart) {
    scheduler_.Load(std::make_unique<core::State>(Policy(options)), kStart);
    MakeWorkers();
    MakeJobs();
  }

  TraceResult Run() {
    Begin();
    while (ended_ < static_cast<int64_t>(jobs_.size())) Step();
    Summarise();
    return result_;
  }

  QueueResult RunQueue(int64_t ends) {
    Begin();
    const size_t before = HeapBytes();
    // Many come at once, and a plan takes in those of a tenth of a second.
    for (absl::Time next_plan = now_; next_job_ < jobs_.size();) {
      Happen();
      if (now_ < next_plan) continue;
      Plan();
      next_plan = now_ + absl::Milliseconds(100);
    }
    Plan();
    QueueResult result;
    result.queued = scheduler_.state()->queue().size();
    result.shapes = static_cast<int64_t>(scheduler_.state()->queue().shapes().size());
    result.bytes_a_job =
        static_cast<int64_t>(HeapBytes() - before) / std::max<int64_t>(1, result.queued);
    plan_ms_.clear();
    const int64_t ended_before = ended_;
    const int64_t grants_before = result_.grants;
    while (ended_ < ended_before + ends) Step();
    result.grants = result_.grants - grants_before;
    result.plan_p50_ms = Percentile(&plan_ms_, 0.5);
    result.plan_p99_ms = Percentile(&plan_ms_, 0.99);
    result.plan_max_ms = Percentile(&plan_ms_, 1);
    return result;
  }

 private:
  static constexpr absl::Time kStart = absl::FromUnixSeconds(1'700'000'000);

  struct Finish {
    absl::Time at;
    size_t worker = 0;
    int64_t version = 0;
    friend bool operator<(const Finish& a, const Finish& b) { return b.at < a.at; }
  };

  static core::Options Policy(const TraceOptions& options) {
    core::Options policy = options.policy;
    policy.lease_duration = absl::Hours(24 * 365);
    policy.active_jobs_max = options.jobs + 1;
    return policy;
  }

  void Begin() {
    for (TraceWorker& worker : workers_) Report(&worker, {});
    next_loss_ = NextLoss(kStart);
  }

  void Step() {
    Happen();
    Plan();
  }

  // What happens next; the core has not made its plan of it.
  void Happen() {
    const absl::Time submit =
        next_job_ < jobs_.size() ? jobs_[next_job_].submit : absl::InfiniteFuture();
    const absl::Time finish = finishes_.empty() ? absl::InfiniteFuture() : finishes_.top().at;
    now_ = std::min({submit, finish, next_loss_});
    CHECK(now_ < kStart + 20 * options_.length) << "it does not come to an end";
    if (now_ > end_of_submissions_ && !measured_) Measure();
    if (now_ == submit) {
      Submit(static_cast<int64_t>(next_job_++));
    } else if (now_ == finish) {
      const Finish event = finishes_.top();
      finishes_.pop();
      if (workers_[event.worker].version != event.version) return;
      FinishOn(&workers_[event.worker]);
    } else {
      Lose(&workers_[random_() % workers_.size()]);
      next_loss_ = NextLoss(now_);
    }
  }

  static size_t HeapBytes() {
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
  }

  double Uniform() { return std::uniform_real_distribution<double>(0, 1)(random_); }

  void MakeWorkers() {
    for (int64_t i = 0; i < options_.workers; ++i) {
      TraceWorker& worker = workers_.emplace_back();
      worker.name = absl::StrCat("workers/w", i);
      const bool cuda = static_cast<double>(i) < kCudaShare * static_cast<double>(options_.workers);
      worker.environment.set_device_kind(cuda ? "cuda" : "cpu");
      worker.environment.set_device(cuda ? "cuda:0" : "cpu:0");
      worker.environment.set_numerics_class(cuda ? "cuda-h100" : "cpu-avx512");
      worker.environment.set_memory_bytes(int64_t{1} << (i % 4 == 0 ? 36 : 35));
      worker.updated = kStart;
    }
  }

  void MakeJobs() {
    // Weekly and daily waves; the work per job is scaled to the load afterwards.
    std::lognormal_distribution<double> length(0, 1.2);
    std::vector<double> tenant_weight;
    for (int64_t t = 0; t < options_.tenants; ++t) {
      tenant_weight.push_back(1.0 / static_cast<double>(t + 1));
    }
    std::discrete_distribution<int64_t> tenant(tenant_weight.begin(), tenant_weight.end());
    const double seconds = absl::ToDoubleSeconds(options_.length);
    double work = 0;
    std::vector<double> lengths;
    for (int64_t i = 0; i < options_.jobs; ++i) {
      TraceJob& job = jobs_.emplace_back();
      double at = 0;
      do {
        at = Uniform() * seconds;
      } while (Uniform() > 0.6 + 0.4 * std::sin(at / 86400 * 2 * M_PI));
      job.submit = kStart + absl::Seconds(at);
      job.tenant = tenant(random_);
      const double dice = Uniform();
      job.priority_class = dice < 0.3 ? v1::LOW : dice < 0.9 ? v1::NORMAL : v1::HIGH;
      job.base = static_cast<int64_t>(Uniform() * Uniform() * static_cast<double>(options_.bases));
      job.tokens = int64_t{64} << (random_() % 7);  // 64 to 4,096.
      job.cuda = Uniform() < kCudaShare;
      lengths.push_back(length(random_));
      work += lengths.back();
    }
    const double scale = options_.load * static_cast<double>(options_.workers) * seconds / work;
    for (size_t i = 0; i < jobs_.size(); ++i) {
      const double pass = TraceJob{.tokens = jobs_[i].tokens, .passes = 1}.AloneSeconds();
      jobs_[i].passes = std::max<int64_t>(1, std::llround(lengths[i] * scale / pass));
    }
    std::sort(jobs_.begin(), jobs_.end(),
              [](const TraceJob& a, const TraceJob& b) { return a.submit < b.submit; });
    end_of_submissions_ = jobs_.back().submit;
  }

  absl::Time NextLoss(absl::Time from) {
    const double mean =
        absl::ToDoubleSeconds(options_.lost_every) / static_cast<double>(options_.workers);
    return from + absl::Seconds(std::exponential_distribution<double>(1 / mean)(random_));
  }

  auto Bits() {
    return [this] { return random_(); };
  }

  std::string JobName(int64_t job) const {
    return absl::StrCat("tenants/t", options_.one_tenant ? 0 : jobs_[job].tenant, "/jobs/j", job);
  }

  // Times what the core does.
  template <typename Act>
  double Timed(Act act) {
    const absl::Time begin = absl::Now();
    act();
    const double seconds = absl::ToDoubleSeconds(absl::Now() - begin);
    result_.core_seconds += seconds;
    return seconds;
  }

  void Execute(const core::Command& command) {
    Timed([&] { CHECK(scheduler_.Execute(command, now_, Bits()).ok()); });
  }

  void Submit(int64_t index) {
    const TraceJob& job = jobs_[index];
    const std::string tenant = absl::StrCat("tenants/t", options_.one_tenant ? 0 : job.tenant);
    v1::CreateJobRequest request = core::MakeCreateRequest(absl::StrCat("j", index));
    request.set_parent(tenant);
    request.mutable_job()->set_priority_class(job.priority_class);
    request.mutable_job()->mutable_retry_policy()->set_max_retries(-1);
    request.mutable_job()->mutable_placement()->set_device_kind(job.cuda ? "cuda" : "cpu");
    request.mutable_job()->mutable_train()->set_base_model(tenant + "/baseModels/b");
    request.mutable_job()->mutable_train()->set_dataset(tenant + "/datasets/d");
    core::ValidationAnswer answer{.job = JobName(index), .response = core::MakeValidation()};
    v1::TrainFacts& facts = *answer.response.mutable_facts();
    facts = core::MakeSharingFacts(job.tokens);
    facts.set_base_manifest_digest(core::FakeDigest(job.base));
    facts.set_total_steps(job.passes);
    facts.mutable_memory()->set_base_bytes(int64_t{16} << 30);
    facts.mutable_memory()->set_own_bytes(int64_t{1} << 29);
    facts.mutable_memory()->set_row_bytes(3 << 20);
    facts.set_memory_bytes_max((int64_t{16} << 30) + (int64_t{1} << 29) + job.tokens * (3 << 20));
    Execute(request);
    Execute(answer);
    ++result_.submitted;
  }

  // ---- What workers do ----

  double PassSeconds(const TraceWorker& worker) const {
    double tokens = kOverheadTokens;
    for (const Running& running : worker.running) {
      tokens += static_cast<double>(jobs_[running.job].tokens);
    }
    return kOverheadSeconds * tokens / kOverheadTokens;
  }

  // Brings the worker's jobs to the present.
  void Advance(TraceWorker* worker) {
    const double seconds = absl::ToDoubleSeconds(now_ - worker->updated);
    worker->updated = now_;
    if (worker->running.empty() || seconds <= 0) return;
    const double passes = seconds / PassSeconds(*worker);
    double tokens = 0;
    for (const Running& running : worker->running) {
      tokens += static_cast<double>(jobs_[running.job].tokens);
    }
    for (Running& running : worker->running) {
      const TraceJob& job = jobs_[running.job];
      running.passes_left -= passes;
      running.device_seconds += seconds * static_cast<double>(job.tokens) / tokens;
      work_done_ += passes * job.AloneSeconds() / static_cast<double>(job.passes);
    }
    busy_seconds_ += seconds;
  }

  void ScheduleFinish(TraceWorker* worker) {
    ++worker->version;
    if (worker->running.empty()) return;
    double passes = worker->running[0].passes_left;
    for (const Running& running : worker->running) passes = std::min(passes, running.passes_left);
    const absl::Time at = now_ + absl::Seconds(std::max(0.001, passes * PassSeconds(*worker)));
    finishes_.push({.at = at,
                    .worker = static_cast<size_t>(worker - workers_.data()),
                    .version = worker->version});
  }

  static v1::AttemptReport ReportOf(const Running& running, const std::string& job) {
    v1::AttemptReport report;
    report.set_job(job);
    report.set_lease_epoch(running.lease_epoch);
    report.set_attempt_id(running.attempt_id);
    report.set_phase(v1::AttemptReport::TRAINING);
    report.set_device_ms(static_cast<int64_t>(running.device_seconds * 1000));
    return report;
  }

  void Report(TraceWorker* worker, const std::vector<v1::AttemptReport>& attempts) {
    v1::SyncRequest sync;
    sync.set_worker(worker->name);
    sync.set_incarnation(worker->incarnation);
    sync.set_report_number(++worker->report_number);
    *sync.mutable_environment() = worker->environment;
    for (const v1::AttemptReport& attempt : attempts) *sync.add_attempts() = attempt;
    for (int64_t base = 0; base < options_.bases; ++base) {
      v1::PassTime& time = *sync.add_pass_times();
      time.set_base_manifest_digest(core::FakeDigest(base));
      time.set_fixed_seconds(kOverheadSeconds);
      time.set_seconds_per_token(kOverheadSeconds / kOverheadTokens);
    }
    Timed([&] { CHECK(scheduler_.ReceiveSync(sync, now_, Bits()).ok()); });
  }

  void FinishOn(TraceWorker* worker) {
    Advance(worker);
    std::vector<v1::AttemptReport> reports;
    std::vector<int64_t> done;
    for (const Running& running : worker->running) {
      if (running.passes_left > 1e-6) continue;
      const TraceJob& job = jobs_[running.job];
      v1::AttemptReport report = ReportOf(running, JobName(running.job));
      report.set_phase(v1::AttemptReport::DONE);
      report.set_step(job.passes);
      report.mutable_result()->set_manifest_digest(core::FakeDigest(running.job));
      report.mutable_result()->set_step(job.passes);
      reports.push_back(std::move(report));
      done.push_back(running.job);
    }
    std::erase_if(worker->running,
                  [](const Running& running) { return running.passes_left <= 1e-6; });
    ScheduleFinish(worker);
    if (reports.empty()) return;
    Report(worker, reports);
    for (const int64_t job : done) {
      v1::AdapterVersion version;
      version.set_name(absl::StrCat("tenants/t/adapters/a/versions/", job));
      version.set_state(v1::AdapterVersion::READY);
      version.set_manifest_digest(core::FakeDigest(job));
      Execute(core::VersionAnswer{.job = JobName(job), .version = version});
    }
  }

  void Lose(TraceWorker* worker) {
    Advance(worker);
    worker->running.clear();
    ScheduleFinish(worker);
    ++worker->incarnation;
    worker->report_number = 0;
    Report(worker, {});
    ++result_.lost;
  }

  // Told to leave: at once, with a checkpoint, as a worker does within a step.
  void Leave(TraceWorker* worker, int64_t job) {
    Advance(worker);
    const auto found = std::find_if(worker->running.begin(), worker->running.end(),
                                    [&](const Running& running) { return running.job == job; });
    if (found == worker->running.end()) return;
    v1::AttemptReport report = ReportOf(*found, JobName(job));
    report.set_phase(v1::AttemptReport::LEFT);
    const int64_t step = jobs_[job].passes - std::llround(std::ceil(found->passes_left));
    if (step > 0) {
      report.set_step(step);
      report.mutable_checkpoint()->set_step(step);
      report.mutable_checkpoint()->set_manifest_digest(core::FakeDigest(job));
    }
    worker->running.erase(found);
    ScheduleFinish(worker);
    Report(worker, {report});
    ++result_.preemptions;
  }

  // ---- The core ----

  void Plan() {
    for (bool more = true; more;) {
      more = false;
      result_.queue_max = std::max(result_.queue_max, scheduler_.state()->queue().size());
      core::Scheduler::Due due;
      const double seconds = Timed([&] { due = scheduler_.Tick(now_, Bits()); });
      plan_ms_.push_back(static_cast<float>(seconds * 1000));
      const std::vector<core::Event> events = scheduler_.TakeEvents();
      result_.events += static_cast<int64_t>(events.size());
      Timed([&] { scheduler_.Committed(scheduler_.state()->event_count(), now_); });
      std::vector<std::pair<size_t, int64_t>> leaving;
      for (const core::Event& event : events) Happened(event, &leaving);
      for (const auto& [worker, job] : leaving) Leave(&workers_[worker], job);
      more = due.more || !leaving.empty();
    }
  }

  int64_t IndexOf(const std::string& job) const {
    return std::atoll(job.c_str() + job.rfind('j') + 1);
  }

  void Happened(const core::Event& event, std::vector<std::pair<size_t, int64_t>>* leaving) {
    if (event.job().empty()) return;
    const int64_t index = IndexOf(event.job());
    TraceJob& job = jobs_[index];
    if (event.has_attempt_granted()) {
      const v1::Attempt& attempt = event.attempt_granted().attempt();
      TraceWorker& worker = workers_[std::atoll(attempt.worker().c_str() + 9)];
      Advance(&worker);
      ++result_.grants;
      result_.shared_grants += worker.running.empty() ? 0 : 1;
      worker.running.push_back(
          {.job = index,
           .lease_epoch = attempt.lease_epoch(),
           .attempt_id = attempt.attempt_id(),
           .passes_left = static_cast<double>(job.passes - attempt.start_step())});
      ScheduleFinish(&worker);
      job.first_grant = std::min(job.first_grant, now_);
    }
    if (event.has_attempt_ordered()) {
      const std::string& worker = scheduler_.state()->FindJob(event.job())->current().worker();
      leaving->emplace_back(std::atoll(worker.c_str() + 9), index);
    }
    if (!event.has_shown()) return;
    if (event.shown().state() == v1::SUCCEEDED || event.shown().state() == v1::FAILED) {
      job.end = now_;
      ++ended_;
      ++(event.shown().state() == v1::SUCCEEDED ? result_.succeeded : result_.failed);
    }
  }

  // ---- What came of it ----

  void Measure() {
    measured_ = true;
    for (TraceWorker& worker : workers_) {
      Advance(&worker);
      ScheduleFinish(&worker);
    }
    const double all = absl::ToDoubleSeconds(now_ - kStart) * static_cast<double>(workers_.size());
    result_.utilisation = busy_seconds_ / all;
    result_.throughput = work_done_ / all;
    TellStarts();
  }

  struct Told {
    int64_t job = 0;
    absl::Time start, end;
  };

  // How far each attempt is, which nothing else says.
  void ReportProgress() {
    for (TraceWorker& worker : workers_) {
      std::vector<v1::AttemptReport> reports;
      for (const Running& running : worker.running) {
        v1::AttemptReport& report = reports.emplace_back(ReportOf(running, JobName(running.job)));
        const int64_t step = jobs_[running.job].passes - std::llround(running.passes_left);
        report.set_step(step);
        report.set_first_metric_n(1);
        *report.add_metrics() = core::MakePoint(step, 1);
      }
      if (!reports.empty()) Report(&worker, reports);
    }
    Plan();
  }

  // Evenly over those that wait.
  void TellStarts() {
    const core::State& state = *scheduler_.state();
    if (options_.forecasts == 0 || state.queue().empty()) return;
    ReportProgress();
    const int64_t step = std::max<int64_t>(1, state.queue().size() / options_.forecasts);
    told_at_ = now_;
    int64_t at = 0;
    const absl::Time begin = absl::Now();
    for (const core::QueueKey& key : state.queue().keys()) {
      if (at++ % step != 0) continue;
      const core::Forecast::Answer answer =
          core::Forecast(state, scheduler_.fleet(), scheduler_.workers(), scheduler_.options(),
                         now_)
              .Of(*state.FindJob(key.job));
      ++result_.forecasts;
      if (!answer.start.has_value() || !answer.end.has_value()) continue;
      told_.push_back({.job = IndexOf(key.job), .start = *answer.start, .end = *answer.end});
    }
    result_.forecast_ms =
        absl::ToDoubleMilliseconds(absl::Now() - begin) / static_cast<double>(result_.forecasts);
  }

  void CompareForecasts() {
    std::vector<float> starts, ends;
    const auto error = [&](absl::Time came, absl::Time told) {
      return static_cast<float>(std::abs(absl::FDivDuration(came - told, told - told_at_)));
    };
    for (const Told& told : told_) {
      starts.push_back(error(jobs_[told.job].first_grant, told.start));
      ends.push_back(error(jobs_[told.job].end, told.end));
    }
    result_.start_error_p50 = Percentile(&starts, 0.5);
    result_.start_error_p90 = Percentile(&starts, 0.9);
    result_.end_error_p50 = Percentile(&ends, 0.5);
    result_.end_error_p90 = Percentile(&ends, 0.9);
  }

  // Of a job that ends after `time`.
  static double SecondsLeft(const TraceJob& job, absl::Time time) {
    if (job.first_grant >= time) return job.AloneSeconds();
    return job.AloneSeconds() * absl::FDivDuration(job.end - time, job.end - job.first_grant);
  }

  void CheckBounds() {
    const core::Options& policy = scheduler_.options();
    const auto rank = [&](const TraceJob& job) {
      return job.submit - core::ClassBonus(job.priority_class, policy);
    };
    double workers[2] = {};
    for (const TraceWorker& worker : workers_) {
      workers[worker.environment.device_kind() == "cuda" ? 1 : 0] += 1;
    }
    for (const TraceJob& job : jobs_) {
      const absl::Time overdue = rank(job) + policy.bonus_high + policy.max_overtake;
      if (job.first_grant <= overdue) continue;
      double ahead = 0;
      for (const TraceJob& other : jobs_) {
        if (&other == &job || other.cuda != job.cuda || other.end <= overdue) continue;
        if (rank(other) < rank(job) || other.first_grant <= overdue) {
          ahead += SecondsLeft(other, overdue);
        }
      }
      const absl::Time bound = overdue + absl::Seconds(ahead / workers[job.cuda ? 1 : 0]);
      ++result_.bounds_checked;
      result_.bound_excess_max_seconds = std::max(result_.bound_excess_max_seconds,
                                                  absl::ToDoubleSeconds(job.first_grant - bound));
    }
  }

  static double Percentile(std::vector<float>* values, double share) {
    if (values->empty()) return 0;
    const auto at =
        values->begin() + static_cast<int64_t>(share * static_cast<double>(values->size() - 1));
    std::nth_element(values->begin(), at, values->end());
    return *at;
  }

  void Summarise() {
    result_.makespan_seconds = absl::ToDoubleSeconds(now_ - kStart);
    CompareForecasts();
    if (options_.check_bounds) CheckBounds();
    std::vector<float> waits[3];
    std::vector<double> speed(options_.tenants), count(options_.tenants);
    for (const TraceJob& job : jobs_) {
      const double wait = absl::ToDoubleSeconds(job.first_grant - job.submit);
      const int of_class = job.priority_class - v1::LOW;
      waits[of_class].push_back(static_cast<float>(wait));
      result_.wait_mean[of_class] += wait;
      const double slowdown = absl::ToDoubleSeconds(job.end - job.submit) / job.AloneSeconds();
      result_.slowdown_mean += slowdown / static_cast<double>(jobs_.size());
      speed[job.tenant] += 1 / std::max(1e-9, slowdown);
      count[job.tenant] += 1;
    }
    double sum = 0, squares = 0, tenants = 0;
    for (size_t t = 0; t < speed.size(); ++t) {
      if (count[t] == 0) continue;
      const double x = speed[t] / count[t];
      sum += x;
      squares += x * x;
      tenants += 1;
    }
    result_.jain = sum * sum / (tenants * squares);
    for (int c = 0; c < 3; ++c) {
      result_.wait_mean[c] /= std::max<double>(1, static_cast<double>(waits[c].size()));
      result_.wait_p99[c] = Percentile(&waits[c], 0.99);
      result_.wait_max[c] = Percentile(&waits[c], 1);
    }
    result_.plan_p50_ms = Percentile(&plan_ms_, 0.5);
    result_.plan_p99_ms = Percentile(&plan_ms_, 0.99);
    result_.plan_max_ms = Percentile(&plan_ms_, 1);
    result_.event_us = result_.core_seconds * 1e6 / static_cast<double>(result_.events);
    malloc_trim(0);
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;) {
      int64_t kib = 0;
      if (word == "VmRSS:" && status >> kib) result_.memory_bytes = kib << 10;
    }
  }

  const TraceOptions options_;
  std::mt19937_64 random_;
  core::Scheduler scheduler_;
  absl::Time now_ = kStart;
  std::vector<TraceWorker> workers_;
  std::vector<TraceJob> jobs_;
  absl::Time end_of_submissions_;
  std::priority_queue<Finish> finishes_;
  size_t next_job_ = 0;
  absl::Time next_loss_;
  bool measured_ = false;
  absl::Time told_at_;
  std::vector<Told> told_;
  int64_t ended_ = 0;
  double busy_seconds_ = 0, work_done_ = 0;
  std::vector<float> plan_ms_;
  TraceResult result_;
};

}  // namespace

TraceResult RunTrace(const TraceOptions& options) { return World(options).Run(); }

QueueResult RunQueue(const TraceOptions& options, int64_t ends) {
  return World(options).RunQueue(ends);
}

}  // namespace deltaworks::simulation
