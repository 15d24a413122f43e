// In the order of dependence: fibers, what a block is made of, meetings, the operations of a warp,
// copies, launches.
//
// Fibers are run by no queue: the threads of a block are linked once in the order to run them in,
// lanes within warps, and each that has to wait switches to the next. The last lane of a warp to
// reach an operation computes it for all and switches to the first; at __syncthreads() and at its
// end, a warp is followed by the next. That works as all must meet in the same way anyhow.

#include "trainer/backend/cuda/emulation/emulation.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "trainer/base/mutex.h"
#include "trainer/tensor.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifndef __x86_64__
#error "SwitchStack is written for x86-64"
#endif

namespace deltaworks::trainer::cuda {
namespace emulation {
namespace {

// ---- Fibers

#ifdef __SANITIZE_ADDRESS__
constexpr size_t kStackBytes = 512 << 10;
#else
constexpr size_t kStackBytes = 128 << 10;
#endif
constexpr size_t kPageBytes = 4096;

// Saves the registers that a function must keep and the stack pointer, and takes up the stack that
// an earlier call left at `to`. noipa: the caller must not look for itself which registers change.
[[gnu::naked, gnu::noipa]] void SwitchStack(void** /*from*/, void* /*to*/) {
  asm("pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15;"
      "movq %rsp, (%rdi);"
      "movq %rsi, %rsp;"
      "popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp;"
      "ret");
}
constexpr int kSavedRegisters = 6;

// A stack and the place where its code waits. Never leaves its OS thread.
struct Fiber {
  void* stack_pointer = nullptr;
  // The rest is ASan's; it learns an OS thread's own stack on leaving it.
  const void* bottom = nullptr;
  size_t bytes = 0;
  void* fake_stack = nullptr;
};

#ifdef __SANITIZE_ADDRESS__
constinit thread_local Fiber* left = nullptr;
void WillSwitch(Fiber& from, const Fiber& to) {
  left = &from;
  __sanitizer_start_switch_fiber(&from.fake_stack, to.bottom, to.bytes);
}
void HasSwitchedTo(const Fiber* to) {
  __sanitizer_finish_switch_fiber(to == nullptr ? nullptr : to->fake_stack, &left->bottom,
                                  &left->bytes);
}
void ForgetStack(void* bottom) { __asan_unpoison_memory_region(bottom, kStackBytes); }
#else
void WillSwitch(Fiber&, const Fiber&) {}
void HasSwitchedTo(const Fiber*) {}
void ForgetStack(void*) {}
#endif

void SwitchFiber(Fiber& from, const Fiber& to) {
  WillSwitch(from, to);
  SwitchStack(&from.stack_pointer, to.stack_pointer);
  HasSwitchedTo(&from);
}

// Memory for a fiber, below it a page that faults.
class Stack {
 public:
  Stack()
      : memory_(mmap(nullptr, kPageBytes + kStackBytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0)) {
    PCHECK(memory_ != MAP_FAILED);
    PCHECK(mprotect(memory_, kPageBytes, PROT_NONE) == 0);
  }
  ~Stack() {
    ForgetStack(Bottom());
    PCHECK(munmap(memory_, kPageBytes + kStackBytes) == 0);
  }
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;

  // A fiber that calls `main`, which must not return, when it is first switched to. `colour` is
  // the number of the stack: stacks that all began at the same place of a page would share few
  // sets of the first-level cache.
  Fiber Start(void (*main)(), int colour) {
    void** top = reinterpret_cast<void**>(Bottom() + kStackBytes - colour % 32 * 128);
    *--top = nullptr;  // The address that main would return to: here a stack trace ends.
    *--top = reinterpret_cast<void*>(main);
    top -= kSavedRegisters;  // Zeros, as all fresh pages.
    return {.stack_pointer = top, .bottom = Bottom(), .bytes = kStackBytes};
  }

 private:
  unsigned char* Bottom() { return static_cast<unsigned char*>(memory_) + kPageBytes; }

