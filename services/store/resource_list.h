// One page of datasets or base models, newest first.

#ifndef DELTAWORKS_SERVICES_STORE_RESOURCE_LIST_H_
#define DELTAWORKS_SERVICES_STORE_RESOURCE_LIST_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "services/base/page_token.h"
#include "services/store/metadata.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {

struct ResourcePage {
  std::vector<ResourceRow> rows;
  std::string next_page_token;  // Empty on the last page.
};

// `request` has page_size and page_token.
template <typename Request>
absl::StatusOr<ResourcePage> ListResourcePage(StoreMetadata& metadata, absl::string_view tenant,
                                              absl::string_view kind, const Request& request) {
  DW_ASSIGN_OR_RETURN(const Page page, Page::Of(request));
  int64_t before = 0;
  if (!page.cursor.empty() && (!absl::SimpleAtoi(page.cursor, &before) || before < 1)) {
    return absl::InvalidArgumentError("page_token is damaged, want the next_page_token as it came");
  }
  ResourcePage result;
  DW_ASSIGN_OR_RETURN(result.rows, metadata.ListResources(tenant, kind, before, page.size + 1));
  if (static_cast<int64_t>(result.rows.size()) > page.size) {
    result.rows.pop_back();
    result.next_page_token = page.NextToken(absl::StrCat(result.rows.back().seq));
  }
  return result;
}

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_STORE_RESOURCE_LIST_H_
