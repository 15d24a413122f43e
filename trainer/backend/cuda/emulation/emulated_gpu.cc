#include "trainer/backend/cuda/emulation/emulated_gpu.h"

#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace deltaworks::trainer::cuda {
namespace {

constexpr size_t kAlignment = 256;

float Load(const void* data, DType type, int64_t i) {
  if (type == DType::kF32) return static_cast<const float*>(data)[i];
  if (type == DType::kF8E4M3) return static_cast<float>(static_cast<const Float8E4M3*>(data)[i]);
  return static_cast<float>(static_cast<const BFloat16*>(data)[i]);
}

void CheckOperand(const Matrix& matrix, DType type, const char* name) {
  CHECK_EQ(reinterpret_cast<uintptr_t>(matrix.data) % 16, 0u) << name;
  CHECK_EQ(matrix.stride * SizeOf(type) % 16, 0) << name << " has stride " << matrix.stride;
}

// [rows, columns] of a stored matrix, or its transpose, as f32.
std::vector<float> Widen(const Matrix& stored, bool transposed, DType type, int64_t rows,
                         int64_t columns) {
  std::vector<float> values(rows * columns);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      const int64_t at = transposed ? column * stored.stride + row : row * stored.stride + column;
      values[row * columns + column] = Load(stored.data, type, at);
    }
  }
  return values;
}

using Work = std::function<void()>;

struct EmulatedGraph final : public Graph {
  std::vector<Work> works;
};

// A launch that outlives its caller.
Work Kept(const KernelLaunch& launch) {
  std::vector<std::vector<char>> arguments;
  for (int32_t i = 0; i < launch.argument_count; ++i) {
    const char* const value = static_cast<const char*>(launch.arguments[i]);
    arguments.emplace_back(value, value + launch.argument_bytes[i]);
  }
  std::vector<uint32_t> bytes(launch.argument_bytes, launch.argument_bytes + launch.argument_count);
  return [launch = launch, arguments, bytes]() mutable {
    std::vector<void*> places;
    for (std::vector<char>& argument : arguments) places.push_back(argument.data());
    launch.arguments = places.data();
    launch.argument_bytes = bytes.data();
    launch.run(launch);
  };
}

class EmulatedGpu final : public GraphGpu, private Launcher {
 public:
  explicit EmulatedGpu(ThreadOrder order) : order_(order) {}

  std::string numerics() const override { return "emulated"; }
  Stream stream() override { return this; }

  absl::StatusOr<void*> Allocate(int64_t bytes) override {
    CHECK(graph_ == nullptr);
    // Exactly so many bytes, so that ASan sees what is behind.
    void* memory = nullptr;
    if (posix_memalign(&memory, kAlignment, bytes) != 0) {
      return absl::ResourceExhaustedError(absl::StrCat("no room for ", bytes, " bytes"));
    }
    std::memset(memory, 0, bytes);
    return memory;
  }
  void Free(void* memory) override {
    CHECK(graph_ == nullptr);
    std::free(memory);
  }

  void CopyToDevice(const void* host, void* device, int64_t bytes) override {
    CHECK(graph_ == nullptr);
    std::memcpy(device, host, bytes);
  }
  void CopyRowsToDevice(const void* host, int64_t rows, int64_t row_bytes, void* device,
                        int64_t device_row_bytes) override {
    CHECK(graph_ == nullptr);
    for (int64_t row = 0; row < rows; ++row) {
      std::memcpy(static_cast<char*>(device) + row * device_row_bytes,
                  static_cast<const char*>(host) + row * row_bytes, row_bytes);
    }
  }
  void CopyToHost(const void* device, void* host, int64_t bytes) override {
    CHECK(graph_ == nullptr);
    std::memcpy(host, device, bytes);
  }
  void CopyOnDevice(const void* from, void* to, int64_t bytes) override {
    Do([=] { std::memmove(to, from, bytes); });
  }
  void Zero(void* device, int64_t bytes) override {
    Do([=] { std::memset(device, 0, bytes); });
  }

  void Multiply(const Product& product) override {
    Do([=] { MultiplyNow(product); });
  }

