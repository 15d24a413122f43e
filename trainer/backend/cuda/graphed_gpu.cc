#include "trainer/backend/cuda/graphed_gpu.h"

#include <algorithm>
#include <cstring>

#include "absl/container/inlined_vector.h"
#include "absl/hash/hash.h"
#include "absl/types/span.h"
#include "glog/logging.h"

namespace deltaworks::trainer::cuda {
namespace {

// Sequences that are remembered, most of them by their hash alone.
constexpr size_t kKnownMax = 65'536;
constexpr int64_t kPinnedAlignment = 256;

uint64_t Word(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }
uint64_t Word(int64_t value) { return static_cast<uint64_t>(value); }
uint64_t Word(uint64_t value) { return value; }
uint64_t Pair(uint32_t low, uint32_t high) { return low | uint64_t{high} << 32; }
uint32_t Low(uint64_t word) { return static_cast<uint32_t>(word); }
uint32_t High(uint64_t word) { return static_cast<uint32_t>(word >> 32); }

template <typename T>
T* Pointer(uint64_t word) {
  return reinterpret_cast<T*>(word);
}
size_t WordsFor(uint32_t bytes) { return (bytes + sizeof(uint64_t) - 1) / sizeof(uint64_t); }

// Of a launch, before its arguments; each of these is its size and then its bytes.
enum LaunchWord { kName = 1, kKernel, kRun, kGridXy, kGridZBlockX, kBlockYz, kShared, kArguments };

// What is not a number of a product.
constexpr uint64_t kATransposed = 1, kBTransposed = 2, kAccumulate = 4;
uint64_t FlagsOf(const Product& product) {
  return (product.a_transposed ? kATransposed : 0) | (product.b_transposed ? kBTransposed : 0) |
         (product.accumulate ? kAccumulate : 0);
}

}  // namespace

GraphedGpu::GraphedGpu(std::unique_ptr<GraphGpu> gpu, const GraphOptions& options)
    : gpu_(std::move(gpu)), options_(options) {}

GraphedGpu::~GraphedGpu() {
  Wait();
  known_.clear();
  gpu_->FreePinned(pinned_);
}

template <typename... Fields>
void GraphedGpu::Add(Kind kind, Fields... fields) {
  words_.push_back(static_cast<uint64_t>(kind));
  (words_.push_back(Word(fields)), ...);
  ++items_;
}

void GraphedGpu::Launch(const KernelLaunch& launch) {
  const auto& [name, kernel, grid, block, shared_bytes, run, count, arguments, bytes] = launch;
  Add(Kind::kLaunch, name, kernel, reinterpret_cast<const void*>(run), Pair(grid[0], grid[1]),
      Pair(grid[2], block[0]), Pair(block[1], block[2]), uint64_t{shared_bytes}, int64_t{count});
  for (int32_t i = 0; i < count; ++i) {
    const size_t begin = words_.size() + 1;
    words_.push_back(bytes[i]);
    words_.resize(begin + WordsFor(bytes[i]));
    std::memcpy(&words_[begin], arguments[i], bytes[i]);
  }
}

size_t GraphedGpu::IssueLaunch(size_t at) {
  const uint64_t* const words = &words_[at];
  absl::InlinedVector<void*, 16> arguments;
  absl::InlinedVector<uint32_t, 16> bytes;
  size_t next = at + kArguments + 1;
  for (uint64_t i = 0; i < words[kArguments]; ++i) {
    bytes.push_back(Low(words_[next]));
    arguments.push_back(&words_[next + 1]);
    next += 1 + WordsFor(bytes.back());
  }
  gpu_->stream()->Launch(
      {.name = Pointer<const char>(words[kName]),
       .kernel = Pointer<const void>(words[kKernel]),
       .grid = {Low(words[kGridXy]), High(words[kGridXy]), Low(words[kGridZBlockX])},
       .block = {High(words[kGridZBlockX]), Low(words[kBlockYz]), High(words[kBlockYz])},
       .shared_bytes = Low(words[kShared]),
       .run = reinterpret_cast<void (*)(const KernelLaunch&)>(words[kRun]),
       .argument_count = static_cast<int32_t>(words[kArguments]),
       .arguments = arguments.data(),
       .argument_bytes = bytes.data()});
  return next;
}

void GraphedGpu::Multiply(const Product& product) {
  Add(Kind::kProduct, product.a.data, product.a.stride, product.b.data, product.b.stride,
      product.out.data, product.out.stride, product.rows, product.columns, product.depth,
      static_cast<uint64_t>(product.input), static_cast<uint64_t>(product.output), FlagsOf(product),
      product.a_scales, product.b_scales);
}

void GraphedGpu::CopyOnDevice(const void* from, void* to, int64_t bytes) {
  Add(Kind::kCopy, from, to, bytes);
}

void GraphedGpu::Zero(void* device, int64_t bytes) { Add(Kind::kZero, device, bytes); }

void GraphedGpu::CopyToDevice(const void* host, void* device, int64_t bytes) {
  const int64_t room = (bytes + kPinnedAlignment - 1) / kPinnedAlignment * kPinnedAlignment;
  if (pinned_ == nullptr && room <= options_.pinned_bytes) {
    const auto pinned = gpu_->AllocatePinned(options_.pinned_bytes);
    if (pinned.ok()) pinned_ = static_cast<char*>(*pinned);
  }
  if (pinned_ == nullptr || room > options_.pinned_bytes) {
    Flush();
    gpu_->CopyToDevice(host, device, bytes);
    return;
  }
  if (pinned_used_ + room > options_.pinned_bytes) Wait();
  char* const staged = pinned_ + pinned_used_;
  std::memcpy(staged, host, bytes);
  pinned_used_ += room;
  Add(Kind::kUpload, staged, device, bytes);
}

size_t GraphedGpu::IssueItem(size_t at) {
  const uint64_t* const words = &words_[at];
  switch (static_cast<Kind>(words[0])) {
    case Kind::kLaunch:
      return IssueLaunch(at);
    case Kind::kProduct:
      gpu_->Multiply({.a = {Pointer<void>(words[1]), static_cast<int64_t>(words[2])},
                      .a_transposed = (words[12] & kATransposed) != 0,
                      .b = {Pointer<void>(words[3]), static_cast<int64_t>(words[4])},
                      .b_transposed = (words[12] & kBTransposed) != 0,
                      .out = {Pointer<void>(words[5]), static_cast<int64_t>(words[6])},
                      .rows = static_cast<int64_t>(words[7]),
                      .columns = static_cast<int64_t>(words[8]),
                      .depth = static_cast<int64_t>(words[9]),
                      .input = static_cast<DType>(words[10]),
                      .output = static_cast<DType>(words[11]),
                      .accumulate = (words[12] & kAccumulate) != 0,
                      .a_scales = Pointer<const float>(words[13]),
                      .b_scales = Pointer<const float>(words[14])});
      return at + 15;
    case Kind::kUpload:
      gpu_->CopyPinnedToDevice(Pointer<const void>(words[1]), Pointer<void>(words[2]),
                               static_cast<int64_t>(words[3]));
      return at + 4;
    case Kind::kCopy:
      gpu_->CopyOnDevice(Pointer<const void>(words[1]), Pointer<void>(words[2]),
                         static_cast<int64_t>(words[3]));
      return at + 4;
    case Kind::kZero:
      gpu_->Zero(Pointer<void>(words[1]), static_cast<int64_t>(words[2]));
      return at + 3;
  }
  LOG(FATAL) << "item of kind " << words[0];
}

void GraphedGpu::IssuePieces() {
  auto mark = marks_.begin();
  for (size_t at = 0; at < words_.size();) {
    at = IssueItem(at);
    for (; mark != marks_.end() && mark->words <= at; ++mark) gpu_->Issued(mark->operation);
  }
}

std::unique_ptr<Graph> GraphedGpu::Keep() {
  MakeRoomForGraph();
  gpu_->BeginGraph();
  for (size_t at = 0; at < words_.size();) at = IssueItem(at);
  return gpu_->EndGraph();
}

void GraphedGpu::MakeRoomForGraph() {
  if (graphs_ < options_.graphs_max) return;
  const auto oldest =
      std::min_element(known_.begin(), known_.end(), [](const auto& a, const auto& b) {
        const bool a_goes = a.second.graph != nullptr, b_goes = b.second.graph != nullptr;
        return a_goes != b_goes ? a_goes : a.second.used < b.second.used;
      });
  gpu_->Wait();
  known_.erase(oldest);
  --graphs_;
}

void GraphedGpu::Flush() {
  if (words_.empty()) return;
  const uint64_t hash = absl::HashOf(absl::MakeConstSpan(words_));
  if (known_.size() >= kKnownMax) {
    absl::erase_if(known_, [](const auto& known) { return known.second.graph == nullptr; });
  }
  Known* known = &known_[hash];
  if (known->graph == nullptr && known->issued >= options_.pieces_first && can_keep_) {
    std::unique_ptr<Graph> graph = Keep();
    known = &known_[hash];
    can_keep_ = graph != nullptr;
    if (graph != nullptr) {
      known->graph = std::move(graph);
      known->words = words_;
      ++graphs_;
      ++counts_.kept;
    }
  }
  // Words, not only hashes: two sequences may have one.
  if (known->graph != nullptr && known->words == words_) {
    known->used = ++counts_.runs;
    gpu_->Run(*known->graph);
    if (!marks_.empty()) gpu_->Issued(marks_.back().operation);
  } else {
    ++known->issued;
    ++counts_.issued;
    IssuePieces();
  }
  words_.clear();
  marks_.clear();
  items_ = 0;
}

void GraphedGpu::Issued(const char* operation) {
  if (words_.empty()) return gpu_->Issued(operation);
  marks_.push_back({words_.size(), operation});
  if (items_ >= options_.sequence_items) Flush();
}

absl::StatusOr<void*> GraphedGpu::Allocate(int64_t bytes) { return gpu_->Allocate(bytes); }

void GraphedGpu::Free(void* memory) {
  if (memory == nullptr) return;
  Flush();
  gpu_->Free(memory);
  Waited();
}

void GraphedGpu::CopyRowsToDevice(const void* host, int64_t rows, int64_t row_bytes, void* device,
                                  int64_t device_row_bytes) {
  Flush();
  gpu_->CopyRowsToDevice(host, rows, row_bytes, device, device_row_bytes);
}

void GraphedGpu::CopyToHost(const void* device, void* host, int64_t bytes) {
  Flush();
  gpu_->CopyToHost(device, host, bytes);
  Waited();
}

void GraphedGpu::Wait() {
  Flush();
  gpu_->Wait();
  Waited();
}

absl::Status GraphedGpu::Synchronize() {
  Flush();
  const absl::Status status = gpu_->Synchronize();
  Waited();
  return status;
}

}  // namespace deltaworks::trainer::cuda
