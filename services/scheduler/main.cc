// The scheduler's process. `scheduler --help` tells its flags; services/scheduler/README.md the
// rest.

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "services/base/address.h"
#include "services/base/flags.h"
#include "services/base/service_main.h"
#include "services/base/token_file.h"
#include "services/clients/channel.h"
#include "services/clients/grpc_registry_client.h"
#include "services/clients/grpc_store_client.h"
#include "services/scheduler/scheduler_server.h"
#include "services/scheduler/sync_check.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

// The scheduler asks again by itself; one call should not go on for longer than this.
constexpr absl::Duration kRetryMax = absl::Seconds(2);
// The store reads a whole dataset before it answers; what it found is kept for the next try.
constexpr absl::Duration kCallTimeout = absl::Seconds(60);
// A worker needs some time to hear of a change: a shorter lease would end in the middle.
constexpr absl::Duration kLeaseMin = absl::Seconds(2);
// Nobody waits longer for a worker that died, or that does not leave.
constexpr absl::Duration kLeaseMax = absl::Hours(1);
constexpr absl::Duration kIntervalMax = absl::Hours(24);
constexpr int64_t kDatabaseBytesMin = int64_t{1} << 20;

absl::Status CheckAtLeast(absl::string_view flag, int64_t got, int64_t least) {
  if (got >= least) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--", flag, " is ", got, ", want >= ", least));
}

absl::Status CheckAtLeast(absl::string_view flag, absl::Duration got, absl::Duration least) {
  if (got >= least) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--", flag, " is ", absl::FormatDuration(got),
                                                 ", want >= ", absl::FormatDuration(least)));
}

absl::Status CheckBetween(absl::string_view flag, absl::Duration got, absl::Duration least,
                          absl::Duration most) {
  if (got >= least && got <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--", flag, " is ", absl::FormatDuration(got),
                                                 ", want ", absl::FormatDuration(least), "..",
                                                 absl::FormatDuration(most)));
}

absl::Status CheckBetween(absl::string_view flag, int64_t got, int64_t least, int64_t most) {
  if (got >= least && got <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, " is ", got, ", want ", least, "..", most));
}

// Also false for NaN.
absl::Status CheckFactor(absl::string_view flag, double got) {
  if (got >= 1) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--", flag, " is ", got, ", want >= 1"));
}

// Also false for NaN and infinity.
absl::Status CheckPrice(double got) {
  if (got >= 0 && got <= std::numeric_limits<double>::max()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--device_hour_price is ", got, ", want >= 0"));
}

absl::StatusOr<v1::Placement::Cohort> ParseCohortFloor(const std::string& text) {
  if (text == "any") return v1::Placement::COHORT_ANY;
  if (text == "tenant") return v1::Placement::COHORT_TENANT;
  if (text == "alone") return v1::Placement::COHORT_ALONE;
  return absl::InvalidArgumentError(
      absl::StrCat("--cohort_floor is \"", text, "\", want any, tenant or alone"));
}

// Less than that is no bound to SQLite (pages), or less than an empty database.
absl::Status CheckDatabaseBytes(int64_t got) {
  if (got == 0 || got >= kDatabaseBytesMin) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--database_bytes_max is ", got,
                                                 ", want 0 (no bound) or >= ", kDatabaseBytesMin));
}

class SchedulerProgram final : public ServiceProgram {
 public:
  std::string name() const override { return "scheduler"; }
  std::string description() const override {
    return "Queues fine-tune jobs and leases them to workers; loses none and runs none twice.";
  }

