#include "trainer/lora/adapter.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "trainer/backend/philox.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::trainer {
namespace {

constexpr int64_t kTrainableArrays = 4;  // Masters, gradient, m, v.

// `elements` of `flat` from `offset`, as a matrix.
TensorView Slice(const TensorView& flat, int64_t offset, std::vector<int64_t> shape) {
  return TensorView{static_cast<char*>(flat.data) + offset * SizeOf(flat.dtype), flat.dtype,
                    std::move(shape)};
}

}  // namespace

std::vector<AdapterTensor> AdapterTensors(absl::Span<const LoraTarget> targets) {
  std::vector<AdapterTensor> tensors;
  for (size_t i = 0; i < targets.size(); ++i) {
    const LoraTarget& target = targets[i];
    const std::string prefix = absl::StrCat("base_model.model.", target.module.name);
    const int64_t index = static_cast<int64_t>(i);
    tensors.push_back(
        {absl::StrCat(prefix, ".lora_A.weight"), {target.rank, target.module.k}, 0, index, true});
    tensors.push_back(
        {absl::StrCat(prefix, ".lora_B.weight"), {target.module.n, target.rank}, 0, index, false});
  }
  std::sort(tensors.begin(), tensors.end(),
            [](const AdapterTensor& a, const AdapterTensor& b) { return a.name < b.name; });
  int64_t offset = 0;
  for (AdapterTensor& tensor : tensors) {
    tensor.offset = offset;
    offset += tensor.elements();
  }
  return tensors;
}

absl::StatusOr<std::unique_ptr<Adapter>> Adapter::Create(Backend& backend,
                                                         std::vector<LoraTarget> targets,
                                                         bool trainable) {
  auto adapter = std::unique_ptr<Adapter>(new Adapter(backend, std::move(targets), trainable));
  const int64_t arrays = trainable ? kTrainableArrays : 1;
  DW_ASSIGN_OR_RETURN(adapter->wide_,
                      backend.Allocate(arrays * adapter->elements_ * SizeOf(backend.wide_type())));
  if (backend.compute_type() != backend.wide_type()) {
    DW_ASSIGN_OR_RETURN(adapter->rounded_,
                        backend.Allocate(adapter->elements_ * SizeOf(backend.compute_type())));
  }
  adapter->MakePairs();
  return adapter;
}

Adapter::Adapter(Backend& backend, std::vector<LoraTarget> targets, bool trainable)
    : backend_(backend),
      targets_(std::move(targets)),
      trainable_(trainable),
      tensors_(AdapterTensors(targets_)),
      elements_(TrainableParameters(targets_)) {
  for (const LoraTarget& target : targets_) slots_ = std::max(slots_, target.module.slot + 1);
  for (size_t i = 0; i < targets_.size(); ++i) {
    const size_t place = PlaceOf(targets_[i].module.layer, targets_[i].module.slot);
    target_of_place_.resize(std::max(target_of_place_.size(), place + 1), -1);
    target_of_place_[place] = static_cast<int64_t>(i);
  }
}

void Adapter::MakePairs() {
  const TensorView values =
      rounded_ == nullptr ? parameters()
                          : TensorView{rounded_->data(), backend_.compute_type(), {elements_}};
  pairs_.resize(targets_.size());
  for (const AdapterTensor& tensor : tensors_) {
    LoraPair& pair = pairs_[tensor.target];
    pair.scale = targets_[tensor.target].scale;
    (tensor.is_a ? pair.a : pair.b) = Slice(values, tensor.offset, tensor.shape);
    if (trainable_) {
      (tensor.is_a ? pair.da : pair.db) = Slice(gradient(), tensor.offset, tensor.shape);
    }
  }
}

TensorView Adapter::Wide(int64_t array) const {
  CHECK(array == 0 || trainable_);
  const DType type = backend_.wide_type();
  return TensorView{
      static_cast<char*>(wide_->data()) + array * elements_ * SizeOf(type), type, {elements_}};
}

void Adapter::InitializeRandom(uint64_t seed) {
  std::vector<float> values(elements_, 0.0f);
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const AdapterTensor& tensor = tensors_[i];
    if (!tensor.is_a) continue;
    const double bound = 1 / std::sqrt(static_cast<double>(tensor.shape[1]));
    for (int64_t j = 0; j < tensor.elements(); ++j) {
      const PhiloxWords words =
          Philox4x32(seed, {static_cast<uint32_t>(i), kInitializationSite,
                            static_cast<uint32_t>(j / 4), static_cast<uint32_t>((j / 4) >> 32)});
      const double unit = (words[j % 4] + 0.5) * 0x1p-32;  // In (0, 1).
      values[tensor.offset + j] = static_cast<float>((2 * unit - 1) * bound);
    }
  }
  WriteParameters(values);
}

void Adapter::WriteParameters(absl::Span<const float> values) {
  Write(values, parameters());
  RoundParameters();
}

void Adapter::WriteMoments(absl::Span<const float> m_values, absl::Span<const float> v_values) {
  Write(m_values, m());
  Write(v_values, v());
}

std::vector<float> Adapter::Read(TensorView view) const {
  std::vector<float> values(elements_);
  if (view.dtype == DType::kF32) {
    backend_.CopyToHost(view, values.data());
    return values;
  }
  std::vector<double> doubles(elements_);
  backend_.CopyToHost(view, doubles.data());
  std::copy(doubles.begin(), doubles.end(), values.begin());
  return values;
}

void Adapter::Write(absl::Span<const float> values, TensorView view) {
  CHECK_EQ(static_cast<int64_t>(values.size()), elements_);
  if (view.dtype == DType::kF32) {
    backend_.CopyToDevice(values.data(), view);
    return;
  }
  const std::vector<double> doubles(values.begin(), values.end());
  backend_.CopyToDevice(doubles.data(), view);
}

void Adapter::RoundParameters() {
  if (rounded_ == nullptr) return;
  backend_.Round(parameters(), TensorView{rounded_->data(), backend_.compute_type(), {elements_}});
}

const LoraPair* Adapter::pair(int64_t layer, int64_t slot) const {
  const size_t place = PlaceOf(layer, slot);
  if (slot >= slots_ || place >= target_of_place_.size()) return nullptr;
  const int64_t target = target_of_place_[place];
  return target < 0 ? nullptr : &pairs_[target];
}

int64_t Adapter::lowest_layer() const {
  int64_t lowest = targets_[0].module.layer;
  for (const LoraTarget& target : targets_) lowest = std::min(lowest, target.module.layer);
  return lowest;
}

int64_t Adapter::Bytes(const Backend& backend, absl::Span<const LoraTarget> targets,
                       bool trainable) {
  const int64_t elements = TrainableParameters(targets);
  int64_t bytes = elements * (trainable ? kTrainableArrays : 1) * SizeOf(backend.wide_type());
  if (backend.compute_type() != backend.wide_type()) {
    bytes += elements * SizeOf(backend.compute_type());
  }
  return bytes;
}

}  // namespace deltaworks::trainer
