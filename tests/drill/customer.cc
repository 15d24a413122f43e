#include "tests/drill/customer.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "services/base/random_id.h"
#include "tests/drill/drill_jobs.h"
#include "tests/e2e/workload.h"

namespace deltaworks::drill {
namespace {

constexpr absl::Duration kBetweenLooks = absl::Milliseconds(200);
// Between two decisions whether to submit another one.
constexpr absl::Duration kThinksMax = absl::Seconds(2);
constexpr absl::Duration kBeforeRepeating = absl::Milliseconds(100);

// What a customer hears of a fault: a process that is away, a connection that is silent, a disk
// that is full.
bool IsExcused(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsResourceExhausted(status);
}

}  // namespace

Customer::Customer(e2e::Platform& platform, std::string tenant, int jobs_at_once, uint32_t seed)
    : platform_(platform), tenant_(std::move(tenant)), jobs_at_once_(jobs_at_once), random_(seed) {
  thread_ = std::thread([this] { Run(); });
}

Customer::~Customer() {
  {
    MutexLock lock(&mutex_);
    gave_up_ = true;
  }
  thread_.join();
}

void Customer::Stop() {
  MutexLock lock(&mutex_);
  stopping_ = true;
}

std::vector<AcceptedJob> Customer::jobs() const {
  MutexLock lock(&mutex_);
  return jobs_;
}

bool Customer::idle() const {
  MutexLock lock(&mutex_);
  return idle_;
}

int64_t Customer::repeats() const {
  MutexLock lock(&mutex_);
  return repeats_;
}

std::vector<std::string> Customer::complaints() const {
  MutexLock lock(&mutex_);
  return complaints_;
}

bool Customer::stopping() const {
  MutexLock lock(&mutex_);
  return stopping_ || gave_up_;
}

bool Customer::gave_up() const {
  MutexLock lock(&mutex_);
  return gave_up_;
}

void Customer::Complain(const std::string& what) {
  MutexLock lock(&mutex_);
  complaints_.push_back(absl::StrCat(tenant_, ": ", what));
}

void Customer::Run() {
  absl::Time next = absl::Now();
  while (!gave_up()) {
    const int under_way = Look();
    if (stopping() && under_way == 0) break;
    if (!stopping() && absl::Now() >= next) {
      if (Wants(under_way)) SubmitOne();
      next = absl::Now() + std::uniform_real_distribution<double>(0, 1)(random_) * kThinksMax;
    }
    absl::SleepFor(kBetweenLooks);
  }
  MutexLock lock(&mutex_);
  idle_ = !gave_up_;
}

// By chance, so that requests meet all kinds of faults, not only those in which jobs end.
bool Customer::Wants(int under_way) {
  return under_way < std::uniform_int_distribution<int>(1, 2 * jobs_at_once_ - 1)(random_);
}

void Customer::SubmitOne() {
  const int spec = std::uniform_int_distribution<int>(0, SpecCount() - 1)(random_);
  v1::CreateJobRequest request = RequestOf(spec, tenant_);
  request.set_request_id(services::RandomHexId());
  while (!gave_up()) {
    const auto job = platform_.training_of(tenant_).CreateJob(request);
    if (job.ok()) {
      MutexLock lock(&mutex_);
      jobs_.push_back({.tenant = tenant_, .name = job->name(), .spec = spec});
      return;
    }
    if (!IsExcused(job.status())) {
      Complain(absl::StrCat("a job was refused: ", job.status().ToString()));
      return;
    }
    {
      MutexLock lock(&mutex_);
      ++repeats_;
    }
    absl::SleepFor(kBeforeRepeating);
  }
}

int Customer::Look() {
  int under_way = 0;
  std::vector<AcceptedJob> looked_at = jobs();
  for (AcceptedJob& job : looked_at) {
    if (job.ended) continue;
    const auto found = platform_.training_of(tenant_).GetJob(job.name);
    if (!found.ok() && !IsExcused(found.status())) {
      Complain(absl::StrCat("accepted ", job.name, ": ", found.status().ToString()));
    }
    job.ended = found.ok() ? e2e::IsFinal(found->status().state()) : !IsExcused(found.status());
    under_way += job.ended ? 0 : 1;
  }
  MutexLock lock(&mutex_);
  jobs_ = std::move(looked_at);  // Only this thread adds any.
  return under_way;
}

}  // namespace deltaworks::drill
