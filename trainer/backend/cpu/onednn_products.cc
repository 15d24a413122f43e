// Products by oneDNN: bf16 on machines with AMX. products.h tells what makes their rows exact.

#include <algorithm>
#include <cstring>
#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "trainer/backend/cpu/products.h"
#include "trainer/base/mutex.h"

namespace deltaworks::trainer {
namespace {

constexpr int64_t kColumns = 256;
constexpr int64_t kElementBytes = sizeof(BFloat16);

std::string IsaName(dnnl::cpu_isa isa) {
  switch (isa) {
    case dnnl::cpu_isa::avx512_core_bf16:
      return "avx512_core_bf16";
    case dnnl::cpu_isa::avx512_core_amx:
      return "avx512_core_amx";
    default:
      return absl::StrCat("isa", static_cast<int>(isa));
  }
}

// out [m,n] f32 = or += a [m,k] b [k,n]; a (or its transpose) and out are dense.
struct ProductShape {
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
  bool a_transposed = false;
  int64_t b_row = 0;
  bool b_transposed = false;
  bool accumulate = false;

  auto Key() const { return std::tie(m, n, k, a_transposed, b_row, b_transposed, accumulate); }
  bool operator<(const ProductShape& other) const { return Key() < other.Key(); }
};

// One oneDNN primitive, and for each worker the objects that bind it to addresses: a call costs a
// few pointer writes.
class OneDnnProduct {
 public:
  OneDnnProduct(const dnnl::engine& engine, const ProductShape& shape, int workers)
      : slots_(workers) {
    try {
      Build(engine, shape);
    } catch (const dnnl::error& error) {
      LOG(FATAL) << "oneDNN product m " << shape.m << " n " << shape.n << " k " << shape.k << ": "
                 << error.what();
    }
  }

  void Run(int worker, const void* a, const void* b, float* out) const {
    const Slot& slot = slots_[worker];
    // oneDNN's arguments are not const, though it only reads these two.
    CHECK_EQ(dnnl_memory_set_data_handle(slot.a.get(), const_cast<void*>(a)), dnnl_success);
    CHECK_EQ(dnnl_memory_set_data_handle(slot.b.get(), const_cast<void*>(b)), dnnl_success);
    CHECK_EQ(dnnl_memory_set_data_handle(slot.out.get(), out), dnnl_success);
    const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, slot.a.get()},
                                         {DNNL_ARG_WEIGHTS, slot.b.get()},
                                         {DNNL_ARG_DST, slot.out.get()},
                                         {DNNL_ARG_SCRATCHPAD, slot.scratch.get()}};
    CHECK_EQ(dnnl_primitive_execute(primitive_.get(), slot.stream.get(), 4, arguments),
             dnnl_success);
  }

 private:
  struct Slot {
    dnnl::stream stream;
    dnnl::memory a;
    dnnl::memory b;
    dnnl::memory out;
    dnnl::memory scratch;
  };

  void Build(const dnnl::engine& engine, const ProductShape& shape) {
    using Dims = dnnl::memory::dims;
    const auto bf16 = dnnl::memory::data_type::bf16;
    const dnnl::memory::desc a({shape.m, shape.k}, bf16,
                               shape.a_transposed ? Dims{1, shape.m} : Dims{shape.k, 1});
    const dnnl::memory::desc b({shape.k, shape.n}, bf16,
                               shape.b_transposed ? Dims{1, shape.b_row} : Dims{shape.b_row, 1});
    const dnnl::memory::desc out({shape.m, shape.n}, dnnl::memory::data_type::f32,
                                 Dims{shape.n, 1});
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (shape.accumulate) {
      dnnl::post_ops sum;
      sum.append_sum(1.0f);
      attributes.set_post_ops(sum);
    }
    const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(a, b, out), attributes,
                                                   engine);
    primitive_ = dnnl::matmul(description);
    for (Slot& slot : slots_) {
      slot.stream = dnnl::stream(engine);
      slot.a = dnnl::memory(a, engine, nullptr);
      slot.b = dnnl::memory(b, engine, nullptr);
      slot.out = dnnl::memory(out, engine, nullptr);
      slot.scratch = dnnl::memory(description.scratchpad_desc(), engine);
    }
  }

  dnnl::matmul primitive_;
  std::vector<Slot> slots_;
};

// Fills a matrix with reproducible numbers of some size and many bits, so that another order of
// addition shows.
class Numbers {
 public:
  void Write(void* data, int64_t i) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    const float number = static_cast<float>(static_cast<int64_t>(state_) >> 32) * 0x1p-31f;
    static_cast<BFloat16*>(data)[i] = BFloat16(number);
  }

 private:
  uint64_t state_ = 1;
};

