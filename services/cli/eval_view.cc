#include "services/cli/eval_view.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "absl/strings/str_format.h"
#include "services/cli/format.h"
#include "services/cli/table.h"
#include "trainer/base/json.h"

namespace deltaworks::services {
namespace {

constexpr int64_t kQuestionWidth = 400;

double Mean(const std::vector<double>& values) {
  if (values.empty()) return 0;
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

std::string Interval(const trainer::MeanDifference& gain, int places) {
  return absl::StrFormat("%+.*f  [%+.*f, %+.*f]", places, gain.mean, places, gain.low, places,
                         gain.high);
}

// Green: the interval lies on the good side of 0; red: on the bad one.
Paint PaintOf(const trainer::MeanDifference& gain, bool larger_is_better) {
  const double sign = larger_is_better ? 1 : -1;
  if (std::min(sign * gain.low, sign * gain.high) > 0) return Paint::kGreen;
  if (std::max(sign * gain.low, sign * gain.high) < 0) return Paint::kRed;
  return Paint::kNone;
}

Json GainJson(const trainer::MeanDifference& gain) {
  return {{"mean", gain.mean}, {"low", gain.low}, {"high", gain.high}, {"confidence", 0.95}};
}

}  // namespace

void PrintEval(std::ostream& out, bool color, const EvalOptions& options,
               const std::vector<EvalExample>& examples, const EvalResult& result,
               int64_t example_count) {
  out << CountText(static_cast<int64_t>(examples.size())) << " examples, "
      << CountText(result.base.label_tokens) << " label tokens, adapter "
      << ShortVersion(options.adapter.model()) << "\n\n";
  Table table({"", ">BASE", ">ADAPTER", "GAIN  [95 % INTERVAL]"});
  table.AddRow({"loss by example",
                LossText(Mean(result.base.losses)),
                LossText(Mean(result.adapter.losses)),
                {Interval(result.loss_gain, 4), PaintOf(result.loss_gain, false)}});
  table.AddRow({"loss by token", LossText(result.base.loss), LossText(result.adapter.loss),
                absl::StrFormat("%+.4f", result.adapter.loss - result.base.loss)});
  for (size_t i = 0; i < kRougeNames.size() && result.answer_count > 0; ++i) {
    table.AddRow({kRougeNames[i],
                  absl::StrFormat("%.3f", Mean(result.base.rouge[i])),
                  absl::StrFormat("%.3f", Mean(result.adapter.rouge[i])),
                  {Interval(result.rouge_gain[i], 3), PaintOf(result.rouge_gain[i], true)}});
  }
  table.Print(out, color);
  if (result.answer_count == 0) return;
  int64_t shown = 0;
  for (size_t i = 0; i < examples.size() && shown < example_count; ++i) {
    if (!examples[i].has_answer) continue;
    ++shown;
    const auto line = [&](const char* label, Paint paint, const std::string& text) {
      out << Painted(label, paint, color) << SafeText(text) << "\n";
    };
    out << "\n";
    line("question   ", Paint::kDim, CutToWidth(examples[i].question_text, kQuestionWidth));
    line("reference  ", Paint::kBold, examples[i].reference);
    line("base       ", Paint::kYellow, result.base.answers[i]);
    line("adapter    ", Paint::kGreen, result.adapter.answers[i]);
  }
}

std::string EvalJson(const EvalOptions& options, const std::vector<EvalExample>& examples,
                     const EvalResult& result) {
  Json document = {
      {"base_model", options.base.model()},
      {"version", options.adapter.model()},
      {"example_count", examples.size()},
      {"label_tokens", result.base.label_tokens},
      {"loss",
       {{"base", Mean(result.base.losses)},
        {"adapter", Mean(result.adapter.losses)},
        {"gain", GainJson(result.loss_gain)}}},
      {"loss_by_token", {{"base", result.base.loss}, {"adapter", result.adapter.loss}}}};
  static constexpr std::array<const char*, 3> kKeys = {"rouge1", "rouge2", "rouge_l"};
  for (size_t i = 0; i < kKeys.size() && result.answer_count > 0; ++i) {
    document[kKeys[i]] = {{"base", Mean(result.base.rouge[i])},
                          {"adapter", Mean(result.adapter.rouge[i])},
                          {"gain", GainJson(result.rouge_gain[i])}};
  }
  Json list = Json::array();
  for (size_t i = 0; i < examples.size(); ++i) {
    Json entry = {{"line", examples[i].line},
                  {"base_loss", result.base.losses[i]},
                  {"adapter_loss", result.adapter.losses[i]}};
    if (examples[i].has_answer && result.answer_count > 0) {
      entry["question"] = examples[i].question_text;
      entry["reference"] = examples[i].reference;
      entry["base_answer"] = result.base.answers[i];
      entry["adapter_answer"] = result.adapter.answers[i];
    }
    list.push_back(std::move(entry));
  }
  document["examples"] = std::move(list);
  return JsonText(document, /*indent=*/1);
}

}  // namespace deltaworks::services
