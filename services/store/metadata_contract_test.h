// What every StoreMetadata must do. An implementation's test includes this and instantiates:
//
//   INSTANTIATE_TEST_SUITE_P(Sqlite, MetadataContractTest, ::testing::Values(&MakeSqlite));

#ifndef DELTAWORKS_SERVICES_STORE_METADATA_CONTRACT_TEST_H_
#define DELTAWORKS_SERVICES_STORE_METADATA_CONTRACT_TEST_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/deltaworks/v1/store_service.pb.h"
#include "services/store/metadata.h"
#include "trainer/base/sha256.h"

namespace deltaworks::services {

// Opens the metadata again and again in the same place; `fresh` empties it first.
using MetadataMaker = std::unique_ptr<StoreMetadata> (*)(bool fresh);

class MetadataContractTest : public ::testing::TestWithParam<MetadataMaker> {
 protected:
  MetadataContractTest() : metadata_(GetParam()(/*fresh=*/true)) {}
  void Reopen() {
    metadata_.reset();
    metadata_ = GetParam()(/*fresh=*/false);
  }

  // A blob that is PRESENT and held by `tenant`.
  std::string AddBlob(const std::string& tenant, const std::string& data,
                      const std::vector<std::string>& members = {}) {
    const std::string digest = Sha256Digest(data);
    const auto key = metadata_->AllocateObject(digest, static_cast<int64_t>(data.size()), now_);
    EXPECT_TRUE(key.ok()) << key.status();
    if (key->has_value()) {
      EXPECT_TRUE(metadata_->PublishObject(**key, members, tenant, now_).ok());
    } else {
      EXPECT_TRUE(metadata_->HoldBlob(tenant, digest, now_).ok());
    }
    return digest;
  }
  bool Exists(const std::string& tenant, const std::string& digest,
              const std::string& reference = "") {
    return metadata_->FindBlob(tenant, reference, digest, now_).ok();
  }
  absl::Status Pin(const std::string& owner, const std::string& digest,
                   const std::string& tenant = "t") {
    return metadata_->CreatePin(tenant, owner, digest, v1::CreatePinRequest(), now_).status();
  }
  void Unpin(const std::string& owner, const std::string& digest) {
    EXPECT_TRUE(metadata_->DeletePin("t", owner, digest, v1::DeletePinRequest(), now_).ok());
  }
  // One collection; returns how many objects went.
  int64_t Collect() {
    EXPECT_TRUE(metadata_->MarkUnreferenced(now_, 100).ok());
    const auto keys = metadata_->DeletingObjects(100);
    EXPECT_TRUE(metadata_->ForgetObjects(*keys).ok());
    return static_cast<int64_t>(keys->size());
  }
  void PassADay() { now_ += kHoldDuration; }