  void* const memory_;
};

// ---- A block

enum class Meeting {
  kEnd,
  kSyncThreads,
  // From here on of a warp.
  kSyncWarp,
  kShuffleLane,
  kShuffleXor,
  kShuffleDown,
  kShuffleUp,
  kAny,
  kAll,
  kBallot,
  kMma,
  kLoadTiles,
  kLoadTilesTransposed,
};
constexpr const char* kMeetingNames[] = {
    "its end",          "__syncthreads",  "__syncwarp",         "__shfl_sync", "__shfl_xor_sync",
    "__shfl_down_sync", "__shfl_up_sync", "__any_sync",         "__all_sync",  "__ballot_sync",
    "MmaBf16",          "LoadTiles",      "LoadTilesTransposed"};
constexpr bool IsOfBlock(Meeting meeting) { return meeting <= Meeting::kSyncThreads; }

struct Thread;

struct Warp {
  // What each lane brings to a meeting and takes from it. The first stays 0xff for lanes that the
  // last warp of a block does not have.
  alignas(64) uint32_t operands[kLanes][6];
  alignas(64) uint32_t results[kLanes][4];
  unsigned present;  // A bit for each lane that there is.
  // Lanes and warps in the order to run them in, the last lane and warp followed by nullptr.
  Thread* first_lane;
  Warp* next_warp;
  Meeting meeting;  // Where the first lane is.
};

struct PendingCopy {
  void* to;
  const void* from;  // nullptr for zeros.
  int64_t group;
};

struct Thread {
  Fiber fiber;
  uint3 index;
  int lane;
  Warp* warp;
  Thread* next_lane;
  std::vector<PendingCopy> copies;
  int64_t groups = 0;  // Committed so far, in all blocks.
};

// What the running launch is about.
struct Grid {
  const LaunchShape& shape;
  absl::FunctionRef<void()> thread_body;
  unsigned char* shared;
  Fiber launcher;
  Warp* first_warp;
  Meeting meeting;  // Where the first warp is, if that is a meeting of the block.
};

constinit thread_local Grid* grid = nullptr;
constinit thread_local Thread* running = nullptr;
constinit thread_local ThreadOrder thread_order = ThreadOrder::kForward;

std::string Triple(const uint3& at) { return absl::StrCat("(", at.x, ", ", at.y, ", ", at.z, ")"); }

[[noreturn]] void Fail(const std::string& what) {
  LOG(FATAL) << "kernel " << grid->shape.name << ", block " << Triple(blockIdx) << ", thread "
             << Triple(threadIdx) << " " << what;
}

Thread& Self() {
  CHECK(running != nullptr) << "device code called outside of a launch";
  return *running;
}

// ---- Meetings

void CheckSameMeeting(Meeting mine, const Thread& first, Meeting firsts) {
  if (mine == firsts) return;
  Fail(absl::StrCat("is at ", kMeetingNames[static_cast<int>(mine)], " while thread ",
                    Triple(first.index), " is at ", kMeetingNames[static_cast<int>(firsts)]));
}

void SwitchTo(Thread& from, Thread& to) {
  if (&from == &to) return;  // A block of one thread, or a warp.
  running = &to;
  threadIdx = to.index;
  SwitchFiber(from.fiber, to.fiber);
}

// Comes back when all who must be there are, and it is this thread's turn. The last lane of a warp
// runs `finish` to turn operands to results; nobody has touched either until then.
void Meet(Thread& self, Meeting meeting, void (*finish)(Warp&)) {
  Warp& warp = *self.warp;
  if (&self != warp.first_lane) {
    CheckSameMeeting(meeting, *warp.first_lane, warp.meeting);
  } else {
    warp.meeting = meeting;
    if (IsOfBlock(meeting)) {
      if (&warp == grid->first_warp) grid->meeting = meeting;
      CheckSameMeeting(meeting, *grid->first_warp->first_lane, grid->meeting);
    }
  }
  if (self.next_lane != nullptr) return SwitchTo(self, *self.next_lane);
  if (!IsOfBlock(meeting)) {
    if (finish != nullptr) finish(warp);
    return SwitchTo(self, *warp.first_lane);
  }
  if (warp.next_warp != nullptr) return SwitchTo(self, *warp.next_warp->first_lane);
  if (meeting == Meeting::kEnd) return SwitchFiber(self.fiber, grid->launcher);
  SwitchTo(self, *grid->first_warp->first_lane);
}

void End(Thread& self) {
  if (!self.copies.empty()) {
    Fail(absl::StrCat("ends with ", self.copies.size(), " copies that it never waited for"));
  }
  Meet(self, Meeting::kEnd, nullptr);
}

// A fiber is one thread of block after block, and between two of them waits in End.
void FiberMain() {
  HasSwitchedTo(nullptr);
  for (;;) {
    grid->thread_body();
    End(*running);
  }
}

// ---- Operations of a warp

void CheckMask(unsigned mask) {
  if (mask != 0xffffffffu) {
    Fail(absl::StrCat("gives the mask 0x", absl::Hex(mask), ", want 0xffffffff"));
  }
}

void CheckAllLanes(const Warp& warp, Meeting meeting) {
  if (warp.present == 0xffffffffu) return;
  Fail(absl::StrCat("is at ", kMeetingNames[static_cast<int>(meeting)],
                    " in a warp of less than 32 lanes"));
}

void CheckAligned(const void* address, const char* name) {
  if (reinterpret_cast<uintptr_t>(address) % 16 == 0) return;
  Fail(absl::StrCat("gives ", name, " an address that is not 16 bytes aligned"));
}

// Of 16 bytes.
bool IsShared(const void* address) {
  const size_t begin =
      reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(grid->shared);
  return begin < grid->shape.shared_bytes && grid->shape.shared_bytes - begin >= 16;
}

void CheckShared(const void* address, const char* name) {
  CheckAligned(address, name);
  if (!IsShared(address)) {
    Fail(absl::StrCat("gives ", name, " an address that is not in the block's shared memory"));
  }
}

void FinishShuffle(Warp& warp) {
  for (int lane = 0; lane < kLanes; ++lane) {
    std::memcpy(warp.results[lane], warp.operands[lane], sizeof(uint64_t));
  }
}

void FinishVote(Warp& warp) {
  unsigned votes = 0;
  for (int lane = 0; lane < kLanes; ++lane) votes |= (warp.operands[lane][0] & 1) << lane;
  warp.results[0][0] = votes & warp.present;
}

unsigned Vote(Meeting meeting, unsigned mask, int predicate) {
  Thread& self = Self();
  CheckMask(mask);
  self.warp->operands[self.lane][0] = predicate != 0;
  Meet(self, meeting, FinishVote);
  return self.warp->results[0][0];
}

float LowFloat(uint32_t pair) { return FloatOf(pair << 16); }
float HighFloat(uint32_t pair) { return FloatOf(pair & 0xffff0000u); }

// Where each lane's numbers belong is said in device_code.h.
void FinishMma(Warp& warp) {
  using Four __attribute__((vector_size(16))) = float;  // Columns, half a row of b.
  float a[16][16];
  Four b[2][16];
  for (int lane = 0; lane < kLanes; ++lane) {
    const int group = lane / 4;
    const int pair = lane % 4 * 2;
    const uint32_t* operands = warp.operands[lane];
    for (int i = 0; i < 4; ++i) {
      float* at = &a[group + i % 2 * 8][pair + i / 2 * 8];
      at[0] = LowFloat(operands[i]);
      at[1] = HighFloat(operands[i]);
    }
    for (int i = 0; i < 2; ++i) {
      b[group / 4][pair + i * 8][group % 4] = LowFloat(operands[4 + i]);
      b[group / 4][pair + i * 8 + 1][group % 4] = HighFloat(operands[4 + i]);
    }
  }
  for (int row = 0; row < 16; ++row) {
    for (int half = 0; half < 2; ++half) {
      Four sum = a[row][0] * b[half][0];
      for (int k = 1; k < 16; ++k) sum += a[row][k] * b[half][k];
      uint32_t(*results)[4] = &warp.results[row % 8 * 4 + half * 2];
      for (int i = 0; i < 4; ++i) results[i / 2][row / 8 * 2 + i % 2] = BitsOf(sum[i]);
    }
  }
}

// Reads when all lanes are there: a lane that goes on may overwrite what another has asked for.
// tiles[i][r] is row r of tile i.
void GatherTiles(const Warp& warp, uint16_t (&tiles)[4][8][8]) {
  for (int lane = 0; lane < kLanes; ++lane) {
    const void* row;
    std::memcpy(&row, warp.operands[lane], sizeof(row));
    std::memcpy(tiles[lane / 8][lane % 8], row, 16);
  }
}

void FinishLoadTiles(Warp& warp) {
  uint16_t tiles[4][8][8];
  GatherTiles(warp, tiles);
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const uint16_t* row = tiles[i][lane / 4];
      warp.results[lane][i] = row[lane % 4 * 2] | uint32_t{row[lane % 4 * 2 + 1]} << 16;
    }
  }
}

void FinishLoadTilesTransposed(Warp& warp) {
  uint16_t tiles[4][8][8];
  GatherTiles(warp, tiles);
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const auto& tile = tiles[i];
      const int row = lane % 4 * 2;
      warp.results[lane][i] = tile[row][lane / 4] | uint32_t{tile[row + 1][lane / 4]} << 16;
    }
  }
}

