// That a kernel runs here as on a device, and that what a device may punish is found. Each promise
// of emulation.h is shown by a kernel that would notice if it were broken.

#include "trainer/backend/cuda/emulation/emulation.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/backend/cuda/kernels/device_code.h"

namespace deltaworks::trainer::cuda {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr ThreadOrder kOrders[] = {ThreadOrder::kForward, ThreadOrder::kBackward,
                                   ThreadOrder::kShuffled};
constexpr Stream kStream = nullptr;

class EmulationTest : public testing::Test {
 protected:
  void TearDown() override {
    SetThreadOrder(ThreadOrder::kForward);
    EXPECT_EQ(TakeLaunchError(), "");
  }
};

using EmulationDeathTest = EmulationTest;

// ---- Launches

__global__ void __launch_bounds__(64) CountVisits(int* visits) {
  const int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  ++visits[block * blockDim.x * blockDim.y * blockDim.z + thread];
}

TEST_F(EmulationTest, EachThreadOfEachBlockRunsOnce) {
  for (const ThreadOrder order : kOrders) {
    SetThreadOrder(order);
    for (const dim3 block : {dim3(1), dim3(33), dim3(4, 3, 5), dim3(1024)}) {
      std::vector<int> visits(2 * 3 * 4 * block.x * block.y * block.z);
      DW_LAUNCH(kStream, CountVisits, dim3(2, 3, 4), block, 0, visits.data());
      EXPECT_THAT(visits, Each(1));
    }
  }
}

__global__ void LogBlocks(std::vector<int>* blocks, std::vector<int>* threads) {
  if (threadIdx.x == 0) blocks->push_back(blockIdx.x);
  if (blockIdx.x == 0) threads->push_back(threadIdx.x);
}

TEST_F(EmulationTest, TheOrderOfBlocksAndThreadsIsTheOneThatWasSet) {
  const auto run = [](ThreadOrder order) {
    SetThreadOrder(order);
    std::vector<int> blocks, threads;
    DW_LAUNCH(kStream, LogBlocks, 20, 70, 0, &blocks, &threads);
    return std::pair(blocks, threads);
  };
  const auto [blocks, threads] = run(ThreadOrder::kForward);
  auto [blocks_back, threads_back] = run(ThreadOrder::kBackward);
  auto [blocks_shuffled, threads_shuffled] = run(ThreadOrder::kShuffled);
  EXPECT_EQ(run(ThreadOrder::kShuffled), std::pair(blocks_shuffled, threads_shuffled));
  EXPECT_NE(blocks_shuffled, blocks);
  EXPECT_NE(threads_shuffled, threads);

  std::sort(blocks_shuffled.begin(), blocks_shuffled.end());
  std::sort(threads_shuffled.begin(), threads_shuffled.end());
  std::reverse(blocks_back.begin(), blocks_back.end());
  std::reverse(threads_back.begin(), threads_back.end());
  for (int i = 0; i < 20; ++i) EXPECT_EQ(blocks[i], i);
  for (int i = 0; i < 70; ++i) EXPECT_EQ(threads[i], i);
  EXPECT_EQ(blocks_back, blocks);
  EXPECT_EQ(blocks_shuffled, blocks);
  EXPECT_EQ(threads_back, threads);
  EXPECT_EQ(threads_shuffled, threads);
}

template <typename T, int kFactor>
__global__ void Scale(T* values, float by) {
  values[threadIdx.x] *= kFactor * by;
  by = 0;  // A parameter is each thread's own.
}

TEST_F(EmulationTest, ATemplateIdIsAKernelAndArgumentsAreEvaluatedOnceAndConverted) {
  std::vector<float> values = {1, 2, 3};
  int evaluations = 0;
  DW_LAUNCH(kStream, (Scale<float, 2>), 1, 3, 0, values.data(), ++evaluations);
  EXPECT_EQ(evaluations, 1);
  EXPECT_THAT(values, ElementsAre(2, 4, 6));
}

__global__ void Nothing() {}
__global__ void MustNotRun() { FAIL(); }
__global__ void UseShared(int bytes) {
  if (threadIdx.x == 0) std::memset(DynamicShared<char>(), 0, bytes);
}

TEST_F(EmulationTest, WhatCudaWouldNotLaunchIsAnErrorWithTheKernelsNameAndDoesNotRun) {
  const auto error = [](dim3 grid, dim3 block, size_t shared_bytes) {
    DW_LAUNCH(kStream, MustNotRun, grid, block, shared_bytes);
    return TakeLaunchError();
  };
  EXPECT_EQ(error(1, 0, 0),
            "kernel MustNotRun: block is (0, 1, 1), want 1..1024 threads, z at most 64");
  EXPECT_THAT(error(1, 1025, 0), HasSubstr("block is"));
  EXPECT_THAT(error(1, dim3(32, 33), 0), HasSubstr("block is"));
  EXPECT_THAT(error(1, dim3(1, 1, 65), 0), HasSubstr("block is"));
  EXPECT_THAT(error(0, 1, 0), HasSubstr("grid is"));
  EXPECT_THAT(error(-1, 1, 0), HasSubstr("grid is"));
  EXPECT_THAT(error(dim3(1, 65536), 1, 0), HasSubstr("grid is"));
  EXPECT_THAT(error(dim3(1, 1, 65536), 1, 0), HasSubstr("grid is"));
  EXPECT_EQ(error(1, 1, (48 << 10) + 1),
            "kernel MustNotRun: shared memory is 49153 bytes, want at most the 49152 that are "
            "allowed");
  DW_LAUNCH(kStream, Nothing, dim3(2, 65535), 1, 48 << 10);
}

TEST_F(EmulationTest, SharedMemoryBeyond48KiBMustBeAllowedFirstAndEndsAt227KiB) {
  AllowShared(UseShared, 100 << 10);
  DW_LAUNCH(kStream, UseShared, 1, 1, 100 << 10, 100 << 10);
  EXPECT_EQ(TakeLaunchError(), "");
  DW_LAUNCH(kStream, UseShared, 1, 1, (100 << 10) + 16, 0);
  EXPECT_THAT(TakeLaunchError(), AllOf(HasSubstr("UseShared"), HasSubstr("102400")));
  AllowShared(UseShared, 227 << 10);
  DW_LAUNCH(kStream, UseShared, 1, 1, 227 << 10, 227 << 10);
  EXPECT_EQ(TakeLaunchError(), "");
  AllowShared(UseShared, (227 << 10) + 1);
  EXPECT_THAT(TakeLaunchError(), HasSubstr("AllowShared"));
}

// Leaves a one behind: the next block must not find it.
__global__ void CountBytesOfShared(int bytes, int* poisoned) {
  unsigned char* shared = DynamicShared<unsigned char>();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(shared) % 128, 0);
  for (int i = 0; i < bytes; ++i) *poisoned += shared[i] == 0xff;
  shared[0] = 1;
}

