#include "trainer/backend/cuda/cublaslt.h"

#include <cublasLt.h>
#include <cuda_runtime.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "trainer/backend/cuda/matrices.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::trainer::cuda {
namespace {

constexpr char kLibrary[] = "libcublasLt.so.13";
constexpr size_t kWorkspaceBytes = kProductWorkspaceBytes;
// Of each shape; the family below is among the first few where it exists.
constexpr int kChoices = 32;
// Hopper's kernels; there is no other family of which all members give the same bytes in bf16.
constexpr int kHopperFamily = 66;
// For few rows the library offers other families, or none: then those that it has for more rows are
// tried, which work too. In f32 those for 16 rows and fewer give other bytes.
constexpr int64_t kSizesAskedFor[] = {1, 64, 256, 1024, 4096};
constexpr int64_t kF32RowsMin = 64;
constexpr size_t kAlgorithmsMax = 65'536;
// Operands begin at 16 bytes (gpu.h).
constexpr uint32_t kAlignmentBytes = 16;

// The functions that are used, each with the library's own type.
#define DW_CUBLASLT_FUNCTIONS(F)          \
  F(cublasLtGetVersion)                   \
  F(cublasLtCreate)                       \
  F(cublasLtDestroy)                      \
  F(cublasLtMatmul)                       \
  F(cublasLtMatmulAlgoCheck)              \
  F(cublasLtMatmulAlgoGetHeuristic)       \
  F(cublasLtMatmulAlgoConfigGetAttribute) \
  F(cublasLtMatmulDescCreate)             \
  F(cublasLtMatmulDescDestroy)            \
  F(cublasLtMatmulDescSetAttribute)       \
  F(cublasLtMatmulPreferenceCreate)       \
  F(cublasLtMatmulPreferenceDestroy)      \
  F(cublasLtMatmulPreferenceSetAttribute) \
  F(cublasLtMatrixLayoutInit_internal)

struct Functions {
#define DW_POINTER(name) decltype(&::name) name = nullptr;
  DW_CUBLASLT_FUNCTIONS(DW_POINTER)
#undef DW_POINTER
};

std::vector<std::string> Places() {
  if (const char* path = std::getenv("DELTAWORKS_CUBLASLT_LIBRARY")) return {path};
  std::vector<std::string> places = {kLibrary};
  if (const char* home = std::getenv("CUDA_HOME")) {
    places.push_back(absl::StrCat(home, "/lib64/", kLibrary));
  }
  places.push_back(absl::StrCat("/usr/local/cuda/lib64/", kLibrary));
  return places;
}

// The library stays loaded until the process ends.
absl::StatusOr<Functions> LoadFunctions() {
  const std::vector<std::string> places = Places();
  void* library = nullptr;
  for (const std::string& place : places) {
    library = dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library != nullptr) break;
  }
  if (library == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat(
        "cuBLASLt was not found, looked for ", absl::StrJoin(places, ", "), ": ", dlerror()));
  }
  Functions functions;
