#include "trainer/generate/generator.h"

#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "glog/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/backend/cpu/cpu_backend.h"
#include "trainer/backend/reference/reference_backend.h"
#include "trainer/testing/random_model.h"

namespace deltaworks::trainer {
namespace {

using Ids = std::vector<int32_t>;
using Finish = GeneratedToken::Finish;

struct BackendCase {
  std::string name;
  DType form;
  std::unique_ptr<Backend> (*make)(DType form);
};
std::unique_ptr<Backend> MakeCpu(DType form) { return *NewCpuBackend({.compute_type = form}); }
const BackendCase kBackends[] = {{"Reference", DType::kF32, NewReferenceBackend},
                                 {"CpuF32", DType::kF32, MakeCpu},
                                 {"CpuBf16", DType::kBF16, MakeCpu}};

class GeneratorTest : public ::testing::Test {
 protected:
  GeneratorTest() : GeneratorTest(kBackends[0]) {}
  explicit GeneratorTest(const BackendCase& backend)
      : weights_(SmallConfig(), backend.form, /*seed=*/3), backend_(backend.make(backend.form)) {
    auto model =
        Llama::Create(*backend_, weights_.config(), weights_.tensors(), {.positions_max = 40});
    CHECK(model.ok()) << model.status();
    model_ = std::move(*model);
    adapter_ = *Adapter::Create(*backend_, *ResolveTargets({.rank = 2}, model_->modules()), false);
    std::vector<float> values;
    for (int64_t i = 0; i < adapter_->elements(); ++i) values.push_back(0.3f * std::sin(i + 1.0f));
    adapter_->WriteParameters(values);
  }

  // Runs until all streams are done; tokens by stream.
  static std::map<int64_t, Ids> Drain(Generator& generator) {
    std::map<int64_t, Ids> tokens;
    while (generator.active() > 0) {
      const auto step = generator.Step();
      CHECK(step.ok()) << step.status();
      for (const GeneratedToken& token : *step) {
        if (token.token >= 0) tokens[token.stream].push_back(token.token);
      }
    }
    return tokens;
  }

  Ids Alone(const GenerationRequest& request) {
    const auto generator = *Generator::Create(*model_, 1);
    const int64_t stream = *generator->Add(request);
    return Drain(*generator)[stream];
  }