TEST_F(EmulationTest, SharedMemoryIsNanInEachBlock) {
  int poisoned = 0;
  DW_LAUNCH(kStream, CountBytesOfShared, 3, 1, 1001, 1001, &poisoned);
  EXPECT_EQ(poisoned, 3 * 1001);
}

#ifdef __SANITIZE_ADDRESS__
TEST_F(EmulationDeathTest, AsanSeesAByteTooManyOfSharedMemory) {
  EXPECT_DEATH(DW_LAUNCH(kStream, UseShared, 1, 64, 1001, 1002), "AddressSanitizer");
}

// Uses `bytes` of its own stack.
__global__ void Recurse(int bytes, int* result) {
  volatile char block[1024];
  block[bytes % 1024] = 1;
  if (bytes > 1024) Recurse(bytes - 1024, result);
  *result += block[bytes % 1024];
}

TEST_F(EmulationDeathTest, AThreadHas64KiBOfStackAndAnOverflowIsNoSilentOne) {
  int result = 0;
  DW_LAUNCH(kStream, Recurse, 1, 2, 0, 64 << 10, &result);
  EXPECT_EQ(result, 2 * 64);
  EXPECT_DEATH(DW_LAUNCH(kStream, Recurse, 1, 2, 0, 4 << 20, &result), "stack-overflow");
}
#endif

