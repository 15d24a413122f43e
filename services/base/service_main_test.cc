// A whole process as its supervisor sees it: ports in files, health, metrics, signals, exit codes.
// Runs itself as the service, so that signals and exit codes are real.

#include "services/base/service_main.h"

#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/base/flags.h"
#include "services/base/health_check.h"
#include "services/base/log.h"
#include "trainer/base/file.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;

constexpr char kAsService[] = "--as-service";
std::string self;

class TestProgram final : public ServiceProgram {
 public:
  std::string name() const override { return "test"; }
  std::string description() const override { return "A service for tests."; }
  void AddFlags(FlagSet& flags) override {
    flags.Add("fail", &fail_, "start, serving: where to fail");
  }
  absl::Status Start(const ServiceEnvironment& environment) override {
    environment_ = std::make_unique<ServiceEnvironment>(environment);
    if (fail_ == "start") return absl::FailedPreconditionError("database locked");
    return absl::OkStatus();
  }
  void Serving(const std::string&) override {
    if (fail_ == "serving") environment_->request_stop(absl::InternalError("superseded"));
  }
  void Drain(absl::Duration) override { LogInfo("drained"); }
  void Stop() override { LogInfo("ended in good order"); }

 private:
  std::string fail_;
  std::unique_ptr<ServiceEnvironment> environment_;
};

// A child process that runs TestProgram.
class Child {
 public:
  explicit Child(std::vector<std::string> arguments) {
    unlink(log_.c_str());
    pid_ = fork();
    if (pid_ != 0) return;
    const int fd = open(log_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(fd, STDERR_FILENO);
    dup2(fd, STDOUT_FILENO);
    std::vector<char*> argv = {self.data(), const_cast<char*>(kAsService)};
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    execv(self.c_str(), argv.data());
    _exit(99);
  }
  ~Child() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
  }
  void Signal(int number) { kill(pid_, number); }
  // The exit code; -1 if a signal ended it.
  int Wait() {
    int status = 0;
    waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  std::string Log() const { return *ReadFile(log_); }

 private:
  const std::string log_ = ::testing::TempDir() + "/service_main.log";
  pid_t pid_;
};

std::string FreshFile(const std::string& name) {
  const std::string path = ::testing::TempDir() + "/" + name;
  unlink(path.c_str());
  return path;
}

// The port that a starting child writes; polls, bounded, because only the file tells.
int AwaitPort(const std::string& path) {
  for (int i = 0; i < 2000; ++i) {
    int port = 0;
    const auto text = ReadFile(path);
    if (text.ok() && absl::SimpleAtoi(*text, &port)) return port;
    absl::SleepFor(absl::Milliseconds(10));
  }
  return 0;
}

TEST(ServiceMainTest, AServiceWritesItsPortAnswersAndEndsWithSigterm) {
  const std::string port_file = FreshFile("port");
  const std::string metrics_file = FreshFile("metrics_port");
  Child child({"--port_file=" + port_file, "--metrics_port_file=" + metrics_file});
  const int port = AwaitPort(port_file);
  ASSERT_GT(port, 0) << child.Log();
  EXPECT_GT(AwaitPort(metrics_file), 0);
  auto channel =
      grpc::CreateChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials());
  EXPECT_TRUE(CheckHealth(channel, absl::Seconds(20)).ok());
  child.Signal(SIGTERM);
  EXPECT_EQ(child.Wait(), kExitStopped);
  EXPECT_THAT(child.Log(), HasSubstr("drained"));
  EXPECT_THAT(child.Log(), HasSubstr("ended in good order"));
}

TEST(ServiceMainTest, APortInUseIsExitCode3WithTheAddress) {
  const std::string port_file = FreshFile("port");
  Child first({"--port_file=" + port_file});
  const int port = AwaitPort(port_file);
  ASSERT_GT(port, 0);
  Child second({absl::StrCat("--address=127.0.0.1:", port)});
  EXPECT_EQ(second.Wait(), kExitCannotStart);
  EXPECT_THAT(second.Log(), HasSubstr(absl::StrCat("127.0.0.1:", port, ": in use")));
}

TEST(ServiceMainTest, AWrongFlagIsExitCode2) {
  Child child({"--stop_deadline=soon"});
  EXPECT_EQ(child.Wait(), kExitUsage);
  EXPECT_THAT(child.Log(), HasSubstr("--stop_deadline is \\\"soon\\\", want a duration"));
}

TEST(ServiceMainTest, AMissingTokenFileIsNamed) {
  Child child({"--tokens_file=/absent/tokens"});
  EXPECT_EQ(child.Wait(), kExitCannotStart);
  EXPECT_THAT(child.Log(), HasSubstr("/absent/tokens"));
}

TEST(ServiceMainTest, AProgramThatCannotStartIsExitCode3) {
  Child child({"--fail=start"});
  EXPECT_EQ(child.Wait(), kExitCannotStart);
  EXPECT_THAT(child.Log(), HasSubstr("database locked"));
}

TEST(ServiceMainTest, AProgramThatEndsItselfWithAnErrorIsExitCode1) {
  Child child({"--fail=serving"});
  EXPECT_EQ(child.Wait(), kExitFailed);
  EXPECT_THAT(child.Log(), HasSubstr("superseded"));
  EXPECT_THAT(child.Log(), HasSubstr("ended in good order"));
}

TEST(ServiceMainTest, HelpIsOnStdoutWithExitCode0) {
  Child child({"--help"});
  EXPECT_EQ(child.Wait(), kExitStopped);
  EXPECT_THAT(child.Log(), HasSubstr("--metrics_address"));
}

}  // namespace
}  // namespace deltaworks::services

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], deltaworks::services::kAsService) == 0) {
    argv[1] = argv[0];
    deltaworks::services::TestProgram program;
    return deltaworks::services::ServiceMain(argc - 1, argv + 1, program);
  }
  deltaworks::services::self = argv[0];
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
