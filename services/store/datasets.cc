#include "services/store/datasets.h"

#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/proto_time.h"
#include "services/base/caller.h"
#include "services/base/clock.h"
#include "services/base/manifest.h"
#include "services/base/random_id.h"
#include "services/base/resource_names.h"
#include "services/store/resource_list.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr char kKind[] = "datasets";
constexpr char kRpc[] = "CreateDataset";

absl::StatusOr<v1::Dataset> ParseRow(const ResourceRow& row) {
  v1::Dataset dataset;
  if (!dataset.ParseFromString(row.message)) {
    return absl::DataLossError(absl::StrCat(row.name, ": its row cannot be read"));
  }
  return dataset;
}

}  // namespace

v1::Dataset::Format ToFormat(trainer::RecordForm form) {
  switch (form) {
    case trainer::RecordForm::kChat:
      return v1::Dataset::CHAT;
    case trainer::RecordForm::kPromptCompletion:
      return v1::Dataset::PROMPT_COMPLETION;
    case trainer::RecordForm::kText:
      return v1::Dataset::TEXT;
  }
  return v1::Dataset::FORMAT_UNSPECIFIED;
}

absl::StatusOr<std::unique_ptr<BlobReader>> Datasets::OpenLines(const BlobReference& blob,
                                                                v1::ManifestFile* description) {
  DW_ASSIGN_OR_RETURN(const std::unique_ptr<BlobReader> unread, blobs_.Open(blob));
  if (unread->size() > options_.dataset_bytes_max) {
    return absl::ResourceExhaustedError(
        absl::StrCat(blob.digest, " has ", unread->size(), " bytes, want at most ",
                     options_.dataset_bytes_max, " for a dataset (dataset_bytes_max)"));
  }
  return blobs_.OpenVerified(blob, description);
}

// Fills in format, count, size and the manifest's digest.
absl::Status Datasets::ReadLines(const std::string& tenant, v1::Dataset& dataset) {
  v1::Manifest manifest;
  v1::ManifestFile& file = *manifest.add_files();
  DW_ASSIGN_OR_RETURN(const std::unique_ptr<BlobReader> reader,
                      OpenLines({tenant, "", dataset.blob_digest()}, &file));
  DW_ASSIGN_OR_RETURN(const absl::string_view jsonl, reader->Map());
  int64_t problem_count = 0;
  trainer::RecordProblem first;
  trainer::ReadJsonl(
      jsonl,
      [&](int64_t, const trainer::Record& record) {
        dataset.set_format(ToFormat(record.form));
        dataset.set_example_count(dataset.example_count() + 1);
        return true;
      },
      [&](const trainer::RecordProblem& problem) {
        if (problem_count++ == 0) first = problem;
        return true;
      });
  if (problem_count > 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("dataset: ", trainer::ProblemText(first, problem_count)));
  }
  dataset.set_size_bytes(reader->size());
  manifest.set_format_version(1);
  manifest.set_kind(v1::Manifest::DATASET);
  file.set_path(kDatasetFile);
  DW_ASSIGN_OR_RETURN(const std::string bytes, SerializeManifest(manifest));
  DW_ASSIGN_OR_RETURN(*dataset.mutable_manifest_digest(), blobs_.AddBytes(tenant, bytes));
  return absl::OkStatus();
}

absl::StatusOr<v1::Dataset> Datasets::Create(const std::string& tenant,
                                             const v1::CreateDatasetRequest& request) {
  DW_ASSIGN_OR_RETURN(const std::optional<std::string> before,
                      metadata_.FindRequest(tenant, kRpc, request));
  if (before.has_value()) return Get(*before);

  const std::string id =
      request.dataset_id().empty() ? RandomResourceId("ds-") : request.dataset_id();
  DW_RETURN_IF_ERROR(CheckResourceId("dataset_id", id));
  DW_RETURN_IF_ERROR(
      CheckText("dataset.display_name", request.dataset().display_name(), /*size_max=*/256));
  DW_RETURN_IF_ERROR(CheckDigest("dataset.blob_digest", request.dataset().blob_digest()));
  v1::Dataset dataset;
  dataset.set_name(TenantResourceName(tenant, kKind, id));
  if (metadata_.GetResource(dataset.name()).ok()) {
    return absl::AlreadyExistsError(
        absl::StrCat(dataset.name(), " exists, want an id that is free"));
  }
  dataset.set_display_name(request.dataset().display_name());
  dataset.set_blob_digest(request.dataset().blob_digest());
  DW_RETURN_IF_ERROR(ReadLines(tenant, dataset));
  const absl::Time now = clock_.Now();
  *dataset.mutable_create_time() = scheduler::ToProto(now);

  ResourceRow row;
  row.name = dataset.name();
  row.message = dataset.SerializeAsString();
  const absl::Status inserted =
      metadata_.InsertResource(tenant, kKind, kRpc, row, {dataset.manifest_digest()}, request, now);
  if (absl::IsAlreadyExists(inserted)) {
    // The same request may have come twice at the same time.
    DW_ASSIGN_OR_RETURN(const std::optional<std::string> winner,
                        metadata_.FindRequest(tenant, kRpc, request));
    if (winner.has_value()) return Get(*winner);
  }
  DW_RETURN_IF_ERROR(inserted);
  return dataset;
}

absl::StatusOr<v1::Dataset> Datasets::Get(const std::string& name) {
  DW_ASSIGN_OR_RETURN(const ResourceRow row, metadata_.GetResource(name));
  return ParseRow(row);
}

absl::StatusOr<v1::ListDatasetsResponse> Datasets::List(const std::string& tenant,
                                                        const v1::ListDatasetsRequest& request) {
  DW_ASSIGN_OR_RETURN(const ResourcePage page, ListResourcePage(metadata_, tenant, kKind, request));
  v1::ListDatasetsResponse response;
  for (const ResourceRow& row : page.rows) {
    DW_ASSIGN_OR_RETURN(*response.add_datasets(), ParseRow(row));
  }
  response.set_next_page_token(page.next_page_token);
  return response;
}

}  // namespace deltaworks::services
