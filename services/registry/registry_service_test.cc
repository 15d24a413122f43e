// The registry over a socket: who may see what, pages, conflicts, and a restart on the same files.

#include "services/registry/registry_service.h"

#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/base/server.h"
#include "services/base/token_file.h"
#include "services/registry/registry_server.h"
#include "services/registry/testing/registry_world.h"

namespace deltaworks::services {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Stub = v1::RegistryService::Stub;

class RegistryServiceTest : public ::testing::Test {
 protected:
  RegistryServiceTest() {
    const std::string tokens = ::testing::TempDir() + "/registry_service_tokens";
    unlink(tokens.c_str());
    platform_token_ = *TokenFile::AddToken(tokens, kAllTenants);
    owner_token_ = *TokenFile::AddToken(tokens, kTenant);
    stranger_token_ = *TokenFile::AddToken(tokens, "globex");
    tokens_ = *TokenFile::Open(tokens);
    authenticator_ = std::make_unique<Authenticator>(tokens_.get(), metrics_);
    service_ = std::make_unique<RegistryService>(world_.core(), *authenticator_);
    Listen(*service_);
  }

  void Listen(RegistryService& service) {
    auto server = Server::Start({}, *authenticator_, metrics_, RealClock(), {&service});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    stub_ = v1::RegistryService::NewStub(
        grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials()));
  }

  template <typename Request, typename Response>
  grpc::Status Call(const std::string& token,
                    grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                    const Request& request, Response* response) {
    grpc::ClientContext context;
    Prepare(context, token);
    response->Clear();
    return (stub_.get()->*method)(&context, request, response);
  }
  void Prepare(grpc::ClientContext& context, const std::string& token) {
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    context.AddMetadata("authorization", "Bearer " + token);
  }

  grpc::Status Create(const std::string& job, v1::AdapterVersion* version, int seed = 1) {
    return Call(platform_token_, &Stub::CreateVersion,
                world_.Request(job, world_.Upload(world_.Parts(seed))), version);
  }
  grpc::Status Download(const std::string& token, const v1::DownloadVersionRequest& request,
                        std::vector<std::string>* files) {
    grpc::ClientContext context;
    Prepare(context, token);
    const auto reader = stub_->DownloadVersion(&context, request);
    v1::DownloadVersionResponse message;
    while (reader->Read(&message)) {
      if (!message.path().empty()) files->push_back("");
      files->back() += message.data();
    }
    return reader->Finish();
  }
  v1::SetAliasRequest AliasRequest(const std::string& alias, int version) {
    v1::SetAliasRequest request;
    request.mutable_alias()->set_name(absl::StrCat(kAdapterName, "/aliases/", alias));
    request.mutable_alias()->set_version(absl::StrCat(kAdapterName, "/versions/", version));
    return request;
  }
  // The status that every rpc gives `token` for what kTenant has, by the rpc's name.
  std::vector<std::pair<std::string, grpc::Status>> AllRpcs(const std::string& token);

  Metrics metrics_{"registry"};
  RegistryWorld world_{"registry_service"};
  std::string platform_token_, owner_token_, stranger_token_;
  std::unique_ptr<TokenFile> tokens_;
  std::unique_ptr<Authenticator> authenticator_;
  std::unique_ptr<RegistryService> service_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<Stub> stub_;
  v1::AdapterVersion version_;
  v1::Alias alias_;
  v1::Adapter adapter_;
};