#define DW_LOAD(name)                                                                 \
  functions.name = reinterpret_cast<decltype(functions.name)>(dlsym(library, #name)); \
  if (functions.name == nullptr) {                                                    \
    return absl::FailedPreconditionError(absl::StrCat(kLibrary, " has no ", #name));  \
  }
  DW_CUBLASLT_FUNCTIONS(DW_LOAD)
#undef DW_LOAD
  return functions;
}

cudaDataType_t TypeOf(DType type) {
  if (type == DType::kF8E4M3) return CUDA_R_8F_E4M3;
  return type == DType::kBF16 ? CUDA_R_16BF : CUDA_R_32F;
}

// A product as the library is asked for an algorithm.
using Shape = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int>;

Shape ShapeOf(const Product& product) {
  const int flags = (product.a_transposed ? 1 : 0) | (product.b_transposed ? 2 : 0) |
                    (product.input == DType::kBF16 ? 4 : 0) |
                    (product.output == DType::kBF16 ? 8 : 0) | (product.accumulate ? 16 : 0) |
                    (product.input == DType::kF8E4M3 ? 32 : 0);
  return {product.rows,     product.columns,    product.depth, product.a.stride,
          product.b.stride, product.out.stride, flags};
}

std::string TextOf(const Product& product) {
  return absl::StrCat("product [", product.rows, ", ", product.depth, "] [", product.depth, ", ",
                      product.columns, "], transposed ", product.a_transposed, " ",
                      product.b_transposed, ", strides ", product.a.stride, " ", product.b.stride,
                      " ", product.out.stride, ", ", NameOf(product.input), " to ",
                      NameOf(product.output), product.accumulate ? " +=" : "");
}

// To the library, whose matrices are column-major, our `out` is [columns, rows] = b' a'.
struct Layouts {
  cublasLtMatrixLayoutOpaque_t b, a, out;
};

class LoadedCublasLt final : public CublasLt {
 public:
  explicit LoadedCublasLt(const Functions& functions) : lt_(functions) {}
  ~LoadedCublasLt() override {
    for (const auto& [flags, description] : descriptions_) {
      lt_.cublasLtMatmulDescDestroy(description);
    }
    if (preference_ != nullptr) lt_.cublasLtMatmulPreferenceDestroy(preference_);
    if (handle_ != nullptr) lt_.cublasLtDestroy(handle_);
    cudaFree(workspace_);
  }

  absl::Status Start() {
    DW_RETURN_IF_ERROR(Check(lt_.cublasLtCreate(&handle_), "cublasLtCreate"));
    DW_RETURN_IF_ERROR(Check(lt_.cublasLtMatmulPreferenceCreate(&preference_), "preference"));
    DW_RETURN_IF_ERROR(Prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kWorkspaceBytes}));
    DW_RETURN_IF_ERROR(Prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                              uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE}));
    for (const auto operand :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      DW_RETURN_IF_ERROR(Prefer(operand, kAlignmentBytes));
    }
    if (cudaMalloc(&workspace_, kWorkspaceBytes) != cudaSuccess) {
      cudaGetLastError();
      workspace_ = nullptr;
      return absl::ResourceExhaustedError(
          absl::StrCat("no room for the workspace of products, ", kWorkspaceBytes, " bytes"));
    }
    return absl::OkStatus();
  }

  int64_t version() const override { return static_cast<int64_t>(lt_.cublasLtGetVersion()); }

  absl::Status Multiply(const Product& product, cudaStream_t stream) override {
    DW_ASSIGN_OR_RETURN(const cublasLtMatmulDesc_t description, DescriptionOf(product));
    DW_ASSIGN_OR_RETURN(const Layouts layouts, LayoutsOf(product));
    DW_ASSIGN_OR_RETURN(const cublasLtMatmulAlgo_t algorithm,
                        AlgorithmOf(product, description, layouts));
    const float one = 1, beta = product.accumulate ? 1 : 0;
    const cublasStatus_t status = lt_.cublasLtMatmul(
        handle_, description, &one, product.b.data, Layout(layouts.b), product.a.data,
        Layout(layouts.a), &beta, product.out.data, Layout(layouts.out), product.out.data,
        Layout(layouts.out), &algorithm, workspace_, kWorkspaceBytes, stream);
    if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
    return Check(status, TextOf(product));
  }

 private:
  // The library does not write through it.
  static cublasLtMatrixLayout_t Layout(const cublasLtMatrixLayoutOpaque_t& layout) {
    return const_cast<cublasLtMatrixLayout_t>(&layout);
  }

  static absl::Status Check(cublasStatus_t status, const std::string& what) {
    if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
    return absl::InternalError(
        absl::StrCat("cuBLASLt answers ", static_cast<int>(status), " to ", what));
  }

  template <typename T>
  absl::Status Prefer(cublasLtMatmulPreferenceAttributes_t name, const T& value) {
    return Check(lt_.cublasLtMatmulPreferenceSetAttribute(preference_, name, &value, sizeof(value)),
                 "a preference");
  }

  absl::StatusOr<cublasLtMatmulDesc_t> DescriptionOf(const Product& product) {
    const bool fp8 = product.input == DType::kF8E4M3;
    const int flags =
        (product.a_transposed ? 1 : 0) | (product.b_transposed ? 2 : 0) | (fp8 ? 4 : 0);
    if (const auto found = descriptions_.find(flags); found != descriptions_.end()) {
      if (fp8) DW_RETURN_IF_ERROR(SetScales(product, found->second));
      return found->second;
    }
    cublasLtMatmulDesc_t description = nullptr;
    // Sums in f32, without TF32.
    DW_RETURN_IF_ERROR(Check(
        lt_.cublasLtMatmulDescCreate(&description, CUBLAS_COMPUTE_32F, CUDA_R_32F), "description"));
    descriptions_[flags] = description;
    // Row-major [depth, columns] is column-major [columns, depth]: as it is.
    const cublasOperation_t b = product.b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t a = product.a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    DW_RETURN_IF_ERROR(Describe(description, CUBLASLT_MATMUL_DESC_TRANSA, b));
    DW_RETURN_IF_ERROR(Describe(description, CUBLASLT_MATMUL_DESC_TRANSB, a));
    if (!fp8) return description;
    const int32_t by_row = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
    DW_RETURN_IF_ERROR(Describe(description, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, by_row));
    DW_RETURN_IF_ERROR(Describe(description, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, by_row));
    // Sums of all products in f32, not in the tensor core's fewer bits.
    DW_RETURN_IF_ERROR(Describe(description, CUBLASLT_MATMUL_DESC_FAST_ACCUM, int8_t{0}));
    DW_RETURN_IF_ERROR(SetScales(product, description));
    return description;
  }

  template <typename T>
  absl::Status Describe(cublasLtMatmulDesc_t description, cublasLtMatmulDescAttributes_t name,
                        const T& value) {
    return Check(lt_.cublasLtMatmulDescSetAttribute(description, name, &value, sizeof(value)),
                 "a description");
  }
  absl::Status SetScales(const Product& product, cublasLtMatmulDesc_t description) {
    DW_RETURN_IF_ERROR(
        Describe(description, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, product.b_scales));
    return Describe(description, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, product.a_scales);
  }

  absl::StatusOr<Layouts> LayoutsOf(const Product& product) {
    Layouts layouts;
    const auto init = [&](cublasLtMatrixLayoutOpaque_t* layout, DType type, int64_t rows,
                          int64_t columns, int64_t stride) {
      return Check(lt_.cublasLtMatrixLayoutInit_internal(layout, sizeof(*layout), TypeOf(type),
                                                         static_cast<uint64_t>(rows),
                                                         static_cast<uint64_t>(columns), stride),
                   "a layout");
    };
    const int64_t rows = product.rows, columns = product.columns, depth = product.depth;
    DW_RETURN_IF_ERROR(init(&layouts.b, product.input, product.b_transposed ? depth : columns,
                            product.b_transposed ? columns : depth, product.b.stride));
    DW_RETURN_IF_ERROR(init(&layouts.a, product.input, product.a_transposed ? rows : depth,
                            product.a_transposed ? depth : rows, product.a.stride));
    DW_RETURN_IF_ERROR(init(&layouts.out, product.output, columns, rows, product.out.stride));
    return layouts;
  }

  template <typename T>
  T Attribute(const cublasLtMatmulAlgo_t& algorithm,
              cublasLtMatmulAlgoConfigAttributes_t name) const {
    T value = {};
    size_t written = 0;
    lt_.cublasLtMatmulAlgoConfigGetAttribute(&algorithm, name, &value, sizeof(value), &written);
    return value;
  }

  bool IsExact(const cublasLtMatmulAlgo_t& algorithm, const Product& product) const {
    const int family = Attribute<int>(algorithm, CUBLASLT_ALGO_CONFIG_ID);
    const int split = Attribute<int>(algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM);
    if (split > 1) return false;
    // A sum of one term has no order; for scales of rows the library has one algorithm.
    return product.input == DType::kF32 || product.input == DType::kF8E4M3 || product.depth == 1 ||
           family == kHopperFamily;
  }

  absl::StatusOr<cublasLtMatmulAlgo_t> AlgorithmOf(const Product& product,
                                                   cublasLtMatmulDesc_t description,
                                                   const Layouts& layouts) {
    const Shape shape = ShapeOf(product);
    const auto found = algorithms_.find(shape);
    if (found != algorithms_.end()) return found->second;
    for (const int64_t size : kSizesAskedFor) {
      const int64_t least = product.input == DType::kF32 ? std::max(size, kF32RowsMin) : size;
      // Asked with dense matrices: a stride may depend on who else is in the batch.
      Product asked = product;
      int64_t& tokens = product.a_transposed ? asked.depth : asked.rows;
      tokens = std::max(tokens, least);
      asked.a.stride = Filled(asked.a_transposed ? asked.rows : asked.depth);
      asked.b.stride = Filled(asked.b_transposed ? asked.depth : asked.columns);
      asked.out.stride = Filled(asked.columns);
      for (const cublasLtMatmulAlgo_t& algorithm : ChoicesFor(asked, description)) {
        if (!IsExact(algorithm, product) || !Can(algorithm, description, layouts)) continue;
        if (algorithms_.size() >= kAlgorithmsMax) algorithms_.clear();
        algorithms_[shape] = algorithm;
        return algorithm;
      }
    }
    return absl::InternalError(
        absl::StrCat("cuBLASLt has no exact algorithm for ", TextOf(product)));
  }

  // The library's own, its best first; none if it refuses the shape.
  std::vector<cublasLtMatmulAlgo_t> ChoicesFor(const Product& product,
                                               cublasLtMatmulDesc_t description) {
    std::vector<cublasLtMatmulAlgo_t> choices;
    const absl::StatusOr<Layouts> layouts = LayoutsOf(product);
    if (!layouts.ok()) return choices;
    std::vector<cublasLtMatmulHeuristicResult_t> results(kChoices);
    int count = 0;
    const cublasStatus_t status = lt_.cublasLtMatmulAlgoGetHeuristic(
        handle_, description, Layout(layouts->b), Layout(layouts->a), Layout(layouts->out),
        Layout(layouts->out), preference_, kChoices, results.data(), &count);
    if (status != CUBLAS_STATUS_SUCCESS) return choices;
    for (int i = 0; i < count; ++i) {
      if (results[i].state == CUBLAS_STATUS_SUCCESS) choices.push_back(results[i].algo);
    }
    return choices;
  }

  bool Can(const cublasLtMatmulAlgo_t& algorithm, cublasLtMatmulDesc_t description,
           const Layouts& layouts) {
    cublasLtMatmulHeuristicResult_t result = {};
    return lt_.cublasLtMatmulAlgoCheck(handle_, description, Layout(layouts.b), Layout(layouts.a),
                                       Layout(layouts.out), Layout(layouts.out), &algorithm,
                                       &result) == CUBLAS_STATUS_SUCCESS &&
           result.workspaceSize <= kWorkspaceBytes;
  }

  const Functions lt_;
  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulPreference_t preference_ = nullptr;
  void* workspace_ = nullptr;
  absl::flat_hash_map<int, cublasLtMatmulDesc_t> descriptions_;  // By what is transposed.
  absl::flat_hash_map<Shape, cublasLtMatmulAlgo_t> algorithms_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<CublasLt>> CublasLt::Load() {
  DW_ASSIGN_OR_RETURN(const Functions functions, LoadFunctions());
  auto loaded = std::make_unique<LoadedCublasLt>(functions);
  DW_RETURN_IF_ERROR(loaded->Start());
  return loaded;
}

}  // namespace deltaworks::trainer::cuda
