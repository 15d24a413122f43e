// Adapter: the numbers of one LoRA adapter on a device: A and B of every target, and while it is
// trained their gradients and Adam's moments.
//
//   master   A and B, wide (f32)                       [parameters()]
//   gradient, m, v, as many wide numbers each            only if trainable
//   rounded  A and B in the compute type, what products read; the masters themselves where the
//            compute type is the wide type
//
// Each array holds the tensors one after the other in the order of tensors(), which is the order of
// their PEFT names: "base_model.model.<module>.lora_A.weight" [R,K], "...lora_B.weight" [N,R].
// Thread-compatible. `backend` must outlive the adapter.

#ifndef DELTAWORKS_TRAINER_LORA_ADAPTER_H_
#define DELTAWORKS_TRAINER_LORA_ADAPTER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "trainer/backend/backend.h"
#include "trainer/lora/lora_config.h"

namespace deltaworks::trainer {

struct AdapterTensor {
  std::string name;
  std::vector<int64_t> shape;
  int64_t offset = 0;  // Of the first element in each array.
  int64_t target = 0;  // Index in targets().
  bool is_a = false;

  int64_t elements() const { return shape[0] * shape[1]; }
};

// The tensors of an adapter with these targets, in order, with their offsets.
std::vector<AdapterTensor> AdapterTensors(absl::Span<const LoraTarget> targets);

class Adapter {
 public:
  // All zeros. ResourceExhausted if the device has no room.
  static absl::StatusOr<std::unique_ptr<Adapter>> Create(Backend& backend,
                                                         std::vector<LoraTarget> targets,
                                                         bool trainable);

  const std::vector<LoraTarget>& targets() const { return targets_; }
  const std::vector<AdapterTensor>& tensors() const { return tensors_; }
  int64_t elements() const { return elements_; }
  bool trainable() const { return trainable_; }

  // A uniform in (-1, 1) / sqrt(K) (Kaiming with a = sqrt(5), as PEFT draws it), a function of
  // `seed` and the element's place only; B zero, so that the adapter starts as no change.
  void InitializeRandom(uint64_t seed);

  // Flat arrays on the host, elements() long.
  std::vector<float> ReadParameters() const { return Read(parameters()); }
  std::vector<float> ReadM() const { return Read(m()); }
  std::vector<float> ReadV() const { return Read(v()); }
  void WriteParameters(absl::Span<const float> values);
  void WriteMoments(absl::Span<const float> m, absl::Span<const float> v);

  // Flat views on the device, wide. The last three only if trainable.
  TensorView parameters() const { return Wide(0); }
  TensorView gradient() const { return Wide(1); }
  TensorView m() const { return Wide(2); }
  TensorView v() const { return Wide(3); }

  // Brings the rounded copy up to date; call after the masters changed.
  void RoundParameters();

  // What acts on the linear `slot` of `layer`; nullptr if it is not adapted.
  const LoraPair* pair(int64_t layer, int64_t slot) const;
  // The lowest layer with a target.
  int64_t lowest_layer() const;

  // Bytes on the device.
  static int64_t Bytes(const Backend& backend, absl::Span<const LoraTarget> targets,
                       bool trainable);

 private:
  Adapter(Backend& backend, std::vector<LoraTarget> targets, bool trainable);
  void MakePairs();
  TensorView Wide(int64_t array) const;
  std::vector<float> Read(TensorView view) const;
  void Write(absl::Span<const float> values, TensorView view);

  Backend& backend_;
  const std::vector<LoraTarget> targets_;
  const bool trainable_;
  const std::vector<AdapterTensor> tensors_;
  const int64_t elements_;
  std::unique_ptr<DeviceBuffer> wide_;     // One array, or four if trainable.
  std::unique_ptr<DeviceBuffer> rounded_;  // Null where compute and wide type are one.
  std::vector<LoraPair> pairs_;            // By target.
  // Asked for each linear of each pass, so by place: layer by layer its slots.
  size_t PlaceOf(int64_t layer, int64_t slot) const {
    return static_cast<size_t>(layer * slots_ + slot);
  }
  int64_t slots_ = 0;                     // Of a layer, up to the last that is adapted.
  std::vector<int64_t> target_of_place_;  // -1: not adapted.
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_LORA_ADAPTER_H_