std::vector<std::pair<std::string, grpc::Status>> RegistryServiceTest::AllRpcs(
    const std::string& token) {
  std::vector<std::pair<std::string, grpc::Status>> answers;
  v1::CreateVersionRequest create = world_.Request("job-1", world_.Upload(world_.Parts()));
  answers.emplace_back("CreateVersion", Call(token, &Stub::CreateVersion, create, &version_));
  for (const char* name : {"", "/versions/1", "/aliases/champion"}) {
    v1::GetVersionRequest get;
    get.set_name(absl::StrCat(kAdapterName, name));
    answers.emplace_back("GetVersion", Call(token, &Stub::GetVersion, get, &version_));
    v1::DownloadVersionRequest download;
    download.set_name(get.name());
    std::vector<std::string> files;
    answers.emplace_back("DownloadVersion", Download(token, download, &files));
    EXPECT_EQ(files.empty(), !answers.back().second.ok());
  }
  v1::GetAdapterRequest get_adapter;
  get_adapter.set_name(kAdapterName);
  answers.emplace_back("GetAdapter", Call(token, &Stub::GetAdapter, get_adapter, &adapter_));
  v1::ListAdaptersRequest list_adapters;
  list_adapters.set_parent("tenants/acme");
  v1::ListAdaptersResponse adapters;
  answers.emplace_back("ListAdapters", Call(token, &Stub::ListAdapters, list_adapters, &adapters));
  v1::ListVersionsRequest list_versions;
  list_versions.set_parent(kAdapterName);
  v1::ListVersionsResponse versions;
  answers.emplace_back("ListVersions", Call(token, &Stub::ListVersions, list_versions, &versions));
  v1::ListAliasesRequest list_aliases;
  list_aliases.set_parent(kAdapterName);
  v1::ListAliasesResponse aliases;
  answers.emplace_back("ListAliases", Call(token, &Stub::ListAliases, list_aliases, &aliases));
  v1::ListAliasHistoryRequest history;
  history.set_parent(absl::StrCat(kAdapterName, "/aliases/champion"));
  v1::ListAliasHistoryResponse changes;
  answers.emplace_back("ListAliasHistory", Call(token, &Stub::ListAliasHistory, history, &changes));
  v1::GetAliasRequest get_alias;
  get_alias.set_name(history.parent());
  answers.emplace_back("GetAlias", Call(token, &Stub::GetAlias, get_alias, &alias_));
  answers.emplace_back("SetAlias",
                       Call(token, &Stub::SetAlias, AliasRequest("champion", 1), &alias_));
  v1::DeleteAliasRequest remove;
  remove.set_name(history.parent());
  google::protobuf::Empty empty;
  answers.emplace_back("DeleteAlias", Call(token, &Stub::DeleteAlias, remove, &empty));
  return answers;
}

TEST_F(RegistryServiceTest, NoRpcShowsOrChangesWhatAnotherTenantHas) {
  ASSERT_TRUE(Create("job-1", &version_).ok());
  ASSERT_TRUE(Call(owner_token_, &Stub::SetAlias, AliasRequest("champion", 1), &alias_).ok());
  for (const auto& [rpc, status] : AllRpcs(stranger_token_)) {
    const bool by_parent = absl::StartsWith(rpc, "List") || rpc == "CreateVersion";
    EXPECT_EQ(status.error_code(), by_parent ? grpc::PERMISSION_DENIED : grpc::NOT_FOUND)
        << rpc << ": " << status.error_message();
  }
  // The same rpcs by the owner; the last one deletes the alias, so nothing was changed before.
  for (const auto& [rpc, status] : AllRpcs(owner_token_)) {
    const bool platforms_own = rpc == "CreateVersion";
    EXPECT_EQ(status.error_code(), platforms_own ? grpc::PERMISSION_DENIED : grpc::OK)
        << rpc << ": " << status.error_message();
  }
  for (const auto& [rpc, status] : AllRpcs("nobody")) {
    EXPECT_EQ(status.error_code(), grpc::UNAUTHENTICATED) << rpc;
  }
}

TEST_F(RegistryServiceTest, AForeignNameAndAnAbsentNameReadTheSame) {
  ASSERT_TRUE(Create("job-1", &version_).ok());
  v1::GetAdapterRequest request;
  request.set_name(kAdapterName);
  const grpc::Status foreign = Call(stranger_token_, &Stub::GetAdapter, request, &adapter_);
  EXPECT_EQ(foreign.error_message(), std::string(kAdapterName) + " does not exist");
  request.set_name("tenants/acme/adapters/none");
  const grpc::Status absent = Call(owner_token_, &Stub::GetAdapter, request, &adapter_);
  EXPECT_EQ(absent.error_message(), "tenants/acme/adapters/none does not exist");
  EXPECT_EQ(absent.error_code(), foreign.error_code());
}

