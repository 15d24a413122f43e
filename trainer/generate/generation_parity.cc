// Generation on each backend: greedy tokens are those of the reference but where its two best
// logits are closer than the backends' own logits, and a stream's tokens depend on the stream
// alone.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "glog/logging.h"
#include "gtest/gtest.h"
#include "trainer/backend/parity/backends.h"
#include "trainer/backend/reference/reference_backend.h"
#include "trainer/generate/generator.h"
#include "trainer/testing/random_model.h"

namespace deltaworks::trainer {
namespace {

using Ids = std::vector<int32_t>;

constexpr int64_t kPositions = 48;
constexpr int kAdapters = 3;

// The same weights in f32: every bfloat16 is a float.
class Widened {
 public:
  explicit Widened(const TensorMap& tensors) {
    for (const auto& [name, tensor] : tensors) {
      std::vector<float>& values = storage_.emplace_back(tensor.elements());
      for (int64_t i = 0; i < tensor.elements(); ++i) {
        values[i] = tensor.dtype == DType::kBF16
                        ? static_cast<float>(tensor.as<const BFloat16>()[i])
                        : tensor.as<const float>()[i];
      }
      tensors_[name] = {values.data(), DType::kF32, tensor.shape};
    }
  }
  const TensorMap& tensors() const { return tensors_; }

 private:
  std::deque<std::vector<float>> storage_;
  TensorMap tensors_;
};

// A model on a backend, with adapters of rank 1, 8 and 16.
class Served {
 public:
  Served(std::unique_ptr<Backend> backend, const ModelConfig& config, const TensorMap& weights)
      : backend_(std::move(backend)) {
    auto model = Llama::Create(*backend_, config, weights, {.positions_max = kPositions});
    CHECK(model.ok()) << model.status();
    model_ = *std::move(model);
    for (int i = 0; i < kAdapters; ++i) {
      const int64_t ranks[kAdapters] = {1, 8, 16};
      auto adapter = *Adapter::Create(
          *backend_, *ResolveTargets({.rank = ranks[i]}, model_->modules()), /*trainable=*/false);
      std::vector<float> values;
      for (int64_t j = 0; j < adapter->elements(); ++j) {
        values.push_back(0.2f * std::sin(static_cast<float>(j) * 0.7f + static_cast<float>(i)));
      }
      adapter->WriteParameters(values);
      adapters_.push_back(std::move(adapter));
    }
    workspace_ = std::make_unique<Workspace>(*backend_, config);
  }

  Backend& backend() { return *backend_; }
  const Llama& model() const { return *model_; }
  // nullptr: the base alone.
  const Adapter* adapter(int i) const { return i < 0 ? nullptr : adapters_[i].get(); }

  // Of the token after `text`.
  std::vector<float> NextLogits(const Ids& text, int adapter_index) {
    PackedBatch batch;
    batch.BeginSegment(adapter(adapter_index), {});
    batch.AppendDocument(text, Ids(text.size(), -1), 1);
    batch.EndSegment();
    return *model_->Logits(batch, {static_cast<int32_t>(text.size()) - 1}, *workspace_);
  }

  GenerationRequest Request(int i, int64_t new_tokens) const {
    GenerationRequest request{.adapter = adapter(i % (kAdapters + 1) - 1),
                              .max_new_tokens = new_tokens};
    for (int32_t j = 0; j < 3 + 5 * i; ++j) request.prompt.push_back((j * 7 + 3 + i) % 50);
    return request;
  }

 private:
  const std::unique_ptr<Backend> backend_;
  std::unique_ptr<Llama> model_;
  std::vector<std::unique_ptr<Adapter>> adapters_;
  std::unique_ptr<Workspace> workspace_;
};

std::map<int64_t, Ids> Drain(Generator& generator) {
  std::map<int64_t, Ids> tokens;
  while (generator.active() > 0) {
    const auto step = generator.Step();
    CHECK(step.ok()) << step.status();
    for (const GeneratedToken& token : *step) tokens[token.stream].push_back(token.token);
  }
  return tokens;
}

class GenerationParityTest : public ::testing::TestWithParam<TestedBackend> {
 protected:
  GenerationParityTest()
      : weights_(SmallConfig(), GetParam().type, /*seed=*/3),
        widened_(weights_.tensors()),
        served_(GetParam().make(1), weights_.config(), weights_.tensors()) {}

  Ids Alone(const GenerationRequest& request) {
    const auto generator = *Generator::Create(served_.model(), 1);
    const int64_t stream = *generator->Add(request);
    return Drain(*generator)[stream];
  }

