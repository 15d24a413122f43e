#include "services/cli/dataset_views.h"

#include "absl/strings/str_cat.h"
#include "services/cli/enum_text.h"
#include "services/cli/format.h"
#include "services/cli/table.h"

namespace deltaworks::services {
namespace {

void PrintProblems(std::ostream& out, bool color, const std::string& subject,
                   const v1::DatasetReport& report) {
  for (const v1::DatasetProblem& problem : report.problems()) {
    const std::string where =
        problem.line() > 0 ? absl::StrCat(subject, ":", problem.line()) : subject;
    out << Painted(where, Paint::kBold, color) << ": " << SafeText(problem.message()) << "\n";
  }
  const int64_t hidden = report.problem_count() - report.problems_size();
  if (hidden > 0) out << "and " << CountText(hidden) << " problems more\n";
  if (report.problem_count() > 0) out << "\n";
}

void AddTokenFacts(const v1::DatasetReport& report, FactSheet& facts) {
  facts.Add("tokens", CountText(report.tokens()));
  facts.Add("tokens of one example",
            absl::StrCat("min ", CountText(report.tokens_min()), ", median ",
                         CountText(report.tokens_median()), ", p95 ",
                         CountText(report.tokens_p95()), ", max ", CountText(report.tokens_max())));
  for (const v1::LengthCount& entry : report.longer_than()) {
    facts.Add(absl::StrCat("longer than ", CountText(entry.length_tokens())),
              absl::StrCat(CountText(entry.count()), " examples (",
                           PercentText(entry.count(), report.example_count()), ")"));
  }
  facts.Add("longer than max_length",
            {absl::StrCat(CountText(report.too_long_count()), " examples (",
                          PercentText(report.too_long_count(), report.example_count()), ")"),
             report.too_long_count() > 0 ? Paint::kYellow : Paint::kNone});
  facts.Add("trained on", absl::StrCat(CountText(report.train_examples()), " examples, ",
                                       CountText(report.train_tokens()), " tokens"));
  facts.Add("tokens with a label",
            absl::StrCat(CountText(report.label_tokens()), " (",
                         PercentText(report.label_tokens(), report.train_tokens()), ")"));
}

}  // namespace

void PrintReport(std::ostream& out, bool color, const std::string& subject,
                 const v1::DatasetReport& report) {
  PrintProblems(out, color, subject, report);
  FactSheet facts;
  facts.Add("problems", {CountText(report.problem_count()),
                         report.problem_count() > 0 ? Paint::kRed : Paint::kGreen});
  facts.Add("format", EnumWords(report.format()));
  facts.Add("good examples", CountText(report.example_count()));
  if (report.tokens() > 0) AddTokenFacts(report, facts);
  facts.Print(out, color);
}

void PrintPreview(std::ostream& out, bool color, const v1::PreviewDatasetResponse& preview) {
  for (const v1::ExamplePreview& example : preview.examples()) {
    const std::string fate =
        example.skipped() ? ", skipped: too long" : (example.truncated() ? ", truncated" : "");
    out << Painted(
               absl::StrCat("--- line ", example.line(), ": ", CountText(example.token_count()),
                            " tokens, ", CountText(example.label_count()), " with a label", fate),
               Paint::kDim, color)
        << "\n";
    for (const v1::PreviewPiece& piece : example.pieces()) {
      const std::string text = SafeText(piece.text());
      if (!piece.has_label()) {
        out << text;
      } else if (color) {
        out << Painted(text, Paint::kGreen, color);
      } else {
        out << "[[" << text << "]]";
      }
    }
    out << "\n";
  }
}

}  // namespace deltaworks::services
