#include "services/store/dataset_texts.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "services/base/caller.h"
#include "services/base/clock.h"
#include "services/base/resource_names.h"
#include "services/base/spec_conversion.h"
#include "services/store/preview.h"
#include "trainer/base/sha256.h"
#include "trainer/base/status_macros.h"
#include "trainer/base/utf8_prefix.h"
#include "trainer/data/dataset_report.h"

namespace deltaworks::services {
namespace {

constexpr int32_t kMaxLengthDefault = 1024;
constexpr int32_t kMaxLengthMax = 131'072;
constexpr int64_t kMessageBytesMax = 2000;
// A longer report is a list of problems, whose data will be repaired rather than asked about again.
constexpr int64_t kKeptBytesMax = int64_t{64} << 10;
// Raise it when the meaning of a report changes: old ones are not found any more.
constexpr char kReportVersion[] = "1";

void AddProblem(const trainer::RecordProblem& problem, v1::DatasetReport& report) {
  v1::DatasetProblem& out = *report.add_problems();
  out.set_line(problem.line);
  out.set_message(std::string(Utf8Prefix(problem.message, kMessageBytesMax)));
}

v1::DatasetReport ToProto(const trainer::DatasetReport& report) {
  v1::DatasetReport out;
  if (report.example_count > 0) out.set_format(ToFormat(report.form));
  out.set_example_count(report.example_count);
  for (const trainer::RecordProblem& problem : report.problems) AddProblem(problem, out);
  out.set_problem_count(report.problem_count);
  out.set_tokens(report.tokens);
  out.set_tokens_min(report.tokens_min);
  out.set_tokens_median(report.tokens_median);
  out.set_tokens_p95(report.tokens_p95);
  out.set_tokens_max(report.tokens_max);
  out.set_label_tokens(report.label_tokens);
  out.set_too_long_count(report.too_long_count);
  for (const auto& [length, count] : report.longer_than) {
    v1::LengthCount& entry = *out.add_longer_than();
    entry.set_length_tokens(length);
    entry.set_count(count);
  }
  out.set_train_examples(report.train_examples);
  out.set_train_tokens(report.train_tokens);
  return out;
}

// Of the form alone, without a base.
v1::DatasetReport FormReport(absl::string_view jsonl) {
  v1::DatasetReport report;
  trainer::ReadJsonl(
      jsonl,
      [&](int64_t, const trainer::Record& record) {
        report.set_format(ToFormat(record.form));
        report.set_example_count(report.example_count() + 1);
        return true;
      },
      [&](const trainer::RecordProblem& problem) {
        report.set_problem_count(report.problem_count() + 1);
        if (report.problems_size() < static_cast<int>(trainer::kProblemsMax)) {
          AddProblem(problem, report);
        }
        return true;
      });
  return report;
}

}  // namespace

int32_t DefaultMaxLength(const v1::BaseModel& base_model) {
  return std::min(kMaxLengthDefault, base_model.context_length_tokens());
}

absl::Status CheckTextSettings(const v1::TextSettings& text, const v1::BaseModel& base_model) {
  const int32_t limit = std::min(kMaxLengthMax, base_model.context_length_tokens());
  if (text.max_length() < 2 || text.max_length() > limit) {
    return absl::InvalidArgumentError(absl::StrCat("text.max_length is ", text.max_length(),
                                                   ", want 2..", limit, ", the base's context"));
  }
  if (!v1::TextSettings::Truncation_IsValid(text.truncation())) {
    return absl::InvalidArgumentError(
        absl::StrCat("text.truncation is ", text.truncation(), ", want ERROR, TRUNCATE or SKIP"));
  }
  if (!v1::TextSettings::TrainOn_IsValid(text.train_on())) {
    return absl::InvalidArgumentError(
        absl::StrCat("text.train_on is ", text.train_on(),
                     ", want ASSISTANT_ALL, ASSISTANT_LAST or ALL_TOKENS"));
  }
  return absl::OkStatus();
}

// The right to compute the report of one key; given back when it dies.
class DatasetTexts::Turn {
 public:
  Turn(DatasetTexts& texts, const std::string& key) : texts_(texts), key_(key) {}
  ~Turn() {
    MutexLock lock(&texts_.mutex_);
    texts_.computing_.erase(key_);
    texts_.changed_.SignalAll();
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  DatasetTexts& texts_;
  const std::string key_;
};

absl::StatusOr<std::unique_ptr<DatasetTexts::Turn>> DatasetTexts::TakeTurn(const std::string& key) {
  MutexLock lock(&mutex_);
  if (waiting_ >= options_.reports_waiting_max) {
    return absl::ResourceExhaustedError(absl::StrCat(waiting_, " reports wait, want fewer than ",
                                                     options_.reports_waiting_max,
                                                     " (reports_waiting_max)"));
  }
  ++waiting_;
  while (computing_.contains(key) ||
         static_cast<int64_t>(computing_.size()) >= options_.reports_at_once_max) {
    changed_.Wait(&mutex_);
  }
  --waiting_;
  computing_.insert(key);
  return std::make_unique<Turn>(*this, key);
}

absl::StatusOr<BlobReference> DatasetTexts::Source(const std::string& tenant,
                                                   const std::string& dataset,
                                                   const std::string& blob_digest,
                                                   bool is_dataset) {
  if (!is_dataset) {
    DW_RETURN_IF_ERROR(CheckDigest("blob_digest", blob_digest));
    return BlobReference{tenant, "", blob_digest};
  }
  DW_ASSIGN_OR_RETURN(const v1::Dataset found, datasets_.Get(dataset));
  return BlobReference{tenant, found.name(), found.blob_digest()};
}

absl::StatusOr<v1::BaseModel> DatasetTexts::ReadyBase(const std::string& name,
                                                      v1::TextSettings& text) {
  DW_RETURN_IF_ERROR(ParseName("base_model", name, kBaseModelPattern).status());
  DW_ASSIGN_OR_RETURN(v1::BaseModel base_model, base_models_.Get(name));
  if (base_model.state() != v1::BaseModel::READY) {
    return absl::FailedPreconditionError(
        absl::StrCat(name, " is ", v1::BaseModel::State_Name(base_model.state()), ", want READY"));
  }
  if (!text.has_max_length()) text.set_max_length(DefaultMaxLength(base_model));
  DW_RETURN_IF_ERROR(CheckTextSettings(text, base_model));
  return base_model;
}

absl::StatusOr<v1::DatasetReport> DatasetTexts::Report(const BlobReference& blob,
                                                       const v1::BaseModel& base_model,
                                                       const v1::TextSettings& text) {
  const trainer::TextSettings settings = ToTextSettings(text);
  // Tokens depend on the base's files, which its manifest names, not on where they came from.
  const std::string key = Sha256Digest(
      absl::StrCat(kReportVersion, "\n", blob.digest, "\n", base_model.manifest_digest(), "\n",
                   settings.max_length, "\n", static_cast<int>(settings.truncation), "\n",
                   static_cast<int>(settings.train_on)));
  // A kept report is no permission: the caller must be able to read the blob all the same.
  DW_RETURN_IF_ERROR(
      metadata_.FindBlob(blob.tenant, blob.reference, blob.digest, clock_.Now()).status());
  v1::DatasetReport report;
  DW_ASSIGN_OR_RETURN(std::optional<std::string> kept, metadata_.FindReport(key));
  if (kept.has_value() && report.ParseFromString(*kept)) return report;
  DW_ASSIGN_OR_RETURN(const std::unique_ptr<Turn> turn, TakeTurn(key));
  // Another caller may have made it while this one waited.
  DW_ASSIGN_OR_RETURN(kept, metadata_.FindReport(key));
  if (kept.has_value() && report.ParseFromString(*kept)) return report;

  DW_ASSIGN_OR_RETURN(const std::shared_ptr<const TextModel> model, text_models_.Get(base_model));
  DW_ASSIGN_OR_RETURN(const std::unique_ptr<BlobReader> reader, datasets_.OpenLines(blob));
  DW_ASSIGN_OR_RETURN(const absl::string_view jsonl, reader->Map());
  report =
      ToProto(trainer::CheckDataset(jsonl, model->MakeEncoder(settings), /*examples=*/nullptr));
  const std::string bytes = report.SerializeAsString();
  if (static_cast<int64_t>(bytes.size()) <= kKeptBytesMax) {
    DW_RETURN_IF_ERROR(metadata_.PutReport(key, bytes, options_.reports_kept_max, clock_.Now()));
  }
  return report;
}

absl::StatusOr<v1::DatasetReport> DatasetTexts::Check(const std::string& tenant,
                                                      const v1::CheckDatasetRequest& request) {
  DW_ASSIGN_OR_RETURN(const BlobReference blob,
                      Source(tenant, request.dataset(), request.blob_digest(),
                             request.source_case() == v1::CheckDatasetRequest::kDataset));
  if (request.base_model().empty()) {
    DW_ASSIGN_OR_RETURN(const std::unique_ptr<BlobReader> reader, datasets_.OpenLines(blob));
    DW_ASSIGN_OR_RETURN(const absl::string_view jsonl, reader->Map());
    return FormReport(jsonl);
  }
  v1::TextSettings text = request.text();
  DW_ASSIGN_OR_RETURN(const v1::BaseModel base_model, ReadyBase(request.base_model(), text));
  return Report(blob, base_model, text);
}

absl::StatusOr<v1::PreviewDatasetResponse> DatasetTexts::Preview(
    const std::string& tenant, const v1::PreviewDatasetRequest& request) {
  const int64_t count = request.example_count() == 0 ? 3 : request.example_count();
  if (count < 1 || count > 100) {
    return absl::InvalidArgumentError(
        absl::StrCat("example_count is ", count, ", want 1..100, or 0 for 3"));
  }
  DW_ASSIGN_OR_RETURN(const BlobReference blob,
                      Source(tenant, request.dataset(), request.blob_digest(),
                             request.source_case() == v1::PreviewDatasetRequest::kDataset));
  v1::TextSettings text = request.text();
  DW_ASSIGN_OR_RETURN(const v1::BaseModel base_model, ReadyBase(request.base_model(), text));
  DW_ASSIGN_OR_RETURN(const std::shared_ptr<const TextModel> model, text_models_.Get(base_model));
  DW_ASSIGN_OR_RETURN(const std::unique_ptr<BlobReader> reader, datasets_.OpenLines(blob));
  DW_ASSIGN_OR_RETURN(const absl::string_view jsonl, reader->Map());
  return PreviewExamples(jsonl, *model, ToTextSettings(text), request.first_example(), count);
}

}  // namespace deltaworks::services
