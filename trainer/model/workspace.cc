#include "trainer/model/workspace.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <utility>

#include "glog/logging.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::trainer {
namespace {

constexpr int64_t kAlignment = 64;

int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

PassShape ShapeOf(const ModelConfig& config, const WorkspaceSize& size) {
  const int64_t query = config.num_attention_heads * config.head_dim;
  const int64_t key = config.num_key_value_heads * config.head_dim;
  PassShape pass;
  pass.rows = size.rows;
  pass.labels = size.labels;
  pass.segments = size.segments;
  pass.keys = std::max(size.keys, size.rows);
  pass.hidden = *std::max_element(size.hidden.begin(), size.hidden.end());
  pass.width = config.hidden_size;
  pass.features = std::max({query + 2 * key, 2 * config.intermediate_size, config.hidden_size});
  pass.linear = std::max({query, key, config.intermediate_size, config.hidden_size});
  pass.vocabulary = config.vocab_size;
  pass.attention = {.query_heads = config.num_attention_heads,
                    .kv_heads = config.num_key_value_heads,
                    .head_dim = config.head_dim};
  pass.training = size.training;
  return pass;
}

}  // namespace

// Hands out pieces of one allocation, or only adds up their sizes while `base` is null.
class Workspace::Planner {
 public:
  explicit Planner(char* base) : base_(base) {}

  TensorView Take(DType dtype, std::vector<int64_t> shape) {
    TensorView view{base_ == nullptr ? nullptr : base_ + used_, dtype, std::move(shape)};
    used_ += RoundUp(view.bytes(), kAlignment);
    return view;
  }
  int64_t used() const { return used_; }

 private:
  char* const base_;
  int64_t used_ = 0;
};

void Workspace::Plan(Planner& planner, const WorkspaceSize& size) {
  const DType wide = backend_.wide_type(), compute = backend_.compute_type();
  const int64_t rows = size.rows, labels = size.labels;
  const int64_t d = config_.hidden_size, inner = config_.intermediate_size;
  const int64_t query = config_.num_attention_heads * config_.head_dim;
  const int64_t key = config_.num_key_value_heads * config_.head_dim;

  layers_.assign(size.training ? config_.num_hidden_layers : 1, LayerActivations());
  for (LayerActivations& layer : layers_) {
    layer.x_in = planner.Take(wide, {rows, d});
    layer.x_mid = planner.Take(wide, {rows, d});
    layer.rstd_in = planner.Take(wide, {rows});
    layer.rstd_mid = planner.Take(wide, {rows});
    layer.q = planner.Take(compute, {rows, query});
    layer.k = planner.Take(compute, {rows, key});
    layer.v = planner.Take(compute, {rows, key});
    layer.attended = planner.Take(compute, {rows, query});
    layer.lse = planner.Take(wide, {rows, config_.num_attention_heads});
    layer.gate = planner.Take(compute, {rows, inner});
    layer.up = planner.Take(compute, {rows, inner});
    for (int group = 0; group < kLinearGroups; ++group) {
      layer.hidden[group] = planner.Take(compute, {rows, size.hidden[group]});
    }
  }
  ids = planner.Take(DType::kI32, {rows});
  positions = planner.Take(DType::kI32, {rows});
  cache_rows = planner.Take(DType::kI32, {rows});
  x_out = planner.Take(wide, {rows, d});
  rstd_out = planner.Take(wide, {rows});
  normed = planner.Take(compute, {rows, d});
  branch = planner.Take(compute, {rows, d});
  activated = planner.Take(compute, {rows, inner});
  label_rows = planner.Take(DType::kI32, {labels});
  this->labels = planner.Take(DType::kI32, {labels});
  label_weights = planner.Take(wide, {labels});
  losses = planner.Take(wide, {labels});
  labelled = planner.Take(compute, {labels, d});
  dlabelled = planner.Take(compute, {labels, d});
  logits = planner.Take(wide, {size.logits, config_.vocab_size});
  likeliest = planner.Take(DType::kI32, {size.logits});
  if (!size.training) return;
  dx = planner.Take(wide, {rows, d});
  dbranch = planner.Take(compute, {rows, d});
  dnormed = planner.Take(compute, {rows, d});
  dq = planner.Take(compute, {rows, query});
  dk = planner.Take(compute, {rows, key});
  dv = planner.Take(compute, {rows, key});
  dattended = planner.Take(compute, {rows, query});
  dactivated = planner.Take(compute, {rows, inner});
  dgate = planner.Take(compute, {rows, inner});
  dup = planner.Take(compute, {rows, inner});
  dhidden =
      planner.Take(compute, {rows, *std::max_element(size.hidden.begin(), size.hidden.end())});
}

