#include "trainer/backend/cpu/gemm.h"

#include <algorithm>
#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>
#include <utility>
#include <vector>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace deltaworks::trainer {
namespace {

std::string IsaName(dnnl::cpu_isa isa) {
  switch (isa) {
    case dnnl::cpu_isa::sse41:
      return "sse41";
    case dnnl::cpu_isa::avx:
      return "avx";
    case dnnl::cpu_isa::avx2:
      return "avx2";
    case dnnl::cpu_isa::avx2_vnni:
      return "avx2_vnni";
    case dnnl::cpu_isa::avx512_core:
      return "avx512_core";
    case dnnl::cpu_isa::avx512_core_vnni:
      return "avx512_core_vnni";
    case dnnl::cpu_isa::avx512_core_bf16:
      return "avx512_core_bf16";
    case dnnl::cpu_isa::avx512_core_amx:
      return "avx512_core_amx";
    default:
      return absl::StrCat("isa", static_cast<int>(isa));
  }
}

// Without these oneDNN emulates bf16, or has no fast product at all.
bool HasBf16Products() {
  const dnnl::cpu_isa isa = dnnl::get_effective_cpu_isa();
  return isa == dnnl::cpu_isa::avx512_core_bf16 || isa == dnnl::cpu_isa::avx512_core_amx;
}

// Fills a matrix with reproducible numbers of some size and many bits, so that another order of
// addition shows.
class Numbers {
 public:
  float Next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<float>(static_cast<int64_t>(state_) >> 32) * 0x1p-31f;
  }
  void Write(DType type, void* data, int64_t i) {
    if (type == DType::kF32) {
      static_cast<float*>(data)[i] = Next();
    } else {
      static_cast<BFloat16*>(data)[i] = BFloat16(Next());
    }
  }

 private:
  uint64_t state_ = 1;
};

// A tile of rows, with room behind it, and a panel of weights on which a product shows whether its
// rows are independent.
class RowTrial {
 public:
  RowTrial(DType type, const ProductShape& shape)
      : type_(type),
        shape_(shape),
        row_bytes_(shape.a_row * SizeOf(type)),
        a_(workspace_.Get<char>((shape.m + 1) * row_bytes_)),
        b_(workspace_.Get<char>(((shape.k - 1) * shape.b_row + (shape.n - 1) * shape.b_column + 1) *
                                SizeOf(type))),
        out_(workspace_.Get<float>(shape.m * shape.out_row)),
        expected_(shape.n) {
    for (int64_t p = 0; p < shape.k; ++p) {
      for (int64_t j = 0; j < shape.n; ++j) {
        numbers_.Write(type, b_, p * shape.b_row + j * shape.b_column);
      }
    }
  }

  // Equal rows must give equal results.
  bool EqualRowsAreEqual(const Product& product) {
    for (int64_t p = 0; p < shape_.k; ++p) numbers_.Write(type_, a_, p);
    for (int64_t i = 1; i < shape_.m; ++i) {
      std::memcpy(a_ + i * row_bytes_, a_, shape_.k * SizeOf(type_));
    }
    Run(product);
    std::copy_n(out_, shape_.n, expected_.begin());
    for (int64_t i = 1; i < shape_.m; ++i) {
      if (!IsExpected(i)) return false;
    }
    return true;
  }

  // After EqualRowsAreEqual: row i must stay as it is with NaN before and behind it.
  bool RowIsAlone(const Product& product, int64_t i) {
    const std::vector<char> row(a_, a_ + shape_.k * SizeOf(type_));
    std::memset(a_, 0xff, (shape_.m + 1) * row_bytes_);  // A NaN in both types.
    std::copy(row.begin(), row.end(), a_ + i * row_bytes_);
    Run(product);
    std::copy(row.begin(), row.end(), a_);
    return IsExpected(i);
  }

