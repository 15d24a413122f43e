// Backend: the arithmetic of LoRA fine-tuning, on one device.
//
// A Backend knows tensors, not models: the model (trainer/model/) decides which operations run, and
// in which order; the backend only makes each one fast. Every operation exists in each
// implementation:
//
//   ReferenceBackend  plain loops, f64 or f32. The definition of correct; tests only.
//   CpuBackend        SIMD kernels; f32 or bf16.
//   CudaBackend       cuBLASLt and kernels for one NVIDIA GPU; f32, bf16, or bf16 over fp8.
//
// Notation, the same in every comment and kernel of trainer/:
//   T  rows (tokens) of the packed batch   K  input features    D  width of the residual stream
//   N  output features                     R  rank of an adapter   V  vocabulary
// Tensors are dense and row-major. Each backend has two element types: the `compute` type of the
// inputs and outputs of matrix products (f32 or bf16; f64 or f32 in ReferenceBackend), and the
// `wide` type of the residual stream, norms, losses, gradients of adapters and optimiser state
// (f32; f64 in a ReferenceBackend of f64).
//
// Over a base in fp8 the two products with W read e4m3 (fp8.h): x, and dy, with a scale of each
// row; W with a scale of each output feature forward, of each input feature backward. All else is
// as in bf16.
//
// Rows are independent: a row's output bits depend neither on T nor on other rows, NaN included.
// Sums over rows (gradients of A and B) run over tiles counted from the segment's first row, in
// order, so they depend on the rows of that segment only. Nothing depends on the number of threads.
//
// Shapes and types are this project's own doing, so a wrong one is a CHECK failure; nothing here
// depends on user input that the model has not checked. Operations run in call order; views passed
// in must stay alive and unchanged until Synchronize(). Outputs must not alias inputs unless the
// operation says "in place". Thread-compatible: one thread at a time may call a given Backend.

#ifndef DELTAWORKS_TRAINER_BACKEND_BACKEND_H_
#define DELTAWORKS_TRAINER_BACKEND_BACKEND_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "trainer/tensor.h"

namespace deltaworks::trainer {

// Memory of the backend's device, zeroed when allocated.
class DeviceBuffer {
 public:
  virtual ~DeviceBuffer() = default;
  virtual void* data() = 0;
  virtual int64_t bytes() const = 0;
};

// A frozen matrix W [N,K] in the backend's own layout.
class FrozenLinear {
 public:
  virtual ~FrozenLinear() = default;
  virtual int64_t n() const = 0;
  virtual int64_t k() const = 0;
  // Of the device's memory; 0 if the weight is read in place.
  virtual int64_t device_bytes() const { return 0; }
};

// One adapted linear of one job: y += scale (x A^T) B^T.
struct LoraPair {
  ConstTensorView a;  // [R,K] compute.
  ConstTensorView b;  // [N,R] compute.
  float scale = 0;    // lora_alpha / R, or lora_alpha / sqrt(R) for rsLoRA.
  TensorView da;      // [R,K] wide; where backward accumulates. No data: forward only.
  TensorView db;      // [N,R] wide.

  int64_t rank() const { return a.dim(0); }
};

// Where the dropout mask of one input comes from:
// the mask of token t, feature f is a pure function of these numbers (philox.h).
struct DropoutKey {
  float p = 0;         // Probability of a zero; 0 switches dropout off.
  uint64_t seed = 0;   // The job's.
  uint32_t step = 0;   // Optimiser step.
  uint32_t site = 0;   // layer << 8 | number of the input within the layer.
  uint32_t token = 0;  // Number, within the step, of the segment's first row.
};

// Rows [row_begin, row_end) of the batch and the adapters that act on them: one entry per linear of
// the group, nullptr where the job does not adapt that linear. Segments are disjoint and ascending;
// rows outside all of them have no adapter.
struct Segment {
  int64_t row_begin = 0;
  int64_t row_end = 0;
  std::vector<const LoraPair*> adapters;
  DropoutKey dropout;

