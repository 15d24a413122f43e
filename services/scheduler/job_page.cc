#include "services/scheduler/job_page.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

using Record = std::shared_ptr<const scheduler::JobRecord>;

constexpr int64_t kBatch = 100;

// The jobs of the state in order, one at a time.
class StateJobs {
 public:
  StateJobs(const CommittedView& view, const JobPageQuery& query)
      : state_(view.state), ages_(view.state.AgesOf(query.tenant)), forward_(!query.newest_first) {
    if (!query.after.has_value()) {
      at_ = forward_ ? ages_.begin() : ages_.end();
      return;
    }
    const std::pair<absl::Time, absl::string_view> after(
        absl::FromUnixNanos(query.after->created_ns), query.after->name);
    at_ = forward_ ? ages_.upper_bound(after) : ages_.lower_bound(after);
  }

  bool done() const { return at_ == (forward_ ? ages_.end() : ages_.begin()); }
  // The next one; not if done.
  JobKey key() const {
    const auto& [created, name] = *At();
    return {.created_ns = absl::ToUnixNanos(created), .name = std::string(name)};
  }
  Record Take() {
    const scheduler::JobRecord* record = state_.FindJob(At()->second);
    forward_ ? ++at_ : --at_;
    return Record(std::shared_ptr<void>(), record);
  }

 private:
  scheduler::State::Ages::const_iterator At() const { return forward_ ? at_ : std::prev(at_); }

  const scheduler::State& state_;
  const scheduler::State::Ages& ages_;
  const bool forward_;
  scheduler::State::Ages::const_iterator at_;
};

// The archived jobs that the filter's most selective term leaves, in order.
class ArchivedJobs {
 public:
  ArchivedJobs(const CommittedView& view, const JobPageQuery& query)
      : store_(view.store),
        query_{.tenant = query.tenant,
               .term = query.filter.MostSelective(),
               .after = query.after,
               .newest_first = query.newest_first,
               .count_max = std::min(kBatch, query.count_max + 1)},
        is_last_(!query.filter.MayMatchEnded()) {}

  // Reads on if need be; to be called before done() and key().
  absl::Status Fill() {
    if (next_ < batch_.size() || is_last_) return absl::OkStatus();
    DW_ASSIGN_OR_RETURN(batch_, store_.ListArchived(query_));
    next_ = 0;
    is_last_ = static_cast<int64_t>(batch_.size()) < query_.count_max;
    if (!batch_.empty()) query_.after = JobKey::Of(*batch_.back());
    return absl::OkStatus();
  }

  bool done() const { return next_ == batch_.size(); }
  JobKey key() const { return JobKey::Of(*batch_[next_]); }
  Record Take() { return std::move(batch_[next_++]); }

 private:
  EventStore& store_;
  ArchiveQuery query_;
  bool is_last_;
  std::vector<Record> batch_;
  size_t next_ = 0;
};

}  // namespace

absl::StatusOr<JobPage> ReadJobPage(const CommittedView& view, const JobPageQuery& query) {
  StateJobs in_state(view, query);
  ArchivedJobs archived(view, query);
  JobPage page;
  JobKey last;
  int64_t state_looks = 0;
  int64_t archive_looks = 0;
  while (true) {
    DW_RETURN_IF_ERROR(archived.Fill());
    if (in_state.done() && archived.done()) return page;
    if (state_looks == kStateLooksMax || archive_looks == kArchiveLooksMax) break;
    bool from_state = archived.done();
    if (!in_state.done() && !archived.done()) {
      from_state =
          query.newest_first ? archived.key() < in_state.key() : in_state.key() < archived.key();
    }
    ++(from_state ? state_looks : archive_looks);
    Record record = from_state ? in_state.Take() : archived.Take();
    JobKey key = JobKey::Of(*record);
    if (query.filter.Matches(record->job())) {
      if (static_cast<int64_t>(page.jobs.size()) == query.count_max) break;
      page.jobs.push_back(std::move(record));
    }
    last = std::move(key);
  }
  page.next = std::move(last);
  return page;
}

std::string ToToken(const JobKey& key) { return absl::StrCat(key.created_ns, "/", key.name); }

std::optional<JobKey> JobKeyOf(absl::string_view token) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(token, absl::MaxSplits('/', 1));
  JobKey key = {.name = std::string(parts.second)};
  if (key.name.empty() || !absl::SimpleAtoi(parts.first, &key.created_ns)) return std::nullopt;
  return key;
}

}  // namespace deltaworks::services
