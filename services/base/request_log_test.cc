// Once means once: a repeated request finds its answer, another one under the same id is refused by
// the name of the field, and nothing is forgotten early.

#include "services/base/request_log.h"

#include <unistd.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/deltaworks/v1/training_service.pb.h"
#include "services/base/sqlite.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;

constexpr absl::Time kNow = absl::FromUnixSeconds(1'700'000'000);

v1::CreateJobRequest Request(const std::string& id) {
  v1::CreateJobRequest request;
  request.set_parent("tenants/t");
  request.set_request_id(id);
  auto& job = *request.mutable_job();
  (*job.mutable_labels())["a"] = "1";
  (*job.mutable_labels())["b"] = "2";
  job.mutable_train()->mutable_lora()->set_rank(8);
  job.mutable_train()->mutable_lora()->add_target_modules("q_proj");
  return request;
}

class RequestLogTest : public ::testing::Test {
 protected:
  RequestLogTest() {
    const std::string path = ::testing::TempDir() + "/request_log.db";
    for (const char* suffix : {"", "-wal"}) unlink((path + suffix).c_str());
    database_ = *Database::Open(path, {});
    const char* const steps[] = {kRequestLogSchema};
    EXPECT_TRUE(database_->Migrate(steps).ok());
  }
  auto Find(const v1::CreateJobRequest& request, absl::string_view tenant = "t",
            absl::string_view rpc = "CreateJob") {
    return FindRequest(*database_, tenant, rpc, request);
  }
  void Record(const v1::CreateJobRequest& request, absl::string_view resource) {
    ASSERT_TRUE(RecordRequest(*database_, "t", "CreateJob", request, resource, kNow).ok());
  }
  std::unique_ptr<Database> database_;
};

TEST_F(RequestLogTest, ARepeatedRequestFindsItsResource) {
  EXPECT_FALSE((*Find(Request("id"))).has_value());
  Record(Request("id"), "tenants/t/jobs/j");
  const auto found = Find(Request("id"));
  ASSERT_TRUE(found.ok()) << found.status();
  ASSERT_TRUE(found->has_value());
  EXPECT_EQ((*found)->resource, "tenants/t/jobs/j");
}

TEST_F(RequestLogTest, AnotherRequestIsRefusedByItsFirstDifferentField) {
  Record(Request("id"), "tenants/t/jobs/j");
  v1::CreateJobRequest other = Request("id");
  other.mutable_job()->mutable_train()->mutable_lora()->set_rank(16);
  const auto found = Find(other);
  ASSERT_TRUE(absl::IsAlreadyExists(found.status())) << found.status();
  EXPECT_THAT(std::string(found.status().message()), HasSubstr("job.train.lora.rank differs"));
  other = Request("id");
  other.mutable_job()->mutable_train()->mutable_lora()->add_target_modules("k_proj");
  EXPECT_THAT(std::string(Find(other).status().message()),
              HasSubstr("job.train.lora.target_modules[1] differs"));
}

TEST_F(RequestLogTest, IdsAreSeparateByTenantAndRpc) {
  Record(Request("id"), "tenants/t/jobs/j");
  EXPECT_FALSE((*Find(Request("id"), "u")).has_value());
  EXPECT_FALSE((*Find(Request("id"), "t", "CancelJob")).has_value());
}

TEST_F(RequestLogTest, AnEmptyIdIsNotKept) {
  Record(Request(""), "tenants/t/jobs/j");
  EXPECT_FALSE((*Find(Request(""))).has_value());
}

TEST_F(RequestLogTest, AMalformedIdIsRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(Find(Request(std::string(65, 'x'))).status()));
}

TEST_F(RequestLogTest, ARequestIsForgottenOnlyOldAndWithoutItsResource) {
  Record(Request("kept"), "tenants/t/jobs/kept");
  Record(Request("gone"), "tenants/t/jobs/gone");
  ASSERT_TRUE(MarkResourceGone(*database_, "tenants/t/jobs/gone").ok());
  const absl::Time week = kNow + absl::Hours(24 * 7);
  EXPECT_EQ(*PruneRequests(*database_, week, 100), 0);
  EXPECT_EQ(*PruneRequests(*database_, week + absl::Seconds(1), 100), 1);
  EXPECT_TRUE((*Find(Request("kept"))).has_value());
  EXPECT_FALSE((*Find(Request("gone"))).has_value());
}

}  // namespace
}  // namespace deltaworks::services
