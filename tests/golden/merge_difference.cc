#include "tests/golden/merge_difference.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "trainer/lora/adapter.h"
#include "trainer/lora/merge.h"
#include "trainer/model/llama.h"

namespace deltaworks::trainer {
namespace {

// The largest relative error of a rounding to `type`.
double RoundingUnit(DType type) { return type == DType::kBF16 ? 0x1p-8 : 0x1p-24; }

// Of one pass, see above.
double Roundings(DType compute, const ModelConfig& config) {
  if (compute == DType::kF64) return 1;
  if (compute == DType::kBF16) return 15.0 * static_cast<double>(config.num_hidden_layers) + 1;
  auto products = static_cast<double>(config.hidden_size);  // Of the output.
  for (const LinearModule& module : LlamaModules(config)) products += static_cast<double>(module.k);
  return products;
}

double LargestDifference(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max<double>(largest, std::abs(a[i] - b[i]));
  return largest;
}

}  // namespace

MergeDifference MeasureMergeDifference(Backend& backend, const ModelConfig& config,
                                       const TensorMap& base, const PeftAdapter& peft,
                                       absl::Span<const int32_t> ids,
                                       absl::Span<const int32_t> positions) {
  const auto adapter = *Adapter::Create(backend, peft.targets, /*trainable=*/false);
  adapter->WriteParameters(peft.values);
  const auto logits_of = [&](const TensorMap& tensors, const Adapter* beside) {
    const auto model = *Llama::Create(
        backend, config, tensors,
        {.positions_max = static_cast<int64_t>(ids.size()), .convert_weights = true});
    Workspace workspace(backend, config);
    PackedBatch batch;
    batch.BeginSegment(beside, {});
    batch.AppendDocument(ids, std::vector<int32_t>(ids.size(), -1), 1);
    batch.EndSegment();
    return *model->Logits(batch, positions, workspace);
  };
  const auto merged_weights = *MergedWeights::Create(base, peft.targets, peft.values);
  const std::vector<float> merged = logits_of(merged_weights->tensors(), nullptr);
  const std::vector<float> unmerged = logits_of(base, adapter.get());

  double squares = 0;
  for (const float logit : unmerged) squares += double{logit} * logit;
  const double rms = std::sqrt(squares / static_cast<double>(unmerged.size()));
  const DType form = base.at(peft.targets[0].module.name + ".weight").dtype;
  const double merge_unit = RoundingUnit(form);
  const double pass_unit = RoundingUnit(backend.compute_type());
  const double variance = (static_cast<double>(peft.targets.size()) * merge_unit * merge_unit +
                           2 * Roundings(backend.compute_type(), config) * pass_unit * pass_unit) /
                          3;
  return {.largest = LargestDifference(merged, unmerged),
          .bound = 6 * std::sqrt(variance) * rms,
          .adapter = LargestDifference(unmerged, logits_of(base, nullptr))};
}

}  // namespace deltaworks::trainer