 private:
  void Run(const Product& product) {
    std::fill_n(out_, shape_.m * shape_.out_row, 0.5f);  // Read if the shape accumulates.
    product.Run(/*worker=*/0, a_, b_, out_);
  }
  bool IsExpected(int64_t i) const {
    return std::memcmp(out_ + i * shape_.out_row, expected_.data(), shape_.n * sizeof(float)) == 0;
  }

  const DType type_;
  const ProductShape shape_;
  const int64_t row_bytes_;
  Workspace workspace_;
  char* const a_;
  char* const b_;
  float* const out_;
  std::vector<float> expected_;
  Numbers numbers_;
};

// Whether a row's result depends on the row only. True for sums over rows, where each result has
// one place only.
bool RowsAreIndependent(const Product& product, DType type, const ProductShape& shape) {
  if (shape.a_column != 1 || shape.m != kTileRows) return true;
  RowTrial trial(type, shape);
  // Results of different orders may be equal by chance: a few different rows.
  for (int i = 0; i < 4; ++i) {
    if (!trial.EqualRowsAreEqual(product)) return false;
  }
  return trial.RowIsAlone(product, 37) && trial.RowIsAlone(product, shape.m - 1);
}

}  // namespace

ProductShape TimesTransposed(int64_t n, int64_t k, int64_t a_row, int64_t out_row) {
  ProductShape shape;
  shape.m = kTileRows;
  shape.n = n;
  shape.k = k;
  shape.a_row = a_row;
  shape.b_row = 1;
  shape.b_column = k;
  shape.out_row = out_row;
  return shape;
}

ProductShape Times(int64_t n, int64_t k, int64_t a_row, int64_t b_row, int64_t out_row) {
  ProductShape shape;
  shape.m = kTileRows;
  shape.n = n;
  shape.k = k;
  shape.a_row = a_row;
  shape.b_row = b_row;
  shape.out_row = out_row;
  return shape;
}

ProductShape TransposedTimes(int64_t m, int64_t n, int64_t b_row, int64_t out_row) {
  ProductShape shape;
  shape.m = m;
  shape.n = n;
  shape.k = kTileRows;
  shape.a_row = 1;
  shape.a_column = m;
  shape.b_row = b_row;
  shape.out_row = out_row;
  return shape;
}

struct ProductCache::Engine {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
};

// One oneDNN primitive, and for each worker the objects that bind it to addresses: a call costs a
// few pointer writes.
class ProductCache::OneDnnProduct final : public Product {
 public:
  OneDnnProduct(const dnnl::engine& engine, DType type, const ProductShape& shape, int workers)
      : slots_(workers) {
    try {
      Build(engine, type, shape);
    } catch (const dnnl::error& error) {
      LOG(FATAL) << "oneDNN product m " << shape.m << " n " << shape.n << " k " << shape.k << ": "
                 << error.what();
    }
  }

