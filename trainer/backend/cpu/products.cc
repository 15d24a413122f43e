#include "trainer/backend/cpu/products.h"

#include <cstring>
#include <vector>

#include "glog/logging.h"

namespace deltaworks::trainer {
namespace {

// Packed panels of one Run stay in the second cache level.
constexpr int64_t kDepthMax = 4096;

class KernelProducts final : public Products {
 public:
  KernelProducts(DType compute_type, int workers, const KernelSet& kernels)
      : element_bytes_(SizeOf(compute_type)), kernels_(kernels), scratch_(workers) {}

  int64_t panel_columns() const override { return kPanelColumns; }
  int64_t depth_max() const override { return kDepthMax; }
  int64_t token_tile() const override { return kDepthMax / 4; }
  bool pads_tokens() const override { return false; }

  Panel Prepare(const RightSide& b, int64_t first, int64_t depth, int64_t column, int64_t columns,
                Workspace& scratch) const override {
    void* packed = scratch.Bytes(PanelBytes(depth));
    const int64_t offset = b.transposed ? column * b.row + first : first * b.row + column;
    const auto pack = b.transposed ? kernels_.pack_panel_transposed : kernels_.pack_panel_rows;
    pack(static_cast<const char*>(b.data) + offset * element_bytes_, b.row, depth, columns, packed);
    return {{}, packed};
  }

  const void* PrepareTransposed(const void* a, int64_t a_row, int64_t tokens, int64_t columns,
                                Workspace& scratch) const override {
    void* packed = scratch.Bytes(PanelBytes(tokens));
    kernels_.pack_panel_rows(a, a_row, tokens, columns, packed);
    return packed;
  }

  void Run(int worker, const PanelSum& sum) override {
    CHECK_LE(sum.factors.size(), static_cast<size_t>(kPanelTermsMax));
    PanelTerm terms[kPanelTermsMax];
    int64_t depth = 0;
    for (size_t i = 0; i < sum.factors.size(); ++i) {
      const PanelFactor& factor = sum.factors[i];
      terms[i] = {factor.a, factor.a_row, factor.a_prepared, factor.panel.packed, factor.depth};
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

  std::string name() const override { return kernels_.isa; }

 private:
  const int64_t element_bytes_;
  const KernelSet& kernels_;
  std::vector<Workspace> scratch_;  // One for each worker.
};

}  // namespace

std::unique_ptr<Products> ProductsOfKernels(DType compute_type, int workers,
                                            const KernelSet& kernels) {
  return std::make_unique<KernelProducts>(compute_type, workers, kernels);
}

}  // namespace deltaworks::trainer
