#include "services/store/store_test_server.h"

#include <grpcpp/grpcpp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "services/clients/blob_transfer.h"
#include "services/clients/grpc_store_client.h"

namespace deltaworks::services {
namespace {

template <typename T>
T MustHave(absl::StatusOr<T> value) {
  CHECK(value.ok()) << value.status();
  return *std::move(value);
}

}  // namespace

absl::Status FaultyBlobStore::AppendStaged(const std::string& id, int64_t offset,
                                           absl::string_view data) {
  const int64_t fits = std::min<int64_t>(faults_.room, static_cast<int64_t>(data.size()));
  faults_.room -= fits;
  // Like a real disk: what fits is written, then the error comes.
  const absl::Status status =
      store_->AppendStaged(id, offset, data.substr(0, static_cast<size_t>(fits)));
  if (!status.ok() || fits == static_cast<int64_t>(data.size())) return status;
  return absl::ResourceExhaustedError(absl::StrCat(id, ": write: No space left on device"));
}

StoreTestServer::StoreTestServer(const std::string& name, const StoreServer::Options& options)
    : options_(options) {
  options_.folder = ::testing::TempDir() + "/" + name;
  std::filesystem::remove_all(options_.folder);
  std::filesystem::create_directories(options_.folder);
  const std::string path = options_.folder + "/tokens";
  for (const char* tenant : {"acme", "other", "-"}) {
    token_of_[tenant] = MustHave(TokenFile::AddToken(path, tenant));
  }
  tokens_ = MustHave(TokenFile::Open(path));
  Start();
}

StoreTestServer::~StoreTestServer() { Stop(); }

void StoreTestServer::Start() {
  metrics_ = std::make_unique<Metrics>("store");
  authenticator_ = std::make_unique<Authenticator>(tokens_.get(), *metrics_);
  auto loop = std::make_unique<FakeEventLoop>(clock);
  loop_ = loop.get();
  auto blobs = std::make_unique<FaultyBlobStore>(
      MustHave(LocalBlobStore::Open(options_.folder + "/blobs")), disk);
  store_ = MustHave(StoreServer::OpenWith(options_, *authenticator_, clock, *metrics_,
                                          std::move(blobs), std::move(loop)));
  server_ =
      MustHave(Server::Start({}, *authenticator_, *metrics_, RealClock(), {store_->service()}));
  server_->SetServing(true);
  for (const auto& [tenant, token] : token_of_) {
    Channel channel = MakeChannel(server_->address(), token);
    channel.retry.total_max = absl::ZeroDuration();
    channel.call_timeout = absl::Minutes(1);
    clients_[tenant] = MakeGrpcStoreClient(channel);
    if (tenant == "acme") stub_ = v1::StoreService::NewStub(channel.grpc);
  }
}

void StoreTestServer::Stop() {
  clients_.clear();
  stub_.reset();
  server_.reset();
  store_.reset();
}

StoreClient& StoreTestServer::client(const std::string& tenant) { return *clients_.at(tenant); }

void StoreTestServer::Authorize(grpc::ClientContext& context, const std::string& tenant) {
  context.AddMetadata("authorization", "Bearer " + token_of_.at(tenant));
}

std::string StoreTestServer::Upload(const std::string& data, const std::string& tenant) {
  return MustHave(UploadBytes(client(tenant), tenant, "blob", data)).digest();
}

std::string StoreTestServer::Read(const std::string& digest, const std::string& reference,
                                  const std::string& tenant) {
  v1::ReadBlobRequest request;
  request.set_parent("tenants/" + tenant);
  request.set_digest(digest);
  request.set_reference(reference);
  std::string data;
  const absl::Status status = client(tenant).ReadBlob(request, [&](absl::string_view piece) {
    absl::StrAppend(&data, piece);
    return absl::OkStatus();
  });
  return status.ok() ? data : status.ToString();
}

v1::BaseModel StoreTestServer::AwaitImport(const std::string& name, const std::string& tenant) {
  while (true) {
    v1::BaseModel base_model = MustHave(client(tenant).GetBaseModel(name));
    if (base_model.state() != v1::BaseModel::IMPORTING) return base_model;
    absl::SleepFor(absl::Milliseconds(5));  // Another thread works; there is nothing to wait on.
  }
}

std::string StoreTestServer::PathOf(const std::string& digest, int64_t generation) {
  return MustHave(LocalBlobStore::Open(options_.folder + "/blobs"))->PathOf({digest, generation});
}

void StoreTestServer::FlipByte(const std::string& digest, int64_t offset) {
  const std::string path = PathOf(digest);
  CHECK_EQ(chmod(path.c_str(), 0644), 0) << path;
  FILE* file = std::fopen(path.c_str(), "r+");
  CHECK(file != nullptr) << path;
  std::fseek(file, offset, SEEK_SET);
  const int byte = std::fgetc(file);
  std::fseek(file, offset, SEEK_SET);
  std::fputc(byte ^ 1, file);
  std::fclose(file);
}

}  // namespace deltaworks::services
