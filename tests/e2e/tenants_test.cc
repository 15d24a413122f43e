// A tenant's caller sees nothing of another's. Every rpc of every service is tried with globex'
// token on what belongs to acme, by name, by digest and through resources of its own; then with
// acme's token, which shows that the request was sound and that nothing was changed meanwhile. The
// rpcs come from the contract: one without a row here fails the test.

#include <google/protobuf/text_format.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/clients/blob_transfer.h"
#include "tests/e2e/platform.h"
#include "tests/e2e/rpc_by_name.h"
#include "tests/e2e/workload.h"
#include "trainer/base/sha256.h"

namespace deltaworks::e2e {
namespace {

using absl::StatusCode;
using google::protobuf::MethodDescriptor;
using ::testing::HasSubstr;
using ::testing::Not;

// In every id and text of acme's, and in nothing that a stranger sends.
constexpr char kSecret[] = "hush";

// Read of a stream before it is cut: a watch does not end by itself.
constexpr int kMessages = 1;

// One call. In `request`, {acme} and {globex} are the tenants' names, {digest} is acme's blob,
// {manifest} that of its dataset, {mine} a blob of globex, {upload} acme's open upload.
struct Row {
  const char* method;
  const char* request;
  StatusCode stranger;                 // What globex gets.
  StatusCode owner = StatusCode::kOk;  // What acme gets for the same request.
};

constexpr StatusCode kOk = StatusCode::kOk;
constexpr StatusCode kNotFound = StatusCode::kNotFound;
constexpr StatusCode kDenied = StatusCode::kPermissionDenied;

// Those that change something come in an order in which acme may do each of them.
constexpr Row kRows[] = {
    {"TrainingService.CreateJob",
     "parent: '{acme}' job_id: 'hush-2' job { train { base_model: '{acme}/baseModels/hush' "
     "dataset: '{acme}/datasets/hush' arguments { max_steps: 2 } } }",
     kDenied},
    {"TrainingService.CreateJob",
     "parent: '{globex}' job { parent_job: '{acme}/jobs/hush' train { base_model: "
     "'{globex}/baseModels/own' dataset: '{globex}/datasets/own' } }",
     StatusCode::kInvalidArgument, kDenied},
    {"TrainingService.CreateJob",
     "parent: '{globex}' job { train { base_model: '{acme}/baseModels/hush' dataset: "
     "'{globex}/datasets/own' } }",
     StatusCode::kInvalidArgument, kDenied},
    {"TrainingService.CreateJob",
     "parent: '{globex}' job { train { base_model: '{globex}/baseModels/own' dataset: "
     "'{acme}/datasets/hush' } }",
     StatusCode::kInvalidArgument, kDenied},
    {"TrainingService.CreateJob",
     "parent: '{globex}' job { train { base_model: '{globex}/baseModels/own' dataset: "
     "'{globex}/datasets/own' adapter: '{acme}/adapters/hush' } }",
     StatusCode::kInvalidArgument, kDenied},
    {"TrainingService.GetJob", "name: '{acme}/jobs/hush'", kNotFound},
    {"TrainingService.ListJobs", "parent: '{acme}'", kDenied},
    {"TrainingService.ListJobs", "parent: '{globex}'", kOk, kDenied},
    {"TrainingService.ListJobs",
     "parent: '{globex}' filter: 'train.base_model = {acme}/baseModels/x'", kOk, kDenied},
    {"TrainingService.WatchJob", "name: '{acme}/jobs/hush'", kNotFound},
    {"TrainingService.WatchJobs", "parent: '{acme}'", kDenied},
    {"TrainingService.PauseJob", "name: '{acme}/jobs/hush-waits'", kNotFound},
    {"TrainingService.ResumeJob", "name: '{acme}/jobs/hush-waits'", kNotFound},
    {"TrainingService.UpdateJob", "name: '{acme}/jobs/hush-waits' priority_class: HIGH", kNotFound},
    {"TrainingService.CancelJob", "name: '{acme}/jobs/hush-waits'", kNotFound},
    {"TrainingService.RerunJob", "name: '{acme}/jobs/hush-waits' job_id: 'hush-again'", kNotFound},
    {"TrainingService.DeleteJob", "name: '{acme}/jobs/hush-waits'", kNotFound},
    {"TrainingService.EstimateJob",
     "parent: '{acme}' job { train { base_model: '{acme}/baseModels/hush' dataset: "
     "'{acme}/datasets/hush' arguments { max_steps: 2 } } }",
     kDenied},
    {"TrainingService.EstimateJob",
     "parent: '{globex}' job { train { base_model: '{acme}/baseModels/hush' dataset: "
     "'{globex}/datasets/own' } }",
     StatusCode::kInvalidArgument, kDenied},
    {"TrainingService.ListJobEvents", "parent: '{acme}/jobs/hush'", kDenied},
    {"TrainingService.ListJobMetrics", "parent: '{acme}/jobs/hush'", kDenied},
    {"TrainingService.ListWorkers", "", kOk},

    // What is an operator's is no tenant's.
    {"OperatorService.SetQuota", "quota { name: '{acme}/quota' weight: 2 }", kDenied, kDenied},
    {"OperatorService.ListQuotas", "", kOk},
    {"OperatorService.ListUsage", "parent: '{acme}'", kDenied},
    {"OperatorService.ListUsage", "parent: 'tenants/-'", kOk},
    {"OperatorService.SetWorkerMode", "worker: 'workers/e2e-cpu-0' mode: WORKER_CORDONED", kDenied,
     kDenied},

    // Workers belong to the platform.
    {"WorkerService.Sync",
     "worker: 'workers/e2e-cpu-0' incarnation: 1000 report_number: 1 environment { "
     "numerics_class: 'c' device: 'cpu:0' device_kind: 'cpu' }",
     kDenied, kDenied},

    {"StoreService.CreateUpload", "parent: '{acme}' digest: '{digest}' size_bytes: 17", kDenied},
    // What acme has is not "already there" for globex.
    {"StoreService.CreateUpload", "parent: '{globex}' digest: '{digest}' size_bytes: 17", kOk,
     kDenied},
    {"StoreService.GetUpload", "name: '{upload}'", kNotFound},
    {"StoreService.WriteUpload", "name: '{upload}' data: 'ab'", kNotFound},
    {"StoreService.FindMissingBlobs", "parent: '{acme}' digests: '{digest}'", kDenied},
    {"StoreService.ReadBlob", "parent: '{acme}' digest: '{digest}'", kDenied},
    {"StoreService.ReadBlob", "parent: '{globex}' digest: '{digest}'", kNotFound, kDenied},
    {"StoreService.ReadBlob",
     "parent: '{globex}' digest: '{digest}' reference: '{acme}/datasets/hush'", kNotFound, kDenied},
    {"StoreService.GetManifest", "parent: '{acme}' digest: '{manifest}'", kDenied},
    {"StoreService.GetManifest", "parent: '{globex}' digest: '{manifest}'", kNotFound, kDenied},
    {"StoreService.ReportCorruptBlob", "parent: '{acme}' digest: '{digest}'", kDenied},
    {"StoreService.ReportCorruptBlob", "parent: '{globex}' digest: '{digest}'", kNotFound, kDenied},
    {"StoreService.CreatePin", "pin { owner: '{acme}/jobs/hush' digest: '{digest}' }", kDenied},
    {"StoreService.CreatePin", "pin { owner: '{globex}/jobs/j' digest: '{digest}' }", kNotFound,
     kDenied},
    {"StoreService.DeletePin", "owner: '{acme}/jobs/hush' digest: '{digest}'", kDenied},
    {"StoreService.ListPins", "parent: '{acme}'", kDenied},
    {"StoreService.ListPins", "parent: '{globex}' owner_prefix: '{acme}'", kOk, kDenied},
    {"StoreService.CreateDataset",
     "parent: '{acme}' dataset_id: 'hush-2' dataset { blob_digest: '{digest}' }", kDenied},
    {"StoreService.CreateDataset",
     "parent: '{globex}' dataset_id: 'x' dataset { blob_digest: '{digest}' }", kNotFound, kDenied},
    {"StoreService.GetDataset", "name: '{acme}/datasets/hush'", kNotFound},
    {"StoreService.ListDatasets", "parent: '{acme}'", kDenied},
    {"StoreService.ListDatasets", "parent: '{globex}'", kOk, kDenied},
    {"StoreService.CheckDataset", "parent: '{acme}' dataset: '{acme}/datasets/hush'", kDenied},
    {"StoreService.CheckDataset", "parent: '{globex}' dataset: '{acme}/datasets/hush'", kNotFound,
     kDenied},
    {"StoreService.CheckDataset", "parent: '{globex}' blob_digest: '{digest}'", kNotFound, kDenied},
    {"StoreService.PreviewDataset",
     "parent: '{acme}' dataset: '{acme}/datasets/hush' base_model: '{acme}/baseModels/hush'",
     kDenied},
    {"StoreService.PreviewDataset",
     "parent: '{globex}' dataset: '{acme}/datasets/hush' base_model: '{globex}/baseModels/own'",
     kNotFound, kDenied},
    {"StoreService.PreviewDataset",
     "parent: '{globex}' dataset: '{globex}/datasets/own' base_model: '{acme}/baseModels/hush'",
     kNotFound, kDenied},
    {"StoreService.ImportBaseModel",
     "parent: '{acme}' base_model_id: 'hush-2' local_path: '{import}'", kDenied},
    {"StoreService.ImportBaseModel",
     "parent: '{globex}' base_model_id: 'x' uploaded_files { files { path: 'm.gguf' digest: "
     "'{digest}' size_bytes: 17 } }",
     kNotFound, kDenied},
    {"StoreService.GetBaseModel", "name: '{acme}/baseModels/hush'", kNotFound},
    {"StoreService.ListBaseModels", "parent: '{acme}'", kDenied},
    {"StoreService.ListBaseModels", "parent: '{globex}'", kOk, kDenied},
    {"StoreService.ValidateTraining",
     "parent: '{acme}' spec { base_model: '{acme}/baseModels/hush' dataset: "
     "'{acme}/datasets/hush' }",
     kDenied},
    {"StoreService.ValidateTraining",
     "parent: '{globex}' spec { base_model: '{acme}/baseModels/hush' dataset: "
     "'{acme}/datasets/hush' }",
     kOk, kDenied},

    {"RegistryService.CreateVersion",
     "parent: '{acme}/adapters/hush' adapter_version { source { job: '{acme}/jobs/hush' "
     "checkpoint_step: 1 } manifest_digest: '{manifest}' base_model: '{acme}/baseModels/hush' }",
     kDenied, kDenied},
    {"RegistryService.GetVersion", "name: '{acme}/adapters/hush'", kNotFound},
    {"RegistryService.GetVersion", "name: '{acme}/adapters/hush/versions/1'", kNotFound},
    {"RegistryService.GetVersion", "name: '{acme}/adapters/hush/aliases/hush'", kNotFound},
    {"RegistryService.GetAdapter", "name: '{acme}/adapters/hush'", kNotFound},
    {"RegistryService.ListAdapters", "parent: '{acme}'", kDenied},
    {"RegistryService.ListAdapters", "parent: '{globex}'", kOk, kDenied},
    {"RegistryService.ListVersions", "parent: '{acme}/adapters/hush'", kDenied},
    {"RegistryService.SetAlias",
     "alias { name: '{acme}/adapters/hush/aliases/best' version: "
     "'{acme}/adapters/hush/versions/1' }",
     kNotFound},
    {"RegistryService.SetAlias",
     "alias { name: '{globex}/adapters/a/aliases/best' version: '{acme}/adapters/hush/versions/1' "
     "}",
     kNotFound, kNotFound},
    {"RegistryService.GetAlias", "name: '{acme}/adapters/hush/aliases/hush'", kNotFound},
    {"RegistryService.ListAliases", "parent: '{acme}/adapters/hush'", kDenied},
    {"RegistryService.ListAliasHistory", "parent: '{acme}/adapters/hush/aliases/hush'", kDenied},
    {"RegistryService.DownloadVersion", "name: '{acme}/adapters/hush/versions/1'", kNotFound},
    {"RegistryService.DeleteAlias", "name: '{acme}/adapters/hush/aliases/best'", kNotFound},

    {"InferenceService.Generate",
     "parent: '{acme}' model { model: '{acme}/baseModels/hush' } prompt: 'a' max_new_tokens: 1",
     kDenied},
    {"InferenceService.Generate",
     "parent: '{globex}' model { model: '{acme}/baseModels/hush' } prompt: 'a' max_new_tokens: 1",
     kNotFound, kDenied},
    {"InferenceService.Generate",
     "parent: '{globex}' model { model: '{acme}/adapters/hush' } prompt: 'a' max_new_tokens: 1",
     kNotFound, kDenied},
    {"InferenceService.Generate",
     "parent: '{acme}' model { model: '{acme}/adapters/hush/aliases/hush' } prompt: 'a' "
     "max_new_tokens: 1",
     kDenied},
    {"InferenceService.Score",
     "parent: '{acme}' model { model: '{acme}/adapters/hush' } examples { plain_text: 'ab' } text "
     "{ train_on: ALL_TOKENS }",
     kDenied},
    {"InferenceService.Score",
     "parent: '{globex}' model { model: '{acme}/adapters/hush' } examples { plain_text: 'ab' } "
     "text { train_on: ALL_TOKENS }",
     kNotFound, kDenied},
    {"InferenceService.ListLoadedModels", "parent: '{acme}'", kDenied},
    // They are loaded by now.
    {"InferenceService.ListLoadedModels", "parent: '{globex}'", kOk, kDenied},
};

class TenantsTest : public ::testing::Test {
 protected:
  TenantsTest() {
    ImportBase(platform_, {.id = kSecret});
    AddDataset(platform_, kSecret, 20, 1);
    // The same base: what is shared on disk must not be seen.
    ImportBase(platform_, {.tenant = kGlobex, .id = "own"});
    AddDataset(platform_, "own", 20, 2, kGlobex);
    RunToSuccess(platform_, HushJob("hush"));
    platform_.worker().Terminate();  // So that the next one waits.
    Submit(platform_, HushJob("hush-waits"));
    AwaitJob(platform_, "tenants/acme/jobs/hush-waits",
             [](const v1::Job& job) { return job.status().state() == v1::QUEUED; });
    v1::SetAliasRequest alias;
    alias.mutable_alias()->set_name("tenants/acme/adapters/hush/aliases/hush");
    alias.mutable_alias()->set_version("tenants/acme/adapters/hush/versions/1");
    Must(platform_.registry_of().SetAlias(alias));
    PrepareNames();
  }

