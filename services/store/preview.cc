#include "services/store/preview.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "trainer/base/status_macros.h"
#include "trainer/data/record.h"

namespace deltaworks::services {
namespace {

// Examples are added until the answer has this size; one more has at most a megabyte or two.
constexpr int64_t kAnswerBytesMax = int64_t{1} << 20;

// The most that text.max_length allows. A skipped example may be longer; its end is not shown.
constexpr int64_t kTokensShownMax = 131'072;

// Tokens with and without label in turn. The first token never counts: nothing predicts it.
void AddPieces(const trainer::Example& example, const trainer::Tokenizer& tokenizer,
               v1::ExamplePreview& out) {
  for (int64_t i = 0; i < std::min(example.tokens(), kTokensShownMax); ++i) {
    const bool has_label = i > 0 && example.is_label[i];
    if (out.pieces_size() == 0 || out.pieces(out.pieces_size() - 1).has_label() != has_label) {
      out.add_pieces()->set_has_label(has_label);
    }
    out.mutable_pieces(out.pieces_size() - 1)->add_token_ids(example.ids[i]);
  }
  for (v1::PreviewPiece& piece : *out.mutable_pieces()) {
    const std::vector<int32_t> ids(piece.token_ids().begin(), piece.token_ids().end());
    piece.set_text(tokenizer.Decode(ids, /*skip_special=*/false));
  }
}

absl::StatusOr<v1::ExamplePreview> PreviewOne(int64_t line, const trainer::Record& record,
                                              const TextModel& model,
                                              const trainer::TextEncoder& encoder) {
  v1::ExamplePreview preview;
  preview.set_line(line);
  DW_ASSIGN_OR_RETURN(trainer::Example example, encoder.Encode(record));
  trainer::Example whole = example;
  DW_ASSIGN_OR_RETURN(const trainer::LengthVerdict verdict,
                      trainer::ApplyMaxLength(encoder.settings(), &example));
  preview.set_truncated(verdict == trainer::LengthVerdict::kTruncated);
  preview.set_skipped(verdict == trainer::LengthVerdict::kSkipped);
  const trainer::Example& shown = preview.skipped() ? whole : example;
  AddPieces(shown, *model.tokenizer, preview);
  preview.set_token_count(shown.tokens());
  preview.set_label_count(shown.label_count());
  return preview;
}

}  // namespace

absl::StatusOr<v1::PreviewDatasetResponse> PreviewExamples(absl::string_view jsonl,
                                                           const TextModel& model,
                                                           const trainer::TextSettings& settings,
                                                           int64_t first, int64_t count) {
  if (first < 0) {
    return absl::OutOfRangeError(absl::StrCat("first_example is ", first, ", want at least 0"));
  }
  const trainer::TextEncoder encoder = model.MakeEncoder(settings);
  v1::PreviewDatasetResponse response;
  int64_t index = 0;
  int64_t size = 0;
  absl::Status problem;
  const auto stop_at = [&](int64_t line, absl::string_view message) {
    problem = absl::InvalidArgumentError(absl::StrCat("line ", line, ": ", message));
    return false;
  };
  // Lines after those asked for are not read: their problems are CheckDataset's to tell.
  trainer::ReadJsonl(
      jsonl,
      [&](int64_t line, const trainer::Record& record) {
        const int64_t at = index++;
        if (at < first) return true;
        absl::StatusOr<v1::ExamplePreview> preview = PreviewOne(line, record, model, encoder);
        if (!preview.ok()) return stop_at(line, preview.status().message());
        size += static_cast<int64_t>(preview->ByteSizeLong());
        *response.add_examples() = *std::move(preview);
        return response.examples_size() < count && size <= kAnswerBytesMax;
      },
      [&](const trainer::RecordProblem& bad) { return stop_at(bad.line, bad.message); });
  DW_RETURN_IF_ERROR(problem);
  if (response.examples_size() == 0) {
    return absl::OutOfRangeError(
        absl::StrCat("first_example is ", first, ", want less than ", index));
  }
  return response;
}

}  // namespace deltaworks::services