  void AddFlags(FlagSet& flags) override {
    scheduler::Options& policy = options_.core.policy;
    flags.Add("data_folder", &data_folder_, "where scheduler.db is; made if it is missing");
    flags.Add("database_bytes_max", &options_.events.size_bytes_max,
              "size of scheduler.db, 1 MiB at least; 0: no bound");
    flags.Add("store_address", &store_address_, "HOST:PORT of the store");
    flags.Add("registry_address", &registry_address_, "HOST:PORT of the registry");
    flags.Add("token_file", &token_file_,
              "mode 0600, the token that store and registry know this service by");
    flags.Add("lease_duration", &policy.lease_duration,
              "how long a worker that says nothing keeps its job");
    flags.Add("checkpoint_interval", &policy.checkpoint_interval,
              "time of training between checkpoints");
    flags.Add("yield_grace", &policy.yield_grace,
              "time that an attempt gets to checkpoint when it is to leave");
    flags.Add("preemption", &policy.preemption, "let a higher class take a lower one's device");
    flags.Add("preempt_after", &policy.preempt_after,
              "time on a device before a job can be preempted");
    flags.Add("active_jobs_max", &policy.active_jobs_max,
              "jobs that are not finished; more are refused");
    flags.Add("archive_after", &policy.archive_after,
              "jobs leave the memory for the archive so long after they ended");
    flags.Add("job_retention", &options_.core.job_retention,
              "jobs are deleted so long after they ended, with events and metrics; 0: never");
    flags.Add("max_overtake", &policy.max_overtake,
              "tenants take turns until a job has waited so long; then the oldest goes first");
    flags.Add("fair_share_half_life", &policy.fair_share_half_life,
              "device time that a tenant used counts half after so long");
    flags.Add("attempts_per_worker", &policy.attempts_per_worker,
              "jobs that one worker trains together, 256 at most; 1: each alone");
    flags.Add("cohort_floor", &cohort_floor_,
              "with whom jobs may share a worker at most: any, tenant (their own), alone");
    flags.Add("cohort_gain_min", &policy.cohort_gain_min,
              "a job joins others if its passes then cost less by this factor, 1 at least");
    flags.Add("cohort_slowdown_max", &policy.cohort_slowdown_max,
              "and if none becomes slower by more than this factor, 1 at least");
    deaths_until_poison_ = policy.deaths_until_poison;
    flags.Add("deaths_until_poison", &deaths_until_poison_,
              "deaths in a row, alone and without a checkpoint, until a job fails; 0: never");
    incidents_until_quarantine_ = policy.incidents_until_quarantine;
    flags.Add("incidents_until_quarantine", &incidents_until_quarantine_,
              "times in a row that attempts die on a worker until it gets no job; 0: never");
    flags.Add("quarantine_first", &policy.quarantine_first,
              "for how long, at first; twice as long each time");
    flags.Add("quarantine_max", &policy.quarantine_max, "for how long at most");
    flags.Add("device_hour_price", &policy.device_hour_price,
              "price of one hour of a device, for estimates of cost; 0: none");
    flags.Add("numerics_class_patience", &policy.numerics_class_patience,
              "how long a job waits for its numerics class before it goes on in another");
    flags.Add("watches_max", &options_.core.watches.watches_max, "open watches; more are refused");
    flags.Add("snapshot_events", &options_.core.snapshot_events,
              "events that a start replays at most, about");
  }

  absl::Status Start(const ServiceEnvironment& environment) override {
    DW_RETURN_IF_ERROR(CheckFlags());
    DW_ASSIGN_OR_RETURN(options_.core.policy.cohort_floor, ParseCohortFloor(cohort_floor_));
    DW_ASSIGN_OR_RETURN(const std::string token, ReadSecretFile(token_file_));
    options_.core.policy.deaths_until_poison = static_cast<int32_t>(deaths_until_poison_);
    options_.core.policy.incidents_until_quarantine =
        static_cast<int32_t>(incidents_until_quarantine_);
    options_.events.path = data_folder_ + "/scheduler.db";
    DW_ASSIGN_OR_RETURN(
        server_,
        SchedulerServer::Start(options_, MakeGrpcStoreClient(MakeChannelTo(store_address_, token)),
                               MakeGrpcRegistryClient(MakeChannelTo(registry_address_, token)),
                               environment.clock, environment.metrics, environment.authenticator));
    return absl::OkStatus();
  }

