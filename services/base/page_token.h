// Paging by the rules of common.proto: page_size 0 means 100, at most 1000; a token is opaque and
// valid for the same other fields only.
//
//   DW_ASSIGN_OR_RETURN(const Page page, Page::Of(*request));   // request has the two fields
//   ... "WHERE name > ? ORDER BY name LIMIT ?", {page.cursor, page.size + 1} ...
//   if (more) response->set_next_page_token(page.NextToken(last_name));
//
// A cursor is whatever the next page begins after: a key, never an offset, so that rows made or
// removed meanwhile neither repeat nor hide others. Tokens are not secret and are not trusted: the
// tenant comes from the caller's token, not from here. Thread-safe.

#ifndef DELTAWORKS_SERVICES_BASE_PAGE_TOKEN_H_
#define DELTAWORKS_SERVICES_BASE_PAGE_TOKEN_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace google::protobuf {
class Message;
}

namespace deltaworks::services {

struct Page {
  int64_t size = 100;
  // Empty on the first page.
  std::string cursor;

  std::string NextToken(absl::string_view next_cursor) const;

  // From the fields page_size and page_token of `request`. InvalidArgument: a negative size, a
  // token that is none, or one of a request with other fields.
  static absl::StatusOr<Page> Of(const google::protobuf::Message& request);

  // Of `request` without paging; part of every token.
  std::string fingerprint;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_PAGE_TOKEN_H_
