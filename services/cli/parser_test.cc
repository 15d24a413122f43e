// The command line as people type it: where flags stand, how they are spelled, what is said about
// what is wrong. A small table of commands of our own, so that dw's may change.

#include "services/cli/parser.h"

#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/cli/help.h"

namespace deltaworks::services {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Values {
  std::string path;
  std::vector<std::string> rest;
  std::optional<int64_t> rank;
  std::optional<double> rate;
  std::vector<std::string> modules;
  std::map<std::string, std::string> labels;
  std::string form = "bf16";
  absl::Duration wait;
  bool watch = false;
};

class Submit final : public Command {
 public:
  explicit Submit(Values& values) : values_(values) {}
  std::string name() const override { return "job submit"; }
  std::string summary() const override { return "Submit"; }
  std::vector<std::string> examples() const override { return {"dw job submit x"}; }
  void Declare(Arguments& arguments) override {
    arguments.Positional("PATH", &values_.path, "a file");
    arguments.Positional("MORE", &values_.rest, "more files").Optional();
    arguments.Flag("rank", &values_.rank, "rank").Alias("r");
    arguments.Flag("learning_rate", &values_.rate, "rate");
    arguments.Flag("target_modules", &values_.modules, "modules");
    arguments.Flag("labels", &values_.labels, "labels");
    arguments.Flag("form", &values_.form, "form").Choices({"bf16", "f32"});
    arguments.Flag("wait", &values_.wait, "wait");
    arguments.Flag("watch", &values_.watch, "watch");
  }
  absl::StatusOr<int> Run(CommandContext&) override { return 0; }

 private:
  Values& values_;
};

class ParserTest : public ::testing::Test {
 protected:
  ParserTest() {
    table_.push_back(std::make_unique<Submit>(values_));
    global_.Flag("output", &output_, "what is printed").Choices({"table", "json"});
    commands_ = DeclareAll(table_);
  }
  absl::StatusOr<ParsedLine> Parse(std::vector<std::string> words) {
    return ParseLine(commands_, global_, std::move(words));
  }
  std::string Error(std::vector<std::string> words) {
    const absl::Status status = Parse(std::move(words)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  }

  Values values_;
  std::string output_ = "table";
  CommandTable table_;
  Arguments global_;
  std::vector<DeclaredCommand> commands_;
};

TEST_F(ParserTest, DashesAndUnderscoresInFlagsAreTheSame) {
  ASSERT_TRUE(Parse({"job", "submit", "p", "--learning-rate", "1e-3", "--target_modules=q_proj",
                     "--target-modules", "k_proj,v_proj"})
                  .ok());
  EXPECT_EQ(values_.rate, 1e-3);
  EXPECT_THAT(values_.modules, ElementsAre("q_proj", "k_proj", "v_proj"));
}

TEST_F(ParserTest, AnAliasIsTheFlag) {
  ASSERT_TRUE(Parse({"job", "submit", "p", "-r", "16"}).ok());
  EXPECT_EQ(values_.rank, 16);
  ASSERT_TRUE(Parse({"job", "submit", "p", "--r=4"}).ok());
  EXPECT_EQ(values_.rank, 4);
}

TEST_F(ParserTest, FlagsOfEveryCommandStandBeforeOrAfterIt) {
  ASSERT_TRUE(Parse({"--output", "json", "job", "submit", "p"}).ok());
  EXPECT_EQ(output_, "json");
  output_ = "";
  ASSERT_TRUE(Parse({"job", "submit", "--output=json", "p"}).ok());
  EXPECT_EQ(output_, "json");
}

TEST_F(ParserTest, ASwitchTakesNoWordAfterIt) {
  ASSERT_TRUE(Parse({"job", "submit", "--watch", "p"}).ok());
  EXPECT_TRUE(values_.watch);
  EXPECT_EQ(values_.path, "p");
  ASSERT_TRUE(Parse({"job", "submit", "--watch=false", "p"}).ok());
  EXPECT_FALSE(values_.watch);
}

TEST_F(ParserTest, PositionalWordsMayBeNamesOfCommandsAndNumbersNegative) {
  ASSERT_TRUE(Parse({"job", "submit", "job", "submit", "list", "--rank", "-1"}).ok());
  EXPECT_EQ(values_.path, "job");
  EXPECT_THAT(values_.rest, ElementsAre("submit", "list"));
  ASSERT_TRUE(Parse({"job", "submit", "p", "job", "job"}).ok());
  EXPECT_THAT(values_.rest, ElementsAre("submit", "list", "job", "job"));
  EXPECT_EQ(values_.rank, -1);
}

TEST_F(ParserTest, MapsAndDurations) {
  ASSERT_TRUE(Parse({"job", "submit", "p", "--labels", "a=1,b=x=y", "--wait", "1m30s"}).ok());
  EXPECT_EQ(values_.labels, (std::map<std::string, std::string>{{"a", "1"}, {"b", "x=y"}}));
  EXPECT_EQ(values_.wait, absl::Seconds(90));
}

TEST_F(ParserTest, AWrongFlagGetsASuggestion) {
  EXPECT_THAT(Error({"job", "submit", "p", "--learning-rat", "1"}),
              HasSubstr("has no flag --learning_rat; did you mean \"--learning_rate\"?"));
  EXPECT_THAT(Error({"job", "submit", "p", "--zzzzzzzz"}),
              ::testing::Not(HasSubstr("did you mean")));
}

TEST_F(ParserTest, AWrongCommandGetsASuggestion) {
  EXPECT_THAT(Error({"job", "submti"}), HasSubstr("did you mean \"submit\"?"));
  EXPECT_THAT(Error({"jbo"}), HasSubstr("`dw jbo` is no command; did you mean \"job\"?"));
  EXPECT_THAT(Error({"job"}), HasSubstr("not complete, want a command: submit"));
}

TEST_F(ParserTest, AWrongValueSaysFlagGotAndWant) {
  EXPECT_EQ(Error({"job", "submit", "p", "--rank", "many"}), "--rank is \"many\", want an integer");
  EXPECT_EQ(Error({"job", "submit", "p", "--form", "int3"}),
            "--form is \"int3\", want one of bf16, f32");
  EXPECT_EQ(Error({"job", "submit", "p", "--labels", "novalue"}),
            "--labels is \"novalue\", want KEY=VALUE");
  EXPECT_THAT(Error({"job", "submit", "p", "--rank", "1", "--rank", "2"}),
              HasSubstr("--rank is given 2 times, want once"));
}

TEST_F(ParserTest, WhatIsMissingIsNamed) {
  EXPECT_THAT(Error({"job", "submit"}), HasSubstr("lacks PATH: a file"));
  EXPECT_THAT(Error({"job", "submit", "p", "--rank"}), HasSubstr("rank"));
}

TEST_F(ParserTest, HelpIsForTheCommandThatWasNamed) {
  for (const char* flag : {"--help", "-h"}) {
    const auto line = Parse({"job", "submit", flag});
    ASSERT_TRUE(line.ok());
    EXPECT_EQ(line->command, nullptr);
    EXPECT_THAT(line->text, HasSubstr("Usage: dw job submit PATH [MORE...]"));
    EXPECT_THAT(line->text, HasSubstr("--rank, -r INT"));
  }
  EXPECT_THAT(Parse({"job", "--help"})->text, HasSubstr("Usage: dw job COMMAND"));
  EXPECT_THAT(Parse({})->text, HasSubstr("Exit codes:"));
  EXPECT_THAT(Parse({"--version"})->text, ::testing::StartsWith("dw "));
}

}  // namespace
}  // namespace deltaworks::services
