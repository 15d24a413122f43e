// One frozen weight's product through cuBLASLt, with the algorithm chosen by hand.
//
// Row-major, W [N, K] as models store it, T token rows:
//   forward    y  [T, N] = x [T, K] W^T
//   backward   dx [T, K] = dy [T, N] W
//   token sum  dA [R, K] = dh [T, R]^T x [T, K], an adapter's gradient
// cuBLASLt is column-major: to it y is [features, T], so token rows are its columns.

#ifndef DELTAWORKS_TESTS_GPU_PROBE_MATMUL_H_
#define DELTAWORKS_TESTS_GPU_PROBE_MATMUL_H_

#include <cublasLt.h>

#include <cstdint>
#include <string>
#include <vector>

namespace deltaworks::gpu_probe {

enum class Scaling {
  kNone,
  kTensor,  // One f32 a matrix.
  kOuter,   // One f32 a row of x and a row of W.
  kVec128,  // One f32 for 128 values of a row, of both.
  kBlocks,  // The same of x; of W one for 128 x 128 values.
};

enum class Form { kForward, kBackward, kTokenSum };

struct MatmulShape {
  int64_t n = 0;  // Features of the result; of a token sum K, those of x.
  int64_t k = 0;  // Features that are summed over; of a token sum R.
  Form form = Form::kForward;
  cudaDataType_t input = CUDA_R_16BF;  // Of x and W.
  cudaDataType_t output = CUDA_R_16BF;
  bool accumulate = false;  // += instead of =.
  Scaling scaling = Scaling::kNone;
  bool fast_accumulation = false;  // fp8 only.
  int64_t x_stride = 0;            // Elements from row to row; 0 is dense.
  int64_t w_stride = 0;
};

// How cuBLASLt computes a product; what its attributes mean is in cublasLt.h.
struct Algorithm {
  cublasLtMatmulAlgo_t handle = {};
  size_t workspace_bytes = 0;
  int id = 0;
  unsigned tile = 0;
  int split_k = 0;
  unsigned reduction = 0;
  unsigned swizzle = 0;
  unsigned custom = 0;
  unsigned stages = 0;
  uint16_t inner = 0;
  uint16_t cluster = 0;

  bool operator==(const Algorithm& other) const { return Key() == other.Key(); }
  std::string Key() const;
};

class Matmul {
 public:
  explicit Matmul(const MatmulShape& shape);
  ~Matmul();
  Matmul(const Matmul&) = delete;
  Matmul& operator=(const Matmul&) = delete;

  // The library's own choices at T rows, its best first; without `any`, those that do not split K
  // (the mask of reductions is empty). Empty if it has none.
  std::vector<Algorithm> Choices(int64_t t, int count, bool any) const;

  // Whether `algorithm` can do T rows.
  bool Supports(const Algorithm& algorithm, int64_t t) const;

  // Scales as Scaling tells; not read without.
  void SetScales(const float* x_scales, const float* w_scales);

  // False if the library refuses. The workspace is Matmul's own, one for all on this stream. Of a
  // token sum `x` is dh, `w` is x, and `y` is dA.
  bool Run(const Algorithm& algorithm, int64_t t, const void* x, const void* w, void* y,
           cudaStream_t stream) const;

  const MatmulShape& shape() const { return shape_; }
  double Flops(int64_t t) const {
    return 2.0 * static_cast<double>(t) * static_cast<double>(shape_.n) *
           static_cast<double>(shape_.k);
  }
  int64_t output_bytes() const { return shape_.output == CUDA_R_32F ? 4 : 2; }

 private:
  struct Layouts;
  Layouts LayoutsOf(int64_t t) const;

  MatmulShape shape_;
  cublasLtMatmulDesc_t description_ = nullptr;
};

// Of the library that runs.
int64_t CublasLtVersion();

}  // namespace deltaworks::gpu_probe

#endif  // DELTAWORKS_TESTS_GPU_PROBE_MATMUL_H_