  const RandomModel weights_;
  const Widened widened_;
  Served served_;
};

// Text is generated over bases in f32 and bf16.
std::vector<TestedBackend> ServingBackends() {
  std::vector<TestedBackend> backends = TestedBackends();
  std::erase_if(backends, [](const TestedBackend& backend) { return backend.fp8_base; });
  return backends;
}
INSTANTIATE_TEST_SUITE_P(Backends, GenerationParityTest, ::testing::ValuesIn(ServingBackends()),
                         BackendName);

// Logits of this model are sums of some hundred rounded terms in each of fourteen products, one
// after the other: 14 * 2^-9 of the largest in bfloat16, some more in the norms between; in f32 its
// 2^-24 in place of the 2^-9.
TEST_P(GenerationParityTest, GreedyTokensAreTheReferencesButWhereItHardlyPrefersOne) {
  Served reference(NewReferenceBackend(DType::kF32), weights_.config(), widened_.tensors());
  const double bound = (GetParam().type == DType::kBF16 ? std::ldexp(1.0, -9) : 1e-6) * 14 * 2;
  int tokens = 0, others = 0;
  for (int i = 0; i < 4; ++i) {
    SCOPED_TRACE(i);
    const GenerationRequest request = served_.Request(i, /*new_tokens=*/8);
    Ids text = request.prompt;
    for (const int32_t token : Alone(request)) {
      const std::vector<float> want = reference.NextLogits(text, i - 1);
      const std::vector<float> got = served_.NextLogits(text, i - 1);
      double largest = 0, difference = 0;
      for (size_t j = 0; j < want.size(); ++j) {
        largest = std::max<double>(largest, std::abs(want[j]));
        difference = std::max<double>(difference, std::abs(got[j] - want[j]));
      }
      EXPECT_LE(difference, bound * largest);
      const auto best = std::max_element(want.begin(), want.end());
      ++tokens;
      if (best - want.begin() != token) {
        ++others;
        // The decode path rounds in other places than the whole text's.
        EXPECT_LE(*best - want[token], 2 * bound * largest) << "token " << token;
      }
      text.push_back(token);
    }
  }
  EXPECT_EQ(tokens, 32);
  EXPECT_LE(others, 4);
}

TEST_P(GenerationParityTest, AStreamsTokensDependOnTheStreamAlone) {
  std::vector<Ids> alone;
  for (int i = 0; i < 4; ++i) alone.push_back(Alone(served_.Request(i, /*new_tokens=*/6)));
  for (const int64_t rows : {1, 5, 64}) {
    SCOPED_TRACE(rows);
    const auto pool = *KvPool::Create(served_.backend(), weights_.config(), 4 * kKeyPage);
    const auto generator =
        Generator::CreateOn(served_.model(), *pool, {.streams_max = 4, .prompt_rows_max = rows});
    std::vector<int64_t> streams;
    std::map<int64_t, Ids> tokens;
    for (int i = 3; i >= 0; --i) {
      streams.push_back(*generator->Add(served_.Request(i, /*new_tokens=*/6)));
      const auto step = generator->Step();  // The next one comes later.
      ASSERT_TRUE(step.ok()) << step.status();
      for (const GeneratedToken& token : *step) tokens[token.stream].push_back(token.token);
    }
    for (const auto& [stream, rest] : Drain(*generator)) {
      tokens[stream].insert(tokens[stream].end(), rest.begin(), rest.end());
    }
    for (int i = 0; i < 4; ++i) EXPECT_EQ(tokens[streams[3 - i]], alone[i]) << i;
  }
}

// One pass each, which differ in nothing but the tokens and where their keys lie.
TEST_P(GenerationParityTest, PromptsOfOneLengthReadOneAfterTheOtherHaveTheirOwnKeys) {
  const auto pool = *KvPool::Create(served_.backend(), weights_.config(), 4 * kKeyPage);
  const auto generator =
      Generator::CreateOn(served_.model(), *pool, {.streams_max = 4, .prompt_rows_max = 9});
  std::map<int64_t, Ids> alone;
  for (int32_t i = 0; i < 4; ++i) {
    GenerationRequest request{.max_new_tokens = 1};
    for (int32_t j = 0; j < 9; ++j) request.prompt.push_back((j * (7 + 4 * i) + 3 + 11 * i) % 50);
    const int64_t stream = *generator->Add(request);
    alone[stream] = Alone(request);
  }
  EXPECT_EQ(Drain(*generator), alone);
  const auto first = alone.begin()->second;
  EXPECT_TRUE(std::any_of(alone.begin(), alone.end(),
                          [&](const auto& tokens) { return tokens.second != first; }));
}

}  // namespace
}  // namespace deltaworks::trainer
