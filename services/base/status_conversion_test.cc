#include "services/base/status_conversion.h"

#include <grpcpp/support/status.h>

#include <string>

#include "gtest/gtest.h"

namespace deltaworks::services {
namespace {

TEST(StatusConversionTest, EveryCodeSurvivesTheRoundTrip) {
  for (int code = 0; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), code == 0 ? "" : "why");
    EXPECT_EQ(FromGrpcStatus(ToGrpcStatus(status)), status) << code;
  }
}

TEST(StatusConversionTest, ContextBeginsTheMessageOfAnError) {
  const grpc::Status status(grpc::StatusCode::NOT_FOUND, "no such blob");
  EXPECT_EQ(FromGrpcStatus(status, "store"), absl::NotFoundError("store: no such blob"));
  EXPECT_TRUE(FromGrpcStatus(grpc::Status::OK, "store").ok());
}

TEST(StatusConversionTest, AMessageThatTrailersCannotCarryIsCut) {
  const grpc::Status status = ToGrpcStatus(absl::InternalError(std::string(10'000, 'x')));
  EXPECT_EQ(status.error_message().size(), 7500u);
}

}  // namespace
}  // namespace deltaworks::services
