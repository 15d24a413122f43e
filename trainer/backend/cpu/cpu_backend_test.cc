// What is particular to CpuBackend; its arithmetic is tested in trainer/backend/parity/.

#include "trainer/backend/cpu/cpu_backend.h"

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "trainer/backend/cpu/cpu_backend_testing.h"

namespace deltaworks::trainer {
namespace {

TEST(CpuBackendTest, ImpossibleOptionsAreRefused) {
  CpuOptions options;
  options.compute_type = DType::kF16;
  const auto f16 = NewCpuBackend(options);
  EXPECT_TRUE(absl::IsInvalidArgument(f16.status()));
  EXPECT_EQ(f16.status().message(), "compute type of the cpu backend is F16, want F32 or BF16");

  options.compute_type = DType::kBF16;
  options.threads = 0;
  EXPECT_TRUE(absl::IsInvalidArgument(NewCpuBackend(options).status()));
  options.threads = 2;
  options.cores = {0, 1 << 20};
  EXPECT_TRUE(absl::IsInvalidArgument(NewCpuBackend(options).status()));
}

TEST(CpuBackendTest, MemoryThatTheMachineHasNotIsResourceExhausted) {
  const auto backend = NewCpuBackend({});
  ASSERT_TRUE(backend.ok()) << backend.status();
  EXPECT_TRUE(absl::IsResourceExhausted((*backend)->Allocate(int64_t{1} << 50).status()));
  EXPECT_TRUE((*backend)->Synchronize().ok());
}

TEST(CpuBackendTest, ScratchThatTheSystemRefusesIsAStatusAndTheBackendGoesOn) {
  const auto backend = *NewCpuBackend({.compute_type = DType::kF32, .threads = 2});
  PassShape pass = {.rows = 100,
                    .labels = 50,
                    .segments = 1,
                    .keys = 100,
                    .hidden = 8,
                    .width = 64,
                    .features = 256,
                    .vocabulary = 500,
                    .attention = {.query_heads = 4, .kv_heads = 2, .head_dim = 16},
                    .training = true};
  ASSERT_TRUE(backend->ReserveScratch(pass).ok());
  const int64_t held = ScratchOf(*backend).held;
  EXPECT_GT(held, 0);
  EXPECT_LE(held, backend->ScratchBytes(pass));
  pass.rows = pass.keys = int64_t{1} << 40;
  EXPECT_TRUE(absl::IsResourceExhausted(backend->ReserveScratch(pass)));
  EXPECT_EQ(ScratchOf(*backend).held, 0);
  pass.rows = pass.keys = 100;
  ASSERT_TRUE(backend->ReserveScratch(pass).ok());
  EXPECT_EQ(ScratchOf(*backend).held, held);
  EXPECT_EQ(ScratchOf(*backend).unreserved, 0);
}

class CpuBackendDeathTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ::testing::FLAGS_gtest_death_test_style = "threadsafe";
    auto backend = NewCpuBackend({});
    ASSERT_TRUE(backend.ok()) << backend.status();
    backend_ = *std::move(backend);
    linear_ = *backend_->Pack(View(weight_, {2, 4}));
    pair_ = {View(a_, {1, 4}), View(b_, {2, 1}), 1, View(da_, {1, 4}), View(db_, {2, 1})};
  }

  static TensorView View(std::vector<float>& values, std::vector<int64_t> shape) {
    return TensorView{values.data(), DType::kF32, std::move(shape)};
  }
  Segment Rows(int64_t begin, int64_t end) {
    Segment segment;
    segment.row_begin = begin;
    segment.row_end = end;
    segment.adapters = {&pair_};
    return segment;
  }
  void Forward(const std::vector<Segment>& segments) {
    backend_->LinearGroupForward({linear_.get()}, segments, View(x_, {6, 4}), View(hidden_, {6, 1}),
                                 {View(y_, {6, 2})}, ProductPath::kBatch);
  }
  void Backward(const std::vector<Segment>& segments) {
    backend_->LinearGroupBackward({linear_.get()}, segments, View(x_, {6, 4}),
                                  View(hidden_, {6, 1}), {View(y_, {6, 2})}, View(dhidden_, {6, 1}),
                                  View(dx_, {6, 4}));
  }

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<FrozenLinear> linear_;
  std::vector<float> weight_ = std::vector<float>(8, 1), a_ = std::vector<float>(4, 1);
  std::vector<float> b_ = std::vector<float>(2, 1), da_ = std::vector<float>(4);
  std::vector<float> db_ = std::vector<float>(2);
  std::vector<float> x_ = std::vector<float>(24, 1), hidden_ = std::vector<float>(6);
  std::vector<float> dhidden_ = std::vector<float>(6), y_ = std::vector<float>(12);
  std::vector<float> dx_ = std::vector<float>(24);
  LoraPair pair_;
};

TEST_F(CpuBackendDeathTest, SegmentsThatOverlapOrLeaveTheBatchAreOurMistake) {
  Forward({Rows(0, 2), Rows(4, 6)});
  EXPECT_EQ(y_[0], 8);  // 4 + 1 * (4 * 1).
  EXPECT_EQ(y_[2 * 2], 4);
  EXPECT_DEATH(Forward({Rows(0, 3), Rows(2, 6)}), "segment is rows 2 to 6, want within 3 to 6");
  EXPECT_DEATH(Forward({Rows(0, 7)}), "segment is rows 0 to 7, want within 0 to 6");
}

TEST_F(CpuBackendDeathTest, TwoSegmentsMustNotShareAGradient) {
  EXPECT_DEATH(Backward({Rows(0, 2), Rows(2, 4)}), "two adapters share a gradient");
}

TEST_F(CpuBackendDeathTest, AWrongShapeNamesTheTensor) {
  EXPECT_DEATH(backend_->AddResidual(View(x_, {4, 4}), View(y_, {4, 3}), View(dx_, {4, 4})),
               "y is F32 \\[4, 3\\], want F32 \\[4, 4\\]");
}

}  // namespace
}  // namespace deltaworks::trainer