// A tile of rows and a panel of weights on which a product shows whether its rows are independent.
class RowTrial {
 public:
  explicit RowTrial(const ProductShape& shape)
      : shape_(shape),
        row_bytes_(shape.k * kElementBytes),
        a_(workspace_.Get<char>(shape.m * row_bytes_)),
        b_(workspace_.Get<char>((shape.b_transposed ? (shape.n - 1) * shape.b_row + shape.k
                                                    : (shape.k - 1) * shape.b_row + shape.n) *
                                kElementBytes)),
        out_(workspace_.Get<float>(shape.m * shape.n)),
        expected_(shape.n) {
    for (int64_t p = 0; p < shape.k; ++p) {
      for (int64_t j = 0; j < shape.n; ++j) {
        numbers_.Write(b_, shape.b_transposed ? j * shape.b_row + p : p * shape.b_row + j);
      }
    }
  }

  // Equal rows must give equal results.
  bool EqualRowsAreEqual(const OneDnnProduct& product) {
    for (int64_t p = 0; p < shape_.k; ++p) numbers_.Write(a_, p);
    for (int64_t i = 1; i < shape_.m; ++i) std::memcpy(a_ + i * row_bytes_, a_, row_bytes_);
    Run(product);
    std::copy_n(out_, shape_.n, expected_.begin());
    for (int64_t i = 1; i < shape_.m; ++i) {
      if (!IsExpected(i)) return false;
    }
    return true;
  }

  // After EqualRowsAreEqual: row i must stay as it is with NaN before and behind it.
  bool RowIsAlone(const OneDnnProduct& product, int64_t i) {
    const std::vector<char> row(a_, a_ + row_bytes_);
    std::memset(a_, 0xff, shape_.m * row_bytes_);
    std::copy(row.begin(), row.end(), a_ + i * row_bytes_);
    Run(product);
    std::copy(row.begin(), row.end(), a_);
    return IsExpected(i);
  }

 private:
  void Run(const OneDnnProduct& product) {
    std::fill_n(out_, shape_.m * shape_.n, 0.5f);  // Read if the shape accumulates.
    product.Run(/*worker=*/0, a_, b_, out_);
  }
  bool IsExpected(int64_t i) const {
    return std::memcmp(out_ + i * shape_.n, expected_.data(), shape_.n * sizeof(float)) == 0;
  }

  const ProductShape shape_;
  const int64_t row_bytes_;
  Workspace workspace_;
  char* const a_;
  char* const b_;
  float* const out_;
  std::vector<float> expected_;
  Numbers numbers_;
};

// Whether a row's result depends on the row only. Each result of a sum over tokens has one place
// only.
bool RowsAreIndependent(const OneDnnProduct& product, const ProductShape& shape) {
  if (shape.a_transposed) return true;
  RowTrial trial(shape);
  // Results of different orders may be equal by chance: a few different rows.
  for (int i = 0; i < 4; ++i) {
    if (!trial.EqualRowsAreEqual(product)) return false;
  }
  return trial.RowIsAlone(product, 37) && trial.RowIsAlone(product, shape.m - 1);
}

class OneDnnProducts final : public Products {
 public:
  OneDnnProducts(int workers, const KernelSet& kernels)
      : workers_(workers),
        kernels_(kernels),
        fallback_(ProductsOfKernels(DType::kBF16, workers, kernels)),
        scratch_(workers) {}

  int64_t panel_columns() const override { return kColumns; }
  int64_t depth_max() const override { return int64_t{1} << 40; }
  int64_t token_tile() const override { return kTileRows; }
  bool pads_tokens() const override { return true; }

  Panel Prepare(const RightSide& b, int64_t first, int64_t /*depth*/, int64_t column,
                int64_t /*columns*/, Workspace& /*scratch*/) const override {
    const int64_t offset = b.transposed ? column * b.row + first : first * b.row + column;
    const char* data = static_cast<const char*>(b.data) + offset * kElementBytes;
    return {{data, b.row, b.transposed}, nullptr};
  }

  const void* PrepareTransposed(const void* a, int64_t a_row, int64_t tokens, int64_t columns,
                                Workspace& scratch) const override {
    const int64_t bytes = columns * kElementBytes;
    char* const copy = scratch.Get<char>(kTileRows * bytes);
    for (int64_t i = 0; i < tokens; ++i) {
      std::memcpy(copy + i * bytes, static_cast<const char*>(a) + i * a_row * kElementBytes, bytes);
    }
    std::memset(copy + tokens * bytes, 0, (kTileRows - tokens) * bytes);
    return copy;
  }

  void Run(int worker, const PanelSum& sum) override {
    const bool over_tokens = sum.factors[0].a_prepared;
    const int64_t tile_rows = over_tokens ? sum.rows : kTileRows;
    for (int64_t row = 0; row < sum.rows; row += tile_rows) RunTile(worker, sum, row, tile_rows);
  }

