#include "tests/bench/scheduler_load/scheduler_under_test.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "glog/logging.h"
#include "proto/deltaworks/v1/store_service.grpc.pb.h"
#include "services/base/random_id.h"
#include "services/base/token_file.h"
#include "trainer/base/file.h"

namespace deltaworks::bench {
namespace {

constexpr char kTenant[] = "bench";
constexpr absl::Duration kStartMax = absl::Seconds(60);
constexpr absl::Duration kConnectMax = absl::Seconds(30);
constexpr int64_t kStepsTotal = 1'000'000;

std::string Digest(char digit) { return absl::StrCat("sha256:", std::string(64, digit)); }

v1::TrainFacts Facts() {
  v1::TrainFacts facts;
  facts.set_base_source_digest(Digest('a'));
  facts.set_base_manifest_digest(Digest('b'));
  facts.set_base_form(v1::BF16);
  facts.set_dataset_manifest_digest(Digest('c'));
  facts.set_train_examples(800);
  facts.set_train_tokens(100'000);
  facts.set_label_tokens(50'000);
  facts.set_total_steps(kStepsTotal);
  facts.set_trainable_parameters(4'900'000);
  facts.set_total_parameters(134'000'000);
  facts.set_memory_bytes_max(int64_t{1} << 30);
  return facts;
}

bool ReadPort(const std::string& path, int* port) {
  const auto text = ReadFile(path, 64);
  return text.ok() && absl::SimpleAtoi(absl::StripAsciiWhitespace(*text), port);
}

std::string GetMetrics(int port) {
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(port));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  PCHECK(fd >= 0);
  PCHECK(connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0) << port;
  const std::string request =
      "GET /metrics HTTP/1.0\r\nHost: loopback\r\nConnection: close\r\n\r\n";
  PCHECK(send(fd, request.data(), request.size(), MSG_NOSIGNAL) ==
         static_cast<ssize_t>(request.size()));
  std::string answer;
  char piece[4096];
  for (ssize_t count = 0; (count = recv(fd, piece, sizeof(piece), 0)) > 0;) {
    answer.append(piece, static_cast<size_t>(count));
  }
  close(fd);
  return answer;
}

double Sample(const std::string& metrics, const std::string& name) {
  double value = 0;
  const std::string key = absl::StrCat("\n", name, " ");
  const size_t found = metrics.find(key);
  if (found == std::string::npos) return 0;
  const size_t begin = found + key.size();
  const std::string text = metrics.substr(begin, metrics.find('\n', begin) - begin);
  CHECK(absl::SimpleAtod(absl::StripAsciiWhitespace(text), &value)) << name << " " << text;
  return value;
}

}  // namespace

// What the scheduler asks of a store. Thread-safe.
class FakeStore final : public v1::StoreService::Service {
 public:
  grpc::Status ValidateTraining(grpc::ServerContext*, const v1::ValidateTrainingRequest* request,
                                v1::ValidateTrainingResponse* response) override {
    *response->mutable_spec() = request->spec();
    response->mutable_spec()->set_compute_type(v1::BF16);
    response->mutable_spec()->set_micro_batch_tokens(2048);
    *response->mutable_facts() = Facts();
    validations_.fetch_add(1, std::memory_order_relaxed);
    return grpc::Status::OK;
  }
  grpc::Status CreatePin(grpc::ServerContext*, const v1::CreatePinRequest* request,
                         v1::Pin* response) override {
    *response = request->pin();
    return grpc::Status::OK;
  }
  grpc::Status DeletePin(grpc::ServerContext*, const v1::DeletePinRequest*,
                         google::protobuf::Empty*) override {
    return grpc::Status::OK;
  }
  grpc::Status ListPins(grpc::ServerContext*, const v1::ListPinsRequest*,
                        v1::ListPinsResponse*) override {
    return grpc::Status::OK;
  }

