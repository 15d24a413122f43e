// Every command of dw, each with one row: how it is called, what a person and what a program get,
// and which exit code says what went wrong. The table is compared with AllCommands(): a command
// cannot be added without its row.

#include <algorithm>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/cli/all_commands.h"
#include "services/cli/exit_code.h"
#include "services/cli/help.h"
#include "services/cli/parser.h"
#include "services/cli/testing/cli_world.h"
#include "trainer/base/json.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;
using Words = std::vector<std::string>;

// What --output json gives.
enum class JsonForm { kDocument, kLines };

struct Row {
  std::string name;
  Words words;      // A call that works in a filled world. Empty: this command starts processes.
  Words shows;      // In the output for people.
  Words not_found;  // A call about something that is absent.
  Words wrong;      // A call that is wrong use, besides an unknown flag.
  int code = kExitOk;
  JsonForm json = JsonForm::kDocument;
  bool needs_platform = true;
};

// For the names of failures.
void PrintTo(const Row& row, std::ostream* out) { *out << "dw " << row.name; }

const std::vector<Row>& Rows() {
  static const std::vector<Row>& rows = *new std::vector<Row>{
      // ---- Local ----
      {.name = "up", .needs_platform = false},
      {.name = "down",
       .words = {"down"},
       .shows = {"nothing"},
       .wrong = {"down", "now"},
       .needs_platform = false},
      {.name = "status",
       .words = {"status"},
       .shows = {"down"},
       .wrong = {"status", "all"},
       .code = kExitUnavailable,
       .needs_platform = false},
      {.name = "supervise", .needs_platform = false},
      // ---- Models ----
      {.name = "model import",
       .words = {"model", "import", "{}/model.gguf", "--name", "fresh", "--form", "f32"},
       .shows = {"tenants/default/baseModels/fresh", "READY"},
       .not_found = {"model", "import", "{}/absent.gguf", "--name", "fresh"},
       .wrong = {"model", "import", "{}/model.gguf", "--name", "fresh", "--form", "int3"}},
      {.name = "model list",
       .words = {"model", "list"},
       .shows = {"MODEL", "smollm2", "READY", "F32"},
       .wrong = {"model", "list", "--limit", "0"}},
      {.name = "model get",
       .words = {"model", "get", "smollm2"},
       .shows = {"tenants/default/baseModels/smollm2", "llama", "80.0 kB", "q_proj"},
       .not_found = {"model", "get", "absent"},
       .wrong = {"model", "get", "Not-An-Id"}},
      // ---- Datasets ----
      {.name = "dataset add",
       .words = {"dataset", "add", "{}/data.jsonl", "--name", "fresh"},
       .shows = {"tenants/default/datasets/fresh", "sha256:"},
       .not_found = {"dataset", "add", "{}/absent.jsonl"},
       .wrong = {"dataset", "add"}},
      {.name = "dataset list",
       .words = {"dataset", "list"},
       .shows = {"DATASET", "notes", "prompt completion"},
       .wrong = {"dataset", "list", "--limit", "many"}},
      {.name = "dataset get",
       .words = {"dataset", "get", "notes"},
       .shows = {"tenants/default/datasets/notes", "prompt completion"},
       .not_found = {"dataset", "get", "absent"},
       .wrong = {"dataset", "get"}},
      {.name = "dataset check",
       .words = {"dataset", "check", "{}/data.jsonl", "--base_model", "smollm2"},
       .shows = {"min 90, median 127, p95 140, max 300", "longer than 256", "4 examples (0.5 %)",
                 "10,200 (10.0 %)"},
       .not_found = {"dataset", "check", "absent"},
       .wrong = {"dataset", "check", "notes", "--truncation", "fold"}},
      {.name = "dataset preview",
       .words = {"dataset", "preview", "notes", "--base_model", "smollm2"},
       .shows = {"line 1", "long text one[[ short one]]"},
       .not_found = {"dataset", "preview", "absent", "--base_model", "smollm2"},
       .wrong = {"dataset", "preview", "notes"}},
      // ---- Jobs ----
      {.name = "job submit",
       .words = {"job", "submit", "--base_model", "smollm2", "--dataset", "notes"},
       .shows = {"VALIDATING", "smollm2", "notes"},
       .not_found = {"job", "submit", "--file", "{}/absent.json"},
       .wrong = {"job", "submit", "--dataset", "notes"}},
      {.name = "job list",
       .words = {"job", "list"},
       .shows = {"JOB", "job-7", "SUCCEEDED", "100/100", "2.5000", "notes/1"},
       .wrong = {"job", "list", "--state", "lost"}},
      {.name = "job get",
       .words = {"job", "get", "job-7"},
       .shows = {"SUCCEEDED", "4,608 of 32,768 parameters (14.1 %)", "rank 8", "box-cpu-0"},
       .not_found = {"job", "get", "absent"},
       .wrong = {"job", "get"}},
      {.name = "job watch",
       .words = {"job", "watch", "job-7"},
       .shows = {"RUNNING", "step 1/100", "step 100/100", "loss 2.5000", "eval loss 2.5700",
                 "950 tokens/s", "ETA 1 min 15 s", "adapter notes/1"},
       .not_found = {"job", "watch", "absent"},
       .wrong = {"job", "watch", "a/b"},
       .json = JsonForm::kLines},
      {.name = "job logs",
       .words = {"job", "logs", "job-7"},
       .shows = {"state RUNNING", "state SUCCEEDED"},
       .not_found = {"job", "logs", "absent"},
       .wrong = {"job", "logs", "job-7", "--since_seq", "x"},
       .json = JsonForm::kLines},
      {.name = "job update",
       .words = {"job", "update", "job-7", "--priority", "high", "--deadline", "+2h"},
       .shows = {"job-7", "HIGH", "deadline"},
       .not_found = {"job", "update", "absent", "--priority", "low"},
       .wrong = {"job", "update", "job-7"}},
      {.name = "job rerun",
       .words = {"job", "rerun", "job-7", "--job_id", "job-7b"},
       .shows = {"job-7b", "VALIDATING"},
       .not_found = {"job", "rerun", "absent"},
       .wrong = {"job", "rerun", "job-7", "--job_id", "A B"}},
      {.name = "job cancel",
       .words = {"job", "cancel", "job-7"},
       .shows = {"job-7 is CANCELLED"},
       .not_found = {"job", "cancel", "absent"},
       .wrong = {"job", "cancel"}},
      {.name = "job pause",
       .words = {"job", "pause", "job-7"},
       .shows = {"job-7 is PAUSED"},
       .not_found = {"job", "pause", "absent"},
       .wrong = {"job", "pause"}},
      {.name = "job resume",
       .words = {"job", "resume", "job-7"},
       .shows = {"job-7 is QUEUED"},
       .not_found = {"job", "resume", "absent"},
       .wrong = {"job", "resume"}},
      {.name = "job delete",
       .words = {"job", "delete", "job-7"},
       .shows = {"job-7 is deleted"},
       .not_found = {"job", "delete", "absent"},
       .wrong = {"job", "delete"}},
      {.name = "apply",
       .words = {"apply", "-f", "{}/jobs.yaml"},
       .shows = {"OUTCOME", "one", "two", "created", "VALIDATING"},
       .not_found = {"apply", "-f", "{}/absent.yaml"},
       .wrong = {"apply"}},
      // ---- Adapters ----
      {.name = "adapter list",
       .words = {"adapter", "list"},
       .shows = {"ADAPTER", "notes", "LATEST"},
       .not_found = {"adapter", "list", "absent"},
       .wrong = {"adapter", "list", "a", "b"}},
      {.name = "adapter get",
       .words = {"adapter", "get", "notes@champion"},
       .shows = {"tenants/default/adapters/notes/versions/1", "READY", "4,608", "job-7"},
       .not_found = {"adapter", "get", "notes/9"},
       .wrong = {"adapter", "get", "notes@"}},
      {.name = "adapter download",
       .words = {"adapter", "download", "notes/1", "{}/peft"},
       .shows = {"notes/1 is in "},
       .not_found = {"adapter", "download", "absent", "{}/none"},
       .wrong = {"adapter", "download"}},
      {.name = "adapter merge",
       .words = {"adapter", "merge", "notes", "{}/merged"},
       .shows = {"smollm2 + notes/1", "2 matrices changed"},
       .not_found = {"adapter", "merge", "absent", "{}/none"},
       .wrong = {"adapter", "merge", "notes"}},
      {.name = "adapter alias set",
       .words = {"adapter", "alias", "set", "notes@best", "notes@champion", "--comment", "why not"},
       .shows = {"notes@best is notes/1"},
       .not_found = {"adapter", "alias", "set", "notes@best", "notes/9"},
       .wrong = {"adapter", "alias", "set", "notes", "notes/1"}},
      {.name = "adapter alias list",
       .words = {"adapter", "alias", "list", "notes"},
       .shows = {"notes@champion", "notes/1"},
       .wrong = {"adapter", "alias", "list"}},
      {.name = "adapter alias delete",
       .words = {"adapter", "alias", "delete", "notes@champion"},
       .shows = {"notes@champion is deleted"},
       .not_found = {"adapter", "alias", "delete", "notes@absent"},
       .wrong = {"adapter", "alias", "delete", "champion"}},
      {.name = "adapter alias history",
       .words = {"adapter", "alias", "history", "notes@champion"},
       .shows = {"notes/1", "the first"},
       .not_found = {"adapter", "alias", "history", "notes@absent"},
       .wrong = {"adapter", "alias", "history", "champion"}},
      // ---- Text ----
      {.name = "generate",
       .words = {"generate", "smollm2", "--adapter", "notes/1", "--chat", "hello"},
       .shows = {"short one\n"},
       .wrong = {"generate", "smollm2"},
       .json = JsonForm::kLines},
      {.name = "eval",
       .words = {"eval", "--model", "smollm2", "--adapter", "notes", "--dataset", "{}/data.jsonl"},
       .shows = {"loss by token", "ROUGE-1", "ROUGE-2", "ROUGE-L", "[95 % INTERVAL]", "short two",
                 "a very long answer", "2 examples"},
       .not_found = {"eval", "--model", "smollm2", "--adapter", "notes", "--dataset", "absent"},
       .wrong = {"eval", "--model", "smollm2", "--adapter", "notes"}},
      // ---- Platform ----
      {.name = "worker list",
       .words = {"worker", "list"},
       .shows = {"box-cpu-0", "online", "active", "cpu:0"},
       .wrong = {"worker", "list", "--limit=-1"}},
      {.name = "worker cordon",
       .words = {"worker", "cordon", "box-cpu-0"},
       .shows = {"box-cpu-0 is cordoned"},
       .not_found = {"worker", "cordon", "absent"},
       .wrong = {"worker", "cordon", "a/b"}},
      {.name = "worker uncordon",
       .words = {"worker", "uncordon", "workers/box-cpu-0"},
       .shows = {"box-cpu-0 is active"},
       .not_found = {"worker", "uncordon", "absent"},
       .wrong = {"worker", "uncordon"}},
      {.name = "worker drain",
       .words = {"worker", "drain", "box-cpu-0"},
       .shows = {"box-cpu-0 is drained, 1 job told to leave"},
       .not_found = {"worker", "drain", "absent", "--wait"},
       .wrong = {"worker", "drain", "Box"}},
      {.name = "quota set",
       .words = {"quota", "set", "team-a", "--weight", "3", "--limit", "none"},
       .shows = {"team-a", "3", "4", "none"},
       .wrong = {"quota", "set", "team-a"}},
      {.name = "quota list",
       .words = {"quota", "list"},
       .shows = {"TENANT", "team-a", "2", "4", "16"},
       .wrong = {"quota", "list", "--limit", "0"}},
      {.name = "usage",
       .words = {"usage", "--price_per_device_hour", "2.40"},
       .shows = {"2024-01-01", "default", "1 h 30 min", "1,200,000", "3.60"},
       .wrong = {"usage", "--days", "0"}},
      {.name = "token add",
       .words = {"token", "add", "team-a"},
       .shows = {"dw_"},
       .wrong = {"token", "add", "Team A"}},
      {.name = "version",
       .words = {"version"},
       .shows = {"dw 0."},
       .wrong = {"version", "2"},
       .needs_platform = false},
      {.name = "completion",
       .words = {"completion", "bash"},
       .shows = {"complete -o filenames -F _dw dw", "--learning_rate"},
       .wrong = {"completion", "tcsh"},
       .needs_platform = false},
      {.name = "help",
       .words = {"help", "job", "submit"},
       .shows = {"Usage: dw job submit", "--lora_alpha"},
       .wrong = {"help", "jobs"},
       .needs_platform = false},
  };
  return rows;
}