  static constexpr char kJob[] = "tenants/t/jobs/j";
  std::unique_ptr<StoreMetadata> metadata_;
  absl::Time now_ = absl::FromUnixSeconds(1'700'000'000);
};

// ---- Objects and references ----

TEST_P(MetadataContractTest, ABlobExistsOnceItIsPublishedAndAfterAReopen) {
  const std::string digest = Sha256Digest("data");
  const auto key = metadata_->AllocateObject(digest, 4, now_);
  ASSERT_TRUE(key.ok() && key->has_value());
  EXPECT_FALSE(Exists("t", digest));
  ASSERT_TRUE(metadata_->PublishObject(**key, {}, "t", now_).ok());
  Reopen();
  const auto found = metadata_->FindBlob("t", "", digest, now_);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->key, **key);
  EXPECT_EQ(found->size, 4);
}

TEST_P(MetadataContractTest, APresentDigestIsNotAllocatedAgain) {
  const std::string digest = AddBlob("t", "data");
  EXPECT_FALSE(metadata_->AllocateObject(digest, 4, now_)->has_value());
}

TEST_P(MetadataContractTest, OfTwoUploadsAtOnceOneBecomesTheBlobAndBothTenantsHoldIt) {
  const std::string digest = Sha256Digest("data");
  const ObjectKey first = **metadata_->AllocateObject(digest, 4, now_);
  const ObjectKey second = **metadata_->AllocateObject(digest, 4, now_);
  EXPECT_NE(first.generation, second.generation);
  ASSERT_TRUE(metadata_->PublishObject(second, {}, "t", now_).ok());
  ASSERT_TRUE(metadata_->PublishObject(first, {}, "u", now_).ok());
  EXPECT_EQ(metadata_->FindBlob("t", "", digest, now_)->key, second);
  EXPECT_EQ(metadata_->FindBlob("u", "", digest, now_)->key, second);
  EXPECT_THAT(*metadata_->DeletingObjects(10), ::testing::ElementsAre(first));
}

TEST_P(MetadataContractTest, ADigestIsNoPermission) {
  const std::string digest = AddBlob("t", "secret");
  EXPECT_TRUE(Exists("t", digest));
  EXPECT_FALSE(Exists("u", digest));
  EXPECT_THAT(*metadata_->FindMissing("u", {digest}, now_), ::testing::ElementsAre(digest));
  EXPECT_FALSE(Exists("u", digest)) << "asking must give nothing";
  EXPECT_TRUE(absl::IsNotFound(Pin("tenants/u/jobs/j", digest, "u")));
}

TEST_P(MetadataContractTest, AForeignManifestGivesNoRightToWhatItNames) {
  const std::string secret = AddBlob("t", "secret");
  const std::string manifest = AddBlob("u", "manifest", {secret});
  EXPECT_FALSE(Exists("u", secret));
  const absl::Status status = Pin("tenants/u/jobs/j", manifest, "u");
  ASSERT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_EQ(status.message(), "missing blobs: " + secret);
}

TEST_P(MetadataContractTest, AReferenceMustBeAPinOfThatOwner) {
  const std::string digest = AddBlob("t", "data");
  EXPECT_FALSE(Exists("t", digest, kJob));
  ASSERT_TRUE(Pin(kJob, digest).ok());
  EXPECT_TRUE(Exists("t", digest, kJob));
  EXPECT_FALSE(Exists("t", digest, "tenants/t/jobs/other"));
}

TEST_P(MetadataContractTest, AnswersYesHoldForADay) {
  const std::string digest = AddBlob("t", "data");
  now_ += absl::Hours(23);
  EXPECT_THAT(*metadata_->FindMissing("t", {digest, Sha256Digest("absent")}, now_),
              ::testing::ElementsAre(Sha256Digest("absent")));
  now_ += absl::Hours(23);
  EXPECT_EQ(Collect(), 0);
  EXPECT_TRUE(Exists("t", digest));
  now_ += absl::Hours(1);
  EXPECT_FALSE(Exists("t", digest));
}

TEST_P(MetadataContractTest, ADamagedBlobIsAbsentUntilItComesAgain) {
  const std::string digest = AddBlob("t", "data");
  ASSERT_TRUE(Pin(kJob, digest).ok());
  const ObjectKey old_key = metadata_->FindBlob("t", "", digest, now_)->key;
  ASSERT_TRUE(metadata_->MarkDeleting(old_key).ok());
  EXPECT_FALSE(Exists("t", digest));
  EXPECT_THAT(*metadata_->FindMissing("t", {digest}, now_), ::testing::ElementsAre(digest));
  AddBlob("t", "data");
  const ObjectKey new_key = metadata_->FindBlob("t", kJob, digest, now_)->key;
  EXPECT_GT(new_key.generation, old_key.generation);
  EXPECT_EQ(Collect(), 1);
  EXPECT_TRUE(Exists("t", digest, kJob));
}

TEST_P(MetadataContractTest, AnAbandonedObjectIsRemovedAndAPublishedOneIsNot) {
  const ObjectKey half = **metadata_->AllocateObject(Sha256Digest("half"), 4, now_);
  ASSERT_TRUE(metadata_->AbandonObject(half).ok());
  const std::string whole = AddBlob("t", "whole");
  ASSERT_TRUE(metadata_->AbandonObject(metadata_->FindBlob("t", "", whole, now_)->key).ok());
  EXPECT_EQ(Collect(), 1);
  EXPECT_TRUE(Exists("t", whole));
}

TEST_P(MetadataContractTest, WhatACrashLeftPendingIsRemoved) {
  const std::string digest = Sha256Digest("half");
  const ObjectKey key = **metadata_->AllocateObject(digest, 4, now_);
  Reopen();
  EXPECT_TRUE(*metadata_->KnowsObject(key));
  ASSERT_TRUE(metadata_->AbandonPending().ok());
  EXPECT_EQ(Collect(), 1);
  EXPECT_FALSE(*metadata_->KnowsObject(key));
}

// ---- Pins and collection ----

TEST_P(MetadataContractTest, APinKeepsABlobAndItsLossFreesIt) {
  const std::string digest = AddBlob("t", "data");
  ASSERT_TRUE(Pin(kJob, digest).ok());
  PassADay();
  EXPECT_EQ(Collect(), 0);
  Unpin(kJob, digest);
  EXPECT_EQ(Collect(), 1);
  EXPECT_FALSE(Exists("t", digest));
}

TEST_P(MetadataContractTest, APinnedManifestKeepsWhatItNames) {
  const std::string member = AddBlob("t", "member");
  const std::string manifest = AddBlob("t", "manifest", {member});
  ASSERT_TRUE(Pin(kJob, manifest).ok());
  PassADay();
  EXPECT_EQ(Collect(), 0);
  EXPECT_TRUE(Exists("t", member, kJob));
  Unpin(kJob, manifest);
  EXPECT_EQ(Collect(), 2);
}

TEST_P(MetadataContractTest, AManifestWithAnAbsentMemberIsNotPinned) {
  const std::string absent = Sha256Digest("absent");
  const std::string manifest = AddBlob("t", "manifest", {absent});
  const absl::Status status = Pin(kJob, manifest);
  ASSERT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_EQ(status.message(), "missing blobs: " + absent);
}

TEST_P(MetadataContractTest, APinThatComesBetweenMarkingAndRemovingIsRefused) {
  const std::string digest = AddBlob("t", "data");
  PassADay();
  ASSERT_EQ(*metadata_->MarkUnreferenced(now_, 100), 1);
  EXPECT_TRUE(absl::IsNotFound(Pin(kJob, digest)));
  AddBlob("t", "data");
  EXPECT_TRUE(Pin(kJob, digest).ok());
  EXPECT_EQ(Collect(), 1);
  EXPECT_TRUE(Exists("t", digest, kJob));
}

TEST_P(MetadataContractTest, ManyPinsOfOneBlobAreDroppedOneByOne) {
  const std::string digest = AddBlob("t", "data");
  ASSERT_TRUE(Pin(kJob, digest).ok());
  ASSERT_TRUE(Pin("tenants/t/jobs/k", digest).ok());
  ASSERT_TRUE(Pin(kJob, digest).ok());
  PassADay();
  Unpin(kJob, digest);
  EXPECT_EQ(Collect(), 0);
  Unpin(kJob, digest);
  Unpin("tenants/t/jobs/k", digest);
  EXPECT_EQ(Collect(), 1);
}

TEST_P(MetadataContractTest, PinsAreListedByOwnerInPages) {
  const std::string a = AddBlob("t", "a");
  const std::string b = AddBlob("t", "b");
  for (const char* job : {"tenants/t/jobs/j", "tenants/t/jobs/k", "tenants/t/jobs/j2"}) {
    ASSERT_TRUE(Pin(job, a).ok());
    ASSERT_TRUE(Pin(job, b).ok());
  }
  std::vector<std::string> seen;
  PinRow after;
  while (true) {
    const auto page = metadata_->ListPins("t", "tenants/t/jobs/j", after, 2);
    ASSERT_TRUE(page.ok()) << page.status();
    if (page->empty()) break;
    for (const PinRow& pin : *page) seen.push_back(pin.owner);
    after = page->back();
  }
  EXPECT_THAT(seen, ::testing::ElementsAre("tenants/t/jobs/j", "tenants/t/jobs/j",
                                           "tenants/t/jobs/j2", "tenants/t/jobs/j2"));
  EXPECT_TRUE(metadata_->ListPins("u", "", {}, 10)->empty());
}

TEST_P(MetadataContractTest, ARepeatedUnpinDoesNotDropANewerPin) {
  const std::string digest = AddBlob("t", "data");
  ASSERT_TRUE(Pin(kJob, digest).ok());
  v1::DeletePinRequest request;
  request.set_owner(kJob);
  request.set_digest(digest);
  request.set_request_id("once");
  ASSERT_TRUE(metadata_->DeletePin("t", kJob, digest, request, now_).ok());
  ASSERT_TRUE(Pin(kJob, digest).ok());
  ASSERT_TRUE(metadata_->DeletePin("t", kJob, digest, request, now_).ok());
  EXPECT_EQ(metadata_->ListPins("t", "", {}, 10)->size(), 1u);
}

// ---- Uploads ----

TEST_P(MetadataContractTest, AnUploadIsFoundAgainByTenantAndDigest) {
  const std::string digest = Sha256Digest("data");
  const auto first = metadata_->BeginUpload("t", digest, 4, 10, absl::Hours(1), now_);
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_TRUE(metadata_->CommitUpload(first->name, 3, absl::Hours(1), now_).ok());
  Reopen();
  const auto again = metadata_->BeginUpload("t", digest, 4, 10, absl::Hours(1), now_);
  EXPECT_EQ(again->name, first->name);
  EXPECT_EQ(again->committed, 3);
  EXPECT_NE(metadata_->BeginUpload("u", digest, 4, 10, absl::Hours(1), now_)->name, first->name);
  EXPECT_TRUE(absl::IsInvalidArgument(
      metadata_->BeginUpload("t", digest, 5, 10, absl::Hours(1), now_).status()));
}

TEST_P(MetadataContractTest, TheNumberOfOpenUploadsHasABound) {
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(
        metadata_->BeginUpload("t", Sha256Digest(absl::StrCat(i)), 1, 2, absl::Hours(1), now_)
            .ok());
  }
  const auto third = metadata_->BeginUpload("t", Sha256Digest("x"), 1, 2, absl::Hours(1), now_);
  ASSERT_TRUE(absl::IsResourceExhausted(third.status())) << third.status();
  EXPECT_EQ(third.status().message(),
            "the tenant has 2 open uploads, want fewer than 2 (uploads_open_max)");
  EXPECT_TRUE(metadata_->BeginUpload("u", Sha256Digest("x"), 1, 2, absl::Hours(1), now_).ok());
}

