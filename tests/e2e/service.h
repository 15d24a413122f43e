// Service: one program of the platform as a process that a test stops, kills and starts again.
//
// It begins on a free port and keeps it: whoever knows the address finds it again after a restart.
// Its folder and its command line stay the same too. From the test's main thread (ChildProcess).

#ifndef DELTAWORKS_TESTS_E2E_SERVICE_H_
#define DELTAWORKS_TESTS_E2E_SERVICE_H_

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/e2e/child_process.h"

namespace deltaworks::e2e {

class Service {
 public:
  struct Options {
    std::string name;     // "scheduler": in file names.
    std::string program;  // "services/scheduler/scheduler", a path in the tree.
    std::string folder;   // For port files and the log; exists.
    std::vector<std::string> arguments;
  };

  explicit Service(Options options) : options_(std::move(options)) {}

  // Returns when calls are answered. Fails the test with the end of the log if they are not.
  void Start();
  // As Start(), but returns at once.
  void Begin();
  // Starts it without waiting, for those that must not come up.
  std::unique_ptr<ChildProcess> Launch();

  // kill -9.
  void Kill() { process_->Kill(); }
  void KillAndStart() {
    Kill();
    Start();
  }
  // SIGTERM; returns the exit code. Fails the test if it takes a minute.
  int Terminate();
  void Signal(int signal) { process_->Signal(signal); }  // SIGSTOP, SIGCONT, ...
  bool Runs() { return process_ != nullptr && !process_->ExitCode().has_value(); }
  // Of a process that was begun: calls are answered.
  bool Answers() { return Runs() && ReadPorts(); }
  pid_t pid() const { return process_->pid(); }
  // As of ChildProcess.
  std::optional<int> ExitCode() { return process_->ExitCode(); }
  const std::string& name() const { return options_.name; }

  // 127.0.0.1:PORT, once it was started.
  std::string address() const;
  std::string metrics_address() const;
  int port() const { return port_; }

  // Another one with the same arguments, but ports and log of its own: a rival for its folder.
  Service Twin() const;

  // For every start from now on.
  void SetEnvironment(std::vector<std::string> environment) {
    environment_ = std::move(environment);
  }
  // A program and its arguments that run the service's command line, which is appended; empty:
  // none.
  void SetWrapper(std::vector<std::string> wrapper) { wrapper_ = std::move(wrapper); }
  // Instead of an earlier value of its flag.
  void AddArgument(const std::string& argument) { options_.arguments.push_back(argument); }

  std::string log_path() const;
  // All that it logged so far, over all its lives.
  std::string Log() const;
  // The last `lines` lines of that.
  std::string LogTail(int lines = 40) const;

 private:
  std::string PortFile(const std::string& which) const;
  ChildProcess::Command MakeCommand() const;
  bool ReadPorts();

  Options options_;
  std::vector<std::string> environment_;
  std::vector<std::string> wrapper_;
  int port_ = 0;
  int metrics_port_ = 0;
  std::unique_ptr<ChildProcess> process_;
};

// The absolute path of a program that the test's target names as data.
std::string ProgramPath(const std::string& path_in_tree);

}  // namespace deltaworks::e2e

#endif  // DELTAWORKS_TESTS_E2E_SERVICE_H_
