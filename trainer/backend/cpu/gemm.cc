#include "trainer/backend/cpu/gemm.h"

#include <oneapi/dnnl/dnnl.hpp>
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

// Operands of bf16 are widened first; their products and sums are those of f32.
class ProductCache::WideningProduct final : public Product {
 public:
  WideningProduct(const dnnl::engine& engine, const ProductShape& shape, int workers,
                  const KernelSet& kernels)
      : shape_(shape),
        kernels_(kernels),
        product_(engine, DType::kF32, DenseShape(shape), workers),
        scratch_(workers) {}

  void Run(int worker, const void* a, const void* b, float* out) const override {
    Workspace& scratch = scratch_[worker];
    scratch.Reset();
    const float* wide_a = Widen(scratch, a, shape_.m, shape_.k, shape_.a_row, shape_.a_column);
    const float* wide_b = Widen(scratch, b, shape_.k, shape_.n, shape_.b_row, shape_.b_column);
    product_.Run(worker, wide_a, wide_b, out);
  }

 private:
  static ProductShape DenseShape(ProductShape shape) {
    if (shape.a_column == 1) {
      shape.a_row = shape.k;
    } else {
      shape.a_column = shape.m;
    }
    if (shape.b_column == 1) {
      shape.b_row = shape.n;
    } else {
      shape.b_column = shape.k;
    }
    return shape;
  }

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
  const OneDnnProduct product_;
  mutable std::vector<Workspace> scratch_;  // One for each worker.
};

ProductCache::ProductCache(DType compute_type, int workers, const KernelSet& kernels)
    : compute_type_(compute_type),
      workers_(workers),
      kernels_(kernels),
      widens_(compute_type == DType::kBF16 && !HasBf16Products()),
      engine_(std::make_unique<Engine>()) {}

ProductCache::~ProductCache() = default;

const Product& ProductCache::Get(const ProductShape& shape) {
  MutexLock lock(&mutex_);
  std::unique_ptr<Product>& product = products_[shape];
  if (product == nullptr) {
    if (widens_) {
      product = std::make_unique<WideningProduct>(engine_->engine, shape, workers_, kernels_);
    } else {
      product = std::make_unique<OneDnnProduct>(engine_->engine, compute_type_, shape, workers_);
    }
  }
  return *product;
}

std::string ProductCache::isa_name() const {
  return absl::StrCat(IsaName(dnnl::get_effective_cpu_isa()), widens_ ? "+f32" : "");
}

std::string ProductCache::library_version() const {
  const dnnl_version_t* version = dnnl_version();
  return absl::StrCat(version->major, ".", version->minor, ".", version->patch);
}

}  // namespace deltaworks::trainer
