#include "trainer/model/llama.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "trainer/base/status_macros.h"
#include "trainer/model/llama_tensors.h"
#include "trainer/model/rope_table.h"

namespace deltaworks::trainer {
namespace {

// Linears of a layer, in the order of Llama::modules().
enum Slot { kQ, kK, kV, kO, kGate, kUp, kDown };
constexpr const char* kSlotNames[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                                      "self_attn.o_proj", "mlp.gate_proj",    "mlp.up_proj",
                                      "mlp.down_proj"};
constexpr int kSlots = 7;

struct SlotRange {
  int begin;
  int end;
};
constexpr SlotRange kGroupSlots[kLinearGroups] = {
    {kQ, kV + 1}, {kO, kO + 1}, {kGate, kUp + 1}, {kDown, kDown + 1}};

template <typename From, typename To>
void Convert(const From* from, int64_t count, To* to) {
  for (int64_t i = 0; i < count; ++i) {
    to[i] = static_cast<To>(static_cast<float>(from[i]));
  }
}

// Host numbers to a wide tensor of the device.
void CopyWide(Backend& backend, absl::Span<const double> values, const TensorView& view) {
  if (view.dtype == DType::kF64) {
    backend.CopyToDevice(values.data(), view);
    return;
  }
  const std::vector<float> floats(values.begin(), values.end());
  backend.CopyToDevice(floats.data(), view);
}

std::vector<double> ReadWide(Backend& backend, const TensorView& view) {
  std::vector<double> values(view.elements());
  if (view.dtype == DType::kF64) {
    backend.CopyToHost(view, values.data());
    return values;
  }
  std::vector<float> floats(view.elements());
  backend.CopyToHost(view, floats.data());
  std::copy(floats.begin(), floats.end(), values.begin());
  return values;
}

}  // namespace

std::vector<LinearModule> LlamaModules(const ModelConfig& config) {
  const int64_t d = config.hidden_size, inner = config.intermediate_size;
  const int64_t query = config.num_attention_heads * config.head_dim;
  const int64_t key = config.num_key_value_heads * config.head_dim;
  const std::array<std::pair<int64_t, int64_t>, kSlots> shapes = {
      {{query, d}, {key, d}, {key, d}, {d, query}, {inner, d}, {inner, d}, {d, inner}}};
  std::vector<LinearModule> modules;
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    for (int slot = 0; slot < kSlots; ++slot) {
      modules.push_back({absl::StrCat("model.layers.", layer, ".", kSlotNames[slot]),
                         shapes[slot].first, shapes[slot].second, layer, slot});
    }
  }
  return modules;
}

Llama::Llama(Backend& backend, const ModelConfig& config, const LlamaOptions& options)
    : backend_(backend), config_(config), options_(options), modules_(LlamaModules(config)) {}

absl::StatusOr<std::unique_ptr<Llama>> Llama::Create(Backend& backend, const ModelConfig& config,
                                                     const TensorMap& tensors,
                                                     const LlamaOptions& options) {
  if (options.positions_max < 1 || options.positions_max > config.max_position_embeddings) {
    return absl::InvalidArgumentError(absl::StrCat("longest document is ", options.positions_max,
                                                   " tokens, want 1..",
                                                   config.max_position_embeddings));
  }
  auto model = std::unique_ptr<Llama>(new Llama(backend, config, options));
  DW_RETURN_IF_ERROR(model->Load(tensors));
  DW_RETURN_IF_ERROR(model->MakeRope());
  return model;
}

absl::StatusOr<ConstTensorView> Llama::Find(const TensorMap& tensors, const std::string& name,
                                            const std::vector<int64_t>& shape, DType dtype) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) {
    return absl::InvalidArgumentError(absl::StrCat(name, " is absent, want ", ShapeText(shape)));
  }
  const ConstTensorView& tensor = found->second;
  if (tensor.shape != shape) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " is ", ShapeText(tensor.shape), ", want ", ShapeText(shape)));
  }
  if (tensor.dtype == dtype) return tensor;
  const bool known = tensor.dtype == DType::kF32 || tensor.dtype == DType::kBF16;
  const bool wanted = dtype == DType::kF32 || dtype == DType::kF64;
  if (!options_.convert_weights || !known || !wanted) {
    return absl::InvalidArgumentError(absl::StrCat(name, " is ", NameOf(tensor.dtype), ", want ",
                                                   NameOf(dtype),
                                                   ": the base's form must be the compute type"));
  }
  // In the host's memory, as the tensors are.
  const TensorView copy{nullptr, dtype, shape};
  void* data = converted_.emplace_back(copy.bytes()).data();
  const int64_t count = copy.elements();
  if (tensor.dtype == DType::kF32) {
    Convert(tensor.as<const float>(), count, static_cast<double*>(data));
  } else if (dtype == DType::kF64) {
    Convert(tensor.as<const BFloat16>(), count, static_cast<double*>(data));
  } else {
    Convert(tensor.as<const BFloat16>(), count, static_cast<float*>(data));
  }
  return ConstTensorView(data, dtype, shape);
}