TEST_P(MetadataContractTest, UploadsExpireWithoutData) {
  const auto row = metadata_->BeginUpload("t", Sha256Digest("x"), 9, 10, absl::Hours(1), now_);
  now_ += absl::Minutes(59);
  ASSERT_TRUE(metadata_->CommitUpload(row->name, 1, absl::Hours(1), now_).ok());
  now_ += absl::Minutes(59);
  EXPECT_TRUE(metadata_->ExpiredUploads(now_, 10)->empty());
  now_ += absl::Minutes(1);
  EXPECT_EQ(metadata_->ExpiredUploads(now_, 10)->size(), 1u);
  const auto found = metadata_->BeginUpload("t", Sha256Digest("x"), 9, 10, absl::Hours(1), now_);
  EXPECT_EQ(found->name, row->name);
  EXPECT_TRUE(metadata_->ExpiredUploads(now_, 10)->empty())
      << "who finds it again has time to go on";
  EXPECT_FALSE(*metadata_->DropExpiredUpload(row->name, now_));
  EXPECT_TRUE(metadata_->FindUpload(row->name).ok());
  EXPECT_TRUE(*metadata_->DropExpiredUpload(row->name, now_ + absl::Hours(1)));
  EXPECT_TRUE(absl::IsNotFound(metadata_->FindUpload(row->name).status()));
}

