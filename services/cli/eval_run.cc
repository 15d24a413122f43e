#include "services/cli/eval_run.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "services/cli/parallel.h"
#include "trainer/base/mutex.h"
#include "trainer/base/status_macros.h"
#include "trainer/metrics/rouge.h"

namespace deltaworks::services {
namespace {

// Examples of one Score call: few, so that progress shows and no call takes long.
constexpr int64_t kScoreBatch = 8;

class Runner {
 public:
  Runner(InferenceClient& inference, const std::vector<EvalExample>& examples,
         const EvalOptions& options)
      : inference_(inference), examples_(examples), options_(options) {
    const int64_t questions =
        std::count_if(examples.begin(), examples.end(),
                      [](const EvalExample& example) { return example.has_answer; });
    steps_ = 2 * (BatchCount() + (options.answers ? questions : 0));
  }

  absl::Status Run(const v1::ModelSelector& model, EvalSide& side) {
    DW_RETURN_IF_ERROR(Score(model, side));
    return options_.answers ? Answer(model, side) : absl::OkStatus();
  }

 private:
  int64_t BatchCount() const {
    return (static_cast<int64_t>(examples_.size()) + kScoreBatch - 1) / kScoreBatch;
  }

  // `call`, again while its error is one that passes.
  absl::Status Patiently(const std::function<absl::Status()>& call) const {
    RetryState retry(options_.retry);
    while (true) {
      absl::Status status = call();
      const bool passes = absl::IsUnavailable(status) || absl::IsResourceExhausted(status);
      if (!passes || !retry.Pause()) return status;
    }
  }

  void StepDone() {
    MutexLock lock(&mutex_);
    ++done_;
    if (options_.progress != nullptr) {
      options_.progress(static_cast<double>(done_) / static_cast<double>(steps_));
    }
  }

  absl::Status Score(const v1::ModelSelector& model, EvalSide& side) {
    const int64_t count = static_cast<int64_t>(examples_.size());
    std::vector<v1::ExampleScore> scores(examples_.size());
    DW_RETURN_IF_ERROR(RunParallel(BatchCount(), options_.concurrency, [&](int64_t batch) {
      const int64_t begin = batch * kScoreBatch, end = std::min(begin + kScoreBatch, count);
      return ScoreBatch(model, begin, end, scores);
    }));
    double sum = 0;
    for (const v1::ExampleScore& score : scores) {
      const int64_t labels = std::max<int64_t>(score.label_tokens(), 1);
      side.losses.push_back(score.negative_log_likelihood() / static_cast<double>(labels));
      side.label_tokens += score.label_tokens();
      sum += score.negative_log_likelihood();
    }
    side.loss = sum / static_cast<double>(std::max<int64_t>(side.label_tokens, 1));
    return absl::OkStatus();
  }

  absl::Status ScoreBatch(const v1::ModelSelector& model, int64_t begin, int64_t end,
                          std::vector<v1::ExampleScore>& scores) {
    v1::ScoreRequest request;
    request.set_parent(options_.parent);
    *request.mutable_model() = model;
    *request.mutable_text() = options_.text;
    for (int64_t i = begin; i < end; ++i) *request.add_examples() = examples_[i].score;
    DW_RETURN_IF_ERROR(Patiently([&]() -> absl::Status {
      DW_ASSIGN_OR_RETURN(const v1::ScoreResponse response, inference_.Score(request));
      if (response.scores_size() != end - begin) {
        return absl::InternalError(absl::StrCat("Score answered ", response.scores_size(),
                                                " entries, want ", end - begin));
      }
      std::copy(response.scores().begin(), response.scores().end(), scores.begin() + begin);
      return absl::OkStatus();
    }));
    StepDone();
    return absl::OkStatus();
  }

  absl::Status Answer(const v1::ModelSelector& model, EvalSide& side) {
    side.answers.resize(examples_.size());
    DW_RETURN_IF_ERROR(
        RunParallel(static_cast<int64_t>(examples_.size()), options_.concurrency, [&](int64_t i) {
          if (!examples_[i].has_answer) return absl::OkStatus();
          absl::Status status = AnswerOne(model, examples_[i], side.answers[i]);
          if (status.ok()) StepDone();
          return status;
        }));
    for (size_t i = 0; i < examples_.size(); ++i) {
      if (!examples_[i].has_answer) continue;
      const trainer::RougeScores scores = trainer::Rouge(examples_[i].reference, side.answers[i]);
      side.rouge[0].push_back(scores.rouge1.f_measure);
      side.rouge[1].push_back(scores.rouge2.f_measure);
      side.rouge[2].push_back(scores.rouge_l.f_measure);
    }
    return absl::OkStatus();
  }

  absl::Status AnswerOne(const v1::ModelSelector& model, const EvalExample& example,
                         std::string& answer) {
    v1::GenerateRequest request = options_.generation;
    request.MergeFrom(example.question);
    request.set_parent(options_.parent);
    *request.mutable_model() = model;
    return Patiently([&] {
      answer.clear();
      absl::Status status = inference_.Generate(request, [&](const v1::GenerateResponse& response) {
        answer += response.text();
        return absl::OkStatus();
      });
      answer = std::string(absl::StripAsciiWhitespace(answer));
      return status;
    });
  }

  InferenceClient& inference_;
  const std::vector<EvalExample>& examples_;
  const EvalOptions& options_;
  int64_t steps_ = 0;
  Mutex mutex_;
  int64_t done_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

absl::StatusOr<EvalResult> RunEval(InferenceClient& inference,
                                   const std::vector<EvalExample>& examples,
                                   const EvalOptions& options) {
  EvalResult result;
  Runner runner(inference, examples, options);
  DW_RETURN_IF_ERROR(runner.Run(options.base, result.base));
  DW_RETURN_IF_ERROR(runner.Run(options.adapter, result.adapter));
  DW_ASSIGN_OR_RETURN(result.loss_gain,
                      trainer::PairedBootstrap(result.base.losses, result.adapter.losses));
  result.answer_count = static_cast<int64_t>(result.base.rouge[0].size());
  for (size_t i = 0; i < kRougeNames.size() && result.answer_count > 0; ++i) {
    DW_ASSIGN_OR_RETURN(result.rouge_gain[i],
                        trainer::PairedBootstrap(result.base.rouge[i], result.adapter.rouge[i]));
  }
  return result;
}

}  // namespace deltaworks::services