  static v1::CreateJobRequest HushJob(const std::string& id) {
    v1::CreateJobRequest request = JobRequest(id, 4);
    request.mutable_job()->mutable_train()->set_base_model("tenants/acme/baseModels/hush");
    request.mutable_job()->mutable_train()->set_dataset("tenants/acme/datasets/hush");
    return request;
  }

  void PrepareNames() {
    services::StoreClient& store = platform_.store_of();
    const std::string digest = Must(services::UploadBytes(store, kAcme, "x",
                                                          R"({"text": "hush"})"
                                                          "\n"))
                                   .digest();
    v1::CreateUploadRequest upload;
    upload.set_parent(Parent());
    upload.set_digest(Sha256Digest("abcd"));
    upload.set_size_bytes(4);
    names_ = {
        {"{acme}", Parent()},
        {"{globex}", Parent(kGlobex)},
        {"{digest}", digest},
        {"{manifest}", Must(store.GetDataset("tenants/acme/datasets/hush")).manifest_digest()},
        {"{upload}", Must(store.CreateUpload(upload)).name()},
        {"{import}", platform_.import_folder() + "/acme-hush"},
    };
  }

  services::Channel ChannelOf(const MethodDescriptor& method, const std::string& token) {
    return platform_.NewChannel(platform_.Serving(method.service()->name()), token);
  }

