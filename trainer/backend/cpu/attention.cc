#include "trainer/backend/cpu/attention.h"

namespace deltaworks::trainer {
namespace {

int64_t Width(const AttentionShape& shape) { return CeilDiv(shape.head_dim, 16) * 16; }

int64_t Queries(const AttentionSpan& span) { return span.query_end - span.query_begin; }
int64_t Keys(const AttentionSpan& span) { return span.key_end - span.key_begin; }

void CheckInputs(const CpuContext& context, const AttentionInputs& in) {
  const AttentionShape& shape = in.shape;
  CHECK(shape.head_dim >= 1 && shape.head_dim <= 256) << "head_dim is " << shape.head_dim;
  CHECK(shape.kv_heads >= 1 && shape.query_heads % shape.kv_heads == 0)
      << "query_heads is " << shape.query_heads << ", want a multiple of " << shape.kv_heads;
  CheckTensor(in.q, context.compute_type, {in.q.dim(0), shape.query_heads * shape.head_dim}, "q");
  CheckTensor(in.k, context.compute_type, {in.k.dim(0), shape.kv_heads * shape.head_dim}, "k");
  CheckTensor(in.v, context.compute_type, in.k.shape, "v");
  for (const AttentionSpan& span : in.spans) {
    CHECK(0 <= span.query_begin && span.query_begin <= span.query_end &&
          span.query_end <= in.q.dim(0))
        << "queries " << span.query_begin << " to " << span.query_end << " of " << in.q.dim(0);
    CHECK(0 <= span.key_begin && span.key_begin <= span.key_end && span.key_end <= in.k.dim(0))
        << "keys " << span.key_begin << " to " << span.key_end << " of " << in.k.dim(0);
    CHECK(Queries(span) == 0 || Keys(span) >= (shape.causal ? Queries(span) : 1))
        << Keys(span) << " keys for " << Queries(span) << " queries";
  }
}

// Key and value heads of all spans, packed for the kernels; [span * kv_heads + head].
struct PackedHeads {
  std::vector<PackedHead> heads;
  int64_t kv_heads = 0;

  const PackedHead& Of(int64_t span, int64_t kv_head) const {
    return heads[span * kv_heads + kv_head];
  }
};

// One head of a tensor: `rows` rows from `row` on, head_dim columns from `column` on.
struct HeadRows {
  const ConstTensorView& x;
  int64_t row;
  int64_t rows;
  int64_t column;
  int64_t head_dim;

