#include "trainer/backend/cuda/card.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "trainer/backend/cuda/card_launcher.h"
#include "trainer/backend/cuda/cublaslt.h"
#include "trainer/backend/cuda/cuda_backend.h"
#include "trainer/backend/cuda/gpu_backend.h"
#include "trainer/backend/cuda/graphed_gpu.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::trainer {
namespace cuda {
namespace {

// Compute capability 9.0. Another one has other products, which nobody compared yet.
constexpr int kCapability = 90;

std::string TextOf(cudaError_t error) {
  return absl::StrCat(cudaGetErrorName(error), ": ", cudaGetErrorString(error));
}

class CardGraph final : public Graph {
 public:
  explicit CardGraph(cudaGraphExec_t graph) : graph_(graph) {}
  ~CardGraph() override { cudaGraphExecDestroy(graph_); }
  cudaGraphExec_t get() const { return graph_; }

 private:
  const cudaGraphExec_t graph_;
};

class Card final : public GraphGpu, private Launcher {
 public:
  Card(int device, int capability, Memory memory)
      : device_(device), capability_(capability), memory_(memory) {}
  ~Card() override {
    Use();
    cublaslt_.reset();
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }

  absl::Status Start() {
    Use();
    if (const cudaError_t error = cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking);
        error != cudaSuccess) {
      return absl::UnavailableError(
          absl::StrCat("device cuda:", device_, " does not start, ", TextOf(error)));
    }
    DW_ASSIGN_OR_RETURN(cublaslt_, CublasLt::Load());
    return absl::OkStatus();
  }

  std::string numerics() const override {
    return absl::StrCat("sm", capability_, "/cublaslt-", cublaslt_->version());
  }
  Stream stream() override { return this; }

  absl::StatusOr<void*> Allocate(int64_t bytes) override {
    Use();
    void* memory = nullptr;
    const auto size = static_cast<size_t>(std::max<int64_t>(bytes, 1));
    const cudaError_t error = memory_ == Memory::kCard
                                  ? cudaMalloc(&memory, size)
                                  : cudaHostAlloc(&memory, size, cudaHostAllocDefault);
    if (error != cudaSuccess) {
      cudaGetLastError();  // It is told here.
      return absl::ResourceExhaustedError(absl::StrCat("device cuda:", device_, " has no room for ",
                                                       bytes, " bytes, ", TextOf(error)));
    }
    Zero(memory, bytes);
    if (memory_ == Memory::kHost) Wait();
    return memory;
  }
  void Free(void* memory) override {
    if (memory == nullptr) return;
    Wait();
    Note(memory_ == Memory::kCard ? cudaFree(memory) : cudaFreeHost(memory));
  }