// A world in which the import of model "fresh" ends while dw waits.
void FillWorld(CliWorld& world) {
  world.Fill();
  world.while_asleep = [&world] {
    v1::BaseModel model;
    model.set_name("tenants/default/baseModels/fresh");
    model.set_state(v1::BaseModel::READY);
    world.store.PutBaseModel(model);
  };
}

std::string WorldName(const Row& row) {
  std::string name = row.name;
  std::replace(name.begin(), name.end(), ' ', '-');
  return name;
}

class CommandsTest : public ::testing::TestWithParam<Row> {
 protected:
  CommandsTest() : world_(WorldName(GetParam())) { FillWorld(world_); }
  CliWorld world_;
};

TEST_P(CommandsTest, HelpTellsWhatItDoesAndShowsAnExample) {
  Words words = absl::StrSplit(GetParam().name, ' ');
  words.push_back("--help");
  const CliWorld::Result result = world_.Run(words);
  EXPECT_EQ(result.code, kExitOk);
  EXPECT_THAT(result.out, HasSubstr(absl::StrCat("Usage: dw ", GetParam().name)));
  ASSERT_THAT(result.out, HasSubstr("\nExamples:\n"));
  const std::string examples = result.out.substr(result.out.find("\nExamples:\n"));
  EXPECT_THAT(examples, HasSubstr(absl::StrCat("dw ", GetParam().name)));
  EXPECT_EQ(result.err, "");
}