  std::unique_ptr<google::protobuf::Message> RequestOf(const Row& row,
                                                       const MethodDescriptor& method) {
    auto request = NewRequest(method);
    const std::string text = absl::StrReplaceAll(row.request, names_);
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, request.get())) << text;
    return request;
  }

  // An answer may repeat what its caller said, and nothing more.
  std::string WithoutEcho(const std::string& message, const Row& row) {
    const std::vector<std::string> parts =
        absl::StrSplit(absl::StrReplaceAll(row.request, names_), '\'');
    std::vector<std::pair<std::string, std::string>> said;
    for (size_t i = 1; i < parts.size(); i += 2) said.emplace_back(parts[i], "");
    return absl::StrReplaceAll(message, said);
  }

  Platform platform_{{.inference = true}};
  std::map<std::string, std::string> names_;  // "{acme}" to what it stands for.
};

std::map<std::string, const MethodDescriptor*> AllMethods() {
  std::map<std::string, const MethodDescriptor*> methods;
  for (const auto* service : AllServices()) {
    for (int i = 0; i < service->method_count(); ++i) {
      methods[absl::StrCat(service->name(), ".", service->method(i)->name())] = service->method(i);
    }
  }
  return methods;
}

TEST(TenantRowsTest, EveryRpcOfTheContractHasARow) {
  std::set<std::string> rows;
  for (const Row& row : kRows) rows.insert(row.method);
  std::set<std::string> methods;
  for (const auto& [name, method] : AllMethods()) methods.insert(name);
  EXPECT_EQ(rows, methods);
}

