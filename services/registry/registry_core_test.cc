// Once, and nothing lost: one version per source through repetition, crashes and restarts; a pin
// too many rather than one too few. Then what is read back: versions, aliases, downloads.

#include "services/registry/registry_core.h"

#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/registry/adapter_manifest.h"
#include "services/registry/testing/registry_world.h"
#include "trainer/base/sha256.h"
#include "trainer/lora/peft_format.h"

namespace deltaworks::services {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

class RegistryCoreTest : public ::testing::Test {
 protected:
  std::vector<std::string> VersionNames() {
    v1::ListVersionsRequest request;
    request.set_parent(kAdapterName);
    const auto response = world_.core().ListVersions(Owner(), request);
    std::vector<std::string> names;
    if (!response.ok()) return names;
    for (const auto& version : response->versions()) names.push_back(version.name());
    return names;
  }
  absl::StatusOr<v1::AdapterVersion> Get(const std::string& name) {
    v1::GetVersionRequest request;
    request.set_name(name);
    return world_.core().GetVersion(Owner(), request);
  }
  absl::StatusOr<v1::Alias> Set(const std::string& alias, int version, const std::string& etag = "",
                                const std::string& id = "", const std::string& comment = "") {
    v1::SetAliasRequest request;
    request.mutable_alias()->set_name(absl::StrCat(kAdapterName, "/aliases/", alias));
    request.mutable_alias()->set_version(absl::StrCat(kAdapterName, "/versions/", version));
    request.mutable_alias()->set_etag(etag);
    request.set_request_id(id);
    request.set_comment(comment);
    return world_.core().SetAlias(Owner(), request);
  }
  absl::Status Delete(const std::string& alias, const std::string& etag = "",
                      const std::string& id = "") {
    v1::DeleteAliasRequest request;
    request.set_name(absl::StrCat(kAdapterName, "/aliases/", alias));
    request.set_etag(etag);
    request.set_request_id(id);
    return world_.core().DeleteAlias(Owner(), request);
  }
  absl::StatusOr<v1::Alias> GetAlias(const std::string& alias) {
    v1::GetAliasRequest request;
    request.set_name(absl::StrCat(kAdapterName, "/aliases/", alias));
    return world_.core().GetAlias(Owner(), request);
  }
  // path -> bytes, in one string for each file.
  absl::Status Download(const v1::DownloadVersionRequest& request,
                        std::vector<std::pair<std::string, std::string>>& files) {
    files.clear();
    return world_.core().DownloadVersion(Owner(), request,
                                         [&](const v1::DownloadVersionResponse& message) {
                                           if (!message.path().empty())
                                             files.emplace_back(message.path(), "");
                                           files.back().second += message.data();
                                           return true;
                                         });
  }
  // A READY version has its pin.
  void ExpectNoPinTooFew() {
    for (const std::string& name : VersionNames()) {
      const auto version = Get(name);
      ASSERT_TRUE(version.ok()) << version.status();
      if (version->state() != v1::AdapterVersion::READY) continue;
      EXPECT_TRUE(world_.store().Pins().contains({name, version->manifest_digest()})) << name;
    }
  }