TEST_P(CommandsTest, PeopleGetText) {
  if (GetParam().words.empty()) return;
  const CliWorld::Result result = world_.Run(GetParam().words);
  EXPECT_EQ(result.code, GetParam().code) << result.err;
  for (const std::string& text : GetParam().shows) EXPECT_THAT(result.out, HasSubstr(text));
  EXPECT_THAT(result.out, ::testing::Not(HasSubstr("\x1b"))) << "colours, and no terminal";
}

TEST_P(CommandsTest, ProgramsGetJson) {
  if (GetParam().words.empty()) return;
  Words words = GetParam().words;
  words.insert(words.end(), {"--output", "json"});
  const CliWorld::Result result = world_.Run(words);
  EXPECT_EQ(result.code, GetParam().code) << result.err;
  if (GetParam().json == JsonForm::kDocument) {
    const auto json = ParseJson(result.out, "out");
    ASSERT_TRUE(json.ok()) << json.status() << "\n" << result.out;
    EXPECT_TRUE(json->is_object());
    return;
  }
  const Words lines = absl::StrSplit(result.out, '\n', absl::SkipEmpty());
  EXPECT_GE(lines.size(), 2);
  for (const std::string& line : lines) EXPECT_TRUE(ParseJson(line, "line").ok()) << line;
}