absl::Status Llama::Load(const TensorMap& tensors) {
  const DType compute = backend_.compute_type();
  const std::vector<int64_t> table = {config_.vocab_size, config_.hidden_size};
  DW_ASSIGN_OR_RETURN(ConstTensorView embedding, Find(tensors, kEmbeddingTensor, table, compute));
  DW_ASSIGN_OR_RETURN(embedding_, backend_.PackTable(std::move(embedding)));
  if (!config_.tie_word_embeddings) {
    DW_ASSIGN_OR_RETURN(ConstTensorView head, Find(tensors, kOutputTensor, table, compute));
    DW_ASSIGN_OR_RETURN(head_, backend_.PackTable(std::move(head)));
  }
  layers_.resize(config_.num_hidden_layers);
  for (const LinearModule& module : modules_) {
    DW_ASSIGN_OR_RETURN(ConstTensorView weight, Find(tensors, absl::StrCat(module.name, ".weight"),
                                                     {module.n, module.k}, compute));
    DW_ASSIGN_OR_RETURN(layers_[module.layer].linears.emplace_back(),
                        backend_.Pack(std::move(weight)));
  }
  return LoadNorms(tensors);
}

int64_t Llama::device_bytes() const {
  int64_t bytes = embedding_->device_bytes() + (head_ == nullptr ? 0 : head_->device_bytes());
  for (const Layer& layer : layers_) {
    for (const auto& linear : layer.linears) bytes += linear->device_bytes();
  }
  return bytes;
}

absl::Status Llama::LoadNorms(const TensorMap& tensors) {
  const int64_t width = config_.hidden_size;
  const TensorView all{nullptr, DType::kF32, {2 * config_.num_hidden_layers + 1, width}};
  DW_ASSIGN_OR_RETURN(owned_.emplace_back(), backend_.Allocate(all.bytes()));
  char* next = static_cast<char*>(owned_.back()->data());
  const auto load = [&](const std::string& name, ConstTensorView* norm) -> absl::Status {
    DW_ASSIGN_OR_RETURN(const ConstTensorView weight, Find(tensors, name, {width}, DType::kF32));
    const TensorView copy{next, DType::kF32, {width}};
    backend_.CopyToDevice(weight.data, copy);
    *norm = copy;
    next += copy.bytes();
    return absl::OkStatus();
  };
  for (int64_t i = 0; i < config_.num_hidden_layers; ++i) {
    DW_RETURN_IF_ERROR(load(LayerTensor(i, "input_layernorm"), &layers_[i].input_norm));
    DW_RETURN_IF_ERROR(
        load(LayerTensor(i, "post_attention_layernorm"), &layers_[i].post_attention_norm));
  }
  return load(kFinalNormTensor, &final_norm_);
}

absl::Status Llama::MakeRope() {
  const RopeTable table = MakeRopeTable(config_, options_.positions_max);
  const DType wide = backend_.wide_type();
  for (const auto& [values, view] :
       {std::pair(&table.cosines, &cosines_), std::pair(&table.sines, &sines_)}) {
    *view = TensorView{nullptr, wide, {table.positions, table.half_dim}};
    DW_ASSIGN_OR_RETURN(owned_.emplace_back(), backend_.Allocate(view->bytes()));
    view->data = owned_.back()->data();
    CopyWide(backend_, std::vector<double>(values->begin(), values->end()), *view);
  }
  return absl::OkStatus();
}

// One pass over one batch.
class LlamaPass {
 public:
  LlamaPass(const Llama& model, const PackedBatch& batch, Workspace& workspace)
      : model_(model),
        backend_(model.backend_),
        config_(model.config_),
        batch_(batch),
        workspace_(workspace),
        rows_(batch.rows()) {}