TEST_F(EmulationTest, OsThreadsLaunchAtTheSameTimeEachInItsOrder) {
  const auto work = [](ThreadOrder order, int block, int* wrong) {
    SetThreadOrder(order);
    for (int run = 0; run < 50; ++run) {
      std::vector<int> visits(7 * block);
      DW_LAUNCH(kStream, CountVisits, 7, block, 0, visits.data());
      for (const int visit : visits) *wrong += visit != 1;
      std::vector<int> blocks, threads;
      DW_LAUNCH(kStream, LogBlocks, 2, 2, 0, &blocks, &threads);
      *wrong += blocks[0] != (order == ThreadOrder::kForward ? 0 : 1);
    }
    DW_LAUNCH(kStream, Nothing, 0, block, 0);
    *wrong += TakeLaunchError().empty();
  };
  int wrong[2] = {};
  std::thread other(work, ThreadOrder::kBackward, 256, &wrong[0]);
  work(ThreadOrder::kForward, 96, &wrong[1]);
  other.join();
  EXPECT_THAT(wrong, ElementsAre(0, 0));
}

// ---- __syncthreads

// sums[block] = sum of the block's values, a power of two of them, as a tree.
template <bool kSync>
__global__ void SumOfBlock(const float* values, float* sums) {
  float* shared = DynamicShared<float>();
  const int i = threadIdx.x;
  shared[i] = values[blockIdx.x * blockDim.x + i];
  __syncthreads();
  for (int half = blockDim.x / 2; half > 0; half /= 2) {
    if (i < half) shared[i] += shared[i + half];
    if (kSync) __syncthreads();
  }
  if (i == 0) sums[blockIdx.x] = shared[0];
}

std::vector<float> SumsOfBlocks(bool sync, ThreadOrder order) {
  std::vector<float> values(3 * 256), sums(3);
  for (int i = 0; i < values.size(); ++i) values[i] = i;
  SetThreadOrder(order);
  if (sync) {
    DW_LAUNCH(kStream, SumOfBlock<true>, 3, 256, 256 * 4, values.data(), sums.data());
  } else {
    DW_LAUNCH(kStream, SumOfBlock<false>, 3, 256, 256 * 4, values.data(), sums.data());
  }
  return sums;
}

TEST_F(EmulationTest, ASumThroughSharedMemoryIsRightInEachOrder) {
  for (const ThreadOrder order : kOrders) {
    EXPECT_THAT(SumsOfBlocks(true, order), ElementsAre(32640, 98176, 163712));
  }
}

TEST_F(EmulationTest, AMissingSyncthreadsGivesOtherBytesInAnotherOrder) {
  const auto forward = SumsOfBlocks(false, ThreadOrder::kForward);
  EXPECT_NE(SumsOfBlocks(false, ThreadOrder::kBackward), forward);
  EXPECT_NE(SumsOfBlocks(false, ThreadOrder::kShuffled), forward);
  EXPECT_EQ(SumsOfBlocks(false, ThreadOrder::kForward), forward);
}

// The last thread's neighbour is read after the second of two meetings: orders must hold after
// each, not only at the start of a block.
__global__ void ReadNeighbour(int* seen) {
  int* shared = DynamicShared<int>();
  __syncthreads();
  shared[threadIdx.x] = 7;
  seen[threadIdx.x] = shared[threadIdx.x ^ 1];
}

TEST_F(EmulationTest, AnyTwoNeighboursRaceAlsoAfterASyncthreads) {
  std::vector<int> forward(64), backward(64);
  DW_LAUNCH(kStream, ReadNeighbour, 1, 64, 64 * 4, forward.data());
  SetThreadOrder(ThreadOrder::kBackward);
  DW_LAUNCH(kStream, ReadNeighbour, 1, 64, 64 * 4, backward.data());
  for (int i = 0; i < 64; ++i) EXPECT_NE(forward[i], backward[i]) << i;
}

// ---- Warps

template <typename T>
__global__ void ShuffleAll(const T* values, T* out, int amount) {
  const int count = blockDim.x;
  const int i = threadIdx.x;
  out[i] = __shfl_sync(kAllLanes, values[i], amount);
  out[count + i] = __shfl_xor_sync(kAllLanes, values[i], amount);
  out[2 * count + i] = __shfl_down_sync(kAllLanes, values[i], amount);
  out[3 * count + i] = __shfl_up_sync(kAllLanes, values[i], amount);
}