void Load(Meeting meeting, uint32_t (&out)[4], const void* row, void (*finish)(Warp&)) {
  Thread& self = Self();
  CheckAllLanes(*self.warp, meeting);
  CheckShared(row, kMeetingNames[static_cast<int>(meeting)]);
  std::memcpy(self.warp->operands[self.lane], &row, sizeof(row));
  Meet(self, meeting, finish);
  std::memcpy(out, self.warp->results[self.lane], sizeof(out));
}

// ---- Launches

constexpr unsigned kBlockThreadsMax = 1024;
constexpr size_t kSharedBytesMax = 227 << 10;
constexpr size_t kSharedBytesUnasked = 48 << 10;

thread_local std::string launch_error;

void LeaveLaunchError(const std::string& error) {
  if (launch_error.empty()) launch_error = error;
}

// What AllowShared was told, for all OS threads.
class AllowedShared {
 public:
  static AllowedShared& Get() {
    static AllowedShared* const allowed = new AllowedShared;
    return *allowed;
  }

  void Set(const void* kernel, size_t bytes) {
    MutexLock lock(&mutex_);
    bytes_[kernel] = bytes;
  }

  size_t Of(const void* kernel) {
    MutexLock lock(&mutex_);
    const auto found = bytes_.find(kernel);
    return found == bytes_.end() ? kSharedBytesUnasked : found->second;
  }

