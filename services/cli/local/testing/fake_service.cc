// A service without rpcs, for tests of `dw up`: the real main() of services (ports, health, tokens,
// exit codes) around nothing. It takes the flags that any of them is given.
//
//   --fail=start      does not start: exit code 3
//   --fail=settings   finds its settings wrong: exit code 2

#include <string>
#include <vector>

#include "services/base/flags.h"
#include "services/base/service_main.h"
#include "services/base/token_file.h"

namespace deltaworks::services {
namespace {

class FakeService final : public ServiceProgram {
 public:
  std::string name() const override { return "fake"; }
  std::string description() const override { return "Serves nothing."; }
  void AddFlags(FlagSet& flags) override {
    flags.Add("data_folder", &data_folder_, "ignored");
    flags.Add("cache_folder", &cache_folder_, "ignored");
    flags.Add("scheduler_address", &address_, "ignored");
    flags.Add("store_address", &address_, "ignored");
    flags.Add("registry_address", &address_, "ignored");
    flags.Add("token_file", &token_file_, "must be readable, if it is given");
    flags.Add("device", &device_, "ignored");
    flags.Add("gang_address", &address_, "ignored");
    flags.Add("threads", &threads_, "ignored");
    flags.Add("cores", &cores_, "ignored");
    flags.Add("memory_bytes", &memory_bytes_, "ignored");
    flags.Add("fail", &fail_, "start or settings");
  }
  absl::Status Start(const ServiceEnvironment&) override {
    if (fail_ == "start") return absl::FailedPreconditionError("the database is locked");
    if (fail_ == "settings") return absl::InvalidArgumentError("--fail is settings");
    return token_file_.empty() ? absl::OkStatus() : ReadSecretFile(token_file_).status();
  }
  void Stop() override {}

 private:
  std::string data_folder_, cache_folder_, address_, token_file_, device_, fail_;
  int64_t threads_ = 0;
  int64_t memory_bytes_ = 0;
  std::vector<std::string> cores_;
};

}  // namespace
}  // namespace deltaworks::services

int main(int argc, char** argv) {
  deltaworks::services::FakeService program;
  return deltaworks::services::ServiceMain(argc, argv, program);
}