  RegistryWorld world_{"registry_core"};
};

// ---- Once ----

TEST_F(RegistryCoreTest, ARepeatedCreateVersionReturnsTheSameVersion) {
  const auto first = world_.Create("job");
  ASSERT_TRUE(first.ok()) << first.status();
  world_.clock().Advance(absl::Hours(1));
  const auto second = world_.Create("job");
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(second->SerializeAsString(), first->SerializeAsString());
  world_.Crash();
  const auto third = world_.Create("job");
  ASSERT_TRUE(third.ok()) << third.status();
  EXPECT_EQ(third->SerializeAsString(), first->SerializeAsString());
  EXPECT_THAT(VersionNames(), ElementsAre(first->name()));
  EXPECT_THAT(world_.MetricsText(),
              HasSubstr("deltaworks_registry_versions_total{outcome=\"repeated\"} 2"));
}

TEST_F(RegistryCoreTest, AnotherManifestForTheSameSourceIsRefusedAndCounted) {
  ASSERT_TRUE(world_.Create("job", 1).ok());
  const absl::Status status = world_.Create("job", 2).status();
  EXPECT_TRUE(absl::IsAlreadyExists(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("versions/1: manifest_digest is"));
  EXPECT_THAT(VersionNames(), ElementsAre("tenants/acme/adapters/poet/versions/1"));
  EXPECT_THAT(world_.MetricsText(),
              HasSubstr("deltaworks_registry_versions_total{outcome=\"conflict\"} 1"));
}

TEST_F(RegistryCoreTest, TheSameSourceForAnotherAdapterIsRefused) {
  ASSERT_TRUE(world_.Create("job").ok());
  v1::CreateVersionRequest request = world_.Request("job", world_.Upload(world_.Parts()));
  request.set_parent("tenants/acme/adapters/other");
  const absl::Status status = world_.core().CreateVersion(Platform(), request).status();
  EXPECT_TRUE(absl::IsAlreadyExists(status)) << status;
}

TEST_F(RegistryCoreTest, VersionsAreNumberedWithoutGapsRejectedOnesIncluded) {
  AdapterParts bad = world_.Parts();
  bad.values[0] = INFINITY;
  ASSERT_TRUE(world_.Create("a").ok());
  ASSERT_TRUE(
      world_.core().CreateVersion(Platform(), world_.Request("b", world_.Upload(bad))).ok());
  world_.Crash();
  EXPECT_EQ(world_.Create("c")->name(), "tenants/acme/adapters/poet/versions/3");

  v1::GetAdapterRequest request;
  request.set_name(kAdapterName);
  const auto adapter = world_.core().GetAdapter(Owner(), request);
  ASSERT_TRUE(adapter.ok()) << adapter.status();
  EXPECT_EQ(adapter->version_count(), 3);
  EXPECT_EQ(adapter->latest_version(), 3);
  EXPECT_EQ(adapter->base_source_digest(), world_.base().source_digest());

  v1::ListVersionsRequest list;
  list.set_parent(kAdapterName);
  list.set_filter("state = READY");
  EXPECT_EQ(world_.core().ListVersions(Owner(), list)->versions_size(), 2);
  list.set_filter("state = BAD");
  EXPECT_TRUE(absl::IsInvalidArgument(world_.core().ListVersions(Owner(), list).status()));
}

TEST_F(RegistryCoreTest, ARequestIdUsedForAnotherRequestNamesTheFieldThatDiffers) {
  v1::CreateVersionRequest request = world_.Request("a", world_.Upload(world_.Parts()));
  request.set_request_id("r1");
  ASSERT_TRUE(world_.core().CreateVersion(Platform(), request).ok());
  ASSERT_TRUE(world_.core().CreateVersion(Platform(), request).ok());
  request.mutable_adapter_version()->mutable_source()->set_job("tenants/acme/jobs/b");
  const absl::Status status = world_.core().CreateVersion(Platform(), request).status();
  EXPECT_TRUE(absl::IsAlreadyExists(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("adapter_version.source.job differs"));
}

TEST_F(RegistryCoreTest, ARequestThatNamesNoSourceOrAnotherTenantIsInvalid) {
  const v1::CreateVersionRequest good = world_.Request("a", world_.Upload(world_.Parts()));
  const std::vector<std::pair<std::string, std::function<void(v1::CreateVersionRequest&)>>> cases =
      {{"parent is", [](auto& r) { r.set_parent("tenants/acme"); }},
       {"source names no product",
        [](auto& r) { r.mutable_adapter_version()->mutable_source()->clear_result(); }},
       {"result is false",
        [](auto& r) { r.mutable_adapter_version()->mutable_source()->set_result(false); }},
       {"checkpoint_step is 0",
        [](auto& r) { r.mutable_adapter_version()->mutable_source()->set_checkpoint_step(0); }},
       {"source.job is tenants/globex/jobs/a, want one of tenants/acme",
        [](auto& r) {
          r.mutable_adapter_version()->mutable_source()->set_job("tenants/globex/jobs/a");
        }},
       {"base_model is",
        [](auto& r) {
          r.mutable_adapter_version()->set_base_model("tenants/globex/baseModels/small");
        }},
       {"manifest_digest",
        [](auto& r) { r.mutable_adapter_version()->set_manifest_digest("sha256:xyz"); }},
       {"request_id", [](auto& r) { r.set_request_id(std::string(65, 'x')); }}};
  for (const auto& [message, change] : cases) {
    v1::CreateVersionRequest request = good;
    change(request);
    const absl::Status status = world_.core().CreateVersion(Platform(), request).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << message << ": " << status;
    EXPECT_THAT(status.message(), HasSubstr(message));
  }
}

TEST_F(RegistryCoreTest, CallsAtTheSameTimeMakeOneVersionOfASourceAndLeaveNoGap) {
  constexpr int kThreads = 8, kJobs = 4;
  std::vector<v1::CreateVersionRequest> requests;
  for (int i = 0; i < kJobs; ++i) {
    requests.push_back(world_.Request(absl::StrCat("job-", i), world_.Upload(world_.Parts(i + 1))));
  }
  std::vector<std::string> names(kThreads);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      const auto version = world_.core().CreateVersion(Platform(), requests[i % kJobs]);
      if (version.ok()) names[i] = version->name();
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::string prefix = absl::StrCat(kAdapterName, "/versions/");
  EXPECT_THAT(VersionNames(), ElementsAre(prefix + "4", prefix + "3", prefix + "2", prefix + "1"));
  for (int i = 0; i < kJobs; ++i) EXPECT_EQ(names[i], names[i + kJobs]);
  ExpectNoPinTooFew();
}

// ---- A pin too many, never one too few ----

TEST_F(RegistryCoreTest, AFailureOfAnyWriteLeavesNoVersionWithoutItsPinAndTheRepeatSucceeds) {
  const std::vector<std::string> steps = {"INSERT ON tenants", "INSERT ON adapters",
                                          "INSERT ON versions", "UPDATE ON adapters",
                                          "INSERT ON requests"};
  int jobs = 0;
  for (const std::string& step : steps) {
    const std::string job = absl::StrCat("job-", ++jobs);
    v1::CreateVersionRequest request = world_.Request(job, world_.Upload(world_.Parts(jobs)));
    // A first version, so that tenants and adapters have no row yet.
    request.set_parent(absl::StrCat("tenants/acme/adapters/poet-", jobs));
    request.set_request_id(job);
    world_.RunSql("DELETE FROM tenants");
    world_.RunSql(absl::StrCat("CREATE TEMP TRIGGER fault BEFORE ", step,
                               " BEGIN SELECT RAISE(ABORT, 'the disk says no'); END"));
    const absl::Status status = world_.core().CreateVersion(Platform(), request).status();
    EXPECT_TRUE(absl::IsUnavailable(status)) << step << ": " << status;
    EXPECT_THAT(status.message(), HasSubstr("the disk says no"));
    world_.Crash();  // Takes the trigger with it.
    v1::GetVersionRequest get;
    get.set_name(request.parent() + "/versions/1");
    EXPECT_TRUE(absl::IsNotFound(world_.core().GetVersion(Owner(), get).status())) << step;

    const auto version = world_.core().CreateVersion(Platform(), request);
    ASSERT_TRUE(version.ok()) << step << ": " << version.status();
    EXPECT_EQ(version->name(), get.name()) << step;
    EXPECT_TRUE(world_.store().Pins().contains({version->name(), version->manifest_digest()}))
        << step;
  }
}

TEST_F(RegistryCoreTest, ACrashBetweenPinAndRowLeavesAPinTooManyWhichReconcileDrops) {
  const std::string lost = world_.Upload(world_.Parts(1));
  world_.RunSql(
      "CREATE TEMP TRIGGER fault BEFORE INSERT ON versions "
      "BEGIN SELECT RAISE(ABORT, 'power is gone'); END");
  EXPECT_FALSE(world_.core().CreateVersion(Platform(), world_.Request("lost", lost)).ok());
  world_.Crash();
  const std::string name = absl::StrCat(kAdapterName, "/versions/1");
  EXPECT_THAT(world_.store().Pins(), ElementsAre(Pair(name, lost)));
  EXPECT_THAT(VersionNames(), IsEmpty());

  // The number goes to another manifest; the stray pin is told from the version's own.
  const auto version = world_.Create("other", 2);
  ASSERT_TRUE(version.ok()) << version.status();
  EXPECT_EQ(version->name(), name);
  EXPECT_EQ(world_.store().Pins().size(), 2);
  ASSERT_TRUE(world_.core().Reconcile().ok());
  EXPECT_THAT(world_.store().Pins(), ElementsAre(Pair(name, version->manifest_digest())));
  EXPECT_THAT(world_.MetricsText(),
              HasSubstr("deltaworks_registry_pins_reconciled_total{action=\"dropped\"} 1"));
}

TEST_F(RegistryCoreTest, ReconcileDropsTheOnlyPinOfATenantWithoutVersions) {
  world_.RunSql(
      "CREATE TEMP TRIGGER fault BEFORE INSERT ON versions "
      "BEGIN SELECT RAISE(ABORT, 'power is gone'); END");
  EXPECT_FALSE(world_.Create("lost").ok());
  world_.Crash();
  ASSERT_EQ(world_.store().Pins().size(), 1);
  ASSERT_TRUE(world_.core().Reconcile().ok());
  EXPECT_THAT(world_.store().Pins(), IsEmpty());
}

TEST_F(RegistryCoreTest, ReconcileMakesPinsThatLackAndLeavesThoseOfOthers) {
  const auto version = world_.Create("job");
  ASSERT_TRUE(version.ok()) << version.status();
  v1::DeletePinRequest remove;
  remove.set_owner(version->name());
  remove.set_digest(version->manifest_digest());
  ASSERT_TRUE(world_.store().DeletePin(remove).ok());
  v1::CreatePinRequest other;
  other.mutable_pin()->set_owner("tenants/acme/jobs/job");
  other.mutable_pin()->set_digest(version->manifest_digest());
  ASSERT_TRUE(world_.store().CreatePin(other).ok());

  ASSERT_TRUE(world_.core().Reconcile().ok());
  EXPECT_THAT(world_.store().Pins(),
              ElementsAre(Pair(version->name(), version->manifest_digest()),
                          Pair("tenants/acme/jobs/job", version->manifest_digest())));
}

TEST_F(RegistryCoreTest, ReconcileWithoutAStoreChangesNothing) {
  ASSERT_TRUE(world_.Create("job").ok());
  const auto pins = world_.store().Pins();
  world_.store().Fail("ListPins", absl::UnavailableError("away"));
  EXPECT_TRUE(absl::IsUnavailable(world_.core().Reconcile()));
  EXPECT_EQ(world_.store().Pins(), pins);
}

TEST_F(RegistryCoreTest, ACommitOfUnknownOutcomeStopsEveryChangeUntilTheFileIsOpenedAgain) {
  ASSERT_TRUE(world_.Create("first").ok());
  // A deferred constraint fails where a dying disk would: in COMMIT.
  world_.RunSql(
      "CREATE TABLE fault (a INTEGER REFERENCES alias_changes (change) "
      "  DEFERRABLE INITIALLY DEFERRED);"
      "CREATE TRIGGER fail_commit AFTER INSERT ON versions "
      "BEGIN INSERT INTO fault VALUES (-1); END");
  EXPECT_TRUE(absl::IsUnavailable(world_.Create("second", 2).status()));
  EXPECT_TRUE(world_.broken());
  world_.RunSql("DROP TRIGGER fail_commit; DROP TABLE fault");
  EXPECT_TRUE(absl::IsUnavailable(world_.Create("second", 2).status()));
  EXPECT_TRUE(absl::IsUnavailable(Set("champion", 1).status()));
  EXPECT_EQ(world_.store().Pins().size(), 2);
  EXPECT_TRUE(absl::IsUnavailable(world_.core().Reconcile()));
  EXPECT_EQ(world_.store().Pins().size(), 2);
  EXPECT_TRUE(Get(kAdapterName).ok());
  world_.Crash();
  EXPECT_TRUE(world_.Create("second", 2).ok());
  ExpectNoPinTooFew();
}

// ---- Reading ----

TEST_F(RegistryCoreTest, AVersionIsFoundByNumberByAliasAndAsTheNewestReadyOne) {
  EXPECT_TRUE(absl::IsNotFound(Get(kAdapterName).status()));
  ASSERT_TRUE(world_.Create("a", 1).ok());
  ASSERT_TRUE(world_.Create("b", 2).ok());
  AdapterParts bad = world_.Parts();
  bad.values[0] = INFINITY;
  ASSERT_TRUE(
      world_.core().CreateVersion(Platform(), world_.Request("c", world_.Upload(bad))).ok());
  ASSERT_TRUE(Set("champion", 1).ok());
  const std::string name = kAdapterName;
  EXPECT_EQ(Get(name + "/versions/3")->state(), v1::AdapterVersion::REJECTED);
  EXPECT_EQ(Get(name)->name(), name + "/versions/2");
  EXPECT_EQ(Get(name + "/aliases/champion")->name(), name + "/versions/1");
  for (const char* absent : {"/versions/4", "/versions/0", "/versions/01", "/versions/one",
                             "/versions/99999999999999999999", "/aliases/none"}) {
    EXPECT_TRUE(absl::IsNotFound(Get(name + absent).status())) << absent;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(Get("tenants/acme").status()));
}

TEST_F(RegistryCoreTest, AliasesMoveOnlyWithTheEtagThatWasRead) {
  ASSERT_TRUE(world_.Create("a", 1).ok());
  ASSERT_TRUE(world_.Create("b", 2).ok());
  const auto made = Set("champion", 1, "absent");
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_TRUE(absl::IsAborted(Set("champion", 2, "absent").status()));
  const auto moved = Set("champion", 2, made->etag());
  ASSERT_TRUE(moved.ok()) << moved.status();
  const absl::Status late = Set("champion", 1, made->etag()).status();
  EXPECT_TRUE(absl::IsAborted(late)) << late;
  EXPECT_THAT(late.message(), HasSubstr("points at tenants/acme/adapters/poet/versions/2 by now"));
  EXPECT_TRUE(absl::IsAborted(Delete("champion", made->etag())));
  EXPECT_TRUE(Set("champion", 1).ok());
  EXPECT_EQ(GetAlias("champion")->version(), "tenants/acme/adapters/poet/versions/1");
}

TEST_F(RegistryCoreTest, AnAliasMadeAgainDoesNotHaveItsOldEtag) {
  ASSERT_TRUE(world_.Create("a").ok());
  const std::string etag = Set("champion", 1)->etag();
  ASSERT_TRUE(Delete("champion", etag).ok());
  EXPECT_TRUE(absl::IsNotFound(GetAlias("champion").status()));
  EXPECT_TRUE(absl::IsAborted(Set("champion", 1, etag).status()));
  EXPECT_NE(Set("champion", 1, "absent")->etag(), etag);
}

TEST_F(RegistryCoreTest, ARepeatedAliasRequestChangesNothingAndSeesTheAliasAsItIs) {
  ASSERT_TRUE(world_.Create("a", 1).ok());
  ASSERT_TRUE(world_.Create("b", 2).ok());
  ASSERT_TRUE(Set("champion", 1, "absent", "r1").ok());
  ASSERT_TRUE(Set("champion", 2, "", "r2").ok());
  EXPECT_EQ(Set("champion", 1, "absent", "r1")->version(), "tenants/acme/adapters/poet/versions/2");
  EXPECT_TRUE(absl::IsAlreadyExists(Set("champion", 2, "absent", "r1").status()));
  ASSERT_TRUE(Delete("champion", "", "d1").ok());
  EXPECT_TRUE(Delete("champion", "", "d1").ok());
  EXPECT_TRUE(absl::IsNotFound(Delete("champion", "", "d2")));
  EXPECT_TRUE(absl::IsNotFound(Set("champion", 1, "absent", "r1").status()));
}

TEST_F(RegistryCoreTest, AnAliasNeedsAReadyVersionOfItsAdapterAndAName) {
  AdapterParts bad = world_.Parts();
  bad.values[0] = INFINITY;
  ASSERT_TRUE(world_.CreateFrom(world_.Upload(bad)).ok());
  ASSERT_TRUE(world_.Create("good").ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(Set("champion", 1).status()));
  EXPECT_TRUE(absl::IsNotFound(Set("champion", 3).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Set("latest", 2).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Set("7", 2).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Set("a", 2, "", "", std::string(1001, 'c')).status()));
  for (const char* alias : {"a", "b", "c"}) EXPECT_TRUE(Set(alias, 2).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(Set("d", 2).status()));
}

TEST_F(RegistryCoreTest, TheHistoryOfAnAliasOutlivesItNewestFirst) {
  ASSERT_TRUE(world_.Create("a", 1).ok());
  ASSERT_TRUE(world_.Create("b", 2).ok());
  ASSERT_TRUE(Set("champion", 1, "", "", "first").ok());
  ASSERT_TRUE(Set("champion", 1).ok());  // Not a change.
  ASSERT_TRUE(Set("champion", 2, "", "", "better").ok());
  ASSERT_TRUE(Delete("champion").ok());
  world_.Crash();
  v1::ListAliasHistoryRequest request;
  request.set_parent(absl::StrCat(kAdapterName, "/aliases/champion"));
  request.set_page_size(2);
  auto page = world_.core().ListAliasHistory(Owner(), request);
  ASSERT_TRUE(page.ok()) << page.status();
  ASSERT_EQ(page->changes_size(), 2);
  EXPECT_EQ(page->changes(0).new_version(), "");
  EXPECT_EQ(page->changes(0).old_version(), "tenants/acme/adapters/poet/versions/2");
  EXPECT_EQ(page->changes(1).comment(), "better");
  request.set_page_token(page->next_page_token());
  page = world_.core().ListAliasHistory(Owner(), request);
  ASSERT_EQ(page->changes_size(), 1);
  EXPECT_EQ(page->changes(0).comment(), "first");
  EXPECT_EQ(page->changes(0).old_version(), "");
  EXPECT_EQ(page->next_page_token(), "");
  request.clear_page_token();
  request.set_parent(absl::StrCat(kAdapterName, "/aliases/never"));
  EXPECT_TRUE(absl::IsNotFound(world_.core().ListAliasHistory(Owner(), request).status()));
}

// ---- Downloads ----

TEST_F(RegistryCoreTest, ADownloadIsAPeftFolderByteForByte) {
  const AdapterParts parts = world_.Parts();
  ASSERT_TRUE(world_.CreateFrom(world_.Upload(parts)).ok());
  v1::DownloadVersionRequest request;
  request.set_name(kAdapterName);
  std::vector<std::pair<std::string, std::string>> files;
  ASSERT_TRUE(Download(request, files).ok());
  EXPECT_THAT(files, ElementsAre(Pair(trainer::kAdapterConfigFile, parts.Files().adapter_config),
                                 Pair(trainer::kAdapterModelFile, parts.Files().adapter_model)));

  request.set_path(trainer::kAdapterModelFile);
  request.set_offset(100);
  ASSERT_TRUE(Download(request, files).ok());
  EXPECT_THAT(files, ElementsAre(Pair(trainer::kAdapterModelFile,
                                      parts.Files().adapter_model.substr(100))));
  request.set_offset(parts.Files().adapter_model.size());
  ASSERT_TRUE(Download(request, files).ok());
  EXPECT_THAT(files, ElementsAre(Pair(trainer::kAdapterModelFile, "")));
  request.set_offset(parts.Files().adapter_model.size() + 1);
  EXPECT_TRUE(absl::IsOutOfRange(Download(request, files)));
  request.set_offset(-1);
  EXPECT_TRUE(absl::IsOutOfRange(Download(request, files)));
  request.set_offset(1);
  request.clear_path();
  EXPECT_TRUE(absl::IsInvalidArgument(Download(request, files)));
  request.set_path("other");
  EXPECT_TRUE(absl::IsNotFound(Download(request, files)));
}

TEST_F(RegistryCoreTest, ADamagedByteIsNeverSent) {
  const AdapterParts parts = world_.Parts();
  ASSERT_TRUE(world_.CreateFrom(world_.Upload(parts)).ok());
  world_.store().FlipByte(Sha256Digest(parts.Files().adapter_model), 300);
  v1::DownloadVersionRequest request;
  request.set_name(kAdapterName);
  std::vector<std::pair<std::string, std::string>> files;
  const absl::Status status = Download(request, files);
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(files, ElementsAre(Pair(trainer::kAdapterConfigFile, parts.Files().adapter_config)));
}

TEST_F(RegistryCoreTest, ARejectedVersionIsNotDownloaded) {
  AdapterParts bad = world_.Parts();
  bad.values[0] = INFINITY;
  ASSERT_TRUE(world_.CreateFrom(world_.Upload(bad)).ok());
  v1::DownloadVersionRequest request;
  request.set_name(absl::StrCat(kAdapterName, "/versions/1"));
  std::vector<std::pair<std::string, std::string>> files;
  EXPECT_TRUE(absl::IsFailedPrecondition(Download(request, files)));
}

}  // namespace
}  // namespace deltaworks::services
