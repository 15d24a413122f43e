// A plan is worth as much as it agrees with what really happens: its memory with what a training on
// the emulated GPU allocates, its operations with those that were issued there, its sums with those
// of models that are known.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "tests/gpu/model_shapes.h"
#include "tests/gpu/plan_memory.h"
#include "tests/gpu/plan_pass.h"
#include "tests/gpu/roofline.h"
#include "trainer/backend/cuda/emulation/emulated_gpu.h"
#include "trainer/backend/cuda/gpu.h"
#include "trainer/backend/cuda/gpu_backend.h"
#include "trainer/generate/generator.h"
#include "trainer/lora/adapter.h"
#include "trainer/lora/lora_config.h"
#include "trainer/model/config.h"
#include "trainer/model/llama.h"
#include "trainer/model/llama_tensors.h"
#include "trainer/testing/forwarding_backend.h"
#include "trainer/testing/random_model.h"
#include "trainer/train/cohort.h"

namespace deltaworks::trainer {
namespace {

constexpr CardPeaks kPeaks = {.flops_per_second = 690e12, .bytes_per_second = 3025e9};

// Another Gpu, of which allocations are added up.
class CountingGpu final : public cuda::Gpu {
 public:
  CountingGpu(std::unique_ptr<cuda::Gpu> gpu, GpuMemory& memory)
      : gpu_(std::move(gpu)), memory_(memory) {}

  std::string numerics() const override { return gpu_->numerics(); }
  cuda::Stream stream() override { return gpu_->stream(); }
  absl::StatusOr<void*> Allocate(int64_t bytes) override {
    auto address = gpu_->Allocate(bytes);
    if (address.ok()) memory_.Add(*address, bytes);
    return address;
  }
  void Free(void* memory) override {
    memory_.Remove(memory);
    gpu_->Free(memory);
  }
  void CopyToDevice(const void* host, void* device, int64_t bytes) override {
    gpu_->CopyToDevice(host, device, bytes);
  }
  void CopyRowsToDevice(const void* host, int64_t rows, int64_t row_bytes, void* device,
                        int64_t device_row_bytes) override {
    gpu_->CopyRowsToDevice(host, rows, row_bytes, device, device_row_bytes);
  }
  void CopyToHost(const void* device, void* host, int64_t bytes) override {
    gpu_->CopyToHost(device, host, bytes);
  }
  void CopyOnDevice(const void* from, void* to, int64_t bytes) override {
    gpu_->CopyOnDevice(from, to, bytes);
  }
  void Zero(void* device, int64_t bytes) override { gpu_->Zero(device, bytes); }
  void Multiply(const cuda::Product& product) override { gpu_->Multiply(product); }
  void Issued(const char* operation) override { gpu_->Issued(operation); }
  void Wait() override { gpu_->Wait(); }
  absl::Status Synchronize() override { return gpu_->Synchronize(); }

