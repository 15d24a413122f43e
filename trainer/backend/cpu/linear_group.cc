#include "trainer/backend/cpu/linear_group.h"

#include <cstring>

#include "glog/logging.h"

namespace deltaworks::trainer {

std::vector<std::vector<Piece>> PiecesByTile(absl::Span<const Segment> segments, int64_t rows) {
  std::vector<std::vector<Piece>> pieces(CeilDiv(rows, kTileRows));
  for (const Segment& segment : segments) {
    if (segment.hidden_width() == 0) continue;
    for (int64_t row = segment.row_begin; row < segment.row_end;) {
      const int64_t tile = row / kTileRows;
      const int64_t end = std::min(segment.row_end, (tile + 1) * kTileRows);
      pieces[tile].push_back({&segment, row, end});
      row = end;
    }
  }
  return pieces;
}

int64_t HiddenColumn(const Segment& segment, int64_t linear) {
  int64_t column = 0;
  for (int64_t i = 0; i < linear; ++i) {
    if (segment.adapters[i] != nullptr) column += segment.adapters[i]->rank();
  }
  return column;
}

std::vector<const void*> StackedA(CpuContext& context, absl::Span<const Segment> segments,
                                  int64_t k) {
  std::vector<const void*> stacked;
  for (const Segment& segment : segments) {
    std::vector<const LoraPair*> pairs;
    for (const LoraPair* pair : segment.adapters) {
      if (pair != nullptr) pairs.push_back(pair);
    }
    if (pairs.size() < 2) {
      stacked.push_back(pairs.empty() ? nullptr : pairs[0]->a.data);
      continue;
    }
    char* to = context.shared.Get<char>(segment.hidden_width() * k * SizeOf(context.compute_type));
    stacked.push_back(to);
    for (const LoraPair* pair : pairs) {
      std::memcpy(to, pair->a.data, pair->a.bytes());
      to += pair->a.bytes();
    }
  }
  return stacked;
}

DropoutMask MaskOf(const DropoutKey& key) {
  DropoutMask mask;
  mask.seed = key.seed;
  mask.step = key.step;
  mask.site = key.site;
  mask.threshold = DropoutThreshold(key.p);
  mask.kept_scale = static_cast<float>(1.0 / (1.0 - static_cast<double>(key.p)));
  return mask;
}

void CopyBlock(const ConstTensorView& from, int64_t begin, int64_t end, int64_t column,
               int64_t width, void* out) {
  const int64_t bytes = width * SizeOf(from.dtype);
  char* to = static_cast<char*>(out);
  for (int64_t row = begin; row < end; ++row, to += bytes) {
    std::memcpy(to, ElementAt(from, row, column), bytes);
  }
}

void CheckGroup(const CpuContext& context, LinearGroup group, absl::Span<const Segment> segments,
                const ConstTensorView& x, const ConstTensorView& hidden) {
  CHECK(!group.empty());
  const int64_t rows = x.dim(0);
  const int64_t k = x.dim(1);
  CheckTensor(x, context.compute_type, {rows, k}, "x");
  for (const FrozenLinear* linear : group) CHECK_EQ(linear->k(), k) << "K of a linear and of x";
  int64_t row = 0;
  for (const Segment& segment : segments) {
    CHECK(row <= segment.row_begin && segment.row_begin <= segment.row_end &&
          segment.row_end <= rows)
        << "segment is rows " << segment.row_begin << " to " << segment.row_end << ", want within "
        << row << " to " << rows;
    row = segment.row_end;
    CHECK_EQ(segment.adapters.size(), group.size()) << "adapters of a segment";
    CHECK(segment.dropout.p >= 0 && segment.dropout.p < 1)
        << "dropout is " << segment.dropout.p << ", want 0 <= p < 1";
    for (size_t i = 0; i < group.size(); ++i) {
      const LoraPair* pair = segment.adapters[i];
      if (pair == nullptr) continue;
      CHECK_GE(pair->rank(), 1);
      CheckTensor(pair->a, context.compute_type, {pair->rank(), k}, "A");
      CheckTensor(pair->b, context.compute_type, {group[i]->n(), pair->rank()}, "B");
    }
    if (segment.hidden_width() == 0) continue;
    CHECK_GE(hidden.dim(1), segment.hidden_width()) << "columns of hidden";
    CheckTensor(hidden, context.compute_type, {rows, hidden.dim(1)}, "hidden");
  }
}

}  // namespace deltaworks::trainer