 private:
  Mutex mutex_;
  std::map<const void*, size_t> bytes_ ABSL_GUARDED_BY(mutex_);
};

// What is wrong with `shape`, or "".
std::string ShapeError(const LaunchShape& shape) {
  const dim3& block = shape.block;
  const dim3& grid = shape.grid;
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (std::max({block.x, block.y, block.z}) > kBlockThreadsMax || block.z > 64 || threads == 0 ||
      threads > kBlockThreadsMax) {
    return absl::StrCat("block is ", Triple({block.x, block.y, block.z}), ", want 1..",
                        kBlockThreadsMax, " threads, z at most 64");
  }
  if (std::min({grid.x, grid.y, grid.z}) == 0 || grid.x > 0x7fffffffu ||
      std::max(grid.y, grid.z) > 65535) {
    return absl::StrCat("grid is ", Triple({grid.x, grid.y, grid.z}),
                        ", want x 1..2147483647, y and z 1..65535");
  }
  if (const size_t allowed = AllowedShared::Get().Of(shape.kernel); shape.shared_bytes > allowed) {
    return absl::StrCat("shared memory is ", shape.shared_bytes, " bytes, want at most the ",
                        allowed, " that are allowed");
  }
  return "";
}

// The fibers of one OS thread. They are made when a block is larger than all before, and kept.
class Multiprocessor {
 public:
  static Multiprocessor& Local() {
    static thread_local Multiprocessor multiprocessor;
    return multiprocessor;
  }

  void Run(const LaunchShape& shape, absl::FunctionRef<void()> thread_body);

 private:
  void MakeThreads(int threads);
  // Links the threads of the launch's block in the order to run them in.
  void Link();
  void Reorder(std::vector<int>& numbers);

  std::vector<std::unique_ptr<Stack>> stacks_;
  std::vector<std::unique_ptr<Thread>> threads_;  // By number in the block, maybe more than it has.
  std::vector<std::unique_ptr<Warp>> warps_;      // The same.
  int block_threads_ = 0;
  std::mt19937 random_;
};

void Multiprocessor::MakeThreads(int threads) {
  for (int i = static_cast<int>(threads_.size()); i < threads; ++i) {
    if (i % kLanes == 0) warps_.push_back(std::make_unique<Warp>());
    stacks_.push_back(std::make_unique<Stack>());
    threads_.push_back(std::make_unique<Thread>());
    threads_[i]->fiber = stacks_[i]->Start(FiberMain, i);
    threads_[i]->lane = i % kLanes;
    threads_[i]->warp = warps_[i / kLanes].get();
  }
}

