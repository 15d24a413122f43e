#include "services/base/page_token.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/message.h>

#include <algorithm>
#include <memory>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "trainer/base/sha256.h"

namespace deltaworks::services {
namespace {

using ::google::protobuf::FieldDescriptor;
using ::google::protobuf::Message;

constexpr int64_t kSizeDefault = 100;
constexpr int64_t kSizeMax = 1000;
constexpr size_t kTokenBytesMax = 2048;
// "sha256:" and 16 digits: enough to tell requests apart.
constexpr size_t kFingerprintBytes = 23;

const FieldDescriptor& Field(const Message& request, const std::string& name) {
  const FieldDescriptor* field = request.GetDescriptor()->FindFieldByName(name);
  CHECK(field != nullptr) << request.GetTypeName() << " has no " << name;
  return *field;
}

// The same for equal requests, however they are paged.
std::string Fingerprint(const Message& request) {
  std::unique_ptr<Message> unpaged(request.New());
  unpaged->CopyFrom(request);
  for (const char* name : {"page_size", "page_token"}) {
    unpaged->GetReflection()->ClearField(unpaged.get(), &Field(request, name));
  }
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    unpaged->SerializeToCodedStream(&coded);
  }
  return Sha256Digest(absl::StrCat(request.GetDescriptor()->full_name(), "\n", bytes))
      .substr(0, kFingerprintBytes);
}

}  // namespace

std::string Page::NextToken(absl::string_view next_cursor) const {
  return absl::WebSafeBase64Escape(absl::StrCat(fingerprint, next_cursor));
}

absl::StatusOr<Page> Page::Of(const Message& request) {
  const auto& reflection = *request.GetReflection();
  const int64_t size = reflection.GetInt32(request, &Field(request, "page_size"));
  const std::string token = reflection.GetString(request, &Field(request, "page_token"));
  if (size < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("page_size is ", size, ", want 0 (meaning 100) to 1000"));
  }
  Page page;
  page.size = size == 0 ? kSizeDefault : std::min(size, kSizeMax);
  page.fingerprint = Fingerprint(request);
  if (token.empty()) return page;
  std::string decoded;
  if (token.size() > kTokenBytesMax || !absl::WebSafeBase64Unescape(token, &decoded) ||
      decoded.size() < kFingerprintBytes) {
    return absl::InvalidArgumentError(
        "page_token is not one of this server, want the next_page_token of the page before");
  }
  if (!absl::StartsWith(decoded, page.fingerprint)) {
    return absl::InvalidArgumentError(
        "page_token belongs to another request, want the same other fields as for the page before");
  }
  page.cursor = decoded.substr(kFingerprintBytes);
  return page;
}

}  // namespace deltaworks::services
