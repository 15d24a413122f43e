// ListAll: every page of a list, up to a bound. Thread-safe.
//
//   v1::ListJobsRequest request;  request.set_parent(...);
//   DW_ASSIGN_OR_RETURN(v1::ListJobsResponse all,
//                       ListAll(request, limit, [&](const auto& r) { return client.ListJobs(r); },
//                               [](auto& response) { return response.mutable_jobs(); }));

#ifndef DELTAWORKS_SERVICES_CLI_PAGES_H_
#define DELTAWORKS_SERVICES_CLI_PAGES_H_

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace deltaworks::services {

inline constexpr int64_t kPageSizeMax = 1000;
inline constexpr int64_t kListLimitMax = 1'000'000;

// The first page's message with the rows of all pages, `limit` at most; next_page_token is empty if
// these are all, and goes on after the last of them else. `rows` gives the repeated field.
// InvalidArgument for a limit out of bounds.
template <typename Request, typename Call, typename Rows>
auto ListAll(Request request, int64_t limit, const Call& call, const Rows& rows)
    -> decltype(call(request)) {
  if (limit < 1 || limit > kListLimitMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("--limit is ", limit, ", want 1..", kListLimitMax));
  }
  request.set_page_size(static_cast<int32_t>(std::min(limit, kPageSizeMax)));
  auto all = call(request);
  while (all.ok() && !all->next_page_token().empty() && rows(*all)->size() < limit) {
    request.set_page_token(all->next_page_token());
    request.set_page_size(static_cast<int32_t>(std::min(limit - rows(*all)->size(), kPageSizeMax)));
    auto page = call(request);
    if (!page.ok()) return page;
    rows(*all)->MergeFrom(*rows(*page));
    all->set_next_page_token(page->next_page_token());
    // Pages may be empty though more follow; a server that repeats itself must not keep us here.
    if (page->next_page_token() == request.page_token()) break;
  }
  return all;
}

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_PAGES_H_
