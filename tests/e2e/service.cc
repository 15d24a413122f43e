#include "tests/e2e/service.h"

#include <signal.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "tests/e2e/await.h"
#include "trainer/base/file.h"

namespace deltaworks::e2e {

std::string ProgramPath(const std::string& path_in_tree) {
  // Bazel runs tests, and `bazel run` programs, in the root of their runfiles.
  const std::filesystem::path path = std::filesystem::absolute(path_in_tree);
  CHECK(std::filesystem::exists(path)) << path << " is absent, want it among the target's data";
  return path.string();
}

std::string Service::PortFile(const std::string& which) const {
  return absl::StrCat(options_.folder, "/", options_.name, ".", which);
}

std::string Service::log_path() const {
  return absl::StrCat(options_.folder, "/", options_.name, ".log");
}

std::string Service::address() const { return absl::StrCat("127.0.0.1:", port_); }

std::string Service::metrics_address() const { return absl::StrCat("127.0.0.1:", metrics_port_); }

ChildProcess::Command Service::MakeCommand() const {
  ChildProcess::Command command;
  command.program = ProgramPath(options_.program);
  command.arguments = {absl::StrCat("--address=", address()),
                       absl::StrCat("--port_file=", PortFile("port")),
                       absl::StrCat("--metrics_address=", metrics_address()),
                       absl::StrCat("--metrics_port_file=", PortFile("metrics_port"))};
  for (const std::string& argument : options_.arguments) {
    // Programs take a flag once.
    const std::string flag = argument.substr(0, argument.find('=')) + "=";
    std::erase_if(command.arguments,
                  [&](const std::string& earlier) { return absl::StartsWith(earlier, flag); });
    command.arguments.push_back(argument);
  }
  if (!wrapper_.empty()) {
    command.arguments.insert(command.arguments.begin(), command.program);
    command.arguments.insert(command.arguments.begin(), wrapper_.begin() + 1, wrapper_.end());
    command.program = wrapper_[0];
  }
  command.environment = environment_;
  command.log_path = log_path();
  return command;
}

bool Service::ReadPorts() {
  const auto read = [](const std::string& path, int& port) {
    const auto text = ReadFile(path, 64);
    return text.ok() && absl::SimpleAtoi(absl::StripAsciiWhitespace(*text), &port);
  };
  return read(PortFile("port"), port_) && read(PortFile("metrics_port"), metrics_port_);
}

std::unique_ptr<ChildProcess> Service::Launch() {
  return std::make_unique<ChildProcess>(MakeCommand());
}

Service Service::Twin() const {
  Options options = options_;
  options.name += "-twin";
  return Service(std::move(options));
}

void Service::Begin() {
  CHECK(!Runs()) << options_.name << " runs already";
  std::filesystem::remove(PortFile("port"));
  process_ = Launch();
}

void Service::Start() {
  Begin();
  Await(
      kPatience, [this] { return !Runs() || Answers(); }, absl::Milliseconds(2));
  // CHECK, not ASSERT: no test goes on without its services, and this is called from anywhere.
  CHECK(Runs() && port_ != 0) << options_.name << " did not start:\n" << LogTail();
}

int Service::Terminate() {
  process_->Signal(SIGTERM);
  const auto exit_code = process_->Wait(kPatience);
  CHECK(exit_code.has_value()) << options_.name << " does not end on SIGTERM:\n" << LogTail();
  return *exit_code;
}

std::string Service::Log() const {
  auto log = ReadFile(log_path());
  return log.ok() ? *std::move(log) : log.status().ToString();
}

std::string Service::LogTail(int lines) const {
  const std::string log = Log();
  size_t begin = log.size();
  for (int line = 0; line <= lines && begin != 0 && begin != std::string::npos; ++line) {
    begin = log.rfind('\n', begin - 1);
  }
  return begin == std::string::npos ? log : log.substr(begin);
}

}  // namespace deltaworks::e2e