TEST_P(MetadataContractTest, ADroppedUploadIsForgotten) {
  const auto row = metadata_->BeginUpload("t", Sha256Digest("x"), 9, 10, absl::Hours(1), now_);
  ASSERT_TRUE(metadata_->DropUpload(row->name).ok());
  EXPECT_TRUE(absl::IsNotFound(metadata_->FindUpload(row->name).status()));
}

// ---- Resources, requests, reports ----

TEST_P(MetadataContractTest, AResourceIsInsertedWithItsPinsAndItsRequestOrNotAtAll) {
  v1::CreateDatasetRequest request;
  request.set_request_id("id");
  const ResourceRow row{.name = "tenants/t/datasets/d", .message = "m"};
  const std::string digest = Sha256Digest("data");
  EXPECT_TRUE(absl::IsNotFound(
      metadata_->InsertResource("t", "datasets", "Create", row, {digest}, request, now_)));
  EXPECT_TRUE(absl::IsNotFound(metadata_->GetResource(row.name).status()));
  EXPECT_FALSE(metadata_->FindRequest("t", "Create", request)->has_value());

  AddBlob("t", "data");
  ASSERT_TRUE(
      metadata_->InsertResource("t", "datasets", "Create", row, {digest}, request, now_).ok());
  EXPECT_EQ(metadata_->GetResource(row.name)->message, "m");
  EXPECT_EQ(**metadata_->FindRequest("t", "Create", request), row.name);
  EXPECT_TRUE(Exists("t", digest, row.name));
  EXPECT_TRUE(absl::IsAlreadyExists(metadata_->InsertResource("t", "datasets", "Create", row, {},
                                                              v1::CreateDatasetRequest(), now_)));
}