  absl::Status Reserve(int64_t labels, bool training, int64_t logits = 0) {
    WorkspaceSize size{.rows = rows_,
                       .labels = labels,
                       .logits = logits,
                       .segments = static_cast<int64_t>(batch_.segments.size()),
                       .training = training};
    for (const AttentionSpan& span : batch_.spans) {
      size.keys = std::max(size.keys, span.key_end - span.key_begin);
    }
    for (int group = 0; group < kLinearGroups; ++group) {
      for (const BatchSegment& segment : batch_.segments) {
        if (segment.adapter == nullptr) continue;
        for (int64_t layer = 0; layer < config_.num_hidden_layers; ++layer) {
          int64_t width = 0;
          for (int slot = kGroupSlots[group].begin; slot < kGroupSlots[group].end; ++slot) {
            const LoraPair* pair = segment.adapter->pair(layer, slot);
            width += pair == nullptr ? 0 : pair->rank();
          }
          size.hidden[group] = std::max(size.hidden[group], width);
        }
      }
    }
    hidden_ = size.hidden;
    return workspace_.Reserve(size);
  }

  // Leaves the residual stream in workspace.x_out.
  void Forward(ProductPath path, KvCache* cache, bool training) {
    CheckBatch(cache);
    Upload(batch_.ids, workspace_.ids);
    Upload(batch_.positions, workspace_.positions);
    if (cache != nullptr) Upload(CacheRows(), workspace_.cache_rows);
    backend_.Embed(*model_.embedding_, View(workspace_.ids), View(workspace_.layer(0).x_in));
    for (int64_t i = 0; i < config_.num_hidden_layers; ++i) {
      ForwardAttention(i, path, cache, training);
      ForwardMlp(i, path);
    }
  }

  // The final norm of the given rows, [L,D], in workspace.labelled.
  void NormAndGather(absl::Span<const int32_t> rows) {
    backend_.RmsNormForward(View(workspace_.x_out), model_.final_norm_, config_.rms_norm_eps,
                            View(workspace_.normed), View(workspace_.rstd_out));
    const int64_t count = static_cast<int64_t>(rows.size());
    backend_.CopyToDevice(rows.data(), Rows(workspace_.label_rows, count));
    backend_.GatherRows(View(workspace_.normed), Rows(workspace_.label_rows, count),
                        Rows(workspace_.labelled, count));
  }

  void CrossEntropy(bool training) {
    const int64_t count = static_cast<int64_t>(batch_.label_rows.size());
    backend_.CopyToDevice(batch_.labels.data(), Rows(workspace_.labels, count));
    CopyWide(backend_, batch_.label_weights, Rows(workspace_.label_weights, count));
    backend_.CrossEntropy(model_.output(), Rows(workspace_.labelled, count),
                          Rows(workspace_.labels, count), Rows(workspace_.label_weights, count),
                          Rows(workspace_.losses, count),
                          training ? Rows(workspace_.dlabelled, count) : TensorView());
  }

  std::vector<double> ReadLosses() {
    return ReadWide(backend_,
                    Rows(workspace_.losses, static_cast<int64_t>(batch_.label_rows.size())));
  }

  void Backward() {
    const int64_t count = static_cast<int64_t>(batch_.label_rows.size());
    backend_.Fill(View(workspace_.dnormed), 0);
    backend_.ScatterRows(Rows(workspace_.dlabelled, count), Rows(workspace_.label_rows, count),
                         View(workspace_.dnormed));
    backend_.Fill(View(workspace_.dx), 0);
    backend_.RmsNormBackward(View(workspace_.x_out), model_.final_norm_, View(workspace_.rstd_out),
                             View(workspace_.dnormed), View(workspace_.dx));
    int64_t lowest = std::numeric_limits<int64_t>::max();
    for (const BatchSegment& segment : batch_.segments) {
      if (segment.adapter != nullptr) lowest = std::min(lowest, segment.adapter->lowest_layer());
    }
    for (int64_t i = config_.num_hidden_layers - 1; i >= lowest; --i) {
      BackwardMlp(i);
      BackwardAttention(i, /*needs_dx=*/i > lowest);
    }
  }

 private:
  // The first T rows.
  TensorView View(const TensorView& view) const { return Rows(view, rows_); }

