#include "trainer/backend/cpu/host_memory.h"

#include <sys/mman.h>

#include <algorithm>

#include "absl/memory/memory.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::trainer {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int64_t kHugePage = 2 << 20;
constexpr int64_t kBlockBytesMin = 1 << 20;

int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

absl::StatusOr<std::unique_ptr<HostMemory>> HostMemory::Allocate(int64_t bytes) {
  CHECK_GE(bytes, 0);
  const auto exhausted = [&] {
    return absl::ResourceExhaustedError(
        absl::StrCat("host memory: want ", bytes, " bytes, the system has not"));
  };
  if (bytes > (int64_t{1} << 47)) return exhausted();
  // Pages of the system for what is large enough to fill some, so that small tensors share them.
  if (bytes < kHugePage) {
    const int64_t rounded = std::max(RoundUp(bytes, kAlignment), kAlignment);
    void* data = std::aligned_alloc(kAlignment, rounded);
    if (data == nullptr) return exhausted();
    std::fill_n(static_cast<char*>(data), rounded, 0);
    return absl::WrapUnique(new HostMemory(data, bytes, /*mapped_bytes=*/0));
  }
  const int64_t mapped_bytes = RoundUp(bytes, kHugePage);
  void* data = mmap(nullptr, mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                    /*fd=*/-1, /*offset=*/0);
  if (data == MAP_FAILED) return exhausted();
  madvise(data, mapped_bytes, MADV_HUGEPAGE);  // Advice: a refusal changes only the speed.
  return absl::WrapUnique(new HostMemory(data, bytes, mapped_bytes));
}

HostMemory::~HostMemory() {
  if (mapped_bytes_ > 0) {
    munmap(data_, mapped_bytes_);
  } else {
    std::free(data_);
  }
}

void* Workspace::Bytes(int64_t bytes) {
  const int64_t rounded = RoundUp(bytes, kAlignment);
  if (blocks_.empty() || used_bytes_ + rounded > blocks_.back()->bytes()) {
    auto block = HostMemory::Allocate(std::max(rounded, kBlockBytesMin));
    CHECK(block.ok()) << "scratch of the cpu backend: " << block.status();
    blocks_.push_back(*std::move(block));
    used_bytes_ = 0;
  }
  void* data = static_cast<char*>(blocks_.back()->data()) + used_bytes_;
  used_bytes_ += rounded;
  return data;
}

void Workspace::Reset() {
  used_bytes_ = 0;
  if (blocks_.size() < 2) return;
  const int64_t total = bytes();
  blocks_.clear();
  Bytes(total);
  used_bytes_ = 0;
}

absl::Status Workspace::Reserve(int64_t bytes) {
  used_bytes_ = 0;
  if (bytes > 0) bytes = std::max(bytes, this->bytes());
  if (blocks_.size() == 1 && blocks_[0]->bytes() == bytes) return absl::OkStatus();
  blocks_.clear();
  if (bytes == 0) return absl::OkStatus();
  DW_ASSIGN_OR_RETURN(auto block, HostMemory::Allocate(RoundUp(bytes, kAlignment)));
  blocks_.push_back(std::move(block));
  return absl::OkStatus();
}

int64_t Workspace::bytes() const {
  int64_t total = 0;
  for (const auto& block : blocks_) total += block->bytes();
  return total;
}

}  // namespace deltaworks::trainer