  absl::StatusOr<void*> AllocatePinned(int64_t bytes) override { return Allocate(bytes); }
  void FreePinned(void* memory) override { Free(memory); }
  void CopyPinnedToDevice(const void* pinned, void* device, int64_t bytes) override {
    Do([=] { std::memcpy(device, pinned, bytes); });
  }

  void BeginGraph() override {
    CHECK(graph_ == nullptr);
    graph_ = std::make_unique<EmulatedGraph>();
  }
  std::unique_ptr<Graph> EndGraph() override { return std::move(graph_); }
  void Run(const Graph& graph) override {
    for (const Work& work : static_cast<const EmulatedGraph&>(graph).works) work();
  }

  void Issued(const char* operation) override {
    const std::string error = TakeLaunchError();
    if (!error.empty() && fault_.ok()) {
      fault_ = absl::InternalError(absl::StrCat(operation, ": ", error));
    }
  }
  void Wait() override { CHECK(graph_ == nullptr); }
  absl::Status Synchronize() override {
    CHECK(graph_ == nullptr);
    if (dead_) return absl::FailedPreconditionError("the device had a fault before");
    dead_ = !fault_.ok();
    return fault_;
  }

 private:
  void Launch(const KernelLaunch& launch) override {
    const auto run = [this](const Work& work) {
      SetThreadOrder(order_);
      work();
    };
    if (graph_ == nullptr) return run([&] { launch.run(launch); });
    graph_->works.push_back([run, work = Kept(launch)] { run(work); });
  }
  // Now, or as part of the graph.
  void Do(Work work) {
    if (graph_ == nullptr) return work();
    graph_->works.push_back(std::move(work));
  }

  static void MultiplyNow(const Product& product) {
    const DefaultFloatMode float_mode;
    CheckOperand(product.a, product.input, "a");
    CheckOperand(product.b, product.input, "b");
    CheckOperand(product.out, product.output, "out");
    const bool fp8 = product.input == DType::kF8E4M3;
    CHECK(!product.accumulate || product.output == DType::kF32 || fp8);
    CHECK(fp8 == (product.a_scales != nullptr) && fp8 == (product.b_scales != nullptr));
    CHECK(!fp8 || (!product.a_transposed && product.b_transposed));
    CHECK(product.rows > 0 && product.columns > 0 && product.depth > 0)
        << product.rows << " " << product.columns << " " << product.depth;
    const std::vector<float> a =
        Widen(product.a, product.a_transposed, product.input, product.rows, product.depth);
    const std::vector<float> b =
        Widen(product.b, product.b_transposed, product.input, product.depth, product.columns);
    std::vector<float> sums(product.columns);
    for (int64_t row = 0; row < product.rows; ++row) {
      std::fill(sums.begin(), sums.end(), 0.0f);
      for (int64_t p = 0; p < product.depth; ++p) {
        const float factor = a[row * product.depth + p];
        const float* const b_row = b.data() + p * product.columns;
        for (int64_t column = 0; column < product.columns; ++column) {
          sums[column] += factor * b_row[column];
        }
      }
      for (int64_t column = 0; fp8 && column < product.columns; ++column) {
        sums[column] *= product.a_scales[row] * product.b_scales[column];
      }
      Store(product, row, sums);
    }
  }

  static void Store(const Product& product, int64_t row, const std::vector<float>& sums) {
    const int64_t begin = row * product.out.stride;
    for (int64_t column = 0; column < product.columns; ++column) {
      const int64_t at = begin + column;
      if (product.output == DType::kBF16) {
        BFloat16& out = static_cast<BFloat16*>(product.out.data)[at];
        out = BFloat16(product.accumulate ? static_cast<float>(out) + sums[column] : sums[column]);
      } else {
        float& out = static_cast<float*>(product.out.data)[at];
        out = product.accumulate ? out + sums[column] : sums[column];
      }
    }
  }

  const ThreadOrder order_;
  std::unique_ptr<EmulatedGraph> graph_;  // That is being made.
  absl::Status fault_;
  bool dead_ = false;
};

}  // namespace

std::unique_ptr<GraphGpu> NewEmulatedGpu(ThreadOrder order) {
  return std::make_unique<EmulatedGpu>(order);
}

}  // namespace deltaworks::trainer::cuda
