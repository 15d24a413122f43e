// NewReport: what the workers of the loads say of themselves.

#ifndef DELTAWORKS_TESTS_BENCH_SCHEDULER_LOAD_WORKER_REPORT_H_
#define DELTAWORKS_TESTS_BENCH_SCHEDULER_LOAD_WORKER_REPORT_H_

#include <string>

#include "proto/deltaworks/v1/worker_service.pb.h"

namespace deltaworks::bench {

// As long as that of a real worker. Numbers and attempts are the caller's.
inline v1::SyncRequest NewReport(const std::string& worker) {
  v1::SyncRequest request;
  request.set_worker(worker);
  request.set_incarnation(1);
  v1::WorkerEnvironment& environment = *request.mutable_environment();
  environment.set_numerics_class("cpu avx512bf16 bf16 bench 1");
  environment.set_device("cpu:0");
  environment.set_device_kind("cpu");
  environment.set_device_description("AMD EPYC 9654, 8 cores");
  environment.set_memory_bytes(int64_t{8} << 30);
  environment.add_bases_cached("sha256:" + std::string(64, 'b'));
  environment.set_build_version("bench");
  return request;
}

}  // namespace deltaworks::bench

#endif  // DELTAWORKS_TESTS_BENCH_SCHEDULER_LOAD_WORKER_REPORT_H_