TEST_P(CommandsTest, WhatIsAbsentIsExitCode3) {
  if (GetParam().not_found.empty()) return;
  const CliWorld::Result result = world_.Run(GetParam().not_found);
  EXPECT_EQ(result.code, kExitNotFound) << result.out << result.err;
  EXPECT_THAT(result.err, ::testing::AnyOf(HasSubstr("absent"), HasSubstr("versions/9")));
  EXPECT_EQ(result.out, "");
}

TEST_P(CommandsTest, WrongUseIsExitCode2AndChangesNothing) {
  if (GetParam().wrong.empty()) return;
  const CliWorld::Result result = world_.Run(GetParam().wrong);
  EXPECT_EQ(result.code, kExitWrongUse) << result.out << result.err;
  EXPECT_THAT(result.err, ::testing::StartsWith("dw: "));
  EXPECT_EQ(result.out, "");
}

TEST_P(CommandsTest, AnUnknownFlagIsExitCode2) {
  Words words = absl::StrSplit(GetParam().name, ' ');
  words.push_back("--no_such_flag_at_all");
  const CliWorld::Result result = world_.Run(words);
  EXPECT_EQ(result.code, kExitWrongUse) << result.out << result.err;
  EXPECT_THAT(result.err, HasSubstr("--no_such_flag_at_all"));
}