TEST_P(MetadataContractTest, AnUpdateReplacesThePinsOfAResource) {
  const std::string source = AddBlob("t", "source");
  const std::string result = AddBlob("t", "result");
  ResourceRow row{.name = "tenants/t/baseModels/b", .message = "m", .pending = true};
  ASSERT_TRUE(metadata_
                  ->InsertResource("t", "baseModels", "Import", row, {source},
                                   v1::CreateDatasetRequest(), now_)
                  .ok());
  EXPECT_EQ(metadata_->PendingResources(10)->size(), 1u);
  row.message = "done";
  row.pending = false;
  ASSERT_TRUE(metadata_->UpdateResource("t", row, {result}, "Import", nullptr, now_).ok());
  EXPECT_TRUE(metadata_->PendingResources(10)->empty());
  EXPECT_EQ(metadata_->GetResource(row.name)->message, "done");
  PassADay();
  EXPECT_EQ(Collect(), 1);
  EXPECT_TRUE(Exists("t", result));
  row.name = "tenants/t/baseModels/absent";
  EXPECT_TRUE(absl::IsNotFound(metadata_->UpdateResource("t", row, {}, "", nullptr, now_)));
}

TEST_P(MetadataContractTest, AttemptsAreCountedDurablyUntilTheResourceIsUpdated) {
  ResourceRow row{.name = "tenants/t/baseModels/b", .message = "m", .pending = true};
  ASSERT_TRUE(
      metadata_
          ->InsertResource("t", "baseModels", "Import", row, {}, v1::CreateDatasetRequest(), now_)
          .ok());
  EXPECT_EQ(*metadata_->CountAttempt(row.name, +1), 1);
  EXPECT_EQ(*metadata_->CountAttempt(row.name, +1), 2);
  EXPECT_EQ(*metadata_->CountAttempt(row.name, -1), 1);
  Reopen();
  EXPECT_EQ(*metadata_->CountAttempt(row.name, +1), 2);
  ASSERT_TRUE(metadata_->UpdateResource("t", row, {}, "Import", nullptr, now_).ok());
  EXPECT_EQ(*metadata_->CountAttempt(row.name, +1), 1);
  EXPECT_TRUE(absl::IsNotFound(metadata_->CountAttempt("tenants/t/baseModels/x", 1).status()));
}