  void Run(int worker, const void* a, const void* b, float* out) const override {
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

  void Build(const dnnl::engine& engine, DType type, const ProductShape& shape) {
    const auto data_type =
        type == DType::kBF16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
    const dnnl::memory::desc a({shape.m, shape.k}, data_type,
                               dnnl::memory::dims{shape.a_row, shape.a_column});
    const dnnl::memory::desc b({shape.k, shape.n}, data_type,
                               dnnl::memory::dims{shape.b_row, shape.b_column});
    const dnnl::memory::desc out({shape.m, shape.n}, dnnl::memory::data_type::f32,
                                 dnnl::memory::dims{shape.out_row, 1});
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

// In f32, on the kernels of this backend.
class ProductCache::OwnProduct final : public Product {
 public:
  OwnProduct(const ProductShape& shape, int workers, const KernelSet& kernels)
      : shape_(shape), kernels_(kernels), scratch_(workers) {}

  void Run(int worker, const void* a, const void* b, float* out) const override {
    Workspace& scratch = scratch_[worker];
    scratch.Reset();
    kernels_.product({.m = shape_.m,
                      .n = shape_.n,
                      .k = shape_.k,
                      .a = static_cast<const float*>(a),
                      .a_row = shape_.a_row,
                      .a_column = shape_.a_column,
                      .b = static_cast<const float*>(b),
                      .b_row = shape_.b_row,
                      .b_column = shape_.b_column,
                      .out = out,
                      .out_row = shape_.out_row,
                      .accumulate = shape_.accumulate},
                     scratch.Get<float>(ProductScratch(shape_.m)));
  }

 private:
  const ProductShape shape_;
  const KernelSet& kernels_;
  mutable std::vector<Workspace> scratch_;  // One for each worker.
};

// Operands of bf16 are widened first; their products and sums are those of f32.
class ProductCache::WideningProduct final : public Product {
 public:
  // `product` is the f32 product of DenseShape(shape).
  WideningProduct(std::unique_ptr<Product> product, const ProductShape& shape, int workers,
                  const KernelSet& kernels)
      : shape_(shape), kernels_(kernels), product_(std::move(product)), scratch_(workers) {}

  // The shape once both operands have been copied without gaps.
  static ProductShape DenseShape(ProductShape shape) {
    (shape.a_column == 1 ? shape.a_row : shape.a_column) = shape.a_column == 1 ? shape.k : shape.m;
    (shape.b_column == 1 ? shape.b_row : shape.b_column) = shape.b_column == 1 ? shape.n : shape.k;
    return shape;
  }

  void Run(int worker, const void* a, const void* b, float* out) const override {
    Workspace& scratch = scratch_[worker];
    scratch.Reset();
    const float* wide_a = Widen(scratch, a, shape_.m, shape_.k, shape_.a_row, shape_.a_column);
    const float* wide_b = Widen(scratch, b, shape_.k, shape_.n, shape_.b_row, shape_.b_column);
    product_->Run(worker, wide_a, wide_b, out);
  }

 private:
  const float* Widen(Workspace& scratch, const void* x, int64_t rows, int64_t columns, int64_t row,
                     int64_t column) const {
    if (column != 1) {
      std::swap(rows, columns);
      std::swap(row, column);
    }
    float* wide = scratch.Get<float>(rows * columns);
    for (int64_t i = 0; i < rows; ++i) {
      kernels_.widen(static_cast<const BFloat16*>(x) + i * row, wide + i * columns, columns);
    }
    return wide;
  }

  const ProductShape shape_;
  const KernelSet& kernels_;
  const std::unique_ptr<Product> product_;
  mutable std::vector<Workspace> scratch_;  // One for each worker.
};

ProductCache::ProductCache(DType compute_type, int workers, const KernelSet& kernels)
    : compute_type_(compute_type),
      workers_(workers),
      kernels_(kernels),
      engine_(std::make_unique<Engine>()) {}

ProductCache::~ProductCache() = default;

std::unique_ptr<Product> ProductCache::Make(DType type, const ProductShape& shape) const {
  if (type == DType::kF32 || HasBf16Products()) {
    auto product = std::make_unique<OneDnnProduct>(engine_->engine, type, shape, workers_);
    if (RowsAreIndependent(*product, type, shape)) return product;
    if (type == DType::kF32) return std::make_unique<OwnProduct>(shape, workers_, kernels_);
  }
  return std::make_unique<WideningProduct>(Make(DType::kF32, WideningProduct::DenseShape(shape)),
                                           shape, workers_, kernels_);
}

const Product& ProductCache::Get(const ProductShape& shape) {
  MutexLock lock(&mutex_);
  std::unique_ptr<Product>& product = products_[shape];
  if (product == nullptr) product = Make(compute_type_, shape);
  return *product;
}

std::string ProductCache::isa_name() const {
  const bool widens = compute_type_ == DType::kBF16 && !HasBf16Products();
  return absl::StrCat(IsaName(dnnl::get_effective_cpu_isa()), widens ? "+f32" : "");
}

std::string ProductCache::library_version() const {
  const dnnl_version_t* version = dnnl_version();
  return absl::StrCat(version->major, ".", version->minor, ".", version->patch);
}

}  // namespace deltaworks::trainer