  // Where each row's key lies in the cache: a span's new rows are the last ones of its keys.
  std::vector<int32_t> CacheRows() const {
    std::vector<int32_t> rows(rows_, -1);
    for (const AttentionSpan& span : batch_.spans) {
      for (int64_t i = 0; i < span.queries(); ++i) {
        rows[span.query_begin + i] =
            static_cast<int32_t>(span.KeyRow(span.keys() - span.queries() + i));
      }
    }
    CHECK_EQ(std::count(rows.begin(), rows.end(), -1), 0) << "rows of no span";
    return rows;
  }

  void Upload(const std::vector<int32_t>& values, const TensorView& view) {
    backend_.CopyToDevice(values.data(), View(view));
  }

  void CheckBatch(const KvCache* cache) const {
    CHECK_GT(rows_, 0);
    CHECK_EQ(static_cast<int64_t>(batch_.positions.size()), rows_);
    for (int64_t t = 0; t < rows_; ++t) {
      CHECK(batch_.ids[t] >= 0 && batch_.ids[t] < config_.vocab_size) << batch_.ids[t];
      CHECK(batch_.positions[t] >= 0 && batch_.positions[t] < model_.options_.positions_max)
          << batch_.positions[t];
    }
    const int64_t key_rows = cache == nullptr ? rows_ : cache->rows();
    for (const AttentionSpan& span : batch_.spans) {
      CHECK(span.query_begin >= 0 && span.query_end <= rows_ && span.KeyRowEnd() <= key_rows);
      CHECK_LE(span.query_end - span.query_begin, span.key_end - span.key_begin);
    }
  }

  std::vector<const FrozenLinear*> Linears(int64_t layer, LinearGroup group) const {
    std::vector<const FrozenLinear*> linears;
    for (int slot = kGroupSlots[group].begin; slot < kGroupSlots[group].end; ++slot) {
      linears.push_back(model_.layers_[layer].linears[slot].get());
    }
    return linears;
  }

  std::vector<Segment> Segments(int64_t layer, LinearGroup group) const {
    std::vector<Segment> segments;
    for (const BatchSegment& rows : batch_.segments) {
      if (rows.adapter == nullptr || rows.row_begin == rows.row_end) continue;
      Segment segment{
          .row_begin = rows.row_begin, .row_end = rows.row_end, .dropout = rows.dropout};
      segment.dropout.site = static_cast<uint32_t>(layer << 8) | static_cast<uint32_t>(group);
      for (int slot = kGroupSlots[group].begin; slot < kGroupSlots[group].end; ++slot) {
        segment.adapters.push_back(rows.adapter->pair(layer, slot));
      }
      if (segment.hidden_width() > 0) segments.push_back(std::move(segment));
    }
    return segments;
  }

  // Hidden values are as wide as this batch needs, however wide the workspace is.
  TensorView Hidden(const TensorView& view, LinearGroup group) const {
    return TensorView{view.data, view.dtype, {rows_, hidden_[group]}};
  }

  void ForwardGroup(int64_t layer, LinearGroup group, const TensorView& x,
                    const std::vector<TensorView>& y, ProductPath path) {
    backend_.LinearGroupForward(Linears(layer, group), Segments(layer, group), x,
                                Hidden(workspace_.layer(layer).hidden[group], group), y, path);
  }

  void BackwardGroup(int64_t layer, LinearGroup group, const TensorView& x,
                     const std::vector<ConstTensorView>& dy, const TensorView& dx) {
    backend_.LinearGroupBackward(Linears(layer, group), Segments(layer, group), x,
                                 Hidden(workspace_.layer(layer).hidden[group], group), dy,
                                 Hidden(workspace_.dhidden, group), dx);
  }

  AttentionShape Shape() const {
    return {.query_heads = config_.num_attention_heads,
            .kv_heads = config_.num_key_value_heads,
            .head_dim = config_.head_dim,
            .scale = static_cast<float>(1 / std::sqrt(static_cast<double>(config_.head_dim))),
            .causal = true};
  }

  void Rope(const TensorView& x, int64_t heads, bool inverse) {
    backend_.Rope(x, heads, View(workspace_.positions), model_.cosines_, model_.sines_, inverse);
  }