TEST_F(RegistryServiceTest, PagesShowEveryVersionAndAdapterOnce) {
  for (int i = 1; i <= 5; ++i) {
    v1::CreateVersionRequest request =
        world_.Request(absl::StrCat("job-", i), world_.Upload(world_.Parts()));
    if (i > 3) request.set_parent(absl::StrCat("tenants/acme/adapters/a", i));
    ASSERT_TRUE(Call(platform_token_, &Stub::CreateVersion, request, &version_).ok());
  }
  std::vector<std::string> names;
  v1::ListVersionsRequest versions;
  versions.set_parent(kAdapterName);
  versions.set_page_size(2);
  v1::ListVersionsResponse version_page;
  do {
    ASSERT_TRUE(Call(owner_token_, &Stub::ListVersions, versions, &version_page).ok());
    for (const auto& version : version_page.versions()) names.push_back(version.name());
    versions.set_page_token(version_page.next_page_token());
  } while (!versions.page_token().empty());
  const std::string prefix = std::string(kAdapterName) + "/versions/";
  EXPECT_THAT(names, ElementsAre(prefix + "3", prefix + "2", prefix + "1"));

  names.clear();
  v1::ListAdaptersRequest adapters;
  adapters.set_parent("tenants/acme");
  adapters.set_page_size(1);
  v1::ListAdaptersResponse adapter_page;
  do {
    ASSERT_TRUE(Call(owner_token_, &Stub::ListAdapters, adapters, &adapter_page).ok());
    for (const auto& adapter : adapter_page.adapters()) names.push_back(adapter.name());
    adapters.set_page_token(adapter_page.next_page_token());
  } while (!adapters.page_token().empty());
  EXPECT_THAT(names,
              ElementsAre("tenants/acme/adapters/a4", "tenants/acme/adapters/a5", kAdapterName));

  versions.set_page_token("garbage");
  EXPECT_EQ(Call(owner_token_, &Stub::ListVersions, versions, &version_page).error_code(),
            grpc::INVALID_ARGUMENT);
  versions.clear_page_token();
  versions.set_page_size(-1);
  EXPECT_EQ(Call(owner_token_, &Stub::ListVersions, versions, &version_page).error_code(),
            grpc::INVALID_ARGUMENT);
}

TEST_F(RegistryServiceTest, ALateEtagIsAborted) {
  ASSERT_TRUE(Create("job-1", &version_, 1).ok());
  ASSERT_TRUE(Create("job-2", &version_, 2).ok());
  v1::SetAliasRequest request = AliasRequest("champion", 1);
  ASSERT_TRUE(Call(owner_token_, &Stub::SetAlias, request, &alias_).ok());
  const std::string etag = alias_.etag();
  ASSERT_TRUE(Call(owner_token_, &Stub::SetAlias, AliasRequest("champion", 2), &alias_).ok());
  request.mutable_alias()->set_etag(etag);
  const grpc::Status status = Call(owner_token_, &Stub::SetAlias, request, &alias_);
  EXPECT_EQ(status.error_code(), grpc::ABORTED);
  EXPECT_THAT(status.error_message(), HasSubstr("versions/2 by now"));
}