  // Columns of `hidden` that this segment uses.
  int64_t hidden_width() const {
    int64_t width = 0;
    for (const LoraPair* pair : adapters) width += pair == nullptr ? 0 : pair->rank();
    return width;
  }
};

// kBatch: any T. kDecode: for few rows, bound by memory bandwidth. Each path fixes a row's bits;
// the two may differ from each other by rounding.
enum class ProductPath { kBatch, kDecode };

// Rows of a page of keys: what the kernels of every backend read at a time.
inline constexpr int64_t kKeyPage = 64;

// Queries [query_begin, query_end) attend to keys [key_begin, key_end); the last query stands at
// the last key, and with `causal` each query sees the keys up to its own place.
struct AttentionSpan {
  int64_t query_begin = 0;
  int64_t query_end = 0;
  int64_t key_begin = 0;
  int64_t key_end = 0;
  // If set, in the host's memory: keys lie in pages, which need not be adjacent (Kwon et al. 2023,
  // PagedAttention). key_begin is 0 and key i is row pages[i / kKeyPage] * kKeyPage + i % kKeyPage
  // of k and v. Forward only; no bit of a result depends on where pages are.
  const int32_t* pages = nullptr;

  int64_t queries() const { return query_end - query_begin; }
  int64_t keys() const { return key_end - key_begin; }
  // The row of key `i`, counted from the span's first; those up to the end of its page follow.
  int64_t KeyRow(int64_t i) const {
    return pages == nullptr ? key_begin + i : pages[i / kKeyPage] * kKeyPage + i % kKeyPage;
  }
  // One behind the highest row of a key; 0 without keys.
  int64_t KeyRowEnd() const {
    int64_t end = 0;
    for (int64_t i = 0; i < keys(); i += kKeyPage) {
      end = std::max(end, KeyRow(std::min(i + kKeyPage, keys()) - 1) + 1);
    }
    return end;
  }
};

struct AttentionShape {
  int64_t query_heads = 0;
  int64_t kv_heads = 0;  // Divides query_heads; head h reads kv head h / (query_heads / kv_heads).
  int64_t head_dim = 0;  // 1..256.
  float scale = 0;       // Usually 1 / sqrt(head_dim).
  bool causal = true;
};

// Sizes of a pass over a model that bound what its operations need beside their tensors.
struct PassShape {
  int64_t rows = 0;      // T.
  int64_t labels = 0;    // Rows of CrossEntropy or Logits.
  int64_t segments = 0;  // At most `rows` count.
  int64_t keys = 0;      // Of the longest span.
  int64_t hidden = 0;    // H of the group of linears where it is largest.
  int64_t width = 0;     // D.
  int64_t features = 0;  // Outputs of a group of linears, all together, or inputs: the largest.
  int64_t linear = 0;    // Outputs or inputs of a single linear: the largest.
  int64_t vocabulary = 0;
  AttentionShape attention;
  bool training = false;
};

struct AdamWSettings {
  double learning_rate = 0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;
  int64_t step = 1;           // 1 for the first update.
  double gradient_scale = 1;  // Applied to the gradient first: clipping.
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual DType compute_type() const = 0;
  virtual DType wide_type() const = 0;

  // Everything besides the job that fixes the bits of a result, for example
  // "cpu/avx512bf16/bf16/kernels-4".
  virtual std::string numerics_class() const = 0;

  // ResourceExhausted if the device has no room.
  virtual absl::StatusOr<std::unique_ptr<DeviceBuffer>> Allocate(int64_t bytes) = 0;
  // An upper bound of the scratch that the operations of such a pass hold.
  virtual int64_t ScratchBytes(const PassShape& pass) const = 0;
  // Holds that much from now on; if it holds more, it keeps it, but an empty shape gives all of it
  // back. Scratch that was not reserved grows by itself, and to run out of it is fatal.
  //   ResourceExhausted  the device has no room; then nothing is held.
  virtual absl::Status ReserveScratch(const PassShape& pass) = 0;
  virtual void CopyToDevice(const void* host, TensorView device) = 0;
  virtual void CopyToHost(ConstTensorView device, void* host) = 0;

