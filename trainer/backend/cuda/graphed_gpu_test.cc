#include "trainer/backend/cuda/graphed_gpu.h"

#include <cmath>
#include <cstring>
#include <functional>
#include <map>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/backend/cuda/emulation/emulated_gpu.h"
#include "trainer/backend/cuda/gpu_backend.h"
#include "trainer/generate/generator.h"
#include "trainer/lora/adapter.h"
#include "trainer/model/llama.h"
#include "trainer/testing/random_model.h"

namespace deltaworks::trainer::cuda {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using Log = std::vector<std::string>;

struct FakeGraph final : public Graph {
  FakeGraph(int number, Log* log) : number(number), log(log) {}
  ~FakeGraph() override { log->push_back(absl::StrCat("drop graph ", number)); }
  const int number;
  Log* const log;
};

// Writes down what it is asked for.
class FakeGpu final : public GraphGpu, private Launcher {
 public:
  explicit FakeGpu(Log* log) : log_(*log) {}

  std::string numerics() const override { return "fake"; }
  Stream stream() override { return this; }
  absl::StatusOr<void*> Allocate(int64_t) override { return nullptr; }
  void Free(void*) override { log_.push_back("free"); }
  void CopyToDevice(const void*, void*, int64_t bytes) override {
    log_.push_back(absl::StrCat("copy ", bytes, " from anywhere"));
  }
  void CopyRowsToDevice(const void*, int64_t rows, int64_t, void*, int64_t) override {
    log_.push_back(absl::StrCat("copy ", rows, " rows"));
  }
  void CopyToHost(const void*, void*, int64_t) override { log_.push_back("to host"); }
  void CopyOnDevice(const void*, void*, int64_t bytes) override {
    log_.push_back(absl::StrCat("copy ", bytes));
  }
  void Zero(void*, int64_t bytes) override { log_.push_back(absl::StrCat("zero ", bytes)); }
  void Multiply(const Product& product) override {
    log_.push_back(absl::StrCat("multiply ", product.rows));
  }
  void Issued(const char* operation) override { log_.push_back(operation); }
  void Wait() override { log_.push_back("wait"); }
  absl::Status Synchronize() override {
    log_.push_back("synchronize");
    return absl::InternalError("a fault");
  }
  absl::StatusOr<void*> AllocatePinned(int64_t bytes) override {
    if (!has_pinned) return absl::ResourceExhaustedError("none");
    return std::malloc(bytes);
  }
  void FreePinned(void* memory) override { std::free(memory); }
  void CopyPinnedToDevice(const void* pinned, void*, int64_t bytes) override {
    log_.push_back(absl::StrCat("upload ", std::string(static_cast<const char*>(pinned), bytes)));
  }
  void BeginGraph() override { log_.push_back("["); }
  std::unique_ptr<Graph> EndGraph() override {
    log_.push_back("]");
    if (!can_keep) return nullptr;
    return std::make_unique<FakeGraph>(++graphs_, &log_);
  }
  void Run(const Graph& graph) override {
    log_.push_back(absl::StrCat("run graph ", static_cast<const FakeGraph&>(graph).number));
  }

  bool has_pinned = true;
  bool can_keep = true;

 private:
  void Launch(const KernelLaunch& launch) override {
    std::string text = absl::StrCat(launch.name, "<", launch.grid[0], ",", launch.grid[1], ",",
                                    launch.grid[2], "|", launch.block[0], ",", launch.block[1], ",",
                                    launch.block[2], "|", launch.shared_bytes, ">");
    for (int i = 0; i < launch.argument_count; ++i) {
      uint64_t value = 0;
      std::memcpy(&value, launch.arguments[i], launch.argument_bytes[i]);
      absl::StrAppend(&text, " ", value);
    }
    log_.push_back(text);
  }

  Log& log_;
  int graphs_ = 0;
};

// A launch of three parameters, of 8, 4 and 1 bytes.
struct TestLaunch {
  const char* name = "Kernel";
  const void* kernel = &kKernels[0];
  std::vector<uint32_t> grid = {2, 3, 4};
  std::vector<uint32_t> block = {5, 6, 7};
  uint32_t shared_bytes = 8;
  uint64_t first = uint64_t{1} << 40;
  uint32_t second = 10;
  uint8_t third = 11;

