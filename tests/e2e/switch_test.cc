// One replica answers with the adapters of two jobs in turn, beside the base and merged into it:
// what A says after B is what it said before, and so is the base; the bytes of A's version are what
// they were. Prints the time that each switch took.

#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "scheduler/proto_time.h"
#include "tests/e2e/platform.h"
#include "tests/e2e/workload.h"
#include "trainer/base/sha256.h"
#include "trainer/lora/peft_format.h"

namespace deltaworks::e2e {
namespace {

constexpr int64_t kSteps = 40;

class SwitchTest : public ::testing::TestWithParam<v1::ModelSelector::Mode> {
 protected:
  // The version of a job of this rank on data of this seed.
  std::string Train(const std::string& id, int rank, uint32_t seed) {
    AddDataset(platform_, id, 50, seed);
    v1::CreateJobRequest request = JobRequest(id, kSteps);
    v1::TrainSpec& spec = *request.mutable_job()->mutable_train();
    spec.set_dataset(absl::StrCat(Parent(), "/datasets/", id));
    spec.mutable_lora()->set_rank(rank);
    return RunToSuccess(platform_, request).status().result().version();
  }

  std::vector<int32_t> TokensOf(const std::string& model) {
    const Answer answer = Generate(platform_, model, GetParam());
    EXPECT_TRUE(answer.last.has_switch_time());
    EXPECT_EQ(answer.last.version(), model == base_ ? "" : model);
    std::cout << v1::ModelSelector::Mode_Name(GetParam()) << ": switch to " << model << " in "
              << scheduler::FromProto(answer.last.switch_time()) << "\n";
    return answer.tokens;
  }

  Platform platform_{{.inference = true}};
  const std::string base_ = ImportBase(platform_).name();
};

TEST_P(SwitchTest, AnAdapterIsTheSameBeforeAndAfterAnother) {
  const std::string a = Train("a", 4, 1);
  const std::string b = Train("b", 8, 2);
  const std::string a_digest = Must(platform_.registry_of().GetVersion(a)).adapter_digest();
  const auto digest_of_download = [&] {
    return Sha256Digest(Download(platform_, a).at(trainer::kAdapterModelFile).bytes);
  };
  EXPECT_EQ(digest_of_download(), a_digest);

  const std::vector<int32_t> base_tokens = TokensOf(base_);
  const std::vector<int32_t> a_tokens = TokensOf(a);
  const std::vector<int32_t> b_tokens = TokensOf(b);
  EXPECT_NE(a_tokens, base_tokens);
  EXPECT_NE(b_tokens, base_tokens);
  EXPECT_NE(a_tokens, b_tokens);

  EXPECT_EQ(TokensOf(a), a_tokens);
  EXPECT_EQ(TokensOf(b), b_tokens);
  EXPECT_EQ(TokensOf(base_), base_tokens);
  EXPECT_EQ(digest_of_download(), a_digest);
}

INSTANTIATE_TEST_SUITE_P(ByRequestAndByMerge, SwitchTest,
                         ::testing::Values(v1::ModelSelector::UNMERGED, v1::ModelSelector::MERGED),
                         [](const auto& info) { return v1::ModelSelector::Mode_Name(info.param); });

}  // namespace
}  // namespace deltaworks::e2e
