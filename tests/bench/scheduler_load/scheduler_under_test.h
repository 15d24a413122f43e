// SchedulerUnderTest: the scheduler's process on a fresh database in a real folder, beside a store
// in this process that finds every job valid at once.
//
//   load --CreateJob, Sync--> scheduler (process, SQLite in FOLDER/data) --ValidateTraining-->
//   store
//
// The process ends with the thread that made this object, however that ends. What should not fail
// on a sane machine is CHECKed. Thread-compatible.

#ifndef DELTAWORKS_TESTS_BENCH_SCHEDULER_LOAD_SCHEDULER_UNDER_TEST_H_
#define DELTAWORKS_TESTS_BENCH_SCHEDULER_LOAD_SCHEDULER_UNDER_TEST_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "proto/deltaworks/v1/training_service.pb.h"
#include "services/clients/channel.h"

namespace grpc {
class Server;
}  // namespace grpc

namespace deltaworks::bench {

class FakeStore;

class SchedulerUnderTest {
 public:
  struct Options {
    std::string program;
    std::string folder;  // Empty, or absent.
    absl::Duration lease = absl::Seconds(20);
    int64_t active_jobs_max = 1'000'000;
  };

  // Returns once calls are answered.
  explicit SchedulerUnderTest(const Options& options);
  ~SchedulerUnderTest();  // kill -9.
  SchedulerUnderTest(const SchedulerUnderTest&) = delete;
  SchedulerUnderTest& operator=(const SchedulerUnderTest&) = delete;

  pid_t pid() const { return pid_; }
  // New ones, each with a connection of its own, which is there.
  services::Channel ConnectTenant() const { return Connect(tenant_token_); }
  services::Channel ConnectWorker() const { return Connect(platform_token_); }

  // That the store was asked for, also again.
  int64_t validations() const;

  // Counted by the process since its start.
  struct Counts {
    double commits = 0;
    double commit_seconds = 0;
    double events = 0;
    double snapshots = 0;
    double snapshot_seconds = 0;
  };
  Counts ReadCounts() const;

  // Ends this process with the end of the scheduler's log.
  [[noreturn]] void Fail(const std::string& why) const;

 private:
  services::Channel Connect(const std::string& token) const;
  void Launch(const Options& options);
  std::string File(const std::string& name) const { return folder_ + "/" + name; }

  const std::string folder_;
  std::string tenant_token_;
  std::string platform_token_;
  std::unique_ptr<FakeStore> store_;
  std::unique_ptr<grpc::Server> store_server_;
  int store_port_ = 0;
  pid_t pid_ = -1;
  int port_ = 0;
  int metrics_port_ = 0;
};

// A job of the tenant that ConnectTenant's channels speak for.
v1::CreateJobRequest NewJob();

}  // namespace deltaworks::bench

#endif  // DELTAWORKS_TESTS_BENCH_SCHEDULER_LOAD_SCHEDULER_UNDER_TEST_H_