TEST_P(MetadataContractTest, PendingResourcesOfAllTenantsAreCountedAndListedOldestFirst) {
  for (const char* name :
       {"tenants/t/baseModels/b", "tenants/u/baseModels/a", "tenants/t/baseModels/c"}) {
    const ResourceRow row{.name = name, .message = "m", .pending = true};
    ASSERT_TRUE(
        metadata_
            ->InsertResource("t", "baseModels", "Import", row, {}, v1::CreateDatasetRequest(), now_)
            .ok());
  }
  EXPECT_EQ(*metadata_->CountPending(), 3);
  const auto oldest = metadata_->PendingResources(2);
  ASSERT_EQ(oldest->size(), 2u);
  EXPECT_EQ(oldest->front().name, "tenants/t/baseModels/b");
  EXPECT_EQ(oldest->back().name, "tenants/u/baseModels/a");
}

TEST_P(MetadataContractTest, ARequestWhoseAnswerIsNoResourceIsForgottenAfterAWeek) {
  v1::ReportCorruptBlobRequest request;
  request.set_request_id("id");
  ASSERT_TRUE(metadata_->RecordRequest("t", "Report", request, "confirmed", now_).ok());
  EXPECT_EQ(**metadata_->FindRequest("t", "Report", request), "confirmed");
  now_ += absl::Hours(24 * 7) - absl::Seconds(1);
  Collect();
  EXPECT_TRUE(metadata_->FindRequest("t", "Report", request)->has_value());
  now_ += absl::Seconds(2);
  Collect();
  EXPECT_FALSE(metadata_->FindRequest("t", "Report", request)->has_value());
}

TEST_P(MetadataContractTest, ResourcesAreListedNewestFirstByTenantAndKind) {
  for (int i = 0; i < 5; ++i) {
    const ResourceRow row{.name = absl::StrCat("tenants/t/datasets/d", i), .message = "m"};
    ASSERT_TRUE(
        metadata_
            ->InsertResource("t", "datasets", "Create", row, {}, v1::CreateDatasetRequest(), now_)
            .ok());
  }
  const auto first = metadata_->ListResources("t", "datasets", 0, 3);
  ASSERT_EQ(first->size(), 3u);
  EXPECT_EQ(first->front().name, "tenants/t/datasets/d4");
  const auto second = metadata_->ListResources("t", "datasets", first->back().seq, 3);
  ASSERT_EQ(second->size(), 2u);
  EXPECT_EQ(second->back().name, "tenants/t/datasets/d0");
  EXPECT_TRUE(metadata_->ListResources("u", "datasets", 0, 3)->empty());
  EXPECT_TRUE(metadata_->ListResources("t", "baseModels", 0, 3)->empty());
}

TEST_P(MetadataContractTest, ReportsAreKeptUpToTheirBoundNewestFirst) {
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(metadata_->PutReport(absl::StrCat("k", i), absl::StrCat("r", i), 3, now_).ok());
    now_ += absl::Seconds(1);
  }
  EXPECT_FALSE(metadata_->FindReport("k0")->has_value());
  EXPECT_EQ(**metadata_->FindReport("k3"), "r3");
}

TEST_P(MetadataContractTest, TotalsCountWhatExists) {
  const std::string digest = AddBlob("t", "12345");
  ASSERT_TRUE(Pin(kJob, digest).ok());
  ASSERT_TRUE(metadata_->BeginUpload("t", Sha256Digest("x"), 9, 10, absl::Hours(1), now_).ok());
  const auto totals = metadata_->CountTotals();
  ASSERT_TRUE(totals.ok()) << totals.status();
  EXPECT_EQ(totals->objects, 1);
  EXPECT_EQ(totals->bytes, 5);
  EXPECT_EQ(totals->uploads, 1);
  EXPECT_EQ(totals->pins, 1);
}

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_STORE_METADATA_CONTRACT_TEST_H_