  int64_t width() const { return CeilDiv(head_dim, 16) * 16; }
  const void* At(int64_t i, int64_t j) const { return ElementAt(x, row + i, column + j); }
};

// The layouts that kernels.h describes, and their bytes.
int64_t RowsBytes(const KernelSet& kernels, const HeadRows& head) {
  return head.rows * head.width() * kernels.panel_element_bytes;
}
void PackRows(const KernelSet& kernels, const HeadRows& head, void* to) {
  kernels.pack_panel_elements(head.At(0, 0), head.x.dim(1), head.rows, head.head_dim, to,
                              head.width());
}

int64_t PanelsBytes(const HeadRows& head, int64_t block) {
  return CeilDiv(head.rows, block) * CeilDiv(head.head_dim, kPanelColumns) * PanelBytes(block);
}
void PackPanels(const KernelSet& kernels, const HeadRows& head, int64_t block, void* to) {
  char* panel = static_cast<char*>(to);
  for (int64_t begin = 0; begin < head.rows; begin += block) {
    for (int64_t column = 0; column < head.head_dim; column += kPanelColumns) {
      kernels.pack_panel_rows(head.At(begin, column), head.x.dim(1),
                              std::min(block, head.rows - begin),
                              std::min(kPanelColumns, head.head_dim - column), panel);
      panel += PanelBytes(block);
    }
  }
}

int64_t TransposedBytes(const HeadRows& head, int64_t block) {
  return CeilDiv(head.rows, block) * PanelBytes(head.head_dim);
}
void PackTransposed(const KernelSet& kernels, const HeadRows& head, int64_t block, void* to) {
  char* panel = static_cast<char*>(to);
  for (int64_t begin = 0; begin < head.rows; begin += block) {
    kernels.pack_panel_transposed(head.At(begin, 0), head.x.dim(1), head.head_dim,
                                  std::min(block, head.rows - begin), panel);
    panel += PanelBytes(head.head_dim);
  }
}

enum class Direction { kForward, kBackward };

PackedHeads PackHeads(CpuContext& context, const AttentionInputs& in, Direction direction) {
  const KernelSet& kernels = context.kernels;
  PackedHeads packed;
  packed.kv_heads = in.shape.kv_heads;
  const auto head_of = [&](const ConstTensorView& x, int64_t task) -> HeadRows {
    const AttentionSpan& span = in.spans[task / in.shape.kv_heads];
    const int64_t column = task % in.shape.kv_heads * in.shape.head_dim;
    return {x, span.key_begin, Keys(span), column, in.shape.head_dim};
  };
  struct Place {
    void *keys, *value_panels, *keys_transposed, *values_transposed, *key_panels;
  };
  std::vector<Place> places(in.spans.size() * in.shape.kv_heads);
  for (int64_t task = 0; task < places.size(); ++task) {
    const HeadRows head = head_of(in.k, task);
    const int64_t panels = PanelsBytes(head, kKeyBlock);
    Place& place = places[task];
    place = {};
    if (direction == Direction::kForward) {
      place.keys = context.shared.Bytes(RowsBytes(kernels, head));
      place.value_panels = context.shared.Bytes(panels);
    } else {
      place.keys_transposed = context.shared.Bytes(TransposedBytes(head, kKeyBlock));
      place.values_transposed = context.shared.Bytes(TransposedBytes(head, kKeyBlock));
      place.key_panels = context.shared.Bytes(panels);
    }
    packed.heads.push_back({place.keys, place.value_panels, place.keys_transposed,
                            place.values_transposed, place.key_panels, head.rows});
  }
  context.pool->ParallelFor(places.size(), [&](int64_t task, int) {
    const HeadRows keys = head_of(in.k, task), values = head_of(in.v, task);
    const Place& place = places[task];
    if (direction == Direction::kForward) {
      PackRows(kernels, keys, place.keys);
      PackPanels(kernels, values, kKeyBlock, place.value_panels);
    } else {
      PackTransposed(kernels, keys, kKeyBlock, place.keys_transposed);
      PackTransposed(kernels, values, kKeyBlock, place.values_transposed);
      PackPanels(kernels, keys, kKeyBlock, place.key_panels);
    }
  });
  return packed;
}

QueryBlock BlockOf(const AttentionShape& shape, const AttentionSpan& span, int64_t begin) {
  QueryBlock block;
  block.rows = std::min(kQueryBlock, Queries(span) - begin);
  block.visible = Keys(span) - Queries(span) + begin + 1;
  block.causal = shape.causal;
  block.scale = shape.scale;
  return block;
}

// Spans of one query.
void AttendSingle(CpuContext& context, const AttentionInputs& in, const TensorView& out,
                  const TensorView& lse) {
  const AttentionShape& shape = in.shape;
  const int64_t width = Width(shape);
  const int64_t group = shape.query_heads / shape.kv_heads;
  context.ForTasks(in.spans.size() * shape.kv_heads, [&](int64_t task, int, Workspace& scratch) {
    const AttentionSpan& span = in.spans[task / shape.kv_heads];
    const int64_t kv_head = task % shape.kv_heads;
    const int64_t row = span.query_begin;
    const int64_t first_head = kv_head * group;
    const int64_t kv_column = kv_head * shape.head_dim;
    float* q = scratch.Get<float>(group * width);
    float* result = scratch.Get<float>(group * width);
    float* sums = scratch.Get<float>(group);
    // The heads of the group stand side by side in their row.
    context.kernels.pack_rows(ElementAt(in.q, row, first_head * shape.head_dim), shape.head_dim,
                              group, shape.head_dim, shape.scale, q, width);
    context.kernels.attention_single(
        q, group, shape.head_dim, width, ElementAt(in.k, span.key_begin, kv_column),
        ElementAt(in.v, span.key_begin, kv_column), in.k.dim(1), Keys(span),
        scratch.Get<float>(group * CeilDiv(Keys(span), 16) * 16), result, sums);
    for (int64_t i = 0; i < group; ++i) {
      context.kernels.round(result + i * width,
                            ElementAt(out, row, (first_head + i) * shape.head_dim), shape.head_dim);
      if (lse.data != nullptr) {
        lse.as<float>()[row * shape.query_heads + first_head + i] = sums[i];
      }
    }
  });
}

void AttendBlocks(CpuContext& context, const AttentionInputs& in, const TensorView& out,
                  const TensorView& lse) {
  const AttentionShape& shape = in.shape;
  const int64_t width = Width(shape);
  const PackedHeads packed = PackHeads(context, in, Direction::kForward);
  struct Task {
    int64_t span, head, begin;
  };
  std::vector<Task> tasks;
  for (int64_t span = 0; span < in.spans.size(); ++span) {
    for (int64_t head = 0; head < shape.query_heads; ++head) {
      for (int64_t begin = 0; begin < Queries(in.spans[span]); begin += kQueryBlock) {
        tasks.push_back({span, head, begin});
      }
    }
  }
  context.ForTasks(tasks.size(), [&](int64_t number, int, Workspace& scratch) {
    const Task& task = tasks[number];
    const AttentionSpan& span = in.spans[task.span];
    const QueryBlock block = BlockOf(shape, span, task.begin);
    const int64_t row = span.query_begin + task.begin;
    const int64_t column = task.head * shape.head_dim;
    float* result = scratch.Get<float>(kQueryBlock * width);
    float* sums = scratch.Get<float>(kQueryBlock);
    const HeadRows q = {in.q, row, block.rows, column, shape.head_dim};
    void* q_transposed = scratch.Bytes(TransposedBytes(q, kQueryBlock));
    PackTransposed(context.kernels, q, kQueryBlock, q_transposed);
    const int64_t kv_head = task.head / (shape.query_heads / shape.kv_heads);
    context.kernels.attention_forward(block, q_transposed, packed.Of(task.span, kv_head),
                                      shape.head_dim, scratch.Bytes(kAttentionScratch), result,
                                      sums);
    for (int64_t i = 0; i < block.rows; ++i) {
      context.kernels.round(result + i * width, ElementAt(out, row + i, column), shape.head_dim);
      if (lse.data != nullptr) {
        lse.as<float>()[(row + i) * shape.query_heads + task.head] = sums[i];
      }
    }
  });
}

// ---- Backward of one span and query head ----

// What a query head adds to the gradients of its keys and values: [keys of the batch, width] each.
struct HeadGradients {
  float* dkeys = nullptr;
  float* dvalues = nullptr;
};

constexpr int64_t kRowsAhead = 24;

struct BackwardTask {
  CpuContext& context;
  const AttentionInputs& in;
  const AttentionSpan& span;
  const PackedHead& packed;
  int64_t head;
  int64_t width;