  void ForwardAttention(int64_t i, ProductPath path, KvCache* cache, bool training) {
    const LayerActivations& layer = workspace_.layer(i);
    backend_.RmsNormForward(View(layer.x_in), model_.layers_[i].input_norm, config_.rms_norm_eps,
                            View(workspace_.normed), View(layer.rstd_in));
    ForwardGroup(i, kQkvGroup, View(workspace_.normed),
                 {View(layer.q), View(layer.k), View(layer.v)}, path);
    Rope(View(layer.q), config_.num_attention_heads, /*inverse=*/false);
    Rope(View(layer.k), config_.num_key_value_heads, /*inverse=*/false);
    TensorView keys = View(layer.k), values = View(layer.v);
    if (cache != nullptr) {
      backend_.ScatterRows(keys, View(workspace_.cache_rows), cache->keys(i));
      backend_.ScatterRows(values, View(workspace_.cache_rows), cache->values(i));
      keys = cache->keys(i);
      values = cache->values(i);
    }
    backend_.AttentionForward(Shape(), batch_.spans, View(layer.q), keys, values,
                              View(layer.attended), training ? View(layer.lse) : TensorView(),
                              path);
    ForwardGroup(i, kOutGroup, View(layer.attended), {View(workspace_.branch)}, path);
    backend_.AddResidual(View(layer.x_in), View(workspace_.branch), View(layer.x_mid));
  }

  TensorView Next(int64_t i) const {
    return View(i + 1 < config_.num_hidden_layers ? workspace_.layer(i + 1).x_in
                                                  : workspace_.x_out);
  }

  void ForwardMlp(int64_t i, ProductPath path) {
    const LayerActivations& layer = workspace_.layer(i);
    backend_.RmsNormForward(View(layer.x_mid), model_.layers_[i].post_attention_norm,
                            config_.rms_norm_eps, View(workspace_.normed), View(layer.rstd_mid));
    ForwardGroup(i, kGateUpGroup, View(workspace_.normed), {View(layer.gate), View(layer.up)},
                 path);
    backend_.SwigluForward(View(layer.gate), View(layer.up), View(workspace_.activated));
    ForwardGroup(i, kDownGroup, View(workspace_.activated), {View(workspace_.branch)}, path);
    backend_.AddResidual(View(layer.x_mid), View(workspace_.branch), Next(i));
  }

  void BackwardMlp(int64_t i) {
    const LayerActivations& layer = workspace_.layer(i);
    backend_.Round(View(workspace_.dx), View(workspace_.dbranch));
    backend_.SwigluForward(View(layer.gate), View(layer.up), View(workspace_.activated));
    BackwardGroup(i, kDownGroup, View(workspace_.activated), {View(workspace_.dbranch)},
                  View(workspace_.dactivated));
    backend_.SwigluBackward(View(layer.gate), View(layer.up), View(workspace_.dactivated),
                            View(workspace_.dgate), View(workspace_.dup));
    backend_.RmsNormForward(View(layer.x_mid), model_.layers_[i].post_attention_norm,
                            config_.rms_norm_eps, View(workspace_.normed), View(layer.rstd_mid));
    BackwardGroup(i, kGateUpGroup, View(workspace_.normed),
                  {View(workspace_.dgate), View(workspace_.dup)}, View(workspace_.dnormed));
    backend_.RmsNormBackward(View(layer.x_mid), model_.layers_[i].post_attention_norm,
                             View(layer.rstd_mid), View(workspace_.dnormed), View(workspace_.dx));
  }

  void BackwardAttention(int64_t i, bool needs_dx) {
    const LayerActivations& layer = workspace_.layer(i);
    backend_.Round(View(workspace_.dx), View(workspace_.dbranch));
    BackwardGroup(i, kOutGroup, View(layer.attended), {View(workspace_.dbranch)},
                  View(workspace_.dattended));
    backend_.AttentionBackward(Shape(), batch_.spans, View(layer.q), View(layer.k), View(layer.v),
                               View(layer.attended), View(layer.lse), View(workspace_.dattended),
                               View(workspace_.dq), View(workspace_.dk), View(workspace_.dv));
    Rope(View(workspace_.dq), config_.num_attention_heads, /*inverse=*/true);
    Rope(View(workspace_.dk), config_.num_key_value_heads, /*inverse=*/true);
    backend_.RmsNormForward(View(layer.x_in), model_.layers_[i].input_norm, config_.rms_norm_eps,
                            View(workspace_.normed), View(layer.rstd_in));
    BackwardGroup(i, kQkvGroup, View(workspace_.normed),
                  {View(workspace_.dq), View(workspace_.dk), View(workspace_.dv)},
                  needs_dx ? View(workspace_.dnormed) : TensorView());
    if (!needs_dx) return;
    backend_.RmsNormBackward(View(layer.x_in), model_.layers_[i].input_norm, View(layer.rstd_in),
                             View(workspace_.dnormed), View(workspace_.dx));
  }

