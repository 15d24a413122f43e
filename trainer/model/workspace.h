// Workspace: the memory of passes over one model: activations kept for backward, and what a layer
// needs while it runs. It grows when a pass needs more rows, labels or rank than any before, and
// is reused otherwise. Thread-compatible. `backend` must outlive it.

#ifndef DELTAWORKS_TRAINER_MODEL_WORKSPACE_H_
#define DELTAWORKS_TRAINER_MODEL_WORKSPACE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "trainer/backend/backend.h"
#include "trainer/lora/lora_config.h"
#include "trainer/model/config.h"

namespace deltaworks::trainer {

// Linears that read the same input.
enum LinearGroup { kQkvGroup = 0, kOutGroup = 1, kGateUpGroup = 2, kDownGroup = 3 };
inline constexpr int kLinearGroups = 4;

struct WorkspaceSize {
  int64_t rows = 0;    // T of the largest batch.
  int64_t labels = 0;  // Labelled (or asked for) rows.
  int64_t logits = 0;  // Those of them whose logits are handed out.
  int64_t segments = 1;
  int64_t keys = 0;  // Of the longest span; the pass's own rows if less.
  // Columns of each group's hidden values: the largest sum of ranks of a segment.
  std::array<int64_t, kLinearGroups> hidden = {};
  bool training = false;
};

// WorkspaceSize::hidden for one adapter of these targets, which are linears of LlamaModules().
std::array<int64_t, kLinearGroups> HiddenColumns(absl::Span<const LoraTarget> targets);

// Views have the rows that they were reserved with; Rows(view, T) gives the first T.
struct LayerActivations {
  TensorView x_in, x_mid;        // [T,D] wide: inputs of the two blocks.
  TensorView rstd_in, rstd_mid;  // [T] wide.
  TensorView q, k, v, attended;  // compute.
  TensorView lse;                // [T, heads] wide.
  TensorView gate, up;           // [T,I] compute.
  std::array<TensorView, kLinearGroups> hidden;
};

class Workspace {
 public:
  Workspace(Backend& backend, const ModelConfig& config) : backend_(backend), config_(config) {}

  // With the backend's scratch for such a pass. ResourceExhausted if the device has no room; then
  // the workspace is empty and may be used again.
  absl::Status Reserve(const WorkspaceSize& size);

  // Gives all memory back, the backend's scratch too, until the next Reserve.
  void Release();

  // What Reserve(size) allocates, and an upper bound of what the backend then holds beside it, once
  // for all workspaces.
  static int64_t Bytes(const Backend& backend, const ModelConfig& config,
                       const WorkspaceSize& size);
  static int64_t ScratchBytes(const Backend& backend, const ModelConfig& config,
                              const WorkspaceSize& size);

  // One set per layer when reserved for training, else all layers share one.
  const LayerActivations& layer(int64_t index) const {
    return layers_[layers_.size() == 1 ? 0 : index];
  }

  TensorView ids, positions;         // [T] i32.
  TensorView cache_rows;             // [T] i32: where a KvCache keeps each row's key and value.
  TensorView x_out;                  // [T,D] wide: after the last layer.
  TensorView rstd_out;               // [T] wide.
  TensorView normed, branch;         // [T,D] compute.
  TensorView activated;              // [T,I] compute.
  TensorView label_rows, labels;     // [L] i32.
  TensorView label_weights, losses;  // [L] wide.
  TensorView labelled, dlabelled;    // [L,D] compute.
  TensorView logits;                 // [logits,V] wide.
  TensorView likeliest;              // [logits] i32.
  // Training only.
  TensorView dx;                      // [T,D] wide.
  TensorView dbranch, dnormed;        // [T,D] compute.
  TensorView dq, dk, dv, dattended;   // compute.
  TensorView dactivated, dgate, dup;  // [T,I] compute.
  TensorView dhidden;                 // [T, largest hidden] compute.

 private:
  class Planner;
  void Plan(Planner& planner, const WorkspaceSize& size);

  Backend& backend_;
  const ModelConfig config_;
  WorkspaceSize size_;
  std::unique_ptr<DeviceBuffer> buffer_;
  std::vector<LayerActivations> layers_;
};

// The first `rows` rows of `view`.
TensorView Rows(const TensorView& view, int64_t rows);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_MODEL_WORKSPACE_H_