template <typename T>
void ExpectShufflesLikeALoop() {
  constexpr int kCount = 96;
  std::vector<T> values(kCount), out(4 * kCount);
  for (int i = 0; i < kCount; ++i) values[i] = static_cast<T>(1e9) / (i + 1) - 3;
  for (const int amount : {0, 1, 5, 16, 31}) {
    DW_LAUNCH(kStream, ShuffleAll<T>, 1, kCount, 0, values.data(), out.data(), amount);
    for (int i = 0; i < kCount; ++i) {
      const int lane = i % 32;
      const T* warp = &values[i - lane];
      EXPECT_EQ(out[i], warp[amount]);
      EXPECT_EQ(out[kCount + i], warp[lane ^ amount]);
      EXPECT_EQ(out[2 * kCount + i], warp[lane + amount < 32 ? lane + amount : lane]);
      EXPECT_EQ(out[3 * kCount + i], warp[lane >= amount ? lane - amount : lane]);
    }
  }
}

TEST_F(EmulationTest, ShufflesAreLikeALoopForEachType) {
  for (const ThreadOrder order : kOrders) {
    SetThreadOrder(order);
    ExpectShufflesLikeALoop<float>();
    ExpectShufflesLikeALoop<double>();
    ExpectShufflesLikeALoop<int>();
    ExpectShufflesLikeALoop<unsigned>();
    ExpectShufflesLikeALoop<int64_t>();
    ExpectShufflesLikeALoop<uint64_t>();
  }
}

// Each lane differs in what it brings to the next shuffle: nobody may get a later operand.
__global__ void WarpSums(float* sums) {
  float sum = 0;
  for (int i = 0; i < 100; ++i) sum += WarpSum(static_cast<float>(i * threadIdx.x));
  sums[threadIdx.x] = sum;
}

TEST_F(EmulationTest, WarpSumsInALoopAreTheSameInEachLane) {
  std::vector<float> sums(64);
  for (const ThreadOrder order : kOrders) {
    SetThreadOrder(order);
    DW_LAUNCH(kStream, WarpSums, 1, 64, 0, sums.data());
    for (int i = 0; i < 64; ++i) EXPECT_EQ(sums[i], 4950 * (i < 32 ? 496 : 1520));
  }
}

__global__ void Votes(int lane, unsigned* out) {
  unsigned* mine = out + threadIdx.x * 4;
  mine[0] = __ballot_sync(kAllLanes, threadIdx.x % 32 == lane);
  mine[1] = __any_sync(kAllLanes, threadIdx.x == lane);
  mine[2] = __all_sync(kAllLanes, threadIdx.x != lane);
  __syncwarp();
  mine[3] = __ballot_sync(kAllLanes, 256);
}

TEST_F(EmulationTest, VotesCountTheLanesThatThereAre) {
  constexpr int kCount = 40;  // A whole warp and one of eight lanes.
  std::vector<unsigned> out(kCount * 4);
  for (const int lane : {0, 7, 8, 31, 39}) {
    DW_LAUNCH(kStream, Votes, 1, kCount, 0, lane, out.data());
    for (int i = 0; i < kCount; ++i) {
      const unsigned present = i < 32 ? 0xffffffffu : 0xffu;
      const bool mine = i / 32 == lane / 32;
      EXPECT_EQ(out[i * 4], lane < 32 ? present & 1u << lane : 0u);
      EXPECT_EQ(out[i * 4 + 1], mine);
      EXPECT_EQ(out[i * 4 + 2], !mine);
      EXPECT_EQ(out[i * 4 + 3], present);
    }
  }
}

TEST_F(EmulationTest, ALaneThatASmallWarpDoesNotHaveGivesNan) {
  std::vector<float> values(40, 1.0f), out(4 * 40);
  DW_LAUNCH(kStream, ShuffleAll<float>, 1, 64, 0, std::vector<float>(64).data(),
            std::vector<float>(4 * 64).data(), 0);  // Both warps whole; must not be remembered.
  DW_LAUNCH(kStream, ShuffleAll<float>, 1, 40, 0, values.data(), out.data(), 8);
  EXPECT_EQ(out[31], 1.0f);
  for (int i = 32; i < 40; ++i) {
    EXPECT_TRUE(std::isnan(out[i])) << i;
    EXPECT_TRUE(std::isnan(out[40 + i])) << i;
    EXPECT_TRUE(std::isnan(out[80 + i])) << i;
    EXPECT_EQ(out[120 + i], 1.0f) << i;
  }
}

