#include "trainer/lora/merge.h"

#include <algorithm>
#include <cmath>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "trainer/base/status_macros.h"
#include "trainer/lora/adapter.h"

namespace deltaworks::trainer {
namespace {

struct Factors {
  const float* a = nullptr;  // [R,K]
  const float* b = nullptr;  // [N,R]
};

// merged = round(base + scale b a). Returns the largest error, in units of the result's power of
// two.
template <typename Stored>
double MergeMatrix(const LoraTarget& target, const Factors& factors, const Stored* base,
                   Stored* merged) {
  const int64_t n = target.module.n, k = target.module.k;
  std::vector<float> delta(k);
  std::vector<double> exact(k);
  double worst = 0;
  for (int64_t row = 0; row < n; ++row) {
    std::fill(delta.begin(), delta.end(), 0.0f);
    std::fill(exact.begin(), exact.end(), 0.0);
    for (int64_t r = 0; r < target.rank; ++r) {
      const float b = factors.b[row * target.rank + r];
      const float* a = factors.a + r * k;
      for (int64_t j = 0; j < k; ++j) {
        delta[j] += b * a[j];
        exact[j] += double{b} * a[j];
      }
    }
    for (int64_t j = 0; j < k; ++j) {
      const float w = static_cast<float>(base[row * k + j]);
      const Stored result = Stored(w + target.scale * delta[j]);
      merged[row * k + j] = result;
      const double value = static_cast<double>(static_cast<float>(result));
      const double error = std::abs(value - (w + double{target.scale} * exact[j]));
      int exponent = 0;
      std::frexp(value, &exponent);
      if (value != 0) worst = std::max(worst, std::ldexp(error, 1 - exponent));
    }
  }
  return worst;
}

}  // namespace

absl::StatusOr<std::unique_ptr<MergedWeights>> MergedWeights::Create(
    const TensorMap& base, absl::Span<const LoraTarget> targets, absl::Span<const float> values) {
  auto merged = std::unique_ptr<MergedWeights>(new MergedWeights());
  merged->tensors_ = base;
  std::vector<Factors> factors(targets.size());
  for (const AdapterTensor& tensor : AdapterTensors(targets)) {
    (tensor.is_a ? factors[tensor.target].a : factors[tensor.target].b) =
        values.data() + tensor.offset;
  }
  for (size_t i = 0; i < targets.size(); ++i) {
    const std::string name = absl::StrCat(targets[i].module.name, ".weight");
    const auto found = merged->tensors_.find(name);
    const std::vector<int64_t> shape = {targets[i].module.n, targets[i].module.k};
    if (found == merged->tensors_.end() || found->second.shape != shape) {
      return absl::InvalidArgumentError(absl::StrCat(
          name, " is ", found == merged->tensors_.end() ? "absent" : ShapeText(found->second.shape),
          ", want ", ShapeText(shape)));
    }
    ConstTensorView& tensor = found->second;
    std::string& bytes = merged->storage_.emplace_back(tensor.bytes(), '\0');
    double error = 0;
    if (tensor.dtype == DType::kBF16) {
      error = MergeMatrix(targets[i], factors[i], tensor.as<const BFloat16>(),
                          reinterpret_cast<BFloat16*>(bytes.data()));
    } else if (tensor.dtype == DType::kF32) {
      error = MergeMatrix(targets[i], factors[i], tensor.as<const float>(),
                          reinterpret_cast<float*>(bytes.data()));
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat(name, " is ", NameOf(tensor.dtype), ", want F32 or BF16"));
    }
    merged->merge_error_ = std::max(merged->merge_error_, error);
    tensor.data = bytes.data();
  }
  return merged;
}

}  // namespace deltaworks::trainer
