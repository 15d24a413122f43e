#include "trainer/backend/cpu/attention.h"

namespace deltaworks::trainer {
namespace {

int64_t Width(const AttentionShape& shape) { return CeilDiv(shape.head_dim, 16) * 16; }

static_assert(kKeyBlock == kKeyPage, "a block of keys is packed from one page");

int64_t Queries(const AttentionSpan& span) { return span.queries(); }
int64_t Keys(const AttentionSpan& span) { return span.keys(); }

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
    CHECK(0 <= span.key_begin && span.key_begin <= span.key_end && span.KeyRowEnd() <= in.k.dim(0))
        << "keys " << span.key_begin << " to " << span.key_end << ", rows to " << span.KeyRowEnd()
        << " of " << in.k.dim(0);
    CHECK(Queries(span) == 0 || Keys(span) >= (shape.causal ? Queries(span) : 1))
        << Keys(span) << " keys for " << Queries(span) << " queries";
  }
}

int64_t PackedRows(int64_t keys) { return CeilDiv(keys, kKeyBlock) * kKeyBlock; }

// Rows of packed keys that exist at a time, unless a single span has more.
int64_t PackedRowsMax(int64_t queries) { return PackedRows(queries) + kKeyBlock; }

// Cuts the spans into runs that are packed together. No result depends on the cut.
std::vector<absl::Span<const AttentionSpan>> RunsOf(const AttentionInputs& in) {
  std::vector<absl::Span<const AttentionSpan>> runs;
  size_t begin = 0;
  int64_t rows = 0;
  for (size_t i = 0; i < in.spans.size(); ++i) {
    const int64_t own = PackedRows(Keys(in.spans[i]));
    if (i > begin && rows + own > PackedRowsMax(in.q.dim(0))) {
      runs.push_back(in.spans.subspan(begin, i - begin));
      begin = i;
      rows = 0;
    }
    rows += own;
  }
  if (begin < in.spans.size()) runs.push_back(in.spans.subspan(begin));
  return runs;
}

// Key and value heads of all spans, packed for the kernels; [span * kv_heads + head].
struct PackedHeads {
  std::vector<PackedHead> heads;
  int64_t kv_heads = 0;

  const PackedHead& Of(int64_t span, int64_t kv_head) const {
    return heads[span * kv_heads + kv_head];
  }
};

enum class Direction { kForward, kBackward };

PackedHeads PackHeads(CpuContext& context, const AttentionInputs& in, Direction direction) {
  const int64_t width = Width(in.shape);
  PackedHeads packed;
  packed.kv_heads = in.shape.kv_heads;
  struct Block {
    float *keys, *keys_transposed, *values, *values_transposed;
  };
  std::vector<Block> places;
  for (const AttentionSpan& span : in.spans) {
    const int64_t floats = PackedRows(Keys(span)) * width;
    for (int64_t head = 0; head < in.shape.kv_heads; ++head) {
      const bool backward = direction == Direction::kBackward;
      Block place = {};
      place.keys_transposed = context.shared.Get<float>(floats);
      if (backward) {
        place.keys = context.shared.Get<float>(floats);
        place.values_transposed = context.shared.Get<float>(floats);
      } else {
        place.values = context.shared.Get<float>(floats);
      }
      places.push_back(place);
      packed.heads.push_back(
          {place.keys, place.keys_transposed, place.values, place.values_transposed, Keys(span)});
    }
  }
  context.pool->ParallelFor(places.size(), [&](int64_t task, int) {
    const AttentionSpan& span = in.spans[task / in.shape.kv_heads];
    const int64_t column = task % in.shape.kv_heads * in.shape.head_dim;
    const Block& place = places[task];
    const auto pack_rows = [&](const ConstTensorView& x, int64_t begin, int64_t rows, float* to) {
      if (to == nullptr) return;
      context.kernels.pack_rows(ElementAt(x, span.KeyRow(begin), column), x.dim(1), rows,
                                in.shape.head_dim, 1.0f, to + begin * width, width);
    };
    const auto pack_transposed = [&](const ConstTensorView& x, int64_t begin, int64_t rows,
                                     float* to) {
      if (to == nullptr) return;
      context.kernels.pack_transposed(ElementAt(x, span.KeyRow(begin), column), x.dim(1), rows,
                                      in.shape.head_dim, to + begin * width, kKeyBlock, width);
    };
    for (int64_t begin = 0; begin < Keys(span); begin += kKeyBlock) {
      const int64_t rows = std::min(kKeyBlock, Keys(span) - begin);
      pack_rows(in.k, begin, rows, place.keys);
      pack_transposed(in.k, begin, rows, place.keys_transposed);
      pack_rows(in.v, begin, rows, place.values);
      pack_transposed(in.v, begin, rows, place.values_transposed);
    }
  });
  return packed;
}

