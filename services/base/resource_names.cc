#include "services/base/resource_names.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "services/base/json_escape.h"
#include "trainer/base/sha256.h"

namespace deltaworks::services {
namespace {

constexpr size_t kIdSizeMax = 63;
constexpr size_t kQuotedSizeMax = 200;

// `text` for a message: quoted, cut, on one line.
std::string Quoted(absl::string_view text) {
  if (text.size() <= kQuotedSizeMax) return JsonQuote(text);
  return absl::StrCat(JsonQuote(text.substr(0, kQuotedSizeMax)), "... (", text.size(), " bytes)");
}

bool IsPlace(absl::string_view part) { return !part.empty() && part.front() == '{'; }

}  // namespace

bool IsResourceId(absl::string_view id) {
  if (id.empty() || id.size() > kIdSizeMax || id.front() == '-' || id.back() == '-') return false;
  for (const char c : id) {
    if (!absl::ascii_islower(c) && !absl::ascii_isdigit(c) && c != '-') return false;
  }
  return true;
}

absl::Status CheckResourceId(absl::string_view field, absl::string_view id) {
  if (IsResourceId(id)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, " is ", Quoted(id),
                   ", want 1-63 characters of a-z, 0-9 and -, not beginning or ending with -"));
}

absl::StatusOr<std::vector<std::string>> ParseName(absl::string_view field, absl::string_view name,
                                                   absl::string_view pattern) {
  const auto refuse = [&] {
    return absl::InvalidArgumentError(
        absl::StrCat(field, " is ", Quoted(name), ", want ", pattern));
  };
  // Longer than any name can be; spares us splitting a megabyte.
  if (name.size() > 4 * (kIdSizeMax + 16)) return refuse();
  const std::vector<absl::string_view> got = absl::StrSplit(name, '/');
  const std::vector<absl::string_view> want = absl::StrSplit(pattern, '/');
  if (got.size() != want.size()) return refuse();
  std::vector<std::string> ids;
  for (size_t i = 0; i < got.size(); ++i) {
    if (IsPlace(want[i]) ? !IsResourceId(got[i]) : got[i] != want[i]) return refuse();
    if (IsPlace(want[i])) ids.emplace_back(got[i]);
  }
  return ids;
}

bool MatchesName(absl::string_view name, absl::string_view pattern) {
  return ParseName("name", name, pattern).ok();
}

absl::string_view TenantOf(absl::string_view name) {
  if (!absl::ConsumePrefix(&name, "tenants/")) return "";
  const absl::string_view tenant = name.substr(0, name.find('/'));
  return IsResourceId(tenant) ? tenant : "";
}

std::string TenantName(absl::string_view tenant) { return absl::StrCat("tenants/", tenant); }

std::string TenantResourceName(absl::string_view tenant, absl::string_view collection,
                               absl::string_view id) {
  return absl::StrCat("tenants/", tenant, "/", collection, "/", id);
}

absl::Status CheckText(absl::string_view field, absl::string_view text, int64_t size_max) {
  if (text.size() > size_max) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, " has ", text.size(), " bytes, want at most ", size_max));
  }
  for (const char c : text) {
    if (absl::ascii_iscntrl(c) && c != '\n' && c != '\t') {
      return absl::InvalidArgumentError(
          absl::StrCat(field, " is ", Quoted(text), ", want no control characters"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckDigest(absl::string_view field, absl::string_view digest) {
  if (IsSha256Digest(digest)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, " is ", Quoted(digest), ", want sha256: and 64 lower-case hex digits"));
}

absl::Status CheckRequestId(absl::string_view request_id) {
  bool good = request_id.size() <= 64;
  for (const char c : request_id) good = good && absl::ascii_isprint(c);
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("request_id is ", Quoted(request_id),
                                                 ", want at most 64 printable ASCII characters"));
}

}  // namespace deltaworks::services