 private:
  const std::unique_ptr<cuda::Gpu> gpu_;
  GpuMemory& memory_;
};

struct RealPass {
  int64_t peak_bytes = 0;
  int64_t tokens = 0;
  std::map<std::string, int64_t> calls;
};

// The first step of these jobs; `ready` is called before its pass. Returns its tokens.
int64_t TrainOn(Backend& backend, const ModelConfig& config, const std::vector<JobShape>& jobs,
                int64_t tokens, double dropout, const std::function<void()>& ready) {
  const RandomModel weights(config, backend.compute_type(), /*seed=*/1);
  const auto model =
      Llama::Create(backend, config, weights.tensors(), {.positions_max = tokens + 1});
  CHECK(model.ok()) << model.status();
  const auto runs = NewRuns(**model, jobs, tokens, /*steps=*/1, dropout);
  std::vector<TrainingRun*> members;
  for (const auto& run : runs) members.push_back(run.get());
  ready();
  Cohort cohort(**model);
  const PassResult pass = cohort.Pass(members);
  CHECK(pass.status.ok()) << pass.status;
  for (const TrainingRun* run : members) CHECK(run->finished()) << run->status();
  int64_t sum = 0;
  for (const RunTurn& turn : pass.turns) sum += turn.tokens;
  return sum;
}

// The same on the emulated GPU.
RealPass TrainEmulated(const ModelConfig& config, const std::vector<JobShape>& jobs, int64_t tokens,
                       double dropout, DType type = DType::kBF16) {
  RealPass real;
  GpuMemory memory;
  const auto backend = NewGpuBackend(
      std::make_unique<CountingGpu>(cuda::NewEmulatedGpu(cuda::ThreadOrder::kForward), memory),
      type, [&real](const char* operation) { ++real.calls[operation]; });
  real.tokens =
      TrainOn(*backend, config, jobs, tokens, dropout, /*ready=*/[&] { real.calls.clear(); });
  real.peak_bytes = memory.peak_bytes();
  return real;
}

int64_t AdapterParameters(const ModelConfig& config, int64_t rank) {
  LoraConfig lora;
  lora.rank = rank;
  const auto targets = ResolveTargets(lora, LlamaModules(config));
  CHECK(targets.ok()) << targets.status();
  return TrainableParameters(*targets);
}

struct Case {
  std::string name;
  std::vector<JobShape> jobs;
  int64_t tokens = 0;
  double dropout = 0;
};

class PlanTest : public ::testing::TestWithParam<Case> {};

INSTANTIATE_TEST_SUITE_P(Jobs, PlanTest,
                         ::testing::Values(Case{"One", {{16, 1}}, 33},
                                           Case{"Dropout", {{16, 2}}, 17, 0.1},
                                           Case{"Ranks", {{1, 2}, {17, 1}, {8, 1}}, 20, 0.1},
                                           // More columns than packed weights have room for.
                                           Case{"Wide", {{300, 1}, {64, 1}}, 9}),
                         [](const auto& info) { return info.param.name; });

TEST_P(PlanTest, MemoryIsWhatATrainingAllocatesAndNeverLess) {
  const ModelConfig config = SmallConfig();
  for (const DType type : {DType::kBF16, DType::kF8E4M3}) {
    SCOPED_TRACE(NameOf(type));
    const MemoryPlan plan = PlanMemory(config, GetParam().jobs, GetParam().tokens, type);
    const RealPass real =
        TrainEmulated(config, GetParam().jobs, GetParam().tokens, GetParam().dropout, type);
    EXPECT_GE(plan.allocated_bytes(), real.peak_bytes);
    EXPECT_LE(static_cast<double>(plan.allocated_bytes()),
              1.05 * static_cast<double>(real.peak_bytes));
  }
}

TEST_P(PlanTest, OperationsAreThoseThatATrainingIssues) {
  const ModelConfig config = SmallConfig();
  const CountedPass counted =
      CountPass(config, GetParam().jobs, GetParam().tokens, GetParam().dropout, kPeaks);
  const RealPass real =
      TrainEmulated(config, GetParam().jobs, GetParam().tokens, GetParam().dropout);
  EXPECT_EQ(counted.tokens, real.tokens);
  std::map<std::string, int64_t> calls;
  for (const auto& [operation, count] : counted.counts) {
    const std::string name = operation.substr(0, operation.find(' '));
    calls[name] = std::max(calls[name], count.calls);
  }
  EXPECT_EQ(calls, real.calls);
}

TEST_P(PlanTest, ACountedPassHoldsWhatWasPlanned) {
  const ModelConfig config = SmallConfig();
  EXPECT_EQ(CountPass(config, GetParam().jobs, GetParam().tokens, GetParam().dropout, kPeaks)
                .allocated_bytes,
            PlanMemory(config, GetParam().jobs, GetParam().tokens, DType::kBF16).allocated_bytes());
}

// Notes what is reserved for passes.
class NotingBackend final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  absl::Status ReserveScratch(const PassShape& pass) override {
    reserved_ = std::max(reserved_, ScratchBytes(pass));
    return ForwardingBackend::ReserveScratch(pass);
  }
  int64_t reserved() const { return reserved_; }

