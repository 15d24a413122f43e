// A tenant sees nothing of another's: every rpc is tried with the token of "other" on what belongs
// to "acme", with both its names and its digests. The list of rpcs comes from the contract, so that
// a new one cannot be forgotten.

#include <google/protobuf/descriptor.h>
#include <grpcpp/grpcpp.h>

#include <functional>
#include <map>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/base/log.h"
#include "services/store/store_test_server.h"

namespace deltaworks::services {
namespace {

using ::testing::AnyOf;
using ::testing::Eq;

constexpr char kParent[] = "tenants/acme";
constexpr char kDataset[] = "tenants/acme/datasets/d";
constexpr char kBase[] = "tenants/acme/baseModels/b";
constexpr char kJob[] = "tenants/acme/jobs/j";

class StoreTenantsTest : public ::testing::Test {
 protected:
  using Call = std::function<grpc::Status(grpc::ClientContext*, v1::StoreService::StubInterface&)>;

  StoreTenantsTest() {
    SetLogWriter([](absl::string_view) {});
    digest_ = store_.Upload("{\"text\": \"secret\"}\n");
    v1::CreateDatasetRequest request;
    request.set_parent(kParent);
    request.set_dataset_id("d");
    request.mutable_dataset()->set_blob_digest(digest_);
    EXPECT_TRUE(store_.client().CreateDataset(request).ok());
    v1::CreateUploadRequest upload;
    upload.set_parent(kParent);
    upload.set_digest("sha256:" + std::string(64, 'a'));
    upload.set_size_bytes(10);
    upload_ = store_.client().CreateUpload(upload)->name();
  }
  ~StoreTenantsTest() override { SetLogWriter(nullptr); }

  // Every rpc on what belongs to acme.
  std::map<std::string, Call> CallsOnAcme() {
    std::map<std::string, Call> calls;
    const auto unary = [&](const std::string& name, auto method, auto request, auto response) {
      calls[name] = [=](grpc::ClientContext* context,
                        v1::StoreService::StubInterface& stub) mutable {
        return (stub.*method)(context, request, &response);
      };
    };
    using Stub = v1::StoreService::StubInterface;
    const auto of_parent = [](auto request) {
      request.set_parent(kParent);
      return request;
    };
    const auto named = [](auto request, const std::string& name) {
      request.set_name(name);
      return request;
    };
    const auto of_blob = [&](auto request) {
      request.set_parent(kParent);
      request.set_digest(digest_);
      return request;
    };
    unary("CreateUpload", &Stub::CreateUpload, of_blob(v1::CreateUploadRequest()), v1::Upload());
    unary("GetUpload", &Stub::GetUpload, named(v1::GetUploadRequest(), upload_), v1::Upload());
    v1::FindMissingBlobsRequest find = of_parent(v1::FindMissingBlobsRequest());
    find.add_digests(digest_);
    unary("FindMissingBlobs", &Stub::FindMissingBlobs, find, v1::FindMissingBlobsResponse());
    unary("GetManifest", &Stub::GetManifest, of_blob(v1::GetManifestRequest()), v1::Manifest());
    unary("ReportCorruptBlob", &Stub::ReportCorruptBlob, of_blob(v1::ReportCorruptBlobRequest()),
          v1::ReportCorruptBlobResponse());
    v1::CreatePinRequest pin;
    pin.mutable_pin()->set_owner(kJob);
    pin.mutable_pin()->set_digest(digest_);
    unary("CreatePin", &Stub::CreatePin, pin, v1::Pin());
    v1::DeletePinRequest unpin;
    unpin.set_owner(kJob);
    unpin.set_digest(digest_);
    unary("DeletePin", &Stub::DeletePin, unpin, google::protobuf::Empty());
    unary("ListPins", &Stub::ListPins, of_parent(v1::ListPinsRequest()), v1::ListPinsResponse());
    v1::CreateDatasetRequest create = of_parent(v1::CreateDatasetRequest());
    create.mutable_dataset()->set_blob_digest(digest_);
    unary("CreateDataset", &Stub::CreateDataset, create, v1::Dataset());
    unary("GetDataset", &Stub::GetDataset, named(v1::GetDatasetRequest(), kDataset), v1::Dataset());
    unary("ListDatasets", &Stub::ListDatasets, of_parent(v1::ListDatasetsRequest()),
          v1::ListDatasetsResponse());
    v1::CheckDatasetRequest check = of_parent(v1::CheckDatasetRequest());
    check.set_dataset(kDataset);
    unary("CheckDataset", &Stub::CheckDataset, check, v1::DatasetReport());
    v1::PreviewDatasetRequest preview = of_parent(v1::PreviewDatasetRequest());
    preview.set_dataset(kDataset);
    unary("PreviewDataset", &Stub::PreviewDataset, preview, v1::PreviewDatasetResponse());
    v1::ImportBaseModelRequest import = of_parent(v1::ImportBaseModelRequest());
    import.set_base_model_id("b");
    unary("ImportBaseModel", &Stub::ImportBaseModel, import, v1::BaseModel());
    unary("GetBaseModel", &Stub::GetBaseModel, named(v1::GetBaseModelRequest(), kBase),
          v1::BaseModel());
    unary("ListBaseModels", &Stub::ListBaseModels, of_parent(v1::ListBaseModelsRequest()),
          v1::ListBaseModelsResponse());
    v1::ValidateTrainingRequest validate = of_parent(v1::ValidateTrainingRequest());
    validate.mutable_spec()->set_dataset(kDataset);
    validate.mutable_spec()->set_base_model(kBase);
    unary("ValidateTraining", &Stub::ValidateTraining, validate, v1::ValidateTrainingResponse());
    calls["ReadBlob"] = [this](grpc::ClientContext* context, Stub& stub) {
      v1::ReadBlobRequest request;
      request.set_parent(kParent);
      request.set_digest(digest_);
      const auto reader = stub.ReadBlob(context, request);
      v1::ReadBlobResponse response;
      EXPECT_FALSE(reader->Read(&response));
      return reader->Finish();
    };
    calls["WriteUpload"] = [this](grpc::ClientContext* context, Stub& stub) {
      v1::Upload upload;
      const auto writer = stub.WriteUpload(context, &upload);
      v1::WriteUploadRequest request;
      request.set_name(upload_);
      writer->Write(request);
      writer->WritesDone();
      return writer->Finish();
    };
    return calls;
  }