  std::string name() const override {
    const dnnl_version_t* version = dnnl_version();
    return absl::StrCat("onednn-", version->major, ".", version->minor, ".", version->patch, "-",
                        IsaName(dnnl::get_effective_cpu_isa()), "+", kernels_.isa);
  }

 private:
  void RunTile(int worker, const PanelSum& sum, int64_t row, int64_t tile_rows) {
    Workspace& scratch = scratch_[worker];
    scratch.Reset();
    const int64_t rows = std::min(tile_rows, sum.rows - row);
    float* const out = scratch.Get<float>(tile_rows * sum.columns);
    if (sum.initial != nullptr) {
      for (int64_t i = 0; i < rows; ++i) {
        std::copy_n(sum.initial + (row + i) * sum.initial_row, sum.columns, out + i * sum.columns);
      }
    }
    bool accumulate = sum.initial != nullptr;
    for (const PanelFactor& factor : sum.factors) {
      const void* a =
          factor.a_prepared ? factor.a : DenseTile(factor, row, rows, tile_rows, scratch);
      Multiply(worker,
               {.m = tile_rows,
                .n = sum.columns,
                .k = factor.depth,
                .a_transposed = factor.a_prepared,
                .b_row = factor.panel.b.row,
                .b_transposed = factor.panel.b.transposed,
                .accumulate = accumulate},
               a, factor.panel.b.data, out, scratch);
      accumulate = true;
    }
    for (int64_t i = 0; i < rows; ++i) {
      const float* from = out + i * sum.columns;
      const int64_t to = (row + i) * sum.out_row;
      if (sum.sums != nullptr) {
        std::copy_n(from, sum.columns, sum.sums + to);
      } else {
        kernels_.round(from, static_cast<BFloat16*>(sum.rounded) + to, sum.columns);
      }
    }
  }

  // The tile where it is, or copied; the rows behind the last are zero.
  static const void* DenseTile(const PanelFactor& factor, int64_t row, int64_t rows,
                               int64_t tile_rows, Workspace& scratch) {
    const char* a = static_cast<const char*>(factor.a) + row * factor.a_row * kElementBytes;
    if (rows == tile_rows && factor.a_row == factor.depth) return a;
    const int64_t bytes = factor.depth * kElementBytes;
    char* const copy = scratch.Get<char>(tile_rows * bytes);
    for (int64_t i = 0; i < rows; ++i) {
      std::memcpy(copy + i * bytes, a + i * factor.a_row * kElementBytes, bytes);
    }
    std::memset(copy + rows * bytes, 0, (tile_rows - rows) * bytes);
    return copy;
  }

  void Multiply(int worker, const ProductShape& shape, const void* a, const void* b, float* out,
                Workspace& scratch) {
    if (const OneDnnProduct* product = Get(shape)) {
      product->Run(worker, a, b, out);
      return;
    }
    for (int64_t column = 0; column < shape.n; column += kPanelColumns) {
      const int64_t columns = std::min(kPanelColumns, shape.n - column);
      const Panel panel = fallback_->Prepare({b, shape.b_row, shape.b_transposed}, 0, shape.k,
                                             column, columns, scratch);
      const PanelFactor factor = {.a = a, .a_row = shape.k, .panel = panel, .depth = shape.k};
      fallback_->Run(worker, {.factors = {&factor, 1},
                              .rows = shape.m,
                              .columns = columns,
                              .initial = shape.accumulate ? out + column : nullptr,
                              .initial_row = shape.n,
                              .sums = out + column,
                              .out_row = shape.n});
    }
  }

  // Made at the first request; nullptr if the kernels compute this shape.
  const OneDnnProduct* Get(const ProductShape& shape) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    const auto found = products_.find(shape);
    if (found != products_.end()) return found->second.get();
    auto product = std::make_unique<OneDnnProduct>(engine_, shape, workers_);
    if (!RowsAreIndependent(*product, shape)) product.reset();
    return products_.emplace(shape, std::move(product)).first->second.get();
  }

  const int workers_;
  const KernelSet& kernels_;
  const std::unique_ptr<Products> fallback_;
  const dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  Mutex mutex_;
  std::map<ProductShape, std::unique_ptr<OneDnnProduct>> products_ ABSL_GUARDED_BY(mutex_);
  std::vector<Workspace> scratch_;  // One for each worker.
};

}  // namespace

std::unique_ptr<Products> ProductsOfOneDnn(int workers, const KernelSet& kernels) {
  return std::make_unique<OneDnnProducts>(workers, kernels);
}

}  // namespace deltaworks::trainer
