// Llama: the forward and backward pass of a Llama-shaped decoder (Touvron et al. 2023: RMSNorm
// before each block, rotary positions, grouped-query attention, SwiGLU, no biases) over a packed
// batch, with the LoRA adapters of each segment applied where they are adapted.
//
// The weights are frozen: backward gives gradients of adapters only, and stops below the lowest
// layer that any segment adapts. Kept from forward, per layer: the two residual inputs, q, k, v,
// the attention's output, gate and up, and the adapters' hidden values; norms and SwiGLU are
// computed again in backward, which costs less than keeping them.
//
// A Llama is immutable and may be shared; a Workspace belongs to one caller at a time, and so does
// the Backend (its thread rule is theirs). Ids, positions and row numbers of a batch are the
// caller's duty: out of range is a CHECK failure.

#ifndef DELTAWORKS_TRAINER_MODEL_LLAMA_H_
#define DELTAWORKS_TRAINER_MODEL_LLAMA_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "trainer/backend/backend.h"
#include "trainer/formats/safetensors.h"
#include "trainer/lora/lora_config.h"
#include "trainer/model/config.h"
#include "trainer/model/kv_cache.h"
#include "trainer/model/packed_batch.h"
#include "trainer/model/workspace.h"

namespace deltaworks::trainer {

struct NextTokens {
  std::vector<int32_t> likeliest;  // The first of the largest logits (Backend::ArgMax).
  std::vector<float> logits;
};

struct LlamaOptions {
  // Longest document; at most the config's max_position_embeddings.
  int64_t positions_max = 0;
  // Weights of another type than the backend's compute type are refused, unless this allows a
  // private converted copy (tests on ReferenceBackend).
  bool convert_weights = false;
};

class Llama {
 public:
  // `tensors` by Hugging Face's names; what they point to, and `backend`, outlive the model.
  // InvalidArgument if a tensor is absent, misshaped or of another type than the backend computes
  // in.
  static absl::StatusOr<std::unique_ptr<Llama>> Create(Backend& backend, const ModelConfig& config,
                                                       const TensorMap& tensors,
                                                       const LlamaOptions& options);

  const ModelConfig& config() const { return config_; }
  Backend& backend() const { return backend_; }
  int64_t positions_max() const { return options_.positions_max; }
  // Of weights that the backend keeps in its device's memory; 0 if it reads them in place.
  int64_t device_bytes() const;
  // Every linear that can be adapted: layer by layer q, k, v, o, gate, up, down.
  const std::vector<LinearModule>& modules() const { return modules_; }

  // The cross entropy, in nats, of each labelled row.
  // ResourceExhausted if the workspace must grow and the device has no room.
  absl::StatusOr<std::vector<double>> Losses(const PackedBatch& batch, Workspace& workspace) const;

  // Losses, and ADDS the gradient of sum_i label_weights[i] * loss_i to each segment's adapter.
  // At least one segment has an adapter; all of them are trainable.
  absl::StatusOr<std::vector<double>> LossesAndGradients(const PackedBatch& batch,
                                                         Workspace& workspace) const;

  // Logits [rows.size(), V] of the given rows, which may be none. With a `cache`, every row is in a
  // span, and the spans' key rows are rows of the cache; each span's new keys and values are stored
  // at its last rows there first.
  absl::StatusOr<std::vector<float>> Logits(const PackedBatch& batch,
                                            absl::Span<const int32_t> rows, Workspace& workspace,
                                            ProductPath path = ProductPath::kBatch,
                                            KvCache* cache = nullptr) const;
  // The same, but of the logits only what comes next: each row's likeliest token, which the device
  // finds, and the logits [sampled, V] of the first `sampled` rows.
  absl::StatusOr<NextTokens> Next(const PackedBatch& batch, absl::Span<const int32_t> rows,
                                  int64_t sampled, Workspace& workspace, ProductPath path,
                                  KvCache* cache) const;

 private:
  friend class LlamaPass;

  struct Layer {
    std::vector<std::unique_ptr<FrozenLinear>> linears;  // By slot.
    ConstTensorView input_norm;
    ConstTensorView post_attention_norm;
  };

  Llama(Backend& backend, const ModelConfig& config, const LlamaOptions& options);
  absl::Status Load(const TensorMap& tensors);
  absl::Status LoadNorms(const TensorMap& tensors);
  // The tensor `name` of this shape, in `dtype`; in the host's memory.
  absl::StatusOr<ConstTensorView> Find(const TensorMap& tensors, const std::string& name,
                                       const std::vector<int64_t>& shape, DType dtype);
  absl::Status MakeRope();
  // Issues Logits() of these rows, which stay in the workspace.
  absl::Status IssueLogits(const PackedBatch& batch, absl::Span<const int32_t> rows,
                           Workspace& workspace, ProductPath path, KvCache* cache) const;
  std::vector<float> ReadLogits(const Workspace& workspace, int64_t rows) const;
  const FrozenLinear& output() const { return head_ == nullptr ? *embedding_ : *head_; }

  Backend& backend_;
  const ModelConfig config_;
  const LlamaOptions options_;
  std::vector<LinearModule> modules_;
  std::unique_ptr<FrozenLinear> embedding_;
  std::unique_ptr<FrozenLinear> head_;  // None: the embedding's transpose.
  ConstTensorView final_norm_;
  std::vector<Layer> layers_;
  TensorView cosines_, sines_;                        // [positions_max, head_dim / 2] wide.
  std::vector<std::unique_ptr<DeviceBuffer>> owned_;  // Norms, rope tables.
  std::vector<std::vector<char>> converted_;  // Weights of another type, in the compute type.
};

// The linears of a Llama-shaped model, as Llama::modules() lists them, without the model.
std::vector<LinearModule> LlamaModules(const ModelConfig& config);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_MODEL_LLAMA_H_