  std::vector<grpc::Service*> services() override { return server_->services(); }
  void Drain(absl::Duration) override { server_->Drain(); }
  void Stop() override { server_.reset(); }

 private:
  absl::Status CheckFlags() const {
    if (data_folder_.empty()) {
      return absl::InvalidArgumentError("--data_folder is empty, want a folder");
    }
    const scheduler::Options& policy = options_.core.policy;
    DW_RETURN_IF_ERROR(ParseHostPort("--store_address", store_address_).status());
    DW_RETURN_IF_ERROR(ParseHostPort("--registry_address", registry_address_).status());
    DW_RETURN_IF_ERROR(CheckBetween("lease_duration", policy.lease_duration, kLeaseMin, kLeaseMax));
    DW_RETURN_IF_ERROR(CheckBetween("checkpoint_interval", policy.checkpoint_interval,
                                    absl::Seconds(1), kIntervalMax));
    DW_RETURN_IF_ERROR(
        CheckBetween("yield_grace", policy.yield_grace, absl::Seconds(1), kIntervalMax));
    DW_RETURN_IF_ERROR(CheckDatabaseBytes(options_.events.size_bytes_max));
    DW_RETURN_IF_ERROR(CheckAtLeast("active_jobs_max", policy.active_jobs_max, 1));
    DW_RETURN_IF_ERROR(
        CheckBetween("attempts_per_worker", policy.attempts_per_worker, 1, kSyncAttemptsMax));
    DW_RETURN_IF_ERROR(CheckFactor("cohort_gain_min", policy.cohort_gain_min));
    DW_RETURN_IF_ERROR(CheckFactor("cohort_slowdown_max", policy.cohort_slowdown_max));
    DW_RETURN_IF_ERROR(CheckAtLeast("archive_after", policy.archive_after, absl::ZeroDuration()));
    DW_RETURN_IF_ERROR(
        CheckAtLeast("job_retention", options_.core.job_retention, absl::ZeroDuration()));
    DW_RETURN_IF_ERROR(CheckAtLeast("max_overtake", policy.max_overtake, absl::ZeroDuration()));
    DW_RETURN_IF_ERROR(
        CheckAtLeast("fair_share_half_life", policy.fair_share_half_life, absl::Minutes(1)));
    DW_RETURN_IF_ERROR(CheckBetween("deaths_until_poison", deaths_until_poison_, 0,
                                    std::numeric_limits<int32_t>::max()));
    DW_RETURN_IF_ERROR(CheckBetween("incidents_until_quarantine", incidents_until_quarantine_, 0,
                                    std::numeric_limits<int32_t>::max()));
    DW_RETURN_IF_ERROR(CheckAtLeast("quarantine_first", policy.quarantine_first, absl::Seconds(1)));
    DW_RETURN_IF_ERROR(
        CheckAtLeast("quarantine_max", policy.quarantine_max, policy.quarantine_first));
    DW_RETURN_IF_ERROR(CheckPrice(policy.device_hour_price));
    DW_RETURN_IF_ERROR(CheckAtLeast("watches_max", options_.core.watches.watches_max, 1));
    return CheckAtLeast("snapshot_events", options_.core.snapshot_events, 1);
  }

  static Channel MakeChannelTo(const std::string& address, const std::string& token) {
    Channel channel = MakeChannel(address, token);
    channel.call_timeout = kCallTimeout;
    channel.retry.total_max = kRetryMax;
    return channel;
  }

  std::string cohort_floor_ = "any";
  std::string data_folder_;
  std::string store_address_;
  std::string registry_address_;
  std::string token_file_;
  int64_t deaths_until_poison_ = 0;
  int64_t incidents_until_quarantine_ = 0;
  SchedulerServer::Options options_;
  std::unique_ptr<SchedulerServer> server_;
};

}  // namespace
}  // namespace deltaworks::services

int main(int argc, char** argv) {
  deltaworks::services::SchedulerProgram program;
  return deltaworks::services::ServiceMain(argc, argv, program);
}