  const RandomModel weights_;
  const std::unique_ptr<Backend> backend_;
  std::unique_ptr<Llama> model_;
  std::unique_ptr<Adapter> adapter_;
};

TEST_F(GeneratorTest, TokensAreWhatTheSamplerTakesOfTheWholeTextsLogits) {
  const Ids prompt = {5, 9, 2};
  std::vector<Ids> texts;
  for (const SamplingConfig& sampling :
       {SamplingConfig{}, SamplingConfig{.temperature = 1.5, .seed = 9}}) {
    Ids text = prompt;
    const Ids got = Alone(
        {.prompt = text, .adapter = adapter_.get(), .sampling = sampling, .max_new_tokens = 6});
    Workspace workspace(*backend_, model_->config());
    for (size_t i = 0; i < got.size(); ++i) {
      PackedBatch batch;
      batch.BeginSegment(adapter_.get(), {});
      batch.AppendDocument(text, Ids(text.size(), -1), 1);
      batch.EndSegment();
      const auto logits =
          *model_->Logits(batch, {static_cast<int32_t>(text.size()) - 1}, workspace);
      EXPECT_EQ(got[i], SampleToken(logits, sampling, static_cast<int64_t>(i)));
      text.push_back(got[i]);
    }
    EXPECT_EQ(got.size(), 6u);
    texts.push_back(text);
  }
  EXPECT_NE(texts[0], texts[1]);
}

TEST_F(GeneratorTest, AStreamDoesNotDependOnItsNeighbours) {
  const GenerationRequest base{.prompt = {1, 2, 3, 4}, .max_new_tokens = 8};
  const GenerationRequest adapted{.prompt = {7},
                                  .adapter = adapter_.get(),
                                  .sampling = {.temperature = 1.5, .seed = 9},
                                  .max_new_tokens = 5};
  const auto generator = *Generator::Create(*model_, 3);
  const int64_t first = *generator->Add(base);
  ASSERT_TRUE(generator->Step().ok());
  const int64_t second = *generator->Add(adapted);
  const int64_t third = *generator->Add(base);
  const std::map<int64_t, Ids> tokens = Drain(*generator);
  EXPECT_EQ(tokens.at(second), Alone(adapted));
  EXPECT_EQ(tokens.at(third), Alone(base));
  // The first token of the first stream came before.
  const Ids whole = Alone(base);
  EXPECT_EQ(tokens.at(first), Ids(whole.begin() + 1, whole.end()));
}

TEST_F(GeneratorTest, AStopTokenEndsTheStreamAndIsNotHandedOut) {
  const GenerationRequest request{.prompt = {5, 9, 2}, .max_new_tokens = 6};
  const Ids whole = Alone(request);
  GenerationRequest stopped = request;
  stopped.stop_tokens = {whole[2]};
  const auto generator = *Generator::Create(*model_, 1);
  ASSERT_TRUE(generator->Add(stopped).ok());
  std::vector<GeneratedToken> tokens;
  while (generator->active() > 0) {
    const std::vector<GeneratedToken> step = *generator->Step();
    tokens.insert(tokens.end(), step.begin(), step.end());
  }
  const size_t first = std::find(whole.begin(), whole.end(), whole[2]) - whole.begin();
  ASSERT_EQ(tokens.size(), first + 1);
  EXPECT_EQ(tokens.back().finish, Finish::kStop);
  EXPECT_EQ(tokens.back().token, -1);
}

TEST_F(GeneratorTest, PlacesAreGivenBack) {
  const GenerationRequest request{.prompt = {5}, .max_new_tokens = 2};
  const auto generator = *Generator::Create(*model_, 1);
  const int64_t stream = *generator->Add(request);
  EXPECT_TRUE(absl::IsResourceExhausted(generator->Add(request).status()));
  EXPECT_TRUE(generator->Remove(stream).ok());
  EXPECT_TRUE(absl::IsNotFound(generator->Remove(stream)));
  const int64_t next = *generator->Add(request);
  EXPECT_EQ(Drain(*generator)[next], Alone(request));
  EXPECT_TRUE(generator->Add(request).ok());
}

// With the backends that serve, too: their kernels differ by the rows of a product.
class GeneratorCutTest : public GeneratorTest, public ::testing::WithParamInterface<int> {
 protected:
  GeneratorCutTest() : GeneratorTest(kBackends[GetParam()]) {}
};

TEST_P(GeneratorCutTest, HowAPromptIsCutDoesNotChangeTheTokens) {
  Ids prompt;
  for (int32_t i = 0; i < 23; ++i) prompt.push_back((i * 7 + 3) % 50);
  const GenerationRequest request{.prompt = prompt, .adapter = adapter_.get(), .max_new_tokens = 6};
  const Ids whole = Alone(request);
  for (const int64_t rows : {1, 4, 22, 23}) {
    const auto pool = *KvPool::Create(*backend_, model_->config(), 3 * kKeyPage);
    const auto generator =
        Generator::CreateOn(*model_, *pool, {.streams_max = 3, .prompt_rows_max = rows});
    const int64_t neighbour = *generator->Add({.prompt = {9, 9}, .max_new_tokens = 12});
    ASSERT_TRUE(generator->Step().ok());
    // One that reads first and leaves a single row to the stream's first piece.
    const int64_t reader =
        *generator->Add({.prompt = Ids(std::max<int64_t>(1, rows - 1), 8), .max_new_tokens = 2});
    const int64_t stream = *generator->Add(request);
    std::map<int64_t, Ids> tokens = Drain(*generator);
    EXPECT_EQ(tokens[stream], whole) << rows << " rows at a time";
    EXPECT_FALSE(tokens[neighbour].empty());
    EXPECT_EQ(tokens[reader].size(), 2u);
    EXPECT_EQ(pool->rows_taken(), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, GeneratorCutTest, ::testing::Range(0, 3),
                         [](const auto& info) { return kBackends[info.param].name; });

TEST_F(GeneratorTest, ALongPromptDoesNotHoldUpAStreamThatIsBeingContinued) {
  const auto pool = *KvPool::Create(*backend_, model_->config(), 2 * kKeyPage);
  const auto generator =
      Generator::CreateOn(*model_, *pool, {.streams_max = 2, .prompt_rows_max = 4});
  const int64_t first = *generator->Add({.prompt = {5}, .max_new_tokens = 20});
  ASSERT_EQ(generator->Step()->size(), 1u);
  ASSERT_TRUE(generator->Add({.prompt = Ids(32, 3), .max_new_tokens = 2}).ok());
  for (int i = 0; i < 6; ++i) {
    const std::vector<GeneratedToken> tokens = *generator->Step();
    EXPECT_EQ(tokens.size(), i % 2 == 0 ? 1u : 0u) << i;
    for (const GeneratedToken& token : tokens) EXPECT_EQ(token.stream, first);
  }
}

TEST_F(GeneratorTest, StreamsTakeTheRowsTheyMayNeedAndGiveThemBack) {
  const auto pool = *KvPool::Create(*backend_, model_->config(), 2 * kKeyPage);
  const auto base = Generator::CreateOn(*model_, *pool, {.streams_max = 8});
  const auto other = Generator::CreateOn(*model_, *pool, {.streams_max = 8});
  const GenerationRequest request{.prompt = {1, 2, 3}, .max_new_tokens = 5};
  ASSERT_TRUE(base->Add(request).ok());
  const int64_t second = *other->Add(request);
  const absl::Status full = base->Add(request).status();
  EXPECT_TRUE(absl::IsResourceExhausted(full));
  EXPECT_EQ(full.message(), "the stream needs 8 tokens of the cache, 128 of 128 are taken");
  ASSERT_TRUE(other->Remove(second).ok());
  const int64_t third = *base->Add(request);
  EXPECT_EQ(Drain(*base)[third], Alone(request));
  EXPECT_EQ(pool->rows_taken(), 0);
}

TEST(KvPoolTest, AnyPagesThatAreFreeAreTakenTheLowestFirst) {
  using ::testing::ElementsAre;
  using ::testing::IsEmpty;
  const std::unique_ptr<Backend> backend = NewReferenceBackend(DType::kF32);
  const auto pool = *KvPool::Create(*backend, SmallConfig(), 4 * kKeyPage + 1);
  EXPECT_EQ(pool->rows(), 5 * kKeyPage);
  const std::vector<int32_t> first = pool->Take(1), second = pool->Take(kKeyPage + 1);
  EXPECT_THAT(first, ElementsAre(0));
  EXPECT_THAT(second, ElementsAre(1, 2));
  EXPECT_THAT(pool->Take(kKeyPage), ElementsAre(3));
  EXPECT_EQ(pool->rows_taken(), 4 * kKeyPage);
  EXPECT_FALSE(pool->Fits(kKeyPage + 1));
  EXPECT_THAT(pool->Take(kKeyPage + 1), IsEmpty());
  pool->Give(first);
  // Not adjacent.
  EXPECT_TRUE(pool->Fits(2 * kKeyPage));
  EXPECT_THAT(pool->Take(2 * kKeyPage), ElementsAre(0, 4));
  EXPECT_FALSE(pool->Fits(1));
  pool->Give(second);
  EXPECT_EQ(pool->rows_taken(), 3 * kKeyPage);
  EXPECT_DEATH(pool->Give({2}), "page 2 was not taken");
}

TEST_F(GeneratorTest, ARequestOutOfBoundsIsNamed) {
  const auto generator = *Generator::Create(*model_, 1);
  const auto error = [&](GenerationRequest request) {
    const absl::Status status = generator->Add(std::move(request)).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    return std::string(status.message());
  };
  EXPECT_EQ(error({}), "the prompt has 0 tokens, want at least 1");
  EXPECT_EQ(error({.prompt = {1}, .max_new_tokens = 0}), "max_new_tokens is 0, want >= 1");
  EXPECT_EQ(error({.prompt = {1}, .max_new_tokens = 40}),
            "prompt of 1 and max_new_tokens of 40 tokens, want at most 40 together");
  EXPECT_EQ(error({.prompt = {50}, .max_new_tokens = 1}), "the prompt has token 50, want 0..49");
  EXPECT_EQ(error({.prompt = {1}, .sampling = {.top_p = 2}}), "top_p is 2, want 0 < top_p <= 1");
}

}  // namespace
}  // namespace deltaworks::trainer