absl::Status Workspace::Reserve(const WorkspaceSize& size) {
  WorkspaceSize grown = size;
  grown.rows = std::max(size.rows, size_.rows);
  grown.labels = std::max(size.labels, size_.labels);
  grown.logits = std::max(size.logits, size_.logits);
  grown.training = size.training || size_.training;
  for (int group = 0; group < kLinearGroups; ++group) {
    grown.hidden[group] = std::max(size.hidden[group], size_.hidden[group]);
  }
  if (absl::Status status = backend_.ReserveScratch(ShapeOf(config_, size)); !status.ok()) {
    buffer_.reset();
    size_ = WorkspaceSize();
    return status;
  }
  if (buffer_ != nullptr && grown.rows == size_.rows && grown.labels == size_.labels &&
      grown.logits == size_.logits && grown.training == size_.training &&
      grown.hidden == size_.hidden) {
    return absl::OkStatus();
  }
  buffer_.reset();
  size_ = WorkspaceSize();
  Planner sizes(nullptr);
  Plan(sizes, grown);
  DW_ASSIGN_OR_RETURN(buffer_, backend_.Allocate(sizes.used()));
  Planner pieces(static_cast<char*>(buffer_->data()));
  Plan(pieces, grown);
  size_ = grown;
  return absl::OkStatus();
}

void Workspace::Release() {
  buffer_.reset();
  size_ = WorkspaceSize();
  // Giving back cannot fail.
  CHECK(backend_.ReserveScratch({}).ok());
}

int64_t Workspace::Bytes(const Backend& backend, const ModelConfig& config,
                         const WorkspaceSize& size) {
  // Planning asks the backend for its types only.
  Workspace workspace(const_cast<Backend&>(backend), config);
  Planner sizes(nullptr);
  workspace.Plan(sizes, size);
  return sizes.used();
}

int64_t Workspace::ScratchBytes(const Backend& backend, const ModelConfig& config,
                                const WorkspaceSize& size) {
  return backend.ScratchBytes(ShapeOf(config, size));
}

std::array<int64_t, kLinearGroups> HiddenColumns(absl::Span<const LoraTarget> targets) {
  // By slot of a layer: q, k, v, o, gate, up, down.
  static constexpr LinearGroup kGroupOfSlot[] = {kQkvGroup,    kQkvGroup,    kQkvGroup, kOutGroup,
                                                 kGateUpGroup, kGateUpGroup, kDownGroup};
  std::map<std::pair<int64_t, LinearGroup>, int64_t> sums;
  std::array<int64_t, kLinearGroups> columns = {};
  for (const LoraTarget& target : targets) {
    CHECK_LT(static_cast<size_t>(target.module.slot), std::size(kGroupOfSlot))
        << target.module.name;
    const LinearGroup group = kGroupOfSlot[target.module.slot];
    int64_t& sum = sums[{target.module.layer, group}];
    sum += target.rank;
    columns[group] = std::max(columns[group], sum);
  }
  return columns;
}

TensorView Rows(const TensorView& view, int64_t rows) {
  TensorView result = view;
  result.shape[0] = rows;
  return result;
}

}  // namespace deltaworks::trainer