  // weight: [N,K] in the compute type, in the host's memory. A backend whose device is the host
  // reads it in place, others copy it; it must outlive the result.
  //   ResourceExhausted  the device has no room.
  virtual absl::StatusOr<std::unique_ptr<FrozenLinear>> Pack(ConstTensorView weight) = 0;
  // The same for Embed, CrossEntropy and Logits: never in fp8.
  virtual absl::StatusOr<std::unique_ptr<FrozenLinear>> PackTable(ConstTensorView weight) {
    return Pack(std::move(weight));
  }

  // For each linear i of a group that reads the same x, over all T rows at once
  //   y_i = x W_i^T,
  // then for each segment s its own rows
  //   hidden_si = scale_si drop(x[s]) A_si^T,   y_i[s] += hidden_si B_si^T.
  // hidden is rounded, and the sum y is, once.
  //   x       [T,K] compute.
  //   hidden  [T,H] compute, overwritten; H at least the largest hidden_width(). Kept for backward:
  //           the group's linears side by side, from column 0.
  //   y       one [T,N_i] compute per linear, overwritten.
  virtual void LinearGroupForward(absl::Span<const FrozenLinear* const> group,
                                  absl::Span<const Segment> segments, ConstTensorView x,
                                  TensorView hidden, absl::Span<const TensorView> y,
                                  ProductPath path) = 0;

  // Gradients of LinearGroupForward (kBatch). W is frozen and has none.
  //   x, hidden  as given to and left by forward.
  //   dy         one [T,N_i] compute per linear.
  //   dhidden    [T,H] compute, scratch.
  //   dx         [T,K] compute, OVERWRITTEN; no data: the layer below needs no gradient.
  // Each adapter's da and db are ACCUMULATED (+=).
  virtual void LinearGroupBackward(absl::Span<const FrozenLinear* const> group,
                                   absl::Span<const Segment> segments, ConstTensorView x,
                                   ConstTensorView hidden, absl::Span<const ConstTensorView> dy,
                                   TensorView dhidden, TensorView dx) = 0;

  // out[t] = row ids[t] of table, as wide.   table [V,D], ids [T] i32 in [0, V), out [T,D] wide.
  virtual void Embed(const FrozenLinear& table, ConstTensorView ids, TensorView out) = 0;

  // Root mean square norm (Zhang & Sennrich 2019):
  //   y = x * rstd * weight, rstd = 1 / sqrt(mean(x^2) + epsilon).
  //   x [T,D] wide, weight [D] f32, y [T,D] compute, rstd [T] wide (kept for backward).
  virtual void RmsNormForward(ConstTensorView x, ConstTensorView weight, double epsilon,
                              TensorView y, TensorView rstd) = 0;
  // dx [T,D] wide, ACCUMULATED: the residual branch's gradient is there already.
  virtual void RmsNormBackward(ConstTensorView x, ConstTensorView weight, ConstTensorView rstd,
                               ConstTensorView dy, TensorView dx) = 0;

  // out = x + y.   x, out [T,D] wide, out may be x; y [T,D] compute.
  virtual void AddResidual(ConstTensorView x, ConstTensorView y, TensorView out) = 0;

  // y = x rounded.   x [T,D] wide, y [T,D] compute.
  virtual void Round(ConstTensorView x, TensorView y) = 0;

  // Rotary position embedding (Su et al. 2021), halves rotated as Hugging Face does, in place:
  //   x [T, heads * head_dim] compute, positions [T] i32, cosines and sines [P, head_dim / 2] wide.
  // inverse: the transposed rotation, which maps gradients back.
  virtual void Rope(TensorView x, int64_t heads, ConstTensorView positions, ConstTensorView cosines,
                    ConstTensorView sines, bool inverse) = 0;

