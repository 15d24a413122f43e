// Starts a platform with a base, a dataset and one finished job, for scripts that look at it from
// outside: Python over reflection, Prometheus. See with_platform.
//
//   run_platform OUTPUT   writes OUTPUT, a JSON object, once everything is there; ends the platform
//                         and itself when standard input ends
//
//   {"token": "dw_...", "tenant": "acme", "job_steps": 20, "job_tokens": 12345,
//    "job_metric_points": 20, "generated_tokens": 16, "services": {"scheduler": {"address":
//    "127.0.0.1:1", "metrics": "..."}}}

#include <unistd.h>

#include <iostream>
#include <string>

#include "tests/e2e/platform.h"
#include "tests/e2e/workload.h"
#include "trainer/base/file.h"
#include "trainer/base/json.h"

namespace deltaworks::e2e {
namespace {

int Run(const std::string& output) {
  Platform platform({.inference = true});
  ImportBase(platform);
  AddDataset(platform, "pairs", 50, 1);
  const v1::Job job = RunToSuccess(platform, JobRequest("first", 20));
  if (job.status().state() != v1::SUCCEEDED) {
    std::cerr << Describe(job) << "\n";
    return 1;
  }
  const Answer answer = Generate(platform, job.status().result().version());
  Json services = Json::object();
  for (const auto& [name, service] :
       {std::pair("store", &platform.store()), std::pair("registry", &platform.registry()),
        std::pair("scheduler", &platform.scheduler()),
        std::pair("inference", &platform.inference()), std::pair("worker", &platform.worker())}) {
    services[name] = {{"address", service->address()}, {"metrics", service->metrics_address()}};
  }
  const Json json = {{"token", platform.token(kAcme)},
                     {"tenant", kAcme},
                     {"job_steps", job.status().progress().step()},
                     {"job_tokens", job.status().progress().tokens()},
                     {"job_metric_points", job.status().metric_count()},
                     {"generated_tokens", answer.last.generated_tokens()},
                     {"services", services}};
  const absl::Status status = WriteFileAtomically(output, json.dump(2) + "\n");
  if (!status.ok()) {
    std::cerr << status << "\n";
    return 1;
  }
  char ignored[256];
  while (read(STDIN_FILENO, ignored, sizeof(ignored)) > 0) {
  }
  return 0;
}

}  // namespace
}  // namespace deltaworks::e2e

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: run_platform OUTPUT\n";
    return 2;
  }
  return deltaworks::e2e::Run(argv[1]);
}