  void On(Gpu& gpu) {
    void* const arguments[] = {&first, &second, &third};
    const uint32_t bytes[] = {8, 4, 1};
    gpu.stream()->Launch({.name = name,
                          .kernel = kernel,
                          .grid = {grid[0], grid[1], grid[2]},
                          .block = {block[0], block[1], block[2]},
                          .shared_bytes = shared_bytes,
                          .run = nullptr,
                          .argument_count = 3,
                          .arguments = arguments,
                          .argument_bytes = bytes});
  }
  static constexpr char kKernels[2] = {};
};

class GraphedGpuTest : public ::testing::Test {
 protected:
  void Start(const GraphOptions& options = {}) {
    auto fake = std::make_unique<FakeGpu>(&log_);
    fake_ = fake.get();
    gpu_ = std::make_unique<GraphedGpu>(std::move(fake), options);
  }
  // What was done since the last call.
  Log Done() { return std::exchange(log_, {}); }

  Log log_;
  FakeGpu* fake_ = nullptr;
  std::unique_ptr<GraphedGpu> gpu_;
};

TEST_F(GraphedGpuTest, ASequenceIsIssuedPieceByPieceThenKeptThenRun) {
  Start();
  const auto pass = [&] {
    TestLaunch().On(*gpu_);
    gpu_->Issued("First");
    gpu_->Zero(this, 12);
    gpu_->CopyOnDevice(this, this, 13);
    gpu_->Multiply({.rows = 14});
    gpu_->Issued("Second");
    EXPECT_THAT(Done(), IsEmpty());
    gpu_->Wait();
  };
  const std::string launch = "Kernel<2,3,4|5,6,7|8> 1099511627776 10 11";
  pass();
  EXPECT_THAT(Done(),
              ElementsAre(launch, "First", "zero 12", "copy 13", "multiply 14", "Second", "wait"));
  pass();
  EXPECT_THAT(Done(), ElementsAre("[", launch, "zero 12", "copy 13", "multiply 14", "]",
                                  "run graph 1", "Second", "wait"));
  pass();
  EXPECT_THAT(Done(), ElementsAre("run graph 1", "Second", "wait"));
  EXPECT_EQ(gpu_->counts().issued, 1);
  EXPECT_EQ(gpu_->counts().kept, 1);
  EXPECT_EQ(gpu_->counts().runs, 2);
}

TEST_F(GraphedGpuTest, WhateverDiffersMakesAnotherSequence) {
  Start();
  char a = 0, b = 0;
  const float scales[2] = {};
  using Work = std::function<void()>;
  const auto launch = [&](const std::function<void(TestLaunch&)>& change) -> Work {
    TestLaunch launch;
    change(launch);
    return [this, launch]() mutable { launch.On(*gpu_); };
  };
  const auto product = [&](const std::function<void(Product&)>& change) -> Work {
    Product product{
        .a = {&a, 1}, .b = {&a, 2}, .out = {&a, 3}, .rows = 4, .columns = 5, .depth = 6};
    change(product);
    return [this, product] { gpu_->Multiply(product); };
  };
  std::vector<Work> works = {
      launch([](TestLaunch&) {}),
      launch([](TestLaunch& x) { x.kernel = &TestLaunch::kKernels[1]; }),
      launch([](TestLaunch& x) { x.shared_bytes = 9; }),
      launch([](TestLaunch& x) { ++x.first; }),
      launch([](TestLaunch& x) { x.second = 0x80000000u; }),
      launch([](TestLaunch& x) { x.third = 12; }),
      product([](Product&) {}),
      product([&](Product& x) { x.a.data = &b; }),
      product([](Product& x) { x.a.stride = 9; }),
      product([&](Product& x) { x.b.data = &b; }),
      product([](Product& x) { x.b.stride = 9; }),
      product([&](Product& x) { x.out.data = &b; }),
      product([](Product& x) { x.out.stride = 9; }),
      product([](Product& x) { x.rows = 9; }),
      product([](Product& x) { x.columns = 9; }),
      product([](Product& x) { x.depth = 9; }),
      product([](Product& x) { x.a_transposed = true; }),
      product([](Product& x) { x.b_transposed = true; }),
      product([](Product& x) { x.accumulate = true; }),
      product([](Product& x) { x.input = DType::kF32; }),
      product([](Product& x) { x.output = DType::kF32; }),
      product([&](Product& x) { x.a_scales = scales; }),
      product([&](Product& x) { x.a_scales = scales + 1; }),
      product([&](Product& x) { x.b_scales = scales; }),
      [&] { gpu_->Zero(&a, 1); },
      [&] { gpu_->Zero(&b, 1); },
      [&] { gpu_->Zero(&a, 2); },
      [&] { gpu_->CopyOnDevice(&a, &b, 1); },
      [&] { gpu_->CopyOnDevice(&b, &a, 1); },
      [&] { gpu_->CopyOnDevice(&a, &b, 2); },
      [&] { gpu_->CopyOnDevice(&a, &a, 1); },
      [&] { gpu_->CopyToDevice(&a, &a, 1); },
      [&] { gpu_->CopyToDevice(&a, &b, 1); },
      [&] { gpu_->CopyToDevice(&a, &a, 0); },
      [&] {
        gpu_->Zero(&a, 1);
        gpu_->Zero(&a, 1);
      },
  };
  for (int i = 0; i < 3; ++i) {
    works.push_back(launch([i](TestLaunch& x) { x.grid[i] = 9; }));
    works.push_back(launch([i](TestLaunch& x) { x.block[i] = 9; }));
  }
  // Each comes twice after all the others did, so that it would run a graph of another's.
  for (int round = 0; round < 2; ++round) {
    for (const Work& work : works) {
      work();
      gpu_->Wait();
    }
  }
  EXPECT_EQ(gpu_->counts().issued, std::ssize(works));
  EXPECT_EQ(gpu_->counts().kept, std::ssize(works));
  Done();
  // And each runs its own.
  for (size_t i = 0; i < works.size(); ++i) {
    works[i]();
    gpu_->Wait();
    EXPECT_THAT(Done(), ElementsAre(absl::StrCat("run graph ", i + 1), "wait"));
  }
}

TEST_F(GraphedGpuTest, WhatAPassCopiesToTheDeviceMayBeAnotherEachTime) {
  Start();
  std::string text = "one";
  char device = 0;
  const auto pass = [&] {
    gpu_->CopyToDevice(text.data(), &device, 3);
    const std::string before = text;
    text = "xxx";  // It may change at once.
    gpu_->CopyToDevice("abc", &device, 3);
    gpu_->Wait();
  };
  pass();
  EXPECT_THAT(Done(), ElementsAre("upload one", "upload abc", "wait"));
  text = "two";
  pass();
  EXPECT_THAT(Done(), ElementsAre("[", "upload two", "upload abc", "]", "run graph 1", "wait"));
  text = "six";
  pass();
  EXPECT_THAT(Done(), ElementsAre("run graph 1", "wait"));
}

TEST_F(GraphedGpuTest, PinnedMemoryThatIsFullIsWaitedForAndWhatNeverFitsGoesPast) {
  Start({.pinned_bytes = 512});
  char device = 0;
  for (const char* text : {"a", "b", "c"}) gpu_->CopyToDevice(text, &device, 1);
  EXPECT_THAT(Done(), ElementsAre("upload a", "upload b", "wait"));
  const std::string large(513, 'x');
  gpu_->CopyToDevice(large.data(), &device, 513);
  EXPECT_THAT(Done(), ElementsAre("upload c", "copy 513 from anywhere"));
}

TEST_F(GraphedGpuTest, WithoutPinnedMemoryCopiesGoPast) {
  Start();
  fake_->has_pinned = false;
  char device = 0;
  gpu_->Zero(&device, 1);
  gpu_->CopyToDevice("a", &device, 1);
  EXPECT_THAT(Done(), ElementsAre("zero 1", "copy 1 from anywhere"));
}

TEST_F(GraphedGpuTest, ASequenceEndsWithTheOperationThatMakesItLongEnough) {
  Start({.sequence_items = 3});
  gpu_->Zero(this, 1);
  gpu_->Issued("One");
  gpu_->Zero(this, 2);
  gpu_->Zero(this, 3);
  gpu_->Zero(this, 4);
  EXPECT_THAT(Done(), IsEmpty());
  gpu_->Issued("Three");
  EXPECT_THAT(Done(), ElementsAre("zero 1", "One", "zero 2", "zero 3", "zero 4", "Three"));
  gpu_->Issued("Nothing");
  EXPECT_THAT(Done(), ElementsAre("Nothing"));
}

TEST_F(GraphedGpuTest, WhateverWaitsIssuesFirst) {
  Start();
  char a = 0;
  const auto after_zero = [&](const std::function<void()>& wait) {
    gpu_->Zero(&a, 1);
    wait();
    return Done();
  };
  EXPECT_THAT(after_zero([&] { gpu_->Free(&a); }), ElementsAre("zero 1", "free"));
  EXPECT_THAT(after_zero([&] { gpu_->CopyToHost(&a, &a, 1); }),
              ElementsAre("[", "zero 1", "]", "run graph 1", "to host"));
  EXPECT_THAT(after_zero([&] { gpu_->CopyRowsToDevice(&a, 2, 1, &a, 1); }),
              ElementsAre("run graph 1", "copy 2 rows"));
  EXPECT_THAT(after_zero([&] { EXPECT_EQ(gpu_->Synchronize().message(), "a fault"); }),
              ElementsAre("run graph 1", "synchronize"));
  gpu_->Free(nullptr);
  EXPECT_THAT(Done(), IsEmpty());
}

TEST_F(GraphedGpuTest, ACardThatKeepsNoGraphIsNotAskedAgain) {
  Start();
  fake_->can_keep = false;
  const auto pass = [&] {
    gpu_->Zero(this, 1);
    gpu_->Issued("Zero");
    gpu_->Wait();
    return Done();
  };
  const Log pieces = {"zero 1", "Zero", "wait"};
  EXPECT_EQ(pass(), pieces);
  EXPECT_THAT(pass(), ElementsAre("[", "zero 1", "]", "zero 1", "Zero", "wait"));
  EXPECT_EQ(pass(), pieces);
  EXPECT_EQ(gpu_->counts().runs, 0);
}

TEST_F(GraphedGpuTest, TheGraphLongestUnusedMakesRoomAfterAWait) {
  Start({.pieces_first = 0, .graphs_max = 2});
  const auto zero = [&](int64_t bytes) {
    gpu_->Zero(this, bytes);
    gpu_->Wait();
    return Done();
  };
  zero(1);
  zero(2);
  EXPECT_THAT(zero(1), ElementsAre("run graph 1", "wait"));
  EXPECT_THAT(zero(3),
              ElementsAre("wait", "drop graph 2", "[", "zero 3", "]", "run graph 3", "wait"));
  EXPECT_THAT(zero(1), ElementsAre("run graph 1", "wait"));
  EXPECT_THAT(zero(2),
              ElementsAre("wait", "drop graph 3", "[", "zero 2", "]", "run graph 4", "wait"));
  gpu_.reset();
  EXPECT_THAT(Done(), ::testing::UnorderedElementsAre("wait", "drop graph 1", "drop graph 4"));
}

// ---- Whole passes, emulated: the bytes of a card without graphs

std::unique_ptr<Adapter> MakeAdapter(const Llama& model, int64_t rank, bool trainable) {
  auto adapter = *Adapter::Create(model.backend(), *ResolveTargets({.rank = rank}, model.modules()),
                                  trainable);
  std::vector<float> values;
  for (int64_t i = 0; i < adapter->elements(); ++i) {
    values.push_back(0.2f * std::sin(static_cast<float>(i) * 0.7f));
  }
  adapter->WriteParameters(values);
  return adapter;
}

// Losses and gradients of steps over two documents of the same lengths, but other tokens.
// `before_last` is called before the last of them.
std::vector<double> Train(const Llama& model, const std::function<void()>& before_last) {
  constexpr uint32_t kSteps = 5;
  const auto adapter = MakeAdapter(model, 4, /*trainable=*/true);
  Workspace workspace(model.backend(), model.config());
  std::vector<double> numbers;
  for (uint32_t step = 0; step < kSteps; ++step) {
    if (step + 1 == kSteps) before_last();
    PackedBatch batch;
    batch.BeginSegment(adapter.get(), {});
    for (const int length : {9, 5}) {
      std::vector<int32_t> ids, labels;
      for (int i = 0; i < length; ++i) {
        ids.push_back(static_cast<int32_t>(step * 13 + i * 7 + length) % 50);
        labels.push_back(static_cast<int32_t>(step * 11 + i * 3) % 50);
      }
      batch.AppendDocument(ids, labels, 0.1);
    }
    batch.EndSegment();
    const auto losses = model.LossesAndGradients(batch, workspace);
    CHECK(losses.ok()) << losses.status();
    numbers.insert(numbers.end(), losses->begin(), losses->end());
    std::vector<float> gradient(adapter->elements());
    model.backend().CopyToHost(adapter->gradient(), gradient.data());
    numbers.insert(numbers.end(), gradient.begin(), gradient.end());
  }
  return numbers;
}

// Three streams with adapters of their own, of which the pages change from round to round.
std::map<int64_t, std::vector<int32_t>> Generate(const Llama& model) {
  std::vector<std::unique_ptr<Adapter>> adapters;
  for (const int64_t rank : {1, 8}) {
    adapters.push_back(MakeAdapter(model, rank, /*trainable=*/false));
  }
  const auto pool = *KvPool::Create(model.backend(), model.config(), 4 * kKeyPage);
  const auto generator = Generator::CreateOn(model, *pool, {.streams_max = 4});
  std::map<int64_t, std::vector<int32_t>> tokens;
  for (int round = 0; round < 2; ++round) {
    if (round == 1) CHECK_EQ(pool->Take(1).size(), 1u);
    for (int stream = 0; stream < 3; ++stream) {
      GenerationRequest request{.max_new_tokens = 12 + stream};
      if (stream > 0) request.adapter = adapters[stream - 1].get();
      for (int i = 0; i < 5 + stream; ++i) request.prompt.push_back((i * 7 + stream) % 50);
      CHECK(generator->Add(std::move(request)).ok());
    }
    while (generator->active() > 0) {
      const auto step = generator->Step();
      CHECK(step.ok()) << step.status();
      for (const GeneratedToken& token : *step) tokens[token.stream].push_back(token.token);
    }
  }
  for (int64_t stream = 1; stream <= 3; ++stream) CHECK(tokens[stream] == tokens[stream + 3]);
  return tokens;
}

struct Passes {
  std::vector<double> training;
  std::map<int64_t, std::vector<int32_t>> tokens;
  bool operator==(const Passes&) const = default;
};

// `counts`: of the `gpu`, if it has any.
Passes RunPasses(std::unique_ptr<Gpu> gpu, const GraphCounts& counts) {
  const RandomModel weights(SmallConfig(), DType::kBF16, /*seed=*/3);
  const auto backend = NewGpuBackend(std::move(gpu), DType::kBF16, /*finished=*/nullptr);
  const auto model =
      *Llama::Create(*backend, weights.config(), weights.tensors(), {.positions_max = 40});
  Passes passes;
  GraphCounts before;
  passes.training = Train(*model, [&] { before = counts; });
  // The last step is graphs, all of it.
  EXPECT_EQ(counts.issued, before.issued);
  EXPECT_EQ(counts.kept, before.kept);
  before = counts;
  passes.tokens = Generate(*model);
  // Most steps of decoding have as many streams as the one before.
  EXPECT_GE(counts.runs - before.runs, counts.issued - before.issued);
  return passes;
}

TEST(GraphedPassesTest, TrainAndGenerateTheBytesOfACardWithoutGraphs) {
  auto graphed =
      std::make_unique<GraphedGpu>(NewEmulatedGpu(ThreadOrder::kForward), GraphOptions());
  const GraphCounts& counts = graphed->counts();
  const Passes passes = RunPasses(std::move(graphed), counts);
  EXPECT_TRUE(passes == RunPasses(NewEmulatedGpu(ThreadOrder::kForward), GraphCounts()));
}

}  // namespace
}  // namespace deltaworks::trainer::cuda