  // out = softmax(scale q k^T, masked) v for each span and head. Rows of no span are left as they
  // are. Memory grows with the length of a span, not with its square.
  //   q [Tq, query_heads * head_dim], k, v [Tk, kv_heads * head_dim], out like q: all compute.
  //   lse [Tq, query_heads] wide: log of the sum of exponentials, kept for backward; no data: none.
  // On kBatch a query's bits do not depend on which other queries of its text are in the span, so a
  // prompt may be read in pieces.
  virtual void AttentionForward(const AttentionShape& shape, absl::Span<const AttentionSpan> spans,
                                ConstTensorView q, ConstTensorView k, ConstTensorView v,
                                TensorView out, TensorView lse, ProductPath path) = 0;
  // dq, dk, dv OVERWRITTEN on the rows of the spans, whose keys must be disjoint.
  virtual void AttentionBackward(const AttentionShape& shape, absl::Span<const AttentionSpan> spans,
                                 ConstTensorView q, ConstTensorView k, ConstTensorView v,
                                 ConstTensorView out, ConstTensorView lse, ConstTensorView dout,
                                 TensorView dq, TensorView dk, TensorView dv) = 0;

  // out = silu(gate) * up (Shazeer 2020, SwiGLU).   all [T,N] compute.
  virtual void SwigluForward(ConstTensorView gate, ConstTensorView up, TensorView out) = 0;
  virtual void SwigluBackward(ConstTensorView gate, ConstTensorView up, ConstTensorView dout,
                              TensorView dgate, TensorView dup) = 0;

  // out[i] = x[rows[i]].   x [T,D] compute, rows [L] i32, out [L,D] compute.
  virtual void GatherRows(ConstTensorView x, ConstTensorView rows, TensorView out) = 0;
  // out[rows[i]] = x[i]; rows are distinct, the others left as they are.   x [L,D] compute,
  // out [T,D] compute.
  virtual void ScatterRows(ConstTensorView x, ConstTensorView rows, TensorView out) = 0;

  // Output layer, cross entropy and its gradient in one, in chunks: the [L,V] logits are never
  // stored as a whole.
  //   loss_i = log sum_v exp(x_i . W_v) - x_i . W_label_i
  //   dx_i   = weight_i * d loss_i / d x_i
  //   x [L,D] compute, labels [L] i32 in [0, V), weights [L] wide, losses [L] wide OVERWRITTEN,
  //   dx [L,D] compute OVERWRITTEN; no data: losses only.
  virtual void CrossEntropy(const FrozenLinear& output, ConstTensorView x, ConstTensorView labels,
                            ConstTensorView weights, TensorView losses, TensorView dx) = 0;

  // logits = x W^T.   x [L,D] compute, logits [L,V] wide.
  virtual void Logits(const FrozenLinear& output, ConstTensorView x, TensorView logits,
                      ProductPath path) = 0;

  // places[i] = where the first of the largest numbers of x[i] is; NaN is none, and 0 the place if
  // there is no number.   x [L,V] wide, places [L] i32.
  virtual void ArgMax(ConstTensorView x, TensorView places) = 0;

  // Sum of the squares of all elements, in f64, in their order.   x wide, any shape.
  virtual double SumOfSquares(ConstTensorView x) = 0;

  // One update of decoupled AdamW (Loshchilov & Hutter 2019) as torch computes it: epsilon is added
  // outside the root, decay multiplies the parameter by 1 - learning_rate * weight_decay first.
  // All wide and of one shape; parameter, m and v in place.
  virtual void AdamW(const AdamWSettings& settings, ConstTensorView gradient, TensorView parameter,
                     TensorView m, TensorView v) = 0;

  virtual void Fill(TensorView x, double value) = 0;

  // to = from; same type, same number of elements.
  virtual void Copy(ConstTensorView from, TensorView to) = 0;

  // Blocks until every operation issued so far has finished. Returns the first device fault since
  // the last call as Internal, naming the operation; after that the backend is dead and every call
  // of Synchronize returns FailedPrecondition.
  virtual absl::Status Synchronize() = 0;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_BACKEND_H_
