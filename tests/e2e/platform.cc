#include "tests/e2e/platform.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "services/base/token_file.h"
#include "services/clients/grpc_inference_client.h"
#include "services/clients/grpc_registry_client.h"
#include "services/clients/grpc_store_client.h"
#include "services/clients/grpc_training_client.h"
#include "trainer/base/file.h"

namespace deltaworks::e2e {
namespace {

// Named after the test.
std::string FolderOfTest() {
  static int platforms = 0;
  const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
  const std::string name =
      test == nullptr ? "platform" : absl::StrCat(test->test_suite_name(), "_", test->name());
  return absl::StrCat(::testing::TempDir(), "/", absl::StrReplaceAll(name, {{"/", "_"}}), "_",
                      ++platforms);
}

std::string Fresh(const std::string& folder) {
  std::filesystem::remove_all(folder);
  CHECK(MakeDirectories(folder).ok()) << folder;
  // As /proc names what is in it.
  return std::filesystem::canonical(folder).string();
}

// Whose logs are printed when a CHECK ends the test.
Platform* current = nullptr;

void PrintLogs(Platform& platform) {
  for (const Service* service : platform.All()) {
    std::cerr << "---- the end of " << service->log_path() << "\n" << service->LogTail() << "\n";
  }
}

[[noreturn]] void PrintLogsAndAbort() {
  if (current != nullptr) PrintLogs(*std::exchange(current, nullptr));
  std::abort();
}

bool TestHasFailed() {
  const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
  return test != nullptr && test->result()->Failed();
}

}  // namespace

std::string Parent(const std::string& tenant) { return absl::StrCat("tenants/", tenant); }

std::vector<std::string> DefaultDevices() {
  const char* device = std::getenv("DELTAWORKS_E2E_DEVICE");
  return {device == nullptr ? "cpu:0" : device};
}

Platform::Platform(const Options& options)
    : with_links_(options.links),
      with_disks_(options.disks),
      folder_(Fresh(options.folder.empty() ? FolderOfTest() : options.folder)) {
  for (const char* subfolder : {"run", "import", "store", "registry", "scheduler", "node/cache"}) {
    CHECK(MakeDirectories(absl::StrCat(folder_, "/", subfolder)).ok()) << folder_;
  }
  MakeTokens();
  current = this;
  google::InstallFailureFunction(PrintLogsAndAbort);
  store_ = Make("store", "services/store/store", "store",
                {absl::StrCat("--data_folder=", folder_, "/store"),
                 absl::StrCat("--import_folder=", import_folder())});
  store_->Start();
  registry_ = Make("registry", "services/registry/registry", "registry",
                   {absl::StrCat("--data_folder=", folder_, "/registry"),
                    absl::StrCat("--store_address=", Route("registry", *store_)), TokenFlag()});
  registry_->Start();
  scheduler_ = Make(
      "scheduler", "services/scheduler/scheduler", "scheduler",
      {absl::StrCat("--data_folder=", folder_, "/scheduler"),
       absl::StrCat("--store_address=", Route("scheduler", *store_)),
       absl::StrCat("--registry_address=", Route("scheduler", *registry_)), TokenFlag(),
       "--deaths_until_poison=0", "--incidents_until_quarantine=0",
       // What a test looks at after a job's end comes from the archive.
       "--archive_after=1s", absl::StrCat("--attempts_per_worker=", options.attempts_per_worker),
       // The base is so small that no pass saves anything.
       "--cohort_gain_min=1", "--cohort_slowdown_max=1000",
       absl::StrCat("--lease_duration=", absl::FormatDuration(options.lease)),
       absl::StrCat("--checkpoint_interval=", absl::FormatDuration(options.checkpoint_interval))});
  scheduler_->Start();
  if (options.inference) {
    inference_ =
        Make("inference", "services/inference/inference", "node",
             {absl::StrCat("--store_address=", Route("inference", *store_)),
              absl::StrCat("--registry_address=", Route("inference", *registry_)), TokenFlag(),
              absl::StrCat("--cache_folder=", cache_folder()), "--threads=1"});
    inference_->Start();
  }
  MakeWorkers(options);
  if (options.start_workers) {
    for (const auto& worker : workers_) worker->Start();
  }
  ConnectClients();
}

Platform::~Platform() {
  current = nullptr;
  if (TestHasFailed()) PrintLogs(*this);
}

void Platform::MakeTokens() {
  for (const char* tenant : {kAcme, kGlobex, kPlatform}) {
    auto token = services::TokenFile::AddToken(tokens_file(), tenant);
    CHECK(token.ok()) << token.status();
    tokens_[tenant] = *token;
  }
  const absl::Status status =
      services::WriteSecretFile(folder_ + "/platform_token", tokens_.at(kPlatform));
  CHECK(status.ok()) << status;
}

std::string Platform::TokenFlag() const {
  return absl::StrCat("--token_file=", folder_, "/platform_token");
}

std::unique_ptr<Service> Platform::Make(const std::string& name, const std::string& program,
                                        const std::string& disk_folder,
                                        std::vector<std::string> arguments) {
  arguments.push_back(absl::StrCat("--tokens_file=", tokens_file()));
  auto service = std::make_unique<Service>(
      Service::Options{name, program, folder_ + "/run", std::move(arguments)});
  if (with_disks_) {
    const Disk disk(absl::StrCat(folder_, "/", disk_folder), "." + name);
    disk.MakeRoom();
    service->SetEnvironment(disk.Environment(/*after_bytes=*/0));
    disks_.emplace(name, disk);
  }
  return service;
}

std::string Platform::Route(const std::string& from, const Service& to) {
  if (!with_links_) return to.address();
  links_.push_back(std::make_unique<Link>(from, to.name(), to.port()));
  return links_.back()->address();
}

void Platform::MakeWorkers(const Options& options) {
  for (const std::string& device : options.devices) {
    const std::string name = absl::StrCat("worker-", absl::StrReplaceAll(device, {{":", "-"}}));
    const std::string node = options.own_nodes ? name : "node";
    CHECK(MakeDirectories(CacheOf(node)).ok()) << node;
    workers_.push_back(Make(
        name, "services/worker/worker", node,
        {absl::StrCat("--scheduler_address=", Route(name, *scheduler_)),
         absl::StrCat("--store_address=", Route(name, *store_)), TokenFlag(),
         absl::StrCat("--device=", device), "--machine_id=e2e", "--threads=1",
         "--gang_address=127.0.0.1", absl::StrCat("--lock_folder=", folder_, "/", node, "/locks"),
         absl::StrCat("--cache_folder=", CacheOf(node))}));
  }
}

void Platform::ConnectClients() {
  for (const char* tenant : {kAcme, kGlobex, kPlatform}) {
    const auto connect = [&](const Service& service) {
      services::Channel channel = services::MakeChannel(Route("the test", service), token(tenant));
      channel.retry.total_max = absl::Minutes(1);
      return channel;
    };
    Clients& clients = clients_[tenant];
    clients.store = services::MakeGrpcStoreClient(connect(*store_));
    clients.registry = services::MakeGrpcRegistryClient(connect(*registry_));
    clients.training = services::MakeGrpcTrainingClient(connect(*scheduler_));
    if (inference_ != nullptr) {
      clients.inference = services::MakeGrpcInferenceClient(connect(*inference_));
    }
  }
}

services::Channel Platform::NewChannel(const Service& service, const std::string& token) const {
  services::Channel channel = services::MakeChannel(service.address(), token);
  channel.retry.total_max = absl::ZeroDuration();
  return channel;
}

Service& Platform::Find(const std::string& name) {
  if (name == "store") return *store_;
  if (name == "registry") return *registry_;
  if (name == "scheduler") return *scheduler_;
  if (name == "inference") return *inference_;
  CHECK_EQ(name, "worker");
  return worker();
}

Service& Platform::Serving(const std::string& rpc_service) {
  if (rpc_service == "StoreService") return *store_;
  if (rpc_service == "RegistryService") return *registry_;
  if (rpc_service == "InferenceService") return *inference_;
  CHECK(rpc_service == "TrainingService" || rpc_service == "WorkerService" ||
        rpc_service == "OperatorService")
      << rpc_service;
  return *scheduler_;
}

std::vector<Service*> Platform::All() {
  std::vector<Service*> all;
  for (const auto* service : {&store_, &registry_, &scheduler_, &inference_}) {
    if (*service != nullptr) all.push_back(service->get());
  }
  for (const auto& worker : workers_) all.push_back(worker.get());
  return all;
}

std::vector<Link*> Platform::LinksOf(const Service& service) {
  std::vector<Link*> links;
  for (const auto& link : links_) {
    if (link->from() == service.name() || link->to() == service.name()) links.push_back(link.get());
  }
  return links;
}

services::StoreClient& Platform::store_of(const std::string& tenant) {
  return *clients_.at(tenant).store;
}

services::RegistryClient& Platform::registry_of(const std::string& tenant) {
  return *clients_.at(tenant).registry;
}

services::TrainingClient& Platform::training_of(const std::string& tenant) {
  return *clients_.at(tenant).training;
}

services::InferenceClient& Platform::inference_of(const std::string& tenant) {
  return *clients_.at(tenant).inference;
}

}  // namespace deltaworks::e2e
