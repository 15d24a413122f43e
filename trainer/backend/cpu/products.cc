#include "trainer/backend/cpu/products.h"

#include "glog/logging.h"

namespace deltaworks::trainer {

Products::Products(DType compute_type, int workers, const KernelSet& kernels)
    : element_bytes_(SizeOf(compute_type)), kernels_(kernels), scratch_(workers) {}

const void* Products::Prepare(const RightSide& b, int64_t first, int64_t depth, int64_t column,
                              int64_t columns, Workspace& scratch) const {
  void* const packed = scratch.Bytes(PanelBytes(depth));
  const int64_t offset = b.transposed ? column * b.row + first : first * b.row + column;
  const auto pack = b.transposed ? kernels_.pack_panel_transposed : kernels_.pack_panel_rows;
  pack(static_cast<const char*>(b.data) + offset * element_bytes_, b.row, depth, columns, packed);
  return packed;
}

const void* Products::PrepareTransposed(const void* a, int64_t a_row, int64_t tokens,
                                        int64_t columns, Workspace& scratch) const {
  void* const packed = scratch.Bytes(PackedLeftBytes(tokens));
  kernels_.pack_left(a, a_row, tokens, columns, packed);
  return packed;
}

void Products::Run(int worker, const PanelSum& sum) {
  CHECK_LE(sum.factors.size(), static_cast<size_t>(kPanelTermsMax));
  PanelTerm terms[kPanelTermsMax];
  int64_t depth = 0;
  for (size_t i = 0; i < sum.factors.size(); ++i) {
    const PanelFactor& factor = sum.factors[i];
    terms[i] = {factor.a, factor.a_row, factor.a_prepared, factor.panel, factor.depth};
    depth += factor.depth;
  }
  Workspace& scratch = scratch_[worker];
  scratch.Reset();
  kernels_.panel_product({.terms = terms,
                          .term_count = static_cast<int64_t>(sum.factors.size()),
                          .rows = sum.rows,
                          .columns = sum.columns,
                          .initial = sum.initial,
                          .initial_row = sum.initial_row,
                          .sums = sum.sums,
                          .rounded = sum.rounded,
                          .out_row = sum.out_row},
                         scratch.Bytes(PanelProductScratch(depth)));
}

}  // namespace deltaworks::trainer
