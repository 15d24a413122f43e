#include "services/scheduler/job_filter.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "scheduler/job_state.h"
#include "services/base/json_escape.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr size_t kTextBytesMax = 4096;
constexpr size_t kTermsMax = 32;
constexpr absl::string_view kLabels = "labels.";
constexpr absl::string_view kActive = "active";
constexpr absl::string_view kFields =
    "state, priority_class, parent_job, train.base_model, train.dataset, train.adapter or "
    "labels.KEY";

absl::Status Bad(absl::string_view got, absl::string_view want) {
  return absl::InvalidArgumentError(
      absl::StrCat("filter has ", JsonQuote(got.substr(0, 200)), ", want ", want));
}

// Takes up to the next space or "=" from the front of `text`.
std::string TakeWord(absl::string_view* text) {
  const size_t end = std::min(text->find_first_of(" \t="), text->size());
  std::string word(text->substr(0, end));
  text->remove_prefix(end);
  return word;
}

// Takes a bare word, or one in double quotes where \ stands before a quote or another \.
absl::StatusOr<std::string> TakeValue(absl::string_view* text) {
  if (text->empty() || text->front() != '"') return TakeWord(text);
  std::string value;
  for (size_t i = 1; i < text->size(); ++i) {
    const char c = (*text)[i];
    if (c == '"') {
      text->remove_prefix(i + 1);
      return value;
    }
    if (c == '\\' && i + 1 < text->size()) ++i;
    value.push_back((*text)[i]);
  }
  return Bad(*text, "a closing quote");
}

}  // namespace

std::vector<JobTerm> JobTerms(const v1::Job& job) {
  std::vector<JobTerm> terms = {{}, {"state", v1::JobState_Name(job.status().state())}};
  const auto add = [&](absl::string_view field, const std::string& value) {
    if (!value.empty()) terms.push_back({std::string(field), value});
  };
  add("parent_job", job.parent_job());
  add("train.base_model", job.train().base_model());
  add("train.dataset", job.train().dataset());
  add("train.adapter", job.train().adapter());
  for (const auto& [key, value] : job.labels()) add(absl::StrCat(kLabels, key), value);
  return terms;
}

absl::StatusOr<JobFilter> JobFilter::Parse(absl::string_view text) {
  if (text.size() > kTextBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("filter has ", text.size(), " bytes, want at most ", kTextBytesMax));
  }
  JobFilter filter;
  text = absl::StripAsciiWhitespace(text);
  while (!text.empty()) {
    if (!filter.terms_.empty()) {
      if (!absl::ConsumePrefix(&text, "AND ")) return Bad(text, "AND between two terms");
      text = absl::StripLeadingAsciiWhitespace(text);
    }
    JobTerm term;
    term.field = TakeWord(&text);
    text = absl::StripLeadingAsciiWhitespace(text);
    if (term.field.empty() || !absl::ConsumePrefix(&text, "=")) {
      return Bad(absl::StrCat(term.field, text), "field = value");
    }
    text = absl::StripLeadingAsciiWhitespace(text);
    DW_ASSIGN_OR_RETURN(term.value, TakeValue(&text));
    text = absl::StripLeadingAsciiWhitespace(text);
    DW_RETURN_IF_ERROR(CheckTerm(term));
    filter.terms_.push_back(std::move(term));
    if (filter.terms_.size() > kTermsMax) {
      return Bad(text, absl::StrCat("at most ", kTermsMax, " terms"));
    }
  }
  return filter;
}

absl::Status JobFilter::CheckTerm(const JobTerm& term) {
  if (term.field == "state") {
    v1::JobState state;
    if (term.value == kActive || v1::JobState_Parse(term.value, &state)) return absl::OkStatus();
    return Bad(absl::StrCat("state = ", term.value), "a JobState as QUEUED, or active");
  }
  if (term.field == "priority_class") {
    v1::PriorityClass priority_class;
    if (v1::PriorityClass_Parse(term.value, &priority_class)) return absl::OkStatus();
    return Bad(absl::StrCat("priority_class = ", term.value), "LOW, NORMAL or HIGH");
  }
  const bool known = term.field == "parent_job" || term.field == "train.base_model" ||
                     term.field == "train.dataset" || term.field == "train.adapter" ||
                     (absl::StartsWith(term.field, kLabels) && term.field.size() > kLabels.size());
  return known ? absl::OkStatus() : Bad(term.field, absl::StrCat("one of the fields ", kFields));
}

bool JobFilter::MayMatchEnded() const {
  return std::none_of(terms_.begin(), terms_.end(), [](const JobTerm& term) {
    v1::JobState state;
    return term.field == "state" &&
           (term.value == kActive || !v1::JobState_Parse(term.value, &state) ||
            !scheduler::IsFinal(state));
  });
}

JobTerm JobFilter::MostSelective() const {
  // From few jobs to many.
  constexpr absl::string_view kOrder[] = {"parent_job", "train.adapter",    "train.dataset",
                                          kLabels,      "train.base_model", "state"};
  for (const absl::string_view field : kOrder) {
    for (const JobTerm& term : terms_) {
      const bool is_it =
          field == kLabels ? absl::StartsWith(term.field, kLabels) : term.field == field;
      if (is_it && !term.value.empty()) return term;
    }
  }
  return {};
}

bool JobFilter::Matches(const v1::Job& job) const {
  return std::all_of(terms_.begin(), terms_.end(),
                     [&](const JobTerm& term) { return Matches(term, job); });
}

bool JobFilter::Matches(const JobTerm& term, const v1::Job& job) {
  if (term.field == "state") {
    return term.value == kActive ? !scheduler::IsFinal(job.status().state())
                                 : v1::JobState_Name(job.status().state()) == term.value;
  }
  if (term.field == "priority_class") {
    return v1::PriorityClass_Name(job.priority_class()) == term.value;
  }
  if (term.field == "parent_job") return job.parent_job() == term.value;
  if (term.field == "train.base_model") return job.train().base_model() == term.value;
  if (term.field == "train.dataset") return job.train().dataset() == term.value;
  if (term.field == "train.adapter") return job.train().adapter() == term.value;
  const auto label = job.labels().find(term.field.substr(kLabels.size()));
  return label != job.labels().end() && label->second == term.value;
}

}  // namespace deltaworks::services