  StoreTestServer store_{"store_tenants"};
  std::string digest_;
  std::string upload_;
};

TEST_F(StoreTenantsTest, EveryRpcOfTheContractIsTried) {
  const auto* service = google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(
      "deltaworks.v1.StoreService");
  ASSERT_NE(service, nullptr);
  const std::map<std::string, Call> calls = CallsOnAcme();
  for (int i = 0; i < service->method_count(); ++i) {
    EXPECT_EQ(calls.count(service->method(i)->name()), 1u) << service->method(i)->name();
  }
}

TEST_F(StoreTenantsTest, NoRpcShowsOrChangesWhatBelongsToAnotherTenant) {
  for (const auto& [name, call] : CallsOnAcme()) {
    grpc::ClientContext context;
    store_.Authorize(context, "other");
    const grpc::Status status = call(&context, store_.stub());
    EXPECT_THAT(status.error_code(), AnyOf(Eq(grpc::PERMISSION_DENIED), Eq(grpc::NOT_FOUND)))
        << name << ": " << status.error_message();
  }
  EXPECT_TRUE(store_.client().GetDataset(kDataset).ok());
}

TEST_F(StoreTenantsTest, NoRpcAnswersWithoutAToken) {
  for (const auto& [name, call] : CallsOnAcme()) {
    grpc::ClientContext context;
    EXPECT_EQ(call(&context, store_.stub()).error_code(), grpc::UNAUTHENTICATED) << name;
  }
}

TEST_F(StoreTenantsTest, AForeignNameReadsLikeAnAbsentOne) {
  const absl::Status foreign = store_.client("other").GetDataset(kDataset).status();
  const absl::Status absent =
      store_.client("acme").GetDataset("tenants/acme/datasets/absent").status();
  EXPECT_EQ(foreign.message(), "tenants/acme/datasets/d does not exist");
  EXPECT_EQ(absent.message(), "tenants/acme/datasets/absent does not exist");
}

TEST_F(StoreTenantsTest, ADigestAloneOpensNothingUnderTheCallersOwnName) {
  EXPECT_THAT(store_.Read(digest_, "", "other"), ::testing::StartsWith("NOT_FOUND"));
  EXPECT_THAT(store_.Read(digest_, kDataset, "other"), ::testing::StartsWith("NOT_FOUND"));
  v1::CreateDatasetRequest create;
  create.set_parent("tenants/other");
  create.mutable_dataset()->set_blob_digest(digest_);
  EXPECT_TRUE(absl::IsNotFound(store_.client("other").CreateDataset(create).status()));
  v1::CheckDatasetRequest check;
  check.set_parent("tenants/other");
  check.set_dataset(kDataset);
  EXPECT_TRUE(absl::IsNotFound(store_.client("other").CheckDataset(check).status()));
  v1::CreatePinRequest pin;
  pin.mutable_pin()->set_owner("tenants/other/jobs/j");
  pin.mutable_pin()->set_digest(digest_);
  EXPECT_TRUE(absl::IsNotFound(store_.client("other").CreatePin(pin).status()));
}

TEST_F(StoreTenantsTest, ThePlatformActsForEveryTenant) {
  EXPECT_TRUE(store_.client("-").GetDataset(kDataset).ok());
  v1::CreatePinRequest pin;
  pin.mutable_pin()->set_owner(kJob);
  pin.mutable_pin()->set_digest(digest_);
  EXPECT_TRUE(store_.client("-").CreatePin(pin).ok());
  v1::ReadBlobRequest read;
  read.set_parent(kParent);
  read.set_digest(digest_);
  read.set_reference(kJob);
  EXPECT_TRUE(
      store_.client("-").ReadBlob(read, [](absl::string_view) { return absl::OkStatus(); }).ok());
}

}  // namespace
}  // namespace deltaworks::services