QueryBlock BlockOf(const AttentionShape& shape, const AttentionSpan& span, int64_t begin) {
  QueryBlock block;
  block.rows = std::min(kQueryBlock, Queries(span) - begin);
  block.visible = Keys(span) - Queries(span) + begin + 1;
  block.causal = shape.causal;
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
        ElementAt(in.v, span.key_begin, kv_column), in.k.dim(1), span.pages, Keys(span),
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
    float* q = scratch.Get<float>(kQueryBlock * width);
    float* result = scratch.Get<float>(kQueryBlock * width);
    float* sums = scratch.Get<float>(kQueryBlock);
    context.kernels.pack_rows(ElementAt(in.q, row, column), in.q.dim(1), block.rows, shape.head_dim,
                              shape.scale, q, width);
    const int64_t kv_head = task.head / (shape.query_heads / shape.kv_heads);
    context.kernels.attention_forward(block, q, packed.Of(task.span, kv_head), width,
                                      scratch.Get<float>(kQueryBlock * kKeyBlock), result, sums);
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

struct BackwardTask {
  CpuContext& context;
  const AttentionInputs& in;
  const AttentionSpan& span;
  const PackedHead& packed;
  int64_t head;
  int64_t width;

  int64_t column() const { return head * in.shape.head_dim; }

  // The head's part of a tensor like q, widened: [queries of the span, width].
  float* Pack(const ConstTensorView& x, float scale, Workspace& scratch) const {
    float* wide = scratch.Get<float>(Queries(span) * width);
    context.kernels.pack_rows(ElementAt(x, span.query_begin, column()), x.dim(1), Queries(span),
                              in.shape.head_dim, scale, wide, width);
    return wide;
  }

  void Run(const ConstTensorView& out, const ConstTensorView& lse, const ConstTensorView& dout,
           const TensorView& dq, const HeadGradients& gradients, Workspace& scratch) const {
    const int64_t queries = Queries(span);
    const float* q = Pack(in.q, in.shape.scale, scratch);
    const float* wide_dout = Pack(dout, 1.0f, scratch);
    float* wide_dq = scratch.Get<float>(queries * width);
    std::fill_n(wide_dq, queries * width, 0.0f);
    // delta_i = sum_j dout_ij out_ij = sum_j P_ij dP_ij, the mean that softmax's gradient
    // subtracts.
    const float* wide_out = Pack(out, 1.0f, scratch);
    float* delta = scratch.Get<float>(queries);
    float* sums = scratch.Get<float>(queries);
    for (int64_t i = 0; i < queries; ++i) {
      delta[i] = context.kernels.inner_product(wide_dout + i * width, wide_out + i * width, width);
      sums[i] = lse.as<const float>()[(span.query_begin + i) * in.shape.query_heads + head];
    }
    float* block_scratch = scratch.Get<float>(2 * kQueryBlock * kKeyBlock);
    for (int64_t key = 0; key * kKeyBlock < Keys(span); ++key) {
      const int64_t first_key = key * kKeyBlock;
      std::fill_n(gradients.dkeys + first_key * width,
                  std::min(kKeyBlock, Keys(span) - first_key) * width, 0.0f);
      std::fill_n(gradients.dvalues + first_key * width,
                  std::min(kKeyBlock, Keys(span) - first_key) * width, 0.0f);
      for (int64_t begin = 0; begin < queries; begin += kQueryBlock) {
        const QueryBlock block = BlockOf(in.shape, span, begin);
        if (block.causal && block.visible + block.rows - 1 <= first_key) continue;
        context.kernels.attention_backward(
            block, q + begin * width, wide_dout + begin * width, sums + begin, delta + begin,
            packed, key, width, block_scratch, wide_dq + begin * width,
            gradients.dkeys + first_key * width, gradients.dvalues + first_key * width);
      }
    }
    for (int64_t i = 0; i < queries; ++i) {
      context.kernels.scale_round(wide_dq + i * width, in.shape.scale,
                                  ElementAt(dq, span.query_begin + i, column()), in.shape.head_dim);
    }
  }
};

// dk and dv of one row and kv head: the query heads of the group, in order.
void AddHeads(CpuContext& context, const AttentionShape& shape, absl::Span<float* const> heads,
              int64_t kv_head, int64_t row, const TensorView& out) {
  const int64_t width = Width(shape);
  const int64_t group = shape.query_heads / shape.kv_heads;
  float* const sum = heads[kv_head * group] + row * width;
  for (int64_t i = 1; i < group; ++i) {
    context.kernels.accumulate(heads[kv_head * group + i] + row * width, sum, width);
  }
  context.kernels.round(sum, ElementAt(out, row, kv_head * shape.head_dim), shape.head_dim);
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
  const AttentionInputs blocks = {in.shape, several, in.q, in.k, in.v};
  const Workspace::Place mark = context.shared.Mark();
  for (const auto& run : RunsOf(blocks)) {
    context.shared.Rewind(mark);
    AttendBlocks(context, {in.shape, run, in.q, in.k, in.v}, out, lse);
  }
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
  std::vector<float*> dkeys;
  std::vector<float*> dvalues;
  for (int64_t head = 0; head < shape.query_heads; ++head) {
    dkeys.push_back(context.shared.Get<float>(in.k.dim(0) * width));
    dvalues.push_back(context.shared.Get<float>(in.k.dim(0) * width));
  }
  const Workspace::Place mark = context.shared.Mark();
  for (const auto& run : RunsOf(in)) {
    context.shared.Rewind(mark);
    const AttentionInputs some = {in.shape, run, in.q, in.k, in.v};
    const PackedHeads packed = PackHeads(context, some, Direction::kBackward);
    context.ForTasks(run.size() * shape.query_heads, [&](int64_t task, int, Workspace& scratch) {
      const int64_t head = task % shape.query_heads;
      const int64_t span_index = task / shape.query_heads;
      const AttentionSpan& span = run[span_index];
      const int64_t kv_head = head / (shape.query_heads / shape.kv_heads);
      const BackwardTask backward = {context, some, span, packed.Of(span_index, kv_head),
                                     head,    width};
      backward.Run(out, lse, dout, dq,
                   {dkeys[head] + span.key_begin * width, dvalues[head] + span.key_begin * width},
                   scratch);
    });
  }
  for (const AttentionSpan& span : in.spans) {
    context.ForBlocks(Keys(span), kKeyBlock, [&](int64_t begin, int64_t end) {
      for (int64_t row = span.key_begin + begin; row < span.key_begin + end; ++row) {
        for (int64_t kv_head = 0; kv_head < shape.kv_heads; ++kv_head) {
          AddHeads(context, shape, dkeys, kv_head, row, dk);
          AddHeads(context, shape, dvalues, kv_head, row, dv);
        }
      }
    });
  }
}

ScratchNeed AttentionScratch(const PassShape& pass) {
  const AttentionShape& shape = pass.attention;
  const int64_t width = Width(shape);
  const int64_t group = shape.query_heads / shape.kv_heads;
  // Keys and values, packed; backward packs the keys twice.
  const int64_t packed = std::max(PackedRowsMax(pass.rows), PackedRows(pass.keys)) * width *
                         shape.kv_heads * (pass.training ? 3 : 2);
  const int64_t gradients = pass.training ? 2 * shape.query_heads * pass.rows * width : 0;
  // A block of queries and its result; the one query of a span, and its scores.
  const int64_t forward = kQueryBlock * (2 * width + 1 + kKeyBlock) +
                          group * (2 * width + 1 + CeilDiv(pass.keys, 16) * 16);
  // q, dout, dq and out of one head, and two numbers of each query.
  const int64_t backward =
      pass.training ? pass.rows * (4 * width + 2) + 2 * kQueryBlock * kKeyBlock : 0;
  constexpr int64_t kFloat = sizeof(float);
  return {(packed + gradients) * kFloat, std::max(forward, backward) * kFloat};
}

}  // namespace deltaworks::trainer