// ---- Tiles

uint16_t Bf16Of(float x) { return static_cast<uint16_t>(PackBf16(x, 0)); }

// Small integers: every sum below is exact in f32, in whichever order it is added.
std::vector<uint16_t> RandomMatrix(int count, int seed, std::vector<float>& values) {
  std::minstd_rand random(seed);
  std::vector<uint16_t> bits;
  values.clear();
  for (int i = 0; i < count; ++i) {
    values.push_back(static_cast<int>(random() % 17) - 8);
    bits.push_back(Bf16Of(values.back()));
  }
  return bits;
}

// c [M,N] f32 = a [M,K] b, one warp for each 16 rows and 8 columns; b is [K,N], or [N,K] if
// kTransposedB. The block copies both to shared memory, all of it.
template <bool kTransposedB, int M, int N, int K>
__global__ void Multiply(const uint16_t* a, const uint16_t* b, float* c) {
  uint16_t* shared_a = DynamicShared<uint16_t>();
  uint16_t* shared_b = shared_a + M * K;
  for (int i = threadIdx.x * 8; i < M * K; i += blockDim.x * 8) {
    CopyAsync16(shared_a + i, a + i, true);
  }
  for (int i = threadIdx.x * 8; i < K * N; i += blockDim.x * 8) {
    CopyAsync16(shared_b + i, b + i, true);
  }
  CommitCopies();
  WaitForCopies<0>();
  __syncthreads();

  const int lane = threadIdx.x % 32;
  const int row = threadIdx.x / 32 / (N / 8) * 16;
  const int column = threadIdx.x / 32 % (N / 8) * 8;
  float sum[4] = {};
  for (int k = 0; k < K; k += 16) {
    uint32_t a_tiles[4], b_tiles[4];
    LoadTiles(a_tiles, shared_a + (row + lane % 16) * K + k + lane / 16 * 8);
    // Of b two tiles are wanted, but four are loaded: lanes 16 .. 31 ask for the same again.
    if constexpr (kTransposedB) {
      LoadTiles(b_tiles, shared_b + (column + lane % 8) * K + k + lane / 8 % 2 * 8);
    } else {
      LoadTilesTransposed(b_tiles, shared_b + (k + lane % 16) * N + column);
    }
    const uint32_t b_pair[2] = {b_tiles[0], b_tiles[1]};
    MmaBf16(sum, a_tiles, b_pair);
  }
  float* out = c + (row + lane / 4) * N + column + lane % 4 * 2;
  out[0] = sum[0];
  out[1] = sum[1];
  out[8 * N] = sum[2];
  out[8 * N + 1] = sum[3];
}

template <bool kTransposedB, int M, int N, int K>
void ExpectProductLikeALoop() {
  std::vector<float> a, b, want(M * N);
  const auto a_bits = RandomMatrix(M * K, 1, a);
  const auto b_bits = RandomMatrix(K * N, 2, b);
  for (int m = 0; m < M; ++m) {
    for (int n = 0; n < N; ++n) {
      for (int k = 0; k < K; ++k) {
        want[m * N + n] += a[m * K + k] * (kTransposedB ? b[n * K + k] : b[k * N + n]);
      }
    }
  }
  for (const ThreadOrder order : kOrders) {
    SetThreadOrder(order);
    std::vector<float> c(M * N);
    DW_LAUNCH(kStream, (Multiply<kTransposedB, M, N, K>), 1, M / 16 * (N / 8) * 32,
              (M * K + K * N) * 2, a_bits.data(), b_bits.data(), c.data());
    EXPECT_EQ(c, want);
  }
}

TEST_F(EmulationTest, OneTileIsMultipliedLikeALoop) {
  ExpectProductLikeALoop<false, 16, 8, 16>();
  ExpectProductLikeALoop<true, 16, 8, 16>();
}

TEST_F(EmulationTest, ManyTilesAreMultipliedLikeALoop) {
  ExpectProductLikeALoop<false, 64, 64, 64>();
  ExpectProductLikeALoop<true, 64, 64, 64>();
}