  void CopyToDevice(const void* host, void* device, int64_t bytes) override {
    Use();
    // From memory that is not pinned: the bytes were taken when the call returns.
    Note(cudaMemcpyAsync(device, host, bytes, cudaMemcpyDefault, stream_));
    if (memory_ == Memory::kHost) Wait();
  }
  void CopyRowsToDevice(const void* host, int64_t rows, int64_t row_bytes, void* device,
                        int64_t device_row_bytes) override {
    if (rows == 0 || row_bytes == 0) return;
    Use();
    Note(cudaMemcpy2DAsync(device, device_row_bytes, host, row_bytes, row_bytes, rows,
                           cudaMemcpyDefault, stream_));
    Wait();
  }
  void CopyToHost(const void* device, void* host, int64_t bytes) override {
    Use();
    Note(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDefault, stream_));
    Wait();
  }
  void CopyOnDevice(const void* from, void* to, int64_t bytes) override {
    Use();
    Note(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_));
  }
  void Zero(void* device, int64_t bytes) override {
    Use();
    Note(cudaMemsetAsync(device, 0, bytes, stream_));
  }

  absl::StatusOr<void*> AllocatePinned(int64_t bytes) override {
    Use();
    void* memory = nullptr;
    const cudaError_t error = cudaHostAlloc(&memory, bytes, cudaHostAllocDefault);
    if (error == cudaSuccess) return memory;
    cudaGetLastError();  // It is told here.
    return absl::ResourceExhaustedError(
        absl::StrCat("no room for ", bytes, " bytes of pinned memory, ", TextOf(error)));
  }
  void FreePinned(void* memory) override {
    Use();
    Note(cudaFreeHost(memory));
  }
  void CopyPinnedToDevice(const void* pinned, void* device, int64_t bytes) override {
    Use();
    Note(cudaMemcpyAsync(device, pinned, bytes, cudaMemcpyDefault, stream_));
  }

  void BeginGraph() override {
    Use();
    Note(cudaGetLastError());
    fault_before_graph_ = std::exchange(unnamed_fault_, absl::OkStatus());
    Note(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed));
  }
  std::unique_ptr<Graph> EndGraph() override {
    Use();
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    Note(cudaGetLastError());
    Note(cudaStreamEndCapture(stream_, &graph));
    if (unnamed_fault_.ok()) Note(cudaGraphInstantiate(&executable, graph, 0));
    if (graph != nullptr) cudaGraphDestroy(graph);
    const absl::Status status = std::exchange(unnamed_fault_, fault_before_graph_);
    cudaGetLastError();  // It is told here.
    if (status.ok()) return std::make_unique<CardGraph>(executable);
    LOG(WARNING) << "cuda:" << device_
                 << " keeps no graph, so kernels are launched one by one: " << status.message();
    return nullptr;
  }
  void Run(const Graph& graph) override {
    Use();
    Note(cudaGraphLaunch(static_cast<const CardGraph&>(graph).get(), stream_));
  }

  void Multiply(const Product& product) override {
    Use();
    Note(cublaslt_->Multiply(product, stream_));
  }

  void Issued(const char* operation) override {
    Note(cudaGetLastError());
    if (!unnamed_fault_.ok() && fault_.ok()) {
      fault_ = absl::InternalError(absl::StrCat(operation, ": ", unnamed_fault_.message()));
      LOG(ERROR) << "cuda:" << device_ << ": " << fault_.message();
    }
    last_operation_ = operation;
  }
  void Wait() override {
    Use();
    const cudaError_t error = cudaStreamSynchronize(stream_);
    if (error != cudaSuccess && fault_.ok()) {
      fault_ =
          absl::InternalError(absl::StrCat("at or before ", last_operation_, ": ", TextOf(error)));
    }
  }
  absl::Status Synchronize() override {
    if (dead_) return absl::FailedPreconditionError("the device had a fault before");
    Wait();
    if (fault_.ok()) fault_ = unnamed_fault_;
    dead_ = !fault_.ok();
    return fault_;
  }

 private:
  void Launch(const KernelLaunch& launch) override {
    Use();
    CardLauncher(stream_).Launch(launch);
  }
  // Whichever thread asks.
  void Use() const { cudaSetDevice(device_); }

  // The first fault of the operation that is being issued.
  void Note(cudaError_t error) {
    if (error != cudaSuccess) Note(absl::InternalError(TextOf(error)));
  }
  void Note(const absl::Status& status) {
    if (unnamed_fault_.ok()) unnamed_fault_ = status;
  }

  const int device_;
  const int capability_;
  const Memory memory_;
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<CublasLt> cublaslt_;
  const char* last_operation_ = "the start";
  absl::Status unnamed_fault_;
  absl::Status fault_before_graph_;
  absl::Status fault_;
  bool dead_ = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<GraphGpu>> OpenCard(int device, Memory memory) {
  DW_ASSIGN_OR_RETURN(const std::vector<CudaDevice> devices, FindCudaDevices());
  if (device < 0 || device >= static_cast<int>(devices.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat("device is cuda:", device, ", want cuda:0..", devices.size() - 1));
  }
  const int capability = devices[device].capability;
  if (capability != kCapability) {
    return absl::UnavailableError(absl::StrCat("device cuda:", device, " (", devices[device].name,
                                               ") has compute capability ", capability / 10, ".",
                                               capability % 10, ", want 9.0"));
  }
  auto card = std::make_unique<Card>(device, capability, memory);
  DW_RETURN_IF_ERROR(card->Start());
  return card;
}

}  // namespace cuda

absl::StatusOr<std::vector<CudaDevice>> FindCudaDevices() {
  int driver = 0, runtime = 0;
  cudaRuntimeGetVersion(&runtime);
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    return absl::UnavailableError("this machine has no NVIDIA driver (libcuda.so.1)");
  }
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    cudaGetLastError();
    if (error == cudaErrorInsufficientDriver) {
      return absl::UnavailableError(absl::StrCat("the NVIDIA driver is for CUDA ", driver / 1000,
                                                 ".", driver % 1000 / 10, ", want ", runtime / 1000,
                                                 ".", runtime % 1000 / 10));
    }
    return absl::UnavailableError(
        absl::StrCat("the NVIDIA driver finds no card, ", cuda::TextOf(error)));
  }
  std::vector<CudaDevice> devices;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties;
    if (const cudaError_t error = cudaGetDeviceProperties(&properties, i); error != cudaSuccess) {
      return absl::UnavailableError(
          absl::StrCat("device cuda:", i, " tells nothing, ", cuda::TextOf(error)));
    }
    devices.push_back({.index = i,
                       .name = properties.name,
                       .capability = 10 * properties.major + properties.minor,
                       .memory_bytes = static_cast<int64_t>(properties.totalGlobalMem)});
  }
  return devices;
}

absl::StatusOr<std::unique_ptr<Backend>> NewCudaBackend(const CudaOptions& options) {
  if (options.compute_type != DType::kF32 && options.compute_type != DType::kBF16 &&
      options.compute_type != DType::kF8E4M3) {
    return absl::InvalidArgumentError(absl::StrCat("compute_type is ", NameOf(options.compute_type),
                                                   ", want F32, BF16 or F8_E4M3"));
  }
  DW_ASSIGN_OR_RETURN(std::unique_ptr<cuda::GraphGpu> card,
                      cuda::OpenCard(options.device, cuda::Memory::kCard));
  if (!options.graphs) {
    return NewGpuBackend(std::move(card), options.compute_type, options.finished);
  }
  return NewGpuBackend(std::make_unique<cuda::GraphedGpu>(std::move(card), cuda::GraphOptions()),
                       options.compute_type, options.finished);
}

}  // namespace deltaworks::trainer