  int64_t validations() const { return validations_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> validations_ = 0;
};

SchedulerUnderTest::SchedulerUnderTest(const Options& options)
    : folder_(options.folder), store_(std::make_unique<FakeStore>()) {
  CHECK(MakeDirectories(folder_).ok()) << folder_;
  const auto tenant = services::TokenFile::AddToken(File("tokens"), kTenant);
  const auto platform = services::TokenFile::AddToken(File("tokens"), "-");
  CHECK(tenant.ok() && platform.ok()) << tenant.status() << platform.status();
  tenant_token_ = *tenant;
  platform_token_ = *platform;
  CHECK(services::WriteSecretFile(File("platform_token"), platform_token_).ok());

  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &store_port_);
  builder.RegisterService(store_.get());
  store_server_ = builder.BuildAndStart();
  CHECK(store_server_ != nullptr && store_port_ != 0) << "the store cannot listen";
  Launch(options);
}

void SchedulerUnderTest::Launch(const Options& options) {
  const std::string store = absl::StrCat("127.0.0.1:", store_port_);
  // No job gets as far as the registry.
  std::vector<std::string> arguments = {
      options.program,
      absl::StrCat("--data_folder=", File("data")),
      absl::StrCat("--store_address=", store),
      absl::StrCat("--registry_address=", store),
      absl::StrCat("--token_file=", File("platform_token")),
      absl::StrCat("--tokens_file=", File("tokens")),
      absl::StrCat("--port_file=", File("port")),
      absl::StrCat("--metrics_port_file=", File("metrics_port")),
      absl::StrCat("--lease_duration=", absl::FormatDuration(options.lease)),
      absl::StrCat("--active_jobs_max=", options.active_jobs_max),
      "--log_level=warning"};
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const int log = open(File("log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  PCHECK(log >= 0) << File("log");
  const pid_t parent = getpid();
  pid_ = fork();
  PCHECK(pid_ >= 0);
  if (pid_ == 0) {
    // Other threads may hold any lock: system calls only.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(127);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    execv(argv[0], argv.data());
    _exit(127);
  }
  close(log);
  const absl::Time end = absl::Now() + kStartMax;
  while (!ReadPort(File("port"), &port_) || !ReadPort(File("metrics_port"), &metrics_port_)) {
    if (waitpid(pid_, nullptr, WNOHANG) != 0) {
      pid_ = -1;
      Fail("the scheduler ended at once");
    }
    if (absl::Now() > end) Fail("the scheduler did not start");
    absl::SleepFor(absl::Milliseconds(5));
  }
}

SchedulerUnderTest::~SchedulerUnderTest() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  store_server_->Shutdown(std::chrono::system_clock::now());
}

services::Channel SchedulerUnderTest::Connect(const std::string& token) const {
  services::Channel channel = services::MakeChannel(absl::StrCat("127.0.0.1:", port_), token);
  if (!channel.grpc->WaitForConnected(absl::ToChronoTime(absl::Now() + kConnectMax))) {
    Fail("the scheduler takes no connection");
  }
  return channel;
}

int64_t SchedulerUnderTest::validations() const { return store_->validations(); }

SchedulerUnderTest::Counts SchedulerUnderTest::ReadCounts() const {
  const std::string metrics = GetMetrics(metrics_port_);
  const auto sample = [&](const char* name) {
    return Sample(metrics, absl::StrCat("deltaworks_scheduler_", name));
  };
  return {.commits = sample("commit_duration_seconds_count"),
          .commit_seconds = sample("commit_duration_seconds_sum"),
          .events = sample("events_committed_total"),
          .snapshots = sample("snapshot_duration_seconds_count"),
          .snapshot_seconds = sample("snapshot_duration_seconds_sum")};
}

void SchedulerUnderTest::Fail(const std::string& why) const {
  constexpr size_t kTailBytes = 4000;
  const auto log = ReadFile(File("log"));
  const std::string text = log.ok() ? *log : log.status().ToString();
  std::cerr << why << "; the end of the scheduler's log:\n"
            << text.substr(text.size() - std::min(text.size(), kTailBytes)) << "\n";
  std::_Exit(1);  // Takes the scheduler with it.
}

v1::CreateJobRequest NewJob() {
  v1::CreateJobRequest request;
  request.set_parent(absl::StrCat("tenants/", kTenant));
  request.set_request_id(services::RandomHexId());
  v1::TrainSpec& spec = *request.mutable_job()->mutable_train();
  spec.set_base_model(absl::StrCat("tenants/", kTenant, "/baseModels/base"));
  spec.set_dataset(absl::StrCat("tenants/", kTenant, "/datasets/data"));
  spec.mutable_lora()->set_rank(16);
  return request;
}

}  // namespace deltaworks::bench
