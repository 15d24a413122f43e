// dw generate: each flag is in the request as it was said, and the answer is shown as text.

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/cli/exit_code.h"
#include "services/cli/testing/cli_world.h"

namespace deltaworks::services {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class GenerateTest : public ::testing::Test {
 protected:
  GenerateTest() : world_("generate") {
    world_.Fill();
    world_.inference.on_generate = [this](const v1::GenerateRequest& request,
                                          const InferenceClient::Sink& sink) {
      request_ = request;
      v1::GenerateResponse response;
      response.set_text(answer_);
      return sink(response);
    };
  }
  CliWorld::Result Generate(std::vector<std::string> flags) {
    flags.insert(flags.begin(), "generate");
    return world_.Run(std::move(flags));
  }

  CliWorld world_;
  std::string answer_ = "text";
  v1::GenerateRequest request_;
};

TEST_F(GenerateTest, FlagsBecomeTheFieldsOfTheirNames) {
  const CliWorld::Result result =
      Generate({"smollm2", "--adapter", "notes/1", "--merged", "--chat", "hello", "--system",
                "be brief", "--max_new_tokens", "7", "--temperature", "0.5", "--top_p", "0.25",
                "--top_k", "3", "--seed", "11"});
  ASSERT_EQ(result.code, kExitOk) << result.err;
  EXPECT_EQ(request_.parent(), "tenants/default");
  EXPECT_EQ(request_.model().model(), "tenants/default/adapters/notes/versions/1");
  EXPECT_EQ(request_.model().base_model(), "tenants/default/baseModels/smollm2");
  EXPECT_EQ(request_.model().mode(), v1::ModelSelector::MERGED);
  ASSERT_EQ(request_.chat().messages_size(), 2);
  EXPECT_EQ(request_.chat().messages(0).role(), "system");
  EXPECT_EQ(request_.chat().messages(0).content(), "be brief");
  EXPECT_EQ(request_.chat().messages(1).role(), "user");
  EXPECT_EQ(request_.chat().messages(1).content(), "hello");
  EXPECT_EQ(request_.max_new_tokens(), 7);
  EXPECT_EQ(request_.temperature(), 0.5);
  EXPECT_EQ(request_.top_p(), 0.25);
  EXPECT_EQ(request_.top_k(), 3);
  EXPECT_EQ(request_.seed(), 11);
}

TEST_F(GenerateTest, WhatIsNotSaidIsNotAsked) {
  ASSERT_EQ(Generate({"smollm2", "--prompt", "Once"}).code, kExitOk);
  EXPECT_EQ(request_.prompt(), "Once");
  EXPECT_NE(request_.model().mode(), v1::ModelSelector::MERGED);
  EXPECT_EQ(request_.top_p(), 0);
  EXPECT_EQ(request_.stop_size(), 0);
}

TEST_F(GenerateTest, ACommaIsPartOfATextToStopAt) {
  ASSERT_EQ(Generate({"smollm2", "--prompt", "p", "--stop", "a, b", "--stop", ","}).code, kExitOk);
  EXPECT_THAT(request_.stop(), ElementsAre("a, b", ","));
}

TEST_F(GenerateTest, AnAnswerCannotDriveTheTerminal) {
  answer_ = "a\x1b[2Jb\u009b2Jc";
  EXPECT_EQ(Generate({"smollm2", "--prompt", "p"}).out, "a?[2Jb?2Jc\n");
}

TEST_F(GenerateTest, ColoursOfTheRemarksAreThoseOfStderr) {
  world_.terminal = true;
  EXPECT_THAT(Generate({"smollm2", "--prompt", "p"}).err, ::testing::Not(HasSubstr("\x1b")));
  world_.err_terminal = true;
  EXPECT_THAT(Generate({"smollm2", "--prompt", "p"}).err, HasSubstr("\x1b"));
}

}  // namespace
}  // namespace deltaworks::services
