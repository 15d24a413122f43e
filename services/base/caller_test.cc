#include "services/base/caller.h"

#include "gtest/gtest.h"

namespace deltaworks::services {
namespace {

TEST(CallerTest, AForeignNameIsAsAbsentAsOneThatIsNot) {
  const Caller caller{"acme"};
  EXPECT_TRUE(CheckTenantOfName(caller, "tenants/acme/jobs/j").ok());
  EXPECT_EQ(CheckTenantOfName(caller, "tenants/other/jobs/j"),
            NoSuchResource("tenants/other/jobs/j"));
  EXPECT_TRUE(absl::IsNotFound(CheckTenantOfName(caller, "tenants/acme-2/jobs/j")));
}

TEST(CallerTest, AForeignParentIsDenied) {
  const Caller caller{"acme"};
  EXPECT_TRUE(CheckTenantOfParent(caller, "tenants/acme").ok());
  EXPECT_TRUE(absl::IsPermissionDenied(CheckTenantOfParent(caller, "tenants/other")));
  EXPECT_TRUE(absl::IsPermissionDenied(CheckTenantOfParent(caller, "")));
}

TEST(CallerTest, ThePlatformActsForEveryTenant) {
  const Caller platform{kAllTenants};
  EXPECT_TRUE(CheckTenantOfName(platform, "tenants/acme/jobs/j").ok());
  EXPECT_TRUE(CheckTenantOfParent(platform, "tenants/other").ok());
  EXPECT_FALSE(CheckTenantOfName(platform, "workers/w").ok());
}

}  // namespace
}  // namespace deltaworks::services