  const Llama& model_;
  Backend& backend_;
  const ModelConfig& config_;
  const PackedBatch& batch_;
  Workspace& workspace_;
  const int64_t rows_;
  std::array<int64_t, kLinearGroups> hidden_ = {};
};

absl::StatusOr<std::vector<double>> Llama::Losses(const PackedBatch& batch,
                                                  Workspace& workspace) const {
  LlamaPass pass(*this, batch, workspace);
  DW_RETURN_IF_ERROR(pass.Reserve(static_cast<int64_t>(batch.label_rows.size()), false));
  if (batch.label_rows.empty()) return std::vector<double>();
  pass.Forward(ProductPath::kBatch, /*cache=*/nullptr, /*training=*/false);
  pass.NormAndGather(batch.label_rows);
  pass.CrossEntropy(/*training=*/false);
  DW_RETURN_IF_ERROR(backend_.Synchronize());
  return pass.ReadLosses();
}

absl::StatusOr<std::vector<double>> Llama::LossesAndGradients(const PackedBatch& batch,
                                                              Workspace& workspace) const {
  LlamaPass pass(*this, batch, workspace);
  DW_RETURN_IF_ERROR(pass.Reserve(static_cast<int64_t>(batch.label_rows.size()), true));
  if (batch.label_rows.empty()) return std::vector<double>();
  pass.Forward(ProductPath::kBatch, /*cache=*/nullptr, /*training=*/true);
  pass.NormAndGather(batch.label_rows);
  pass.CrossEntropy(/*training=*/true);
  pass.Backward();
  DW_RETURN_IF_ERROR(backend_.Synchronize());
  return pass.ReadLosses();
}

absl::Status Llama::IssueLogits(const PackedBatch& batch, absl::Span<const int32_t> rows,
                                Workspace& workspace, ProductPath path, KvCache* cache) const {
  const int64_t count = static_cast<int64_t>(rows.size());
  LlamaPass pass(*this, batch, workspace);
  DW_RETURN_IF_ERROR(pass.Reserve(count, /*training=*/false, /*logits=*/count));
  pass.Forward(path, cache, /*training=*/false);
  if (count == 0) return absl::OkStatus();
  pass.NormAndGather(rows);
  backend_.Logits(output(), Rows(workspace.labelled, count), Rows(workspace.logits, count), path);
  return absl::OkStatus();
}

std::vector<float> Llama::ReadLogits(const Workspace& workspace, int64_t rows) const {
  if (rows == 0) return {};
  const TensorView logits = Rows(workspace.logits, rows);
  if (logits.dtype == DType::kF32) {
    std::vector<float> values(logits.elements());
    backend_.CopyToHost(logits, values.data());
    return values;
  }
  const std::vector<double> wide = ReadWide(backend_, logits);
  return {wide.begin(), wide.end()};
}

absl::StatusOr<std::vector<float>> Llama::Logits(const PackedBatch& batch,
                                                 absl::Span<const int32_t> rows,
                                                 Workspace& workspace, ProductPath path,
                                                 KvCache* cache) const {
  DW_RETURN_IF_ERROR(IssueLogits(batch, rows, workspace, path, cache));
  DW_RETURN_IF_ERROR(backend_.Synchronize());
  return ReadLogits(workspace, static_cast<int64_t>(rows.size()));
}

absl::StatusOr<NextTokens> Llama::Next(const PackedBatch& batch, absl::Span<const int32_t> rows,
                                       int64_t sampled, Workspace& workspace, ProductPath path,
                                       KvCache* cache) const {
  const int64_t count = static_cast<int64_t>(rows.size());
  CHECK(sampled >= 0 && sampled <= count) << sampled << " of " << count;
  DW_RETURN_IF_ERROR(IssueLogits(batch, rows, workspace, path, cache));
  if (count > 0) backend_.ArgMax(Rows(workspace.logits, count), Rows(workspace.likeliest, count));
  DW_RETURN_IF_ERROR(backend_.Synchronize());
  NextTokens next;
  next.likeliest.resize(count);
  if (count > 0) backend_.CopyToHost(Rows(workspace.likeliest, count), next.likeliest.data());
  next.logits = ReadLogits(workspace, sampled);
  return next;
}

}  // namespace deltaworks::trainer