// The sum of a product's 16 terms is made first and then added to d.
__global__ void AddToD(float first_d, float* out) {
  const uint32_t one = PackBf16(1, 1);
  const uint32_t a[4] = {one, one, one, one};
  const uint32_t b[2] = {one, one};
  float d[4] = {first_d, 0, 0, 0};
  MmaBf16(d, a, b);
  out[threadIdx.x] = d[0];
}

TEST_F(EmulationTest, AProductIsAddedToWhatIsThereRoundedOnce) {
  std::vector<float> out(32);
  DW_LAUNCH(kStream, AddToD, 1, 32, 0, 16777216.0f, out.data());  // 2^24 + 1 is not an f32.
  EXPECT_THAT(out, Each(16777232.0f));
}

// Each lane overwrites its row as soon as it has its tiles.
__global__ void OverwriteRows(uint32_t* out) {
  uint32_t* row = DynamicShared<uint32_t>() + threadIdx.x * 4;
  for (int i = 0; i < 4; ++i) row[i] = threadIdx.x;
  __syncwarp();
  uint32_t tiles[4];
  LoadTiles(tiles, row);
  for (int i = 0; i < 4; ++i) row[i] = 99;
  for (int i = 0; i < 4; ++i) out[threadIdx.x * 4 + i] = tiles[i];
}

TEST_F(EmulationTest, AllLanesLoadBeforeOneGoesOn) {
  std::vector<uint32_t> out(32 * 4);
  for (const ThreadOrder order : kOrders) {
    SetThreadOrder(order);
    DW_LAUNCH(kStream, OverwriteRows, 1, 32, 32 * 16, out.data());
    for (int i = 0; i < 32 * 4; ++i) EXPECT_EQ(out[i], i % 4 * 8 + i / 4 / 4);
  }
}

__global__ void LoadAt(int offset) {
  uint32_t tiles[4];
  LoadTiles(tiles, DynamicShared<char>() + offset);
}

TEST_F(EmulationDeathTest, TilesAreAlignedRowsOfSharedMemoryForAllLanes) {
  DW_LAUNCH(kStream, LoadAt, 1, 32, 128, 112);
  EXPECT_DEATH(DW_LAUNCH(kStream, LoadAt, 1, 32, 128, 8), "kernel LoadAt.*not 16 bytes aligned");
  EXPECT_DEATH(DW_LAUNCH(kStream, LoadAt, 1, 32, 128, 128), "not in the block's shared memory");
  EXPECT_DEATH(DW_LAUNCH(kStream, LoadAt, 1, 32, 120, 112), "not in the block's shared memory");
  EXPECT_DEATH(DW_LAUNCH(kStream, LoadAt, 1, 31, 128, 0), "LoadTiles in a warp of less than 32");
  EXPECT_DEATH(DW_LAUNCH(kStream, AddToD, 1, 33, 0, 0.0f, std::vector<float>(33).data()),
               "block .0, 0, 0., thread .32, 0, 0. .*MmaBf16 in a warp of less than 32");
}

// ---- Copies

enum class Wait { kNone, kOneGroup, kAll };

// Copies two groups, the second of them `second_valid`, and shows both to the next thread.
template <Wait kWait>
__global__ void CopyTwice(const float* from, bool second_valid, float* out) {
  float* shared = DynamicShared<float>();
  const int width = blockDim.x * 4;
  const int mine = threadIdx.x * 4;
  const int others = (mine + 4) % width;
  for (int i = 0; i < 4; ++i) shared[mine + i] = shared[width + mine + i] = 1;  // Of old.
  CopyAsync16(shared + mine, from + mine, true);
  CommitCopies();
  CopyAsync16(shared + width + mine, from + width + mine, second_valid);
  CommitCopies();
  if (kWait == Wait::kOneGroup) WaitForCopies<1>();
  if (kWait == Wait::kAll) WaitForCopies<0>();
  __syncthreads();
  for (int i = 0; i < 4; ++i) out[others + i] = shared[others + i];
  for (int i = 0; i < 4; ++i) out[width + others + i] = shared[width + others + i];
  __syncthreads();
  WaitForCopies<0>();
}