void Multiprocessor::Reorder(std::vector<int>& numbers) {
  std::iota(numbers.begin(), numbers.end(), 0);
  if (thread_order == ThreadOrder::kBackward) std::reverse(numbers.begin(), numbers.end());
  if (thread_order == ThreadOrder::kShuffled) std::shuffle(numbers.begin(), numbers.end(), random_);
}

void Multiprocessor::Link() {
  std::vector<int> warp_order((block_threads_ + kLanes - 1) / kLanes);
  Reorder(warp_order);
  Warp* next_warp = nullptr;
  for (auto number = warp_order.rbegin(); number != warp_order.rend(); ++number) {
    Warp& warp = *warps_[*number];
    const int begin = *number * kLanes;
    std::vector<int> lane_order(std::min(block_threads_ - begin, kLanes));
    Reorder(lane_order);
    warp.present = 0xffffffffu >> (kLanes - lane_order.size());
    warp.first_lane = nullptr;
    for (auto lane = lane_order.rbegin(); lane != lane_order.rend(); ++lane) {
      Thread& thread = *threads_[begin + *lane];
      thread.next_lane = std::exchange(warp.first_lane, &thread);
    }
    warp.next_warp = std::exchange(next_warp, &warp);
  }
  grid->first_warp = next_warp;
}

void Multiprocessor::Run(const LaunchShape& shape, absl::FunctionRef<void()> thread_body) {
  const DefaultFloatMode float_mode;
  void* shared = nullptr;
  if (shape.shared_bytes > 0) CHECK_EQ(posix_memalign(&shared, 128, shape.shared_bytes), 0);
  const std::unique_ptr<void, decltype(&std::free)> shared_owner(shared, &std::free);
  Grid this_grid = {
      .shape = shape, .thread_body = thread_body, .shared = static_cast<unsigned char*>(shared)};
  grid = &this_grid;
  gridDim = shape.grid;
  blockDim = shape.block;
  random_.seed(1);
  block_threads_ = blockDim.x * blockDim.y * blockDim.z;
  MakeThreads(block_threads_);
  for (unsigned i = 0; i < static_cast<unsigned>(block_threads_); ++i) {
    threads_[i]->index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
  }
  for (const auto& warp : warps_) std::memset(warp->operands, 0xff, sizeof(warp->operands));

  const uint64_t blocks = uint64_t{gridDim.x} * gridDim.y * gridDim.z;
  std::vector<int> block_order(thread_order == ThreadOrder::kShuffled ? blocks : 0);
  Reorder(block_order);
  for (uint64_t i = 0; i < blocks; ++i) {
    const uint64_t block = thread_order == ThreadOrder::kShuffled   ? block_order[i]
                           : thread_order == ThreadOrder::kBackward ? blocks - 1 - i
                                                                    : i;
    blockIdx = {static_cast<unsigned>(block % gridDim.x),
                static_cast<unsigned>(block / gridDim.x % gridDim.y),
                static_cast<unsigned>(block / gridDim.x / gridDim.y)};
    if (shared != nullptr) std::memset(shared, 0xff, shape.shared_bytes);
    if (i == 0 || thread_order == ThreadOrder::kShuffled) Link();
    running = this_grid.first_warp->first_lane;
    threadIdx = running->index;
    SwitchFiber(this_grid.launcher, running->fiber);
  }
  running = nullptr;
  grid = nullptr;
}

}  // namespace

void RunGrid(const LaunchShape& shape, absl::FunctionRef<void()> thread) {
  CHECK(running == nullptr) << "kernel " << grid->shape.name << " launches " << shape.name;
  if (const std::string error = ShapeError(shape); !error.empty()) {
    return LeaveLaunchError(absl::StrCat("kernel ", shape.name, ": ", error));
  }
  Multiprocessor::Local().Run(shape, thread);
}

void AllowSharedOf(const void* kernel, int bytes) {
  if (bytes < 0 || bytes > kSharedBytesMax) {
    return LeaveLaunchError(
        absl::StrCat("AllowShared: ", bytes, " bytes, want 0..", kSharedBytesMax));
  }
  AllowedShared::Get().Set(kernel, bytes);
}

void* SharedMemory() {
  Self();
  return grid->shared;
}