TEST_F(TenantsTest, NoRpcShowsOrChangesWhatBelongsToAnother) {
  const auto methods = AllMethods();
  for (const Row& row : kRows) {
    const MethodDescriptor& method = *methods.at(row.method);
    SCOPED_TRACE(absl::StrCat(row.method, " { ", row.request, " }"));
    const auto request = RequestOf(row, method);
    const RpcAnswer stranger =
        CallRpc(ChannelOf(method, platform_.token(kGlobex)), method, *request, kMessages);
    EXPECT_EQ(stranger.status.code(), row.stranger) << stranger.Text();
    for (const std::string& message : stranger.messages) {
      EXPECT_THAT(WithoutEcho(message, row), Not(HasSubstr(kSecret)));
      EXPECT_THAT(message, Not(HasSubstr("done: true")));
    }
    const RpcAnswer owner =
        CallRpc(ChannelOf(method, platform_.token(kAcme)), method, *request, kMessages);
    EXPECT_EQ(owner.status.code(), row.owner) << owner.Text();
  }
}

TEST_F(TenantsTest, WhatIsAbsentAndWhatIsForeignCannotBeToldApart) {
  const auto methods = AllMethods();
  for (const Row& row : kRows) {
    if (row.stranger != kNotFound) continue;
    const MethodDescriptor& method = *methods.at(row.method);
    SCOPED_TRACE(absl::StrCat(row.method, " { ", row.request, " }"));
    const services::Channel channel = ChannelOf(method, platform_.token(kGlobex));
    const RpcAnswer foreign = CallRpc(channel, method, *RequestOf(row, method));
    // The same names, and one that nobody has.
    Row absent = row;
    const std::string text =
        absl::StrReplaceAll(row.request, {{"hush", "gone"},
                                          {"{upload}", "{acme}/uploads/gone"},
                                          {"{digest}", "sha256:" + std::string(64, '0')},
                                          {"{manifest}", "sha256:" + std::string(64, '0')}});
    absent.request = text.c_str();
    const RpcAnswer answer = CallRpc(channel, method, *RequestOf(absent, method));
    EXPECT_EQ(answer.status.code(), foreign.status.code()) << answer.Text();
    const std::vector<std::pair<std::string, std::string>> said = {
        {"hush", "gone"},
        {names_.at("{upload}"), "tenants/acme/uploads/gone"},
        {names_.at("{digest}"), "sha256:" + std::string(64, '0')},
        {names_.at("{manifest}"), "sha256:" + std::string(64, '0')}};
    EXPECT_EQ(absl::StrReplaceAll(foreign.status.message(), said), answer.status.message());
  }
}

TEST_F(TenantsTest, WithoutATokenNothingIsAnswered) {
  for (const auto& [name, method] : AllMethods()) {
    for (const char* token : {"", "dw_guess"}) {
      const RpcAnswer answer = CallRpc(ChannelOf(*method, token), *method, *NewRequest(*method));
      EXPECT_TRUE(absl::IsUnauthenticated(answer.status)) << name << ": " << answer.Text();
    }
  }
}

}  // namespace
}  // namespace deltaworks::e2e