template <Wait kWait>
std::vector<float> Copied(bool second_valid) {
  constexpr int kCount = 2 * 4 * 64;
  const std::vector<float> from(kCount, 5.0f);
  std::vector<float> out(kCount);
  DW_LAUNCH(kStream, CopyTwice<kWait>, 1, 64, kCount * 4, from.data(), second_valid, out.data());
  return out;
}

TEST_F(EmulationTest, ACopyIsNanUntilItsGroupWasWaitedFor) {
  const auto nan = testing::Truly([](float x) { return std::isnan(x); });
  EXPECT_THAT(Copied<Wait::kNone>(true), Each(nan));
  EXPECT_THAT(Copied<Wait::kAll>(true), Each(5.0f));
  const std::vector<float> both = Copied<Wait::kOneGroup>(true);
  EXPECT_THAT(std::vector(both.begin(), both.begin() + 256), Each(5.0f));
  EXPECT_THAT(std::vector(both.begin() + 256, both.end()), Each(nan));
}

__global__ void OverwriteSource(float* from, float* out) {
  CopyAsync16(DynamicShared<float>(), from, true);
  CommitCopies();
  from[0] = 6;
  WaitForCopies<0>();
  *out = *DynamicShared<float>();
}

TEST_F(EmulationTest, ACopyReadsItsSourceAsLateAsItMay) {
  alignas(16) float from[4] = {5, 5, 5, 5};
  float out = 0;
  DW_LAUNCH(kStream, OverwriteSource, 1, 1, 16, from, &out);
  EXPECT_EQ(out, 6);
}

TEST_F(EmulationTest, ACopyThatIsNotValidGivesZeros) {
  const std::vector<float> both = Copied<Wait::kAll>(false);
  EXPECT_THAT(std::vector(both.begin(), both.begin() + 256), Each(5.0f));
  EXPECT_THAT(std::vector(both.begin() + 256, both.end()), Each(0.0f));
}

// A copy that was not committed belongs to no group yet: no wait ends it.
template <bool kCommit, bool kWait>
__global__ void CopyOnce(const char* from, int from_offset, int to_offset) {
  CopyAsync16(DynamicShared<char>() + to_offset, from + from_offset, true);
  if (kCommit) CommitCopies();
  if (kWait) WaitForCopies<0>();
}

TEST_F(EmulationDeathTest, CopiesAreAlignedGoToSharedMemoryAndAreWaitedFor) {
  alignas(16) const char from[64] = {};
  DW_LAUNCH(kStream, (CopyOnce<true, true>), 1, 1, 64, from, 16, 48);
  EXPECT_DEATH(DW_LAUNCH(kStream, (CopyOnce<true, true>), 1, 1, 64, from, 8, 0),
               "CopyOnce.*CopyAsync16 an address that is not 16 bytes aligned");
  EXPECT_DEATH(DW_LAUNCH(kStream, (CopyOnce<true, true>), 1, 1, 64, from, 0, 4),
               "not 16 bytes aligned");
  EXPECT_DEATH(DW_LAUNCH(kStream, (CopyOnce<true, true>), 1, 1, 56, from, 0, 48),
               "not in the block's shared memory");
  EXPECT_DEATH(DW_LAUNCH(kStream, (CopyOnce<true, false>), 1, 1, 64, from, 0, 0),
               "ends with 1 copies that it never waited for");
  EXPECT_DEATH(DW_LAUNCH(kStream, (CopyOnce<false, true>), 1, 1, 64, from, 0, 0),
               "ends with 1 copies that it never waited for");
}

// ---- Divergence

__global__ void SyncUnless(int thread) {
  if (threadIdx.x != thread) __syncthreads();
}
__global__ void OneWarpSyncs() {
  if (threadIdx.x < 32) __syncthreads();
}
__global__ void ShuffleOrSync() {
  if (threadIdx.x == 3) {
    __syncwarp();
  } else {
    __shfl_sync(kAllLanes, 1, 0);
  }
}
__global__ void ShuffleHalfAWarp() { __shfl_xor_sync(0xffffu, 1, 1); }
__global__ void LaunchMore() { DW_LAUNCH(kStream, Nothing, 1, 1, 0); }