TEST_P(CommandsTest, WithoutAPlatformItIsExitCode5AndSaysHowToGetOne) {
  if (!GetParam().needs_platform) return;
  world_.up = false;
  world_.environment.erase("DELTAWORKS_TOKENS_FILE");
  const CliWorld::Result result = world_.Run(GetParam().words);
  EXPECT_EQ(result.code, kExitUnavailable) << result.out << result.err;
  EXPECT_THAT(result.err, HasSubstr("no platform: run `dw up`"));
  EXPECT_EQ(result.out, "");
}

INSTANTIATE_TEST_SUITE_P(Every, CommandsTest, ::testing::ValuesIn(Rows()),
                         [](const ::testing::TestParamInfo<Row>& info) {
                           std::string name = info.param.name;
                           std::replace(name.begin(), name.end(), ' ', '_');
                           return name;
                         });

TEST(RunDwTest, AnErrorIsRedOnATerminalThatWantsColours) {
  CliWorld world("colours");
  world.terminal = true;
  const Words words = {"job", "watch", "a/b"};
  EXPECT_THAT(world.Run(words).err, ::testing::StartsWith("dw: ")) << "stderr is a file";
  world.terminal = false;
  world.err_terminal = true;
  EXPECT_THAT(world.Run(words).err, ::testing::StartsWith("\x1b[31mdw: \x1b[0m"));
  EXPECT_THAT(world.Run({"job", "watch", "a/b", "--no_color"}).err, ::testing::StartsWith("dw: "));
  world.environment["NO_COLOR"] = "1";
  EXPECT_THAT(world.Run(words).err, ::testing::StartsWith("dw: "));
}

TEST(RunDwTest, ProgressIsRedrawnOnlyWhereStderrIsATerminal) {
  for (const bool is_terminal : {false, true}) {
    CliWorld world("progress");
    FillWorld(world);
    world.terminal = !is_terminal;
    world.err_terminal = is_terminal;
    const CliWorld::Result result =
        world.Run({"model", "import", "{}/model.gguf", "--name", "fresh", "--no_wait"});
    EXPECT_THAT(result.err, HasSubstr("uploading"));
    EXPECT_EQ(absl::StrContains(result.err, "\x1b[K"), is_terminal) << result.err;
  }
}

TEST(CommandTableTest, EveryCommandHasItsRow) {
  Words commands, rows;
  for (const auto& command : AllCommands()) commands.push_back(command->name());
  for (const Row& row : Rows()) rows.push_back(row.name);
  EXPECT_THAT(rows, ::testing::UnorderedElementsAreArray(commands));
}

TEST(CommandTableTest, EveryGroupIsDescribed) {
  const CommandTable table = AllCommands();
  for (const DeclaredCommand& command : DeclareAll(table)) {
    std::string group;
    for (size_t i = 0; i + 1 < command.words.size(); ++i) {
      absl::StrAppend(&group, group.empty() ? "" : " ", command.words[i]);
      EXPECT_NE(GroupSummary(group), "") << group;
    }
  }
}

TEST(CommandTableTest, EveryFlagSaysWhatItIs) {
  const CommandTable table = AllCommands();
  for (const DeclaredCommand& command : DeclareAll(table)) {
    for (const Argument& argument : command.arguments.all()) {
      EXPECT_GE(argument.help.size(), 8) << command.name << " " << Spelled(argument);
    }
  }
}

}  // namespace
}  // namespace deltaworks::services
