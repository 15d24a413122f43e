#include "tests/drill/verdict.h"

#include <map>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/e2e/workload.h"

namespace deltaworks::drill {
namespace {

constexpr const char* kFatal[] = {
    "Check failed", "Sanitizer",        "runtime error:", "terminate called",
    "*** SIG",      "Assertion failed", "stack trace",
};

std::vector<v1::Job> JobsOf(e2e::Platform& platform, const std::string& tenant) {
  std::vector<v1::Job> jobs;
  v1::ListJobsRequest request;
  request.set_parent(e2e::Parent(tenant));
  do {
    const auto page = e2e::Must(platform.training_of(tenant).ListJobs(request));
    jobs.insert(jobs.end(), page.jobs().begin(), page.jobs().end());
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  return jobs;
}

std::vector<v1::Adapter> AdaptersOf(e2e::Platform& platform, const std::string& tenant) {
  std::vector<v1::Adapter> adapters;
  v1::ListAdaptersRequest request;
  request.set_parent(e2e::Parent(tenant));
  do {
    const auto page = e2e::Must(platform.registry_of(tenant).ListAdapters(request));
    adapters.insert(adapters.end(), page.adapters().begin(), page.adapters().end());
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  return adapters;
}

class Verdict {
 public:
  Verdict(e2e::Platform& platform, const References& references, Tally& tally)
      : platform_(platform), references_(references), tally_(tally) {}

  void LookAtTenant(const std::string& tenant, const std::set<std::string>& expected) {
    std::map<std::string, v1::Job> jobs;
    std::set<std::string> adapters_wanted;
    for (v1::Job& job : JobsOf(platform_, tenant)) {
      adapters_wanted.insert(job.train().adapter());
      if (!job.labels().contains(kUndisturbedLabel)) jobs[job.name()] = std::move(job);
    }
    for (const std::string& name : expected) {
      if (jobs.count(name) == 0) Broke(name, "was accepted and is lost");
    }
    for (const auto& [name, job] : jobs) LookAtJob(job);
    if (jobs.size() != expected.size()) {
      Broke(tenant, absl::StrCat("has ", jobs.size(), " jobs, want ", expected.size()));
    }
    for (const v1::Adapter& adapter : AdaptersOf(platform_, tenant)) {
      if (adapters_wanted.erase(adapter.name()) == 0) Broke(adapter.name(), "belongs to no job");
    }
  }

  std::vector<std::string> Lines() && { return std::move(lines_); }

 private:
  void Broke(const std::string& subject, const std::string& what) {
    lines_.push_back(absl::StrCat(subject, " ", what));
  }

  void LookAtJob(const v1::Job& job) {
    if (job.status().state() != v1::SUCCEEDED) {
      Broke(job.name(), absl::StrCat("did not succeed: ", e2e::Describe(job)));
      return;
    }
    Count(job);
    if (!job.status().exact()) Broke(job.name(), "is not exact");
    const int spec = std::stoi(job.labels().at(kSpecLabel));
    LookAtVersions(job, references_.at(static_cast<size_t>(spec)));
    LookAtHistory(job, spec);
  }

  void Count(const v1::Job& job) {
    tally_.attempts += job.status().attempt_count();
    tally_.interrupted += job.status().attempt_count() > 1 ? 1 : 0;
    for (const v1::Attempt& attempt : job.status().attempts()) {
      tally_.from_checkpoints += attempt.start_step() > 0 ? 1 : 0;
    }
  }

  void LookAtVersions(const v1::Job& job, const Files& undisturbed) {
    const auto versions = e2e::VersionsOf(platform_, job.train().adapter());
    if (versions.size() != 1) {
      Broke(job.name(), absl::StrCat("has ", versions.size(), " versions, want one"));
    }
    for (const v1::AdapterVersion& version : versions) {
      if (version.state() != v1::AdapterVersion::READY || version.source().job() != job.name() ||
          !version.source().result() || version.name() != job.status().result().version()) {
        Broke(job.name(), absl::StrCat("has a version that is not its READY result: ",
                                       version.ShortDebugString()));
        continue;
      }
      for (const auto& [file, digest] : FilesOf(platform_, version.name())) {
        const auto want = undisturbed.find(file);
        if (want == undisturbed.end() || want->second != digest) {
          Broke(job.name(), absl::StrCat("has ", file, " with ", digest, ", want ",
                                         want == undisturbed.end() ? "no file" : want->second));
        }
      }
    }
  }

  void LookAtHistory(const v1::Job& job, int spec) {
    const e2e::History history = e2e::HistoryOf(platform_, job.name());
    for (const v1::JobEvent& event : history.events) {
      if (event.level() == v1::JobEvent::ALERT) {
        Broke(job.name(), absl::StrCat("raised an alert: ", event.message()));
      }
    }
    int64_t steps = 0;
    for (const v1::MetricPoint& point : history.metrics) {
      // An evaluation is a point of its own before the first step.
      if (point.step() == 0) continue;
      if (point.step() != ++steps) {
        Broke(job.name(),
              absl::StrCat("has the metrics of step ", point.step(), ", want those of ", steps));
        return;
      }
    }
    if (steps != StepsOf(spec)) {
      Broke(job.name(), absl::StrCat("has metrics of ", steps, " steps, want ", StepsOf(spec)));
    }
  }

  e2e::Platform& platform_;
  const References& references_;
  Tally& tally_;
  std::vector<std::string> lines_;
};

}  // namespace

std::vector<std::string> WhatBroke(e2e::Platform& platform, const References& references,
                                   const std::vector<std::string>& tenants,
                                   const std::vector<AcceptedJob>& accepted, Tally& tally) {
  std::map<std::string, std::set<std::string>> names;
  for (const AcceptedJob& job : accepted) names[job.tenant].insert(job.name);
  Verdict verdict(platform, references, tally);
  for (const std::string& tenant : tenants) verdict.LookAtTenant(tenant, names[tenant]);
  return std::move(verdict).Lines();
}

std::vector<std::string> FatalLines(e2e::Platform& platform) {
  std::vector<std::string> fatal;
  for (const e2e::Service* service : platform.All()) {
    const std::string log = service->Log();
    for (const absl::string_view line : absl::StrSplit(log, '\n')) {
      for (const char* word : kFatal) {
        if (absl::StrContains(line, word)) {
          fatal.push_back(absl::StrCat(service->name(), ": ", line));
          break;
        }
      }
    }
  }
  return fatal;
}

}  // namespace deltaworks::drill
