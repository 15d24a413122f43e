#include "tests/gpu/probe/matmul.h"

#include <map>

#include "tests/gpu/probe/gpu.h"

namespace deltaworks::gpu_probe {
namespace {

constexpr size_t kWorkspaceBytes = size_t{64} << 20;

cublasLtHandle_t Handle() {
  static const cublasLtHandle_t handle = [] {
    cublasLtHandle_t made = nullptr;
    PROBE_CHECK(cublasLtCreate(&made));
    return made;
  }();
  return handle;
}

// Two streams at work must not share one.
void* Workspace(cudaStream_t stream) {
  static auto& workspaces = *new std::map<cudaStream_t, Buffer*>;
  Buffer*& workspace = workspaces[stream];
  if (workspace == nullptr) workspace = new Buffer(kWorkspaceBytes);
  return workspace->data();
}

template <typename T>
T Attribute(const cublasLtMatmulAlgo_t& algorithm, cublasLtMatmulAlgoConfigAttributes_t name) {
  T value = {};
  size_t written = 0;
  PROBE_CHECK(
      cublasLtMatmulAlgoConfigGetAttribute(&algorithm, name, &value, sizeof(value), &written));
  return value;
}

Algorithm Described(const cublasLtMatmulHeuristicResult_t& found) {
  const cublasLtMatmulAlgo_t& algo = found.algo;
  Algorithm result;
  result.handle = algo;
  result.workspace_bytes = found.workspaceSize;
  result.id = Attribute<int>(algo, CUBLASLT_ALGO_CONFIG_ID);
  result.tile = Attribute<unsigned>(algo, CUBLASLT_ALGO_CONFIG_TILE_ID);
  result.split_k = Attribute<int>(algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM);
  result.reduction = Attribute<unsigned>(algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME);
  result.swizzle = Attribute<unsigned>(algo, CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING);
  result.custom = Attribute<unsigned>(algo, CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION);
  result.stages = Attribute<unsigned>(algo, CUBLASLT_ALGO_CONFIG_STAGES_ID);
  result.inner = Attribute<uint16_t>(algo, CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID);
  result.cluster = Attribute<uint16_t>(algo, CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID);
  return result;
}

template <typename T>
void Set(cublasLtMatmulDesc_t description, cublasLtMatmulDescAttributes_t name, const T& value) {
  PROBE_CHECK(cublasLtMatmulDescSetAttribute(description, name, &value, sizeof(value)));
}

}  // namespace

std::string Algorithm::Key() const {
  char text[128];
  std::snprintf(text, sizeof(text),
                "id %d tile %u stages %u split %d/%u swizzle %u custom %u "
                "inner %u cluster %u",
                id, tile, stages, split_k, reduction, swizzle, custom, unsigned{inner},
                unsigned{cluster});
  return text;
}

struct Matmul::Layouts {
  cublasLtMatrixLayoutOpaque_t w, x, y;
};

Matmul::Matmul(const MatmulShape& shape) : shape_(shape) {
  // CUBLAS_COMPUTE_32F does not use TF32.
  PROBE_CHECK(cublasLtMatmulDescCreate(&description_, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  Set(description_, CUBLASLT_MATMUL_DESC_TRANSA,
      shape.form == Form::kForward ? CUBLAS_OP_T : CUBLAS_OP_N);
  Set(description_, CUBLASLT_MATMUL_DESC_TRANSB,
      shape.form == Form::kTokenSum ? CUBLAS_OP_T : CUBLAS_OP_N);
  Set(description_, CUBLASLT_MATMUL_DESC_FAST_ACCUM, static_cast<int8_t>(shape.fast_accumulation));
  int32_t x_mode = CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F;
  int32_t w_mode = CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F;
  switch (shape.scaling) {
    case Scaling::kNone:
    case Scaling::kTensor:
      break;
    case Scaling::kOuter:
      x_mode = w_mode = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
      break;
    case Scaling::kVec128:
      x_mode = w_mode = CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F;
      break;
    case Scaling::kBlocks:
      x_mode = CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F;
      w_mode = CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F;
      break;
  }
  Set(description_, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, w_mode);
  Set(description_, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, x_mode);
}

Matmul::~Matmul() { PROBE_CHECK(cublasLtMatmulDescDestroy(description_)); }

void Matmul::SetScales(const float* x_scales, const float* w_scales) {
  if (shape_.scaling == Scaling::kNone) return;  // Pointers, even unused, leave no algorithm.
  Set(description_, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, w_scales);
  Set(description_, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, x_scales);
}

Matmul::Layouts Matmul::LayoutsOf(int64_t t) const {
  const auto n = static_cast<uint64_t>(shape_.n);
  const auto k = static_cast<uint64_t>(shape_.k);
  const auto rows = static_cast<uint64_t>(t);
  const int64_t w_dense = shape_.form == Form::kForward ? shape_.k : shape_.n;
  const int64_t w_stride = shape_.w_stride == 0 ? w_dense : shape_.w_stride;
  const int64_t x_stride = shape_.x_stride == 0 ? shape_.k : shape_.x_stride;
  Layouts layouts;
  switch (shape_.form) {
    case Form::kForward:
      PROBE_CHECK(cublasLtMatrixLayoutInit(&layouts.w, shape_.input, k, n, w_stride));
      break;
    case Form::kBackward:
      PROBE_CHECK(cublasLtMatrixLayoutInit(&layouts.w, shape_.input, n, k, w_stride));
      break;
    case Form::kTokenSum:
      PROBE_CHECK(cublasLtMatrixLayoutInit(&layouts.w, shape_.input, n, rows, w_stride));
      break;
  }
  PROBE_CHECK(cublasLtMatrixLayoutInit(&layouts.x, shape_.input, k, rows, x_stride));
  PROBE_CHECK(cublasLtMatrixLayoutInit(&layouts.y, shape_.output, n,
                                       shape_.form == Form::kTokenSum ? k : rows, shape_.n));
  return layouts;
}

std::vector<Algorithm> Matmul::Choices(int64_t t, int count, bool any) const {
  Layouts layouts = LayoutsOf(t);
  cublasLtMatmulPreference_t preference = nullptr;
  PROBE_CHECK(cublasLtMatmulPreferenceCreate(&preference));
  PROBE_CHECK(cublasLtMatmulPreferenceSetAttribute(preference,
                                                   CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                   &kWorkspaceBytes, sizeof(kWorkspaceBytes)));
  const uint32_t mask = any ? CUBLASLT_REDUCTION_SCHEME_MASK : CUBLASLT_REDUCTION_SCHEME_NONE;
  PROBE_CHECK(cublasLtMatmulPreferenceSetAttribute(
      preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &mask, sizeof(mask)));
  std::vector<cublasLtMatmulHeuristicResult_t> found(static_cast<size_t>(count));
  int returned = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(Handle(), description_, &layouts.w, &layouts.x, &layouts.y,
                                     &layouts.y, preference, count, found.data(), &returned);
  PROBE_CHECK(cublasLtMatmulPreferenceDestroy(preference));
  std::vector<Algorithm> choices;
  if (status != CUBLAS_STATUS_SUCCESS) return choices;
  for (int i = 0; i < returned; ++i) {
    if (found[static_cast<size_t>(i)].state == CUBLAS_STATUS_SUCCESS)
      choices.push_back(Described(found[static_cast<size_t>(i)]));
  }
  return choices;
}

bool Matmul::Supports(const Algorithm& algorithm, int64_t t) const {
  Layouts layouts = LayoutsOf(t);
  cublasLtMatmulHeuristicResult_t result = {};
  return cublasLtMatmulAlgoCheck(Handle(), description_, &layouts.w, &layouts.x, &layouts.y,
                                 &layouts.y, &algorithm.handle, &result) == CUBLAS_STATUS_SUCCESS &&
         result.workspaceSize <= kWorkspaceBytes;
}

bool Matmul::Run(const Algorithm& algorithm, int64_t t, const void* x, const void* w, void* y,
                 cudaStream_t stream) const {
  Layouts layouts = LayoutsOf(t);
  const float one = 1;
  const float beta = shape_.accumulate ? 1 : 0;
  return cublasLtMatmul(Handle(), description_, &one, w, &layouts.w, x, &layouts.x, &beta, y,
                        &layouts.y, y, &layouts.y, &algorithm.handle, Workspace(stream),
                        kWorkspaceBytes, stream) == CUBLAS_STATUS_SUCCESS;
}

int64_t CublasLtVersion() { return static_cast<int64_t>(cublasLtGetVersion()); }

}  // namespace deltaworks::gpu_probe
