#include "services/worker/probe.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "trainer/base/sha256.h"
#include "trainer/base/status_macros.h"
#include "trainer/lora/peft_format.h"
#include "trainer/model/packed_batch.h"
#include "trainer/model/workspace.h"

namespace deltaworks::services {
namespace {

trainer::PackedBatch ProbeBatch(absl::Span<const trainer::Example> examples,
                                const trainer::Adapter& adapter) {
  trainer::PackedBatch batch;
  batch.BeginSegment(&adapter, {});
  for (const trainer::Example& example : examples) {
    const int64_t room = kProbeTokensMax - batch.rows();
    if (room <= 0) break;
    const size_t rows = static_cast<size_t>(std::min(room, example.rows()));
    const std::vector<int32_t> labels = example.RowLabels();
    batch.AppendDocument(absl::MakeConstSpan(example.ids).first(rows),
                         absl::MakeConstSpan(labels).first(rows), 1);
  }
  batch.EndSegment();
  return batch;
}

}  // namespace

absl::StatusOr<std::string> ProbeDigest(const trainer::Llama& model,
                                        absl::Span<const trainer::Example> examples,
                                        const trainer::Adapter& adapter) {
  const trainer::PackedBatch batch = ProbeBatch(examples, adapter);
  std::vector<int32_t> rows = batch.label_rows;
  // A long first example may be cut before its first label.
  if (rows.empty()) rows.push_back(static_cast<int32_t>(batch.rows() - 1));
  rows.resize(std::min(rows.size(), kProbeRowsMax));
  trainer::Workspace workspace(model.backend(), model.config());
  DW_ASSIGN_OR_RETURN(const std::vector<float> logits, model.Logits(batch, rows, workspace));
  return Sha256Digest(absl::string_view(reinterpret_cast<const char*>(logits.data()),
                                        logits.size() * sizeof(float)));
}

absl::StatusOr<std::string> ProbeDigestOfFiles(const trainer::Llama& model,
                                               absl::Span<const trainer::Example> examples,
                                               absl::string_view adapter_model,
                                               absl::string_view adapter_config) {
  absl::StatusOr<trainer::PeftAdapter> parsed =
      trainer::ParsePeft(adapter_model, adapter_config, model.modules());
  if (!parsed.ok()) {
    return absl::DataLossError(
        absl::StrCat("the adapter read back cannot be loaded: ", parsed.status().message()));
  }
  DW_ASSIGN_OR_RETURN(const std::unique_ptr<trainer::Adapter> adapter,
                      trainer::Adapter::Create(model.backend(), std::move(parsed->targets),
                                               /*trainable=*/false));
  adapter->WriteParameters(parsed->values);
  return ProbeDigest(model, examples, *adapter);
}

}  // namespace deltaworks::services
