#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include <algorithm>

#include "tests/gpu/probe/gpu.h"

namespace deltaworks::gpu_probe {
namespace {

constexpr int kBlock = 256;
constexpr int kGrid = 1024;  // Loops over whatever there is.

__device__ uint64_t Mixed(uint64_t x) {  // splitmix64's finaliser.
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9ull;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

__device__ float Normal(uint64_t seed, int64_t i) {  // Box and Muller.
  const uint64_t bits = Mixed(seed * 0x9e3779b97f4a7c15ull + static_cast<uint64_t>(i) + 1);
  const float u = (static_cast<float>(bits >> 40) + 1) * 0x1p-24f;
  const float v = static_cast<float>((bits >> 8) & 0xffffff) * 0x1p-24f;
  return sqrtf(-2 * logf(u)) * cospif(2 * v);
}

__device__ int64_t First() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ int64_t Stride() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

__global__ void NormalBf16(__nv_bfloat16* data, int64_t n, float deviation, uint64_t seed) {
  for (int64_t i = First(); i < n; i += Stride())
    data[i] = __float2bfloat16(deviation * Normal(seed, i));
}

__global__ void NormalF32(float* data, int64_t n, float deviation, uint64_t seed) {
  for (int64_t i = First(); i < n; i += Stride()) data[i] = deviation * Normal(seed, i);
}

__global__ void ConstantF32(float* data, int64_t n, float value) {
  for (int64_t i = First(); i < n; i += Stride()) data[i] = value;
}

// One block a row.
__global__ void QuantizeRow(const __nv_bfloat16* values, int64_t columns, __nv_fp8_e4m3* codes,
                            float* scales) {
  __shared__ float largest[kBlock];
  const __nv_bfloat16* row = values + blockIdx.x * columns;
  float mine = 0;
  for (int64_t j = threadIdx.x; j < columns; j += kBlock)
    mine = fmaxf(mine, fabsf(__bfloat162float(row[j])));
  largest[threadIdx.x] = mine;
  __syncthreads();
  for (int half = kBlock / 2; half > 0; half /= 2) {
    if (threadIdx.x < half)
      largest[threadIdx.x] = fmaxf(largest[threadIdx.x], largest[threadIdx.x + half]);
    __syncthreads();
  }
  const float scale = largest[0] / 448;
  if (threadIdx.x == 0) scales[blockIdx.x] = scale;
  for (int64_t j = threadIdx.x; j < columns; j += kBlock)
    codes[blockIdx.x * columns + j] = __nv_fp8_e4m3(__bfloat162float(row[j]) / scale);
}

__global__ void CountDifferent(const uint32_t* a, const uint32_t* b, int64_t words,
                               unsigned long long* count) {
  unsigned long long mine = 0;
  for (int64_t i = First(); i < words; i += Stride()) mine += a[i] != b[i];
  if (mine != 0) atomicAdd(count, mine);
}

__global__ void SumOfMixedWords(const uint32_t* data, int64_t words, unsigned long long* sum) {
  unsigned long long mine = 0;
  for (int64_t i = First(); i < words; i += Stride())
    mine += Mixed((static_cast<uint64_t>(i) << 32) ^ data[i]);
  atomicAdd(sum, mine);  // Of integers: their order does not matter.
}

__global__ void SquaredNorms(const float* a, const float* b, int64_t n, double* sums) {
  double difference = 0;
  double whole = 0;
  for (int64_t i = First(); i < n; i += Stride()) {
    difference += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
    whole += static_cast<double>(b[i]) * b[i];
  }
  atomicAdd(&sums[0], difference);
  atomicAdd(&sums[1], whole);
}

__global__ void Nothing() {}

uint64_t ReadCounter(const Buffer& counter) {
  uint64_t value = 0;
  PROBE_CHECK(
      cudaMemcpyAsync(&value, counter.data(), sizeof(value), cudaMemcpyDeviceToHost, Stream()));
  PROBE_CHECK(cudaStreamSynchronize(Stream()));
  return value;
}

const Buffer& ClearedCounter() {
  static const Buffer& counter = *new Buffer(16);
  PROBE_CHECK(cudaMemsetAsync(counter.data(), 0, 16, Stream()));
  return counter;
}

}  // namespace

Buffer::Buffer(int64_t bytes) : bytes_(bytes) {
  PROBE_CHECK(cudaMalloc(&data_, static_cast<size_t>(bytes)));
}

Buffer::~Buffer() { PROBE_CHECK(cudaFree(data_)); }

cudaStream_t Stream() {
  static const cudaStream_t stream = [] {
    cudaStream_t made = nullptr;
    PROBE_CHECK(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking));
    return made;
  }();
  return stream;
}

void FillNormalBf16(void* data, int64_t elements, float deviation, uint64_t seed) {
  NormalBf16<<<kGrid, kBlock, 0, Stream()>>>(static_cast<__nv_bfloat16*>(data), elements, deviation,
                                             seed);
  PROBE_CHECK(cudaGetLastError());
}

void FillNormalF32(float* data, int64_t elements, float deviation, uint64_t seed) {
  NormalF32<<<kGrid, kBlock, 0, Stream()>>>(data, elements, deviation, seed);
  PROBE_CHECK(cudaGetLastError());
}

void FillConstantF32(float* data, int64_t elements, float value) {
  ConstantF32<<<kGrid, kBlock, 0, Stream()>>>(data, elements, value);
  PROBE_CHECK(cudaGetLastError());
}

void QuantizeRowsE4m3(const void* values, int64_t rows, int64_t columns, void* codes,
                      float* scales) {
  QuantizeRow<<<static_cast<unsigned>(rows), kBlock, 0, Stream()>>>(
      static_cast<const __nv_bfloat16*>(values), columns, static_cast<__nv_fp8_e4m3*>(codes),
      scales);
  PROBE_CHECK(cudaGetLastError());
}

int64_t DifferentWords(const void* a, const void* b, int64_t bytes) {
  const Buffer& counter = ClearedCounter();
  CountDifferent<<<kGrid, kBlock, 0, Stream()>>>(static_cast<const uint32_t*>(a),
                                                 static_cast<const uint32_t*>(b), bytes / 4,
                                                 counter.as<unsigned long long>());
  PROBE_CHECK(cudaGetLastError());
  return static_cast<int64_t>(ReadCounter(counter));
}

uint64_t Digest(const void* data, int64_t bytes) {
  const Buffer& counter = ClearedCounter();
  SumOfMixedWords<<<kGrid, kBlock, 0, Stream()>>>(static_cast<const uint32_t*>(data), bytes / 4,
                                                  counter.as<unsigned long long>());
  PROBE_CHECK(cudaGetLastError());
  return ReadCounter(counter);
}

double RelativeDifference(const float* a, const float* b, int64_t elements) {
  const Buffer& sums = ClearedCounter();
  SquaredNorms<<<kGrid, kBlock, 0, Stream()>>>(a, b, elements, sums.as<double>());
  PROBE_CHECK(cudaGetLastError());
  double host[2] = {};
  PROBE_CHECK(cudaMemcpyAsync(host, sums.data(), sizeof(host), cudaMemcpyDeviceToHost, Stream()));
  PROBE_CHECK(cudaStreamSynchronize(Stream()));
  return std::sqrt(host[0] / host[1]);
}

double Microseconds(const std::function<void(int)>& run) {
  static cudaEvent_t begin = nullptr;
  static cudaEvent_t end = nullptr;
  if (begin == nullptr) {
    PROBE_CHECK(cudaEventCreate(&begin));
    PROBE_CHECK(cudaEventCreate(&end));
  }
  int runs = 0;
  const auto batch = [&](int count) {
    PROBE_CHECK(cudaEventRecord(begin, Stream()));
    for (int i = 0; i < count; ++i) run(runs++);
    PROBE_CHECK(cudaEventRecord(end, Stream()));
    PROBE_CHECK(cudaEventSynchronize(end));
    float milliseconds = 0;
    PROBE_CHECK(cudaEventElapsedTime(&milliseconds, begin, end));
    return 1000.0 * milliseconds / count;
  };
  batch(2);
  const int count = std::clamp(static_cast<int>(1500 / batch(1)), 2, 50);
  double times[3] = {batch(count), batch(count), batch(count)};
  std::sort(times, times + 3);
  return times[1];
}

void LaunchNothing(cudaStream_t stream) {
  Nothing<<<1, 32, 0, stream>>>();
  PROBE_CHECK(cudaGetLastError());
}

}  // namespace deltaworks::gpu_probe