  int64_t column() const { return head * in.shape.head_dim; }

  // The queries in blocks, with what backward knows of each.
  std::vector<PackedQueries> PackQueries(const ConstTensorView& out, const ConstTensorView& lse,
                                         const ConstTensorView& dout, Workspace& scratch) const {
    const KernelSet& kernels = context.kernels;
    float* const sums = scratch.Get<float>(Queries(span));
    float* const delta = scratch.Get<float>(Queries(span));
    for (int64_t i = 0; i < Queries(span); ++i) {
      const int64_t row = span.query_begin + i;
      // A head's rows are far apart: the hardware does not see what comes next.
      if (i + kRowsAhead < Queries(span)) {
        for (const ConstTensorView* x : {&in.q, &out, &dout}) {
          const char* const next = ElementAt(*x, row + kRowsAhead, column());
          for (int64_t byte = 0; byte < in.shape.head_dim * SizeOf(x->dtype); byte += 64)
            __builtin_prefetch(next + byte);
        }
      }
      sums[i] = lse.as<const float>()[row * in.shape.query_heads + head];
      // sum_j dout_ij out_ij = sum_j P_ij dP_ij, the mean that softmax's gradient subtracts.
      delta[i] = kernels.inner_product(ElementAt(dout, row, column()),
                                       ElementAt(out, row, column()), in.shape.head_dim);
    }
    std::vector<PackedQueries> blocks;
    for (int64_t begin = 0; begin < Queries(span); begin += kQueryBlock) {
      const int64_t row = span.query_begin + begin;
      const int64_t rows = std::min(kQueryBlock, Queries(span) - begin);
      const HeadRows q = {in.q, row, rows, column(), in.shape.head_dim};
      const HeadRows d = {dout, row, rows, column(), in.shape.head_dim};
      void* const places[] = {
          scratch.Bytes(RowsBytes(kernels, q)), scratch.Bytes(RowsBytes(kernels, d)),
          scratch.Bytes(PanelsBytes(q, kQueryBlock)), scratch.Bytes(PanelsBytes(d, kQueryBlock))};
      PackRows(kernels, q, places[0]);
      PackRows(kernels, d, places[1]);
      PackPanels(kernels, q, kQueryBlock, places[2]);
      PackPanels(kernels, d, kQueryBlock, places[3]);
      blocks.push_back({places[0], places[1], places[2], places[3], sums + begin, delta + begin});
    }
    return blocks;
  }