uint64_t Shuffle(ShuffleFrom from, unsigned mask, uint64_t value, int64_t argument) {
  Thread& self = Self();
  CheckMask(mask);
  std::memcpy(self.warp->operands[self.lane], &value, sizeof(value));
  int64_t source = 0;
  Meeting meeting = Meeting::kShuffleLane;
  switch (from) {
    case ShuffleFrom::kLane:
      source = argument & (kLanes - 1);
      break;
    case ShuffleFrom::kXor:
      meeting = Meeting::kShuffleXor;
      source = self.lane ^ argument;
      break;
    case ShuffleFrom::kDown:
      meeting = Meeting::kShuffleDown;
      source = self.lane + argument;
      break;
    case ShuffleFrom::kUp:
      meeting = Meeting::kShuffleUp;
      source = self.lane - argument;
      break;
  }
  Meet(self, meeting, FinishShuffle);
  if (source < 0 || source >= kLanes) return value;
  std::memcpy(&value, self.warp->results[source], sizeof(value));
  return value;
}

void WaitForCopies(int groups) {
  Thread& self = Self();
  const auto lands = [&](const PendingCopy& copy) { return copy.group < self.groups - groups; };
  auto copy = self.copies.begin();
  for (; copy != self.copies.end() && lands(*copy); ++copy) {
    if (copy->from == nullptr) {
      std::memset(copy->to, 0, 16);
    } else {
      std::memcpy(copy->to, copy->from, 16);
    }
  }
  self.copies.erase(self.copies.begin(), copy);
}

}  // namespace emulation

using emulation::Meeting;
using emulation::Self;
using emulation::Thread;

void SetThreadOrder(ThreadOrder order) { emulation::thread_order = order; }

std::string TakeLaunchError() { return std::exchange(emulation::launch_error, ""); }

uint32_t PackBf16(float low, float high) {
  const auto round = [](uint32_t bits) -> uint32_t {
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  };
  return round(BitsOf(low)) | round(BitsOf(high)) << 16;
}

uint32_t PackE4m3(float low, float high) {
  return uint32_t{Float8E4M3(low).bits} | uint32_t{Float8E4M3(high).bits} << 8;
}

void MmaBf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  Thread& self = Self();
  emulation::CheckAllLanes(*self.warp, Meeting::kMma);
  uint32_t* operands = self.warp->operands[self.lane];
  std::memcpy(operands, a, sizeof(a));
  std::memcpy(operands + 4, b, sizeof(b));
  Meet(self, Meeting::kMma, emulation::FinishMma);
  for (int i = 0; i < 4; ++i) d[i] += FloatOf(self.warp->results[self.lane][i]);
}

void LoadTiles(uint32_t (&out)[4], const void* row) {
  Load(Meeting::kLoadTiles, out, row, emulation::FinishLoadTiles);
}

void LoadTilesTransposed(uint32_t (&out)[4], const void* row) {
  Load(Meeting::kLoadTilesTransposed, out, row, emulation::FinishLoadTilesTransposed);
}

void CopyAsync16(void* shared, const void* from, bool valid) {
  Thread& self = Self();
  emulation::CheckShared(shared, "CopyAsync16");
  emulation::CheckAligned(from, "CopyAsync16");
  if (emulation::IsShared(from)) emulation::Fail("gives CopyAsync16 a source in shared memory");
  std::memset(shared, 0xff, 16);
  self.copies.push_back({shared, valid ? from : nullptr, self.groups});
}

void CommitCopies() { ++Self().groups; }

}  // namespace deltaworks::trainer::cuda

void __syncthreads() {
  using namespace deltaworks::trainer::cuda::emulation;
  Meet(Self(), Meeting::kSyncThreads, nullptr);
}

void __syncwarp(unsigned mask) {
  using namespace deltaworks::trainer::cuda::emulation;
  Thread& self = Self();
  CheckMask(mask);
  Meet(self, Meeting::kSyncWarp, nullptr);
}

int __any_sync(unsigned mask, int predicate) {
  using namespace deltaworks::trainer::cuda::emulation;
  return Vote(Meeting::kAny, mask, predicate) != 0;
}

int __all_sync(unsigned mask, int predicate) {
  using namespace deltaworks::trainer::cuda::emulation;
  return Vote(Meeting::kAll, mask, predicate) == Self().warp->present;
}

unsigned __ballot_sync(unsigned mask, int predicate) {
  using namespace deltaworks::trainer::cuda::emulation;
  return Vote(Meeting::kBallot, mask, predicate);
}