TEST_F(RegistryServiceTest, ARepeatedRequestIdIsAnsweredAndAnotherRequestUnderItIsNot) {
  v1::CreateVersionRequest request = world_.Request("job-1", world_.Upload(world_.Parts()));
  request.set_request_id("5e3c");
  ASSERT_TRUE(Call(platform_token_, &Stub::CreateVersion, request, &version_).ok());
  const std::string first = version_.SerializeAsString();
  ASSERT_TRUE(Call(platform_token_, &Stub::CreateVersion, request, &version_).ok());
  EXPECT_EQ(version_.SerializeAsString(), first);
  request.mutable_adapter_version()->set_exact(false);
  const grpc::Status status = Call(platform_token_, &Stub::CreateVersion, request, &version_);
  EXPECT_EQ(status.error_code(), grpc::ALREADY_EXISTS);
  EXPECT_THAT(status.error_message(), HasSubstr("adapter_version.exact differs"));
}

TEST_F(RegistryServiceTest, ALongDownloadComesInMessagesOfAtMostOneMebibyte) {
  AdapterParts parts = world_.Parts();
  const std::string text = parts.Files().adapter_config;
  trainer::PeftFiles files = parts.Files();
  files.adapter_config = text + std::string((1 << 20) - text.size(), ' ');
  ASSERT_TRUE(Call(platform_token_, &Stub::CreateVersion,
                   world_.Request("job-1", world_.Upload(parts, files)), &version_)
                  .ok());
  ASSERT_EQ(version_.failure().message(), "");
  grpc::ClientContext context;
  Prepare(context, owner_token_);
  v1::DownloadVersionRequest request;
  request.set_name(version_.name());
  const auto reader = stub_->DownloadVersion(&context, request);
  v1::DownloadVersionResponse message;
  ASSERT_TRUE(reader->Read(&message));
  EXPECT_EQ(message.path(), "adapter_config.json");
  EXPECT_EQ(message.size_bytes(), 1 << 20);
  EXPECT_EQ(message.data().size(), 1 << 20);
  ASSERT_TRUE(reader->Read(&message));
  EXPECT_EQ(message.path(), "adapter_model.safetensors");
  EXPECT_EQ(message.digest(), version_.adapter_digest());
  EXPECT_EQ(message.data(), files.adapter_model);
  EXPECT_FALSE(reader->Read(&message));
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(RegistryServiceTest, ARestartedRegistryHasEveryVersionAndAnswersARepeatedRequestAlike) {
  ASSERT_TRUE(Create("job-1", &version_).ok());
  ASSERT_TRUE(Call(owner_token_, &Stub::SetAlias, AliasRequest("champion", 1), &alias_).ok());
  const std::string before = version_.SerializeAsString();
  server_.reset();
  world_.Crash();
  service_ = std::make_unique<RegistryService>(world_.core(), *authenticator_);
  Listen(*service_);
  ASSERT_TRUE(Create("job-1", &version_).ok());
  EXPECT_EQ(version_.SerializeAsString(), before);
  v1::GetVersionRequest get;
  get.set_name(alias_.name().substr(0, alias_.name().rfind('/')) + "/champion");
  ASSERT_TRUE(Call(owner_token_, &Stub::GetVersion, get, &version_).ok());
  EXPECT_EQ(version_.SerializeAsString(), before);
}

TEST_F(RegistryServiceTest, OnlyOneServerMayHaveTheDatabaseAndItIsFreeOnceThatStopped) {
  const std::string folder = ::testing::TempDir() + "/registry_server";
  std::filesystem::remove_all(folder);
  const auto start = [&] {
    return RegistryServer::Start({.database_path = folder + "/made/registry.db"},
                                 std::make_unique<FakeStoreClient>(), RealClock(), metrics_,
                                 *authenticator_);
  };
  for (int i = 0; i < 2; ++i) {
    auto first = start();
    ASSERT_TRUE(first.ok()) << first.status();
    EXPECT_TRUE(absl::IsFailedPrecondition(start().status()));
    server_.reset();
    Listen((*first)->service());
    v1::GetAdapterRequest get;
    get.set_name(kAdapterName);
    EXPECT_EQ(Call(owner_token_, &Stub::GetAdapter, get, &adapter_).error_code(), grpc::NOT_FOUND);
    server_.reset();
  }
}

}  // namespace
}  // namespace deltaworks::services
