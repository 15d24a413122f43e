#include "trainer/backend/cuda/cuda_collective.h"

#include <cuda_runtime.h>

#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "trainer/backend/cuda/card_launcher.h"
#include "trainer/backend/cuda/cuda_backend.h"
#include "trainer/backend/cuda/kernels/kernels.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::trainer {
namespace {

// Pinned, for what goes to the host: the headers of 1,024 ranks, twice.
constexpr int64_t kStagingBytes = 256 << 10;
constexpr absl::Duration kPoll = absl::Microseconds(50);

absl::Status ErrorOf(const char* call, cudaError_t error) {
  if (error == cudaSuccess) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat(call, ": ", cudaGetErrorName(error), ": ", cudaGetErrorString(error)));
}

class CardMemory final : public DeviceBuffer {
 public:
  CardMemory(int device, void* data, int64_t bytes) : device_(device), data_(data), bytes_(bytes) {}
  ~CardMemory() override {
    cudaSetDevice(device_);
    cudaFree(data_);
  }
  void* data() override { return data_; }
  int64_t bytes() const override { return bytes_; }

 private:
  const int device_;
  void* const data_;
  const int64_t bytes_;
};

class CardCollective final : public CollectiveDevice {
 public:
  explicit CardCollective(int device) : device_(device) {}
  ~CardCollective() override {
    cudaSetDevice(device_);
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
    cudaFreeHost(staging_);
  }

  absl::Status Start() {
    DW_RETURN_IF_ERROR(MakeCurrent());
    DW_RETURN_IF_ERROR(ErrorOf("cudaStreamCreateWithFlags",
                               cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)));
    void* staging = nullptr;
    DW_RETURN_IF_ERROR(
        ErrorOf("cudaHostAlloc", cudaHostAlloc(&staging, kStagingBytes, cudaHostAllocDefault)));
    staging_ = static_cast<char*>(staging);
    return absl::OkStatus();
  }

  absl::Status MakeCurrent() override { return ErrorOf("cudaSetDevice", cudaSetDevice(device_)); }

  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Allocate(int64_t bytes) override {
    DW_RETURN_IF_ERROR(MakeCurrent());
    void* memory = nullptr;
    const cudaError_t error = cudaMalloc(&memory, static_cast<size_t>(bytes));
    if (error != cudaSuccess) {
      cudaGetLastError();  // It is told here.
      return absl::ResourceExhaustedError(absl::StrCat("device cuda:", device_, " has no room for ",
                                                       bytes, " bytes, ",
                                                       cudaGetErrorString(error)));
    }
    return std::make_unique<CardMemory>(device_, memory, bytes);
  }

  absl::Status Add(const float* from, float* to, int64_t count) override {
    DW_RETURN_IF_ERROR(MakeCurrent());
    cuda::CardLauncher launcher(stream_);
    cuda::AddMatrix(&launcher, from, count, 1, count, to, count);
    return ErrorOf("AddMatrix", cudaGetLastError());
  }

  absl::Status Copy(const void* from, void* to, int64_t bytes) override {
    return CopyAsync(from, to, bytes);
  }

  absl::Status CopyToDevice(const void* host, void* device, int64_t bytes) override {
    return CopyAsync(host, device, bytes);
  }

  // Into memory that is not pinned the host would wait for all that was enqueued.
  absl::Status CopyToHost(const void* device, void* host, int64_t bytes) override {
    if (staged_ + bytes > kStagingBytes) {
      return absl::InternalError(absl::StrCat("copies to the host of ", staged_ + bytes,
                                              " bytes, want at most ", kStagingBytes));
    }
    char* const staged = staging_ + staged_;
    DW_RETURN_IF_ERROR(CopyAsync(device, staged, bytes));
    staged_ += bytes;
    arriving_.push_back({staged, host, bytes});
    return absl::OkStatus();
  }

  void* stream() override { return stream_; }

  absl::StatusOr<bool> Wait(absl::Duration patience) override {
    DW_RETURN_IF_ERROR(MakeCurrent());
    const absl::Time begin = absl::Now();
    while (true) {
      const cudaError_t error = cudaStreamQuery(stream_);
      if (error == cudaSuccess) break;
      if (error != cudaErrorNotReady) return ErrorOf("cudaStreamQuery", error);
      if (absl::Now() - begin >= patience) return false;
      absl::SleepFor(kPoll);
    }
    for (const Arriving& each : arriving_) {
      std::memcpy(each.host, each.staged, static_cast<size_t>(each.bytes));
    }
    arriving_.clear();
    staged_ = 0;
    return true;
  }

 private:
  struct Arriving {
    const char* staged;
    void* host;
    int64_t bytes;
  };

  absl::Status CopyAsync(const void* from, void* to, int64_t bytes) {
    DW_RETURN_IF_ERROR(MakeCurrent());
    return ErrorOf("cudaMemcpyAsync", cudaMemcpyAsync(to, from, static_cast<size_t>(bytes),
                                                      cudaMemcpyDefault, stream_));
  }

  const int device_;
  cudaStream_t stream_ = nullptr;
  char* staging_ = nullptr;
  int64_t staged_ = 0;
  std::vector<Arriving> arriving_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<CollectiveDevice>> NewCudaCollectiveDevice(int device) {
  DW_RETURN_IF_ERROR(FindCudaDevices().status());
  auto collective = std::make_unique<CardCollective>(device);
  DW_RETURN_IF_ERROR(collective->Start());
  return std::unique_ptr<CollectiveDevice>(std::move(collective));
}

}  // namespace deltaworks::trainer