TEST_F(EmulationDeathTest, ThreadsThatDoNotMeetAreNamedInEachOrder) {
  for (const ThreadOrder order : kOrders) {
    SetThreadOrder(order);
    for (const int thread : {0, 40, 63}) {
      EXPECT_DEATH(DW_LAUNCH(kStream, SyncUnless, 1, 64, 0, thread),
                   "kernel SyncUnless, block .0, 0, 0., thread .*its end");
    }
    EXPECT_DEATH(DW_LAUNCH(kStream, OneWarpSyncs, 1, 64, 0), "at __syncthreads");
    EXPECT_DEATH(DW_LAUNCH(kStream, ShuffleOrSync, 1, 32, 0), "__shfl_sync");
  }
  SetThreadOrder(ThreadOrder::kForward);
  EXPECT_DEATH(DW_LAUNCH(kStream, ShuffleOrSync, 1, 32, 0),
               "thread .3, 0, 0. is at __syncwarp while thread .0, 0, 0. is at __shfl_sync");
}

TEST_F(EmulationDeathTest, MasksAreFullAndDeviceCodeRunsInLaunchesOnly) {
  EXPECT_DEATH(DW_LAUNCH(kStream, ShuffleHalfAWarp, 1, 32, 0), "mask 0xffff, want 0xffffffff");
  EXPECT_DEATH(DW_LAUNCH(kStream, LaunchMore, 1, 1, 0), "kernel LaunchMore launches Nothing");
  EXPECT_DEATH(__syncthreads(), "outside of a launch");
}

// ---- Numbers

TEST(EmulationNumbersTest, PackBf16RoundsToNearestEven) {
  EXPECT_EQ(PackBf16(1.0f, -2.0f), 0xc0003f80u);
  EXPECT_EQ(PackBf16(FloatOf(0x3f808000u), FloatOf(0x3f818000u)), 0x3f823f80u);  // Halves.
  EXPECT_EQ(PackBf16(FloatOf(0x3f808001u), FloatOf(0xbf817fffu)), 0xbf813f81u);
  EXPECT_EQ(PackBf16(0.0f, -0.0f), 0x80000000u);
}

TEST(EmulationNumbersTest, PackBf16KeepsWhatIsNoOrdinaryNumber) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(PackBf16(kInfinity, -kInfinity), 0xff807f80u);
  EXPECT_EQ(PackBf16(std::numeric_limits<float>::max(), FloatOf(0x7f7f7fffu)), 0x7f7f7f80u);
  EXPECT_EQ(PackBf16(FloatOf(0x7fc00000u), FloatOf(0xff800001u)), 0x7fff7fffu);
  EXPECT_EQ(PackBf16(FloatOf(0x00010000u), FloatOf(0x80008001u)), 0x80010001u);  // Denormals.
  EXPECT_EQ(PackBf16(FloatOf(0x00008000u), FloatOf(0x007fffffu)), 0x00800000u);
}

TEST(EmulationNumbersTest, PackE4m3RoundsToNearestEvenAndHasNoInfinity) {
  EXPECT_EQ(PackE4m3(1.0f, -2.0f), 0xc038u);
  EXPECT_EQ(PackE4m3(1.0625f, 1.1875f), 0x3a38u);  // Halves.
  EXPECT_EQ(PackE4m3(1e30f, -std::numeric_limits<float>::infinity()), 0xfe7eu);
  EXPECT_EQ(PackE4m3(std::nanf(""), -0.0f), 0x807fu);
}

TEST(EmulationNumbersTest, GlobalFunctionsAreThoseOfCuda) {
  EXPECT_EQ(rsqrtf(4.0f), 0.5f);
  EXPECT_EQ(__umulhi(0x80000000u, 6u), 3u);
  EXPECT_EQ(min(3, -4), -4);
  EXPECT_EQ(max(3u, 4u), 4u);
  EXPECT_EQ(max(int64_t{1} << 40, int64_t{2}), int64_t{1} << 40);
  EXPECT_EQ(__float_as_uint(1.0f), 0x3f800000u);
  EXPECT_EQ(__uint_as_float(0x40000000u), 2.0f);
  EXPECT_TRUE(isnan(FloatOf(0x7fc00000u)) && isfinite(expf(1.0f)) && !isfinite(expf(1000.0f)));
  const float4 vector = make_float4(1, 2, 3, 4);
  EXPECT_EQ(__ldg(&vector).w, 4);
}

}  // namespace
}  // namespace deltaworks::trainer::cuda