 private:
  int64_t reserved_ = 0;
};

// Whatever the weights are in, and where no width is a multiple of what products read at once.
TEST_P(PlanTest, OperationsTakeNoMoreScratchThanIsReserved) {
  for (const ModelConfig& config : {SmallConfig(), OddConfig()}) {
    for (const DType type : {DType::kF32, DType::kBF16, DType::kF8E4M3}) {
      SCOPED_TRACE(absl::StrCat(config.hidden_size, " ", NameOf(type)));
      const auto gpu_backend = NewGpuBackend(cuda::NewEmulatedGpu(cuda::ThreadOrder::kForward),
                                             type, /*finished=*/nullptr);
      NotingBackend backend(*gpu_backend);
      TrainOn(backend, config, GetParam().jobs, GetParam().tokens, GetParam().dropout, [] {});
      EXPECT_GT(backend.reserved(), 0);
      EXPECT_LE(GpuScratchHeld(*gpu_backend), backend.reserved());
    }
  }
}

// Four tokens of each of some streams, with adapters of these ranks (0: none).
void Generate(Backend& backend, const ModelConfig& config, const std::vector<int64_t>& ranks) {
  const RandomModel weights(config, backend.compute_type(), /*seed=*/1);
  const auto model = Llama::Create(backend, config, weights.tensors(), {.positions_max = 48});
  CHECK(model.ok()) << model.status();
  const auto generator = Generator::Create(**model, std::ssize(ranks));
  CHECK(generator.ok()) << generator.status();
  std::vector<std::unique_ptr<Adapter>> adapters;
  for (const int64_t rank : ranks) {
    GenerationRequest request{.prompt = {1, 2, 3, 4, 5}, .max_new_tokens = 4};
    if (rank > 0) {
      LoraConfig lora;
      lora.rank = rank;
      const auto targets = ResolveTargets(lora, (*model)->modules());
      CHECK(targets.ok()) << targets.status();
      adapters.push_back(*Adapter::Create(backend, *targets, /*trainable=*/false));
      request.adapter = adapters.back().get();
    }
    const auto stream = (*generator)->Add(request);
    CHECK(stream.ok()) << stream.status();
  }
  while ((*generator)->active() > 0) {
    const auto step = (*generator)->Step();
    CHECK(step.ok()) << step.status();
  }
}

TEST(GenerationScratchTest, OperationsTakeNoMoreThanIsReserved) {
  ModelConfig deep = SmallConfig();
  deep.num_hidden_layers = 1;
  deep.intermediate_size = 3000;
  for (const ModelConfig& config : {SmallConfig(), deep}) {
    for (const int64_t rank : {0, 3, 64, 300}) {
      for (const DType type : {DType::kF32, DType::kBF16}) {
        SCOPED_TRACE(absl::StrCat(config.intermediate_size, " ", rank, " ", NameOf(type)));
        const auto gpu_backend = NewGpuBackend(cuda::NewEmulatedGpu(cuda::ThreadOrder::kForward),
                                               type, /*finished=*/nullptr);
        NotingBackend backend(*gpu_backend);
        Generate(backend, config, {rank, rank / 2});
        EXPECT_GT(backend.reserved(), 0);
        EXPECT_LE(GpuScratchHeld(*gpu_backend), backend.reserved());
      }
    }
  }
}

TEST(ModelShapesTest, ModelsHaveTheirKnownNumbersOfParameters) {
  EXPECT_EQ(LlamaParameters(ConfigNamed("llama-8b", 0)), 8'030'261'248);
  EXPECT_EQ(LlamaParameters(ConfigNamed("llama-70b", 0)), 70'553'706'496);
  EXPECT_EQ(LlamaParameters(ConfigNamed("smollm2-135m", 0)), 134'515'008);
  EXPECT_EQ(AdapterParameters(ConfigNamed("llama-8b", 0), 16), 41'943'040);
  for (const char* name : {"llama-8b", "llama-70b", "smollm2-135m"}) {
    EXPECT_TRUE(ConfigNamed(name, 0).Validate(name).ok()) << name;
  }
}

TEST(PlanMemoryTest, PartsOfAnEightBillionModelAreTheKnownOnes) {
  const ModelConfig config = ConfigNamed("llama-8b", 0);
  const MemoryPlan plan = PlanMemory(config, {{.rank = 16, .examples = 1}}, 4096, DType::kBF16);
  EXPECT_EQ(plan.parameters, 8'030'261'248);
  EXPECT_EQ(plan.weight_bytes, 16'060'522'496);
  // Four f32 arrays and one in bf16.
  EXPECT_EQ(plan.adapter_bytes, 41'943'040 * 18);
  EXPECT_EQ(plan.job_bytes, plan.adapter_bytes);
  // By token and layer: two residual inputs and their norms' factors in f32; q, k, v, the
  // attention's output, gate, up and 7 x 16 hidden values in bf16; a sum for each head in f32.
  EXPECT_EQ(plan.activation_bytes,
            int64_t{4096} * 32 *
                (4 * (2 * 4096 + 2) + 2 * (2 * 4096 + 2 * 1024 + 2 * 14336 + 7 * 16) + 4 * 32));
}

TEST(PlanMemoryTest, AFurtherJobOrTokenCostsWhatWasSaid) {
  const ModelConfig config = ConfigNamed("llama-8b", 2);
  const std::vector<JobShape> jobs = {{16, 1}, {32, 2}};
  const MemoryPlan plan = PlanMemory(config, jobs, 512, DType::kBF16);
  // Two examples more have kFurtherTokens. Scratch is cut into pieces of whole 256 bytes, some ten
  // an operation, so where a token begins a piece it costs a little more or less.
  const MemoryPlan longer = PlanMemory(config, {{16, 3}, {32, 2}}, 512, DType::kBF16);
  EXPECT_NEAR(longer.allocated_bytes() - plan.allocated_bytes(), kFurtherTokens * plan.token_bytes,
              10 * 256);
  const MemoryPlan more =
      PlanMemory(config, {{16, 1}, {32, 2}, {kFurtherRank, 2}}, 512, DType::kBF16);
  EXPECT_EQ(more.allocated_bytes() - longer.allocated_bytes(), plan.job_bytes);
}

TEST(PlanMemoryTest, LinearsHaveRoomForAdaptersAndTablesHaveNone) {
  GpuMemory memory;
  const auto backend =
      NewGpuBackend(std::make_unique<NullGpu>(memory), DType::kBF16, /*finished=*/nullptr);
  const std::vector<BFloat16> values(64 * 32);
  const ConstTensorView weight(values.data(), DType::kBF16, {64, 32});
  EXPECT_EQ((*backend->PackTable(weight))->device_bytes(), 64 * 32 * 2);
  EXPECT_EQ((*backend->Pack(weight))->device_bytes(), (64 + 256) * (32 + 256) * 2);
}

TEST(PlanMemoryTest, NothingIsLeftOfAPlan) {
  GpuMemory memory;
  {
    const auto backend =
        NewGpuBackend(std::make_unique<NullGpu>(memory), DType::kBF16, /*finished=*/nullptr);
    const auto model =
        Llama::Create(*backend, SmallConfig(), AbsentWeights(SmallConfig()), {.positions_max = 8});
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_GT(memory.bytes(), 0);
  }
  EXPECT_EQ(memory.bytes(), 0);
  EXPECT_EQ(memory.page_waste_bytes(), 0);
  EXPECT_GT(memory.peak_bytes(), 0);
}

TEST(RooflineTest, FlopsAreThoseOfTheModel) {
  constexpr double kLayers = 3, kTokens = 256, kRank = 16;
  constexpr double kHidden = 4096, kKey = 1024, kInner = 14336, kVocabulary = 128256;
  const ModelConfig config = ConfigNamed("llama-8b", static_cast<int64_t>(kLayers));
  auto counts = CountPass(config, {{16, 2}}, 128, /*dropout=*/0, kPeaks).counts;

  const double qkv = kHidden * (kHidden + 2 * kKey);
  const double layer = qkv + kHidden * kHidden + 3 * kHidden * kInner;
  EXPECT_DOUBLE_EQ(counts["LinearGroupForward base"].flops, 2 * kTokens * kLayers * layer);
  // Below the lowest adapters nobody wants a gradient.
  EXPECT_DOUBLE_EQ(counts["LinearGroupBackward base"].flops, 2 * kTokens * (kLayers * layer - qkv));
  EXPECT_EQ(counts["LinearGroupBackward base"].calls, 4 * 3 - 1);
  EXPECT_DOUBLE_EQ(counts["CrossEntropy"].flops, 4 * kTokens * kHidden * kVocabulary);

  // Seven linears of N + K; those of the lowest layer's q, k and v give no dx.
  const double widths = 2 * (kHidden + kHidden) + 2 * (kHidden + kKey) + 3 * (kHidden + kInner);
  EXPECT_DOUBLE_EQ(counts["LinearGroupForward adapters"].flops,
                   2 * kTokens * kRank * kLayers * widths);
  EXPECT_DOUBLE_EQ(counts["LinearGroupBackward adapters"].flops,
                   2 * kTokens * kRank * (2 * kLayers * widths - 3 * kHidden));

  // Two documents of 128 rows: every query sees itself and what is before.
  const double pairs = 2 * 128 * 129 / 2;
  EXPECT_DOUBLE_EQ(counts["AttentionForward"].flops, kLayers * 4 * pairs * kHidden);
  EXPECT_DOUBLE_EQ(counts["AttentionBackward"].flops, kLayers * 10 * pairs * kHidden);
}

TEST(RooflineTest, BytesAreThoseOfTheTensorsOnce) {
  constexpr double kTokens = 128, kHidden = 4096, kKey = 1024, kInner = 14336;
  auto counts = CountPass(ConfigNamed("llama-8b", 1), {{16, 1}}, 128, /*dropout=*/0, kPeaks).counts;
  const double weights = kHidden * (kHidden + 2 * kKey) + kHidden * kHidden + 3 * kHidden * kInner;
  // x of four groups, y of seven linears.
  const double tensors = kTokens * ((3 * kHidden + kInner) + (3 * kHidden + 2 * kKey + 2 * kInner));
  EXPECT_DOUBLE_EQ(counts["LinearGroupForward base"].bytes, 2 * (weights + tensors));
  // Two branches: x and out in f32, y in bf16.
  EXPECT_DOUBLE_EQ(counts["AddResidual"].bytes, 2 * kTokens * kHidden * 10);
  // Four arrays read, three of them written.
  const auto parameters = static_cast<double>(AdapterParameters(ConfigNamed("llama-8b", 1), 16));
  EXPECT_DOUBLE_EQ(counts["AdamW"].bytes, parameters * 28);
}

TEST(RooflineTest, ABaseInFp8HasAPeakOfItsOwnAndAByteAnElement) {
  const ModelConfig config = ConfigNamed("llama-8b", 1);
  const std::vector<JobShape> jobs = {{16, 1}};
  CardPeaks peaks = kPeaks;
  peaks.fp8_flops_per_second = 1140e12;
  auto bf16 = CountPass(config, jobs, 4096, 0, kPeaks).counts;
  auto fp8 = CountPass(config, jobs, 4096, 0, peaks).counts;
  for (auto& [operation, count] : fp8) {
    SCOPED_TRACE(operation);
    EXPECT_EQ(count.flops, bf16[operation].flops);
    if (!operation.ends_with(" base")) {
      EXPECT_EQ(count.bytes, bf16[operation].bytes);
      EXPECT_EQ(count.seconds, bf16[operation].seconds);
      continue;
    }
    // Of 4,096 rows the products take longer than the bytes.
    EXPECT_NEAR(count.seconds, count.flops / 1140e12, 1e-9);
    EXPECT_LT(count.bytes, bf16[operation].bytes);
  }
  constexpr double kHidden = 4096, kKey = 1024, kInner = 14336;
  EXPECT_DOUBLE_EQ(bf16["LinearGroupForward base"].bytes - fp8["LinearGroupForward base"].bytes,
                   kHidden * (kHidden + 2 * kKey) + kHidden * kHidden + 3 * kHidden * kInner);
}

TEST(RooflineTest, ACallTakesTheLongerOfItsTwoTimes) {
  const ModelConfig config = ConfigNamed("llama-8b", 1);
  const std::vector<JobShape> jobs = {{16, 1}};
  const auto no_flops = CountPass(config, jobs, 128, 0, {1e30, 1e9});
  EXPECT_DOUBLE_EQ(no_flops.sum.seconds, no_flops.sum.bytes / 1e9);
  auto no_bytes = CountPass(config, jobs, 128, 0, {1e9, 1e30});
  EXPECT_DOUBLE_EQ(no_bytes.counts["CrossEntropy"].seconds,
                   no_bytes.counts["CrossEntropy"].flops / 1e9);
  EXPECT_LT(no_bytes.counts["AdamW"].seconds, 1e-12);
}

}  // namespace
}  // namespace deltaworks::trainer