  void Run(const ConstTensorView& out, const ConstTensorView& lse, const ConstTensorView& dout,
           const TensorView& dq, const HeadGradients& gradients, Workspace& scratch) const {
    const KernelSet& kernels = context.kernels;
    const int64_t queries = Queries(span);
    const std::vector<PackedQueries> blocks = PackQueries(out, lse, dout, scratch);
    float* wide_dq = scratch.Get<float>(queries * width);
    std::fill_n(wide_dq, queries * width, 0.0f);
    void* block_scratch = scratch.Bytes(kAttentionScratch);
    for (int64_t key = 0; key * kKeyBlock < Keys(span); ++key) {
      const int64_t first_key = key * kKeyBlock;
      float* const dkeys = gradients.dkeys + first_key * width;
      float* const dvalues = gradients.dvalues + first_key * width;
      std::fill_n(dkeys, std::min(kKeyBlock, Keys(span) - first_key) * width, 0.0f);
      std::fill_n(dvalues, std::min(kKeyBlock, Keys(span) - first_key) * width, 0.0f);
      for (int64_t begin = 0; begin < queries; begin += kQueryBlock) {
        const QueryBlock block = BlockOf(in.shape, span, begin);
        if (block.causal && block.visible + block.rows - 1 <= first_key) continue;
        kernels.attention_backward(block, blocks[begin / kQueryBlock], packed, key,
                                   in.shape.head_dim, block_scratch, wide_dq + begin * width, dkeys,
                                   dvalues);
      }
    }
    for (int64_t i = 0; i < queries; ++i) {
      kernels.scale_round(wide_dq + i * width, in.shape.scale,
                          ElementAt(dq, span.query_begin + i, column()), in.shape.head_dim);
    }
  }
};

// dk or dv of one row and kv head: `scale` times the query heads of the group, in order.
void AddHeads(CpuContext& context, const AttentionShape& shape, absl::Span<float* const> heads,
              int64_t kv_head, int64_t row, float scale, const TensorView& out) {
  const int64_t width = Width(shape);
  const int64_t group = shape.query_heads / shape.kv_heads;
  float* const sum = heads[kv_head * group] + row * width;
  for (int64_t i = 1; i < group; ++i) {
    context.kernels.accumulate(heads[kv_head * group + i] + row * width, 1.0f, sum, width);
  }
  context.kernels.scale_round(sum, scale, ElementAt(out, row, kv_head * shape.head_dim),
                              shape.head_dim);
}

}  // namespace

void AttendForward(CpuContext& context, const AttentionInputs& in, const TensorView& out,
                   const TensorView& lse, ProductPath path) {
  CheckInputs(context, in);
  CheckTensor(out, context.compute_type, in.q.shape, "out");
  if (lse.data != nullptr) {
    CheckTensor(lse, DType::kF32, {in.q.dim(0), in.shape.query_heads}, "lse");
  }
  // Decoding has one query to a span: packing the keys would cost more than it gains. Not on
  // kBatch, where the last piece of a prompt may be one query too.
  std::vector<AttentionSpan> single;
  std::vector<AttentionSpan> several;
  for (const AttentionSpan& span : in.spans) {
    const bool decodes = path == ProductPath::kDecode && Queries(span) == 1;
    (decodes ? single : several).push_back(span);
  }
  AttendSingle(context, {in.shape, single, in.q, in.k, in.v}, out, lse);
  AttendBlocks(context, {in.shape, several, in.q, in.k, in.v}, out, lse);
}

void AttendBackward(CpuContext& context, const AttentionInputs& in, const ConstTensorView& out,
                    const ConstTensorView& lse, const ConstTensorView& dout, const TensorView& dq,
                    const TensorView& dk, const TensorView& dv) {
  CheckInputs(context, in);
  CheckTensor(out, context.compute_type, in.q.shape, "out");
  CheckTensor(dout, context.compute_type, in.q.shape, "dout");
  CheckTensor(dq, context.compute_type, in.q.shape, "dq");
  CheckTensor(dk, context.compute_type, in.k.shape, "dk");
  CheckTensor(dv, context.compute_type, in.k.shape, "dv");
  const AttentionShape& shape = in.shape;
  CheckTensor(lse, DType::kF32, {in.q.dim(0), shape.query_heads}, "lse");
  const int64_t width = Width(shape);
  const PackedHeads packed = PackHeads(context, in, Direction::kBackward);
  std::vector<float*> dkeys;
  std::vector<float*> dvalues;
  for (int64_t head = 0; head < shape.query_heads; ++head) {
    dkeys.push_back(context.shared.Get<float>(in.k.dim(0) * width));
    dvalues.push_back(context.shared.Get<float>(in.k.dim(0) * width));
  }
  context.ForTasks(in.spans.size() * shape.query_heads, [&](int64_t task, int, Workspace& scratch) {
    const int64_t head = task % shape.query_heads;
    const int64_t span_index = task / shape.query_heads;
    const AttentionSpan& span = in.spans[span_index];
    const int64_t kv_head = head / (shape.query_heads / shape.kv_heads);
    const BackwardTask backward = {context, in, span, packed.Of(span_index, kv_head), head, width};
    backward.Run(out, lse, dout, dq,
                 {dkeys[head] + span.key_begin * width, dvalues[head] + span.key_begin * width},
                 scratch);
  });
  for (const AttentionSpan& span : in.spans) {
    context.ForBlocks(Keys(span), kKeyBlock, [&](int64_t begin, int64_t end) {
      for (int64_t row = span.key_begin + begin; row < span.key_begin + end; ++row) {
        for (int64_t kv_head = 0; kv_head < shape.kv_heads; ++kv_head) {
          AddHeads(context, shape, dkeys, kv_head, row, shape.scale, dk);
          AddHeads(context, shape, dvalues, kv_head, row, 1.0f, dv);
        }
      }
    });
  }
}

}  // namespace deltaworks::trainer
