#include "trainer/data/dataset_report.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace deltaworks::trainer {
namespace {

void AddProblem(int64_t line, absl::string_view message, DatasetReport* report) {
  ++report->problem_count;
  if (report->problems.size() < kProblemsMax) {
    report->problems.push_back({line, std::string(message)});
  }
}

// Nearest rank: the smallest length that at least `share` of the examples do not exceed.
int64_t Quantile(const std::vector<int64_t>& sorted, double share) {
  const double rank = share * static_cast<double>(sorted.size());
  const int64_t index = static_cast<int64_t>(rank) - (rank == static_cast<int64_t>(rank) ? 1 : 0);
  return sorted[std::max<int64_t>(0, index)];
}

void Summarise(std::vector<int64_t> lengths, DatasetReport* report) {
  if (lengths.empty()) return;
  std::sort(lengths.begin(), lengths.end());
  report->tokens_min = lengths.front();
  report->tokens_median = Quantile(lengths, 0.5);
  report->tokens_p95 = Quantile(lengths, 0.95);
  report->tokens_max = lengths.back();
  for (int64_t limit = 256;; limit *= 2) {
    const int64_t longer = lengths.end() - std::upper_bound(lengths.begin(), lengths.end(), limit);
    report->longer_than[limit] = longer;
    if (longer == 0) return;
  }
}

}  // namespace

DatasetReport CheckDataset(absl::string_view jsonl, const TextEncoder& encoder,
                           std::vector<Example>* examples) {
  DatasetReport report;
  std::vector<int64_t> lengths;
  const auto count = [&](int64_t line, const Record& record) {
    report.form = record.form;
    absl::StatusOr<Example> example = encoder.Encode(record);
    if (!example.ok()) return AddProblem(line, example.status().message(), &report);
    const int64_t tokens = example->tokens();
    const absl::StatusOr<LengthVerdict> verdict = ApplyMaxLength(encoder.settings(), &*example);
    if (!verdict.ok()) {
      report.too_long_count += tokens > encoder.settings().max_length;
      return AddProblem(line, verdict.status().message(), &report);
    }
    ++report.example_count;
    report.tokens += tokens;
    lengths.push_back(tokens);
    report.too_long_count += *verdict != LengthVerdict::kFits;
    if (*verdict == LengthVerdict::kSkipped) return;
    ++report.train_examples;
    report.train_tokens += example->tokens();
    report.label_tokens += example->label_count();
    if (examples != nullptr) examples->push_back(*std::move(example));
  };
  ReadJsonl(
      jsonl,
      [&](int64_t line, const Record& record) {
        count(line, record);
        return true;
      },
      [&](const RecordProblem& problem) {
        AddProblem(problem.line, problem.message, &report);
        return true;
      });
  if (report.problem_count == 0 && report.train_examples == 0) {
    AddProblem(0,
               "every example is longer than max_length and skipped, want at least 1 to train on",
               &report);
  }
  Summarise(std::move(lengths), &report);
  return report;
}

absl::StatusOr<std::vector<Example>> ReadExamples(absl::string_view jsonl,
                                                  const TextEncoder& encoder) {
  std::vector<Example> examples;
  const DatasetReport report = CheckDataset(jsonl, encoder, &examples);
  if (report.problem_count == 0) return examples;
  return absl::InvalidArgumentError(ProblemText(report.problems[0], report.problem_count));
}

}  // namespace deltaworks::trainer
