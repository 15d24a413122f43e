// Where dw finds its platform, and how short names become resource names.

#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/base/token_file.h"
#include "services/cli/client_file.h"
#include "services/cli/exit_code.h"
#include "services/cli/names.h"
#include "services/cli/testing/cli_world.h"
#include "trainer/base/file.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;

class SettingsTest : public ::testing::Test {
 protected:
  SettingsTest() : folder_(absl::StrCat(::testing::TempDir(), "/settings")) {
    EXPECT_TRUE(MakeDirectories(folder_ + "/.deltaworks").ok());
    environment_["HOME"] = folder_;
  }
  void WriteFile(const std::string& text) {
    EXPECT_TRUE(WriteFileAtomically(folder_ + "/.deltaworks/dw.json", text).ok());
  }
  absl::StatusOr<PlatformSettings> Resolve(PlatformSettings given = {}, std::string config = "") {
    return ResolveSettings(given, config, [this](const std::string& name) {
      const auto found = environment_.find(name);
      return found == environment_.end() ? "" : found->second;
    });
  }

  const std::string folder_;
  std::map<std::string, std::string> environment_;
};

TEST_F(SettingsTest, AFlagComesBeforeTheEnvironmentBeforeTheFile) {
  WriteFile(
      "{\"scheduler\": \"127.0.0.1:1\", \"store\": \"127.0.0.1:1\", "
      "\"registry\": \"127.0.0.1:1\", \"token_file\": \"f\", \"operator_token_file\": \"o\"}");
  environment_["DELTAWORKS_SCHEDULER"] = "127.0.0.1:2";
  environment_["DELTAWORKS_STORE"] = "127.0.0.1:2";
  const auto settings = Resolve({.scheduler = "127.0.0.1:3"});
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->scheduler, "127.0.0.1:3");
  EXPECT_EQ(settings->store, "127.0.0.1:2");
  EXPECT_EQ(settings->registry, "127.0.0.1:1");
  EXPECT_EQ(settings->inference, "");
  EXPECT_EQ(settings->token_file, "f");
  EXPECT_EQ(settings->operator_token_file, "o");
  EXPECT_EQ(settings->home, folder_ + "/.deltaworks");
}

TEST_F(SettingsTest, TheHomeIsAFlagOrAVariable) {
  environment_["DELTAWORKS_HOME"] = folder_ + "/elsewhere";
  EXPECT_EQ(Resolve()->home, folder_ + "/elsewhere");
  EXPECT_EQ(Resolve({.home = "here"})->home, "here");
}

TEST_F(SettingsTest, WithoutHomeThereIsNoHomeAndNoFileOfARoot) {
  environment_.erase("HOME");
  const auto settings = Resolve();
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->home, "");
  EXPECT_THAT(CheckHome(settings->home).message(), HasSubstr("want one of them or --home"));
  EXPECT_TRUE(CheckHome("/h").ok());
}

TEST_F(SettingsTest, AFileThatIsNamedMustExistAndAFileMustMakeSense) {
  EXPECT_EQ(Resolve({}, folder_ + "/absent.json").status().code(), absl::StatusCode::kNotFound);
  WriteFile("not json");
  EXPECT_THAT(Resolve().status().message(), HasSubstr("dw.json"));
  WriteFile("[1]");
  EXPECT_THAT(Resolve().status().message(), HasSubstr("want an object"));
  WriteFile("{\"store\": 7}");
  EXPECT_THAT(Resolve().status().message(), HasSubstr("store"));
  WriteFile("{\"store\": \"nowhere\"}");
  EXPECT_THAT(Resolve().status().message(), HasSubstr("the address of the store"));
}

class NamesTest : public ::testing::Test {
 protected:
  NamesTest() : world_("names") { world_.Fill(); }
  CliWorld world_;
};

TEST_F(NamesTest, FullNamesOfAnyTenantAndShortOnesOfMine) {
  EXPECT_EQ(world_.Run({"job", "get", "tenants/default/jobs/job-7"}).code, kExitOk);
  const CliWorld::Result other = world_.Run({"job", "get", "job-7", "--tenant", "acme"});
  EXPECT_EQ(other.code, kExitNotFound);
  EXPECT_THAT(other.err, HasSubstr("tenants/acme/jobs/job-7"));
  EXPECT_EQ(world_.Run({"job", "get", "tenants/default/datasets/notes"}).code, kExitWrongUse);
  EXPECT_EQ(world_.Run({"job", "list", "--tenant", "A B"}).code, kExitWrongUse);
}

TEST_F(NamesTest, AVersionHasFourSpellings) {
  for (const char* name : {"notes", "notes/1", "notes/versions/1", "notes@champion",
                           "tenants/default/adapters/notes/versions/1",
                           "tenants/default/adapters/notes/aliases/champion"}) {
    const CliWorld::Result result = world_.Run({"adapter", "get", name});
    EXPECT_EQ(result.code, kExitOk) << name << result.err;
    EXPECT_THAT(result.out, HasSubstr("tenants/default/adapters/notes/versions/1")) << name;
  }
}

TEST_F(NamesTest, ATokenIsShownOnceOrSavedWhereOnlyItsOwnerReads) {
  const CliWorld::Result shown = world_.Run({"token", "add", "team-a"});
  ASSERT_EQ(shown.code, kExitOk) << shown.err;
  const auto tokens = TokenFile::Open(world_.Path("tokens"));
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  const std::string token = shown.out.substr(0, shown.out.size() - 1);
  ASSERT_TRUE((*tokens)->Find(token).has_value());
  EXPECT_EQ((*tokens)->Find(token)->tenant, "team-a");

  const CliWorld::Result saved = world_.Run({"token", "add", "team-b", "--save", "{}/b.token"});
  ASSERT_EQ(saved.code, kExitOk) << saved.err;
  const auto secret = ReadSecretFile(world_.Path("b.token"));
  ASSERT_TRUE(secret.ok()) << secret.status();
  EXPECT_EQ((*tokens)->Find(*secret)->tenant, "team-b");
  EXPECT_THAT(saved.out, ::testing::Not(HasSubstr(*secret)));
}

class StoreCommandsTest : public ::testing::Test {
 protected:
  StoreCommandsTest() : world_("store") { world_.Fill(); }
  CliWorld world_;
};

TEST_F(StoreCommandsTest, ACheckShowsEveryProblemWithItsLineAndIsExitCode6) {
  v1::DatasetReport report;
  report.set_problem_count(1002);
  v1::DatasetProblem& problem = *report.add_problems();
  problem.set_line(17);
  problem.set_message("messages is absent, want a list");
  world_.store.SetReport(report);
  const CliWorld::Result result = world_.Run({"dataset", "check", "{}/data.jsonl"});
  EXPECT_EQ(result.code, kExitBadOutcome);
  EXPECT_THAT(result.out, HasSubstr("data.jsonl:17: messages is absent, want a list\n"));
  EXPECT_THAT(result.out, HasSubstr("and 1,001 problems more"));
}

TEST_F(StoreCommandsTest, LabelTokensAreGreenOnATerminal) {
  world_.terminal = true;
  const CliWorld::Result result =
      world_.Run({"dataset", "preview", "notes", "--base_model", "smollm2"});
  EXPECT_THAT(result.out, HasSubstr("long text one\x1b[32m short one\x1b[0m"));
  EXPECT_THAT(result.out, ::testing::Not(HasSubstr("[[")));
  EXPECT_THAT(
      world_.Run({"dataset", "preview", "notes", "--base_model", "smollm2", "--no_color"}).out,
      HasSubstr("[[ short one]]"));
}

TEST_F(StoreCommandsTest, AnImportThatFailsIsExitCode6WithTheReason) {
  world_.while_asleep = [this] {
    v1::BaseModel model;
    model.set_name("tenants/default/baseModels/fresh");
    model.set_state(v1::BaseModel::FAILED);
    model.mutable_failure()->set_message("model.gguf: magic is GIF8, want GGUF");
    world_.store.PutBaseModel(model);
  };
  const CliWorld::Result result =
      world_.Run({"model", "import", "{}/model.gguf", "--name", "fresh"});
  EXPECT_EQ(result.code, kExitBadOutcome);
  EXPECT_THAT(result.out, HasSubstr("magic is GIF8, want GGUF"));
}

TEST_F(StoreCommandsTest, AFolderIsUploadedFileByFileAndAnotherIsRefused) {
  const CliWorld::Result result =
      world_.Run({"model", "import", "{}/tiny", "--name", "fresh", "--no_wait"});
  EXPECT_EQ(result.code, kExitOk) << result.err;
  for (const char* file : {"config.json", "model.safetensors", "tokenizer.json"}) {
    EXPECT_THAT(result.err, HasSubstr(absl::StrCat("uploading ", file)));
  }
  const CliWorld::Result empty =
      world_.Run({"model", "import", "{}", "--name", "none", "--no_wait"});
  EXPECT_EQ(empty.code, kExitWrongUse);
  EXPECT_THAT(empty.err, HasSubstr("without config.json"));
}

TEST_F(StoreCommandsTest, ANameThatIsTakenIsRefused) {
  EXPECT_EQ(world_.Run({"dataset", "add", "{}/data.jsonl", "--name", "notes"}).code, kExitRefused);
  EXPECT_EQ(world_.Run({"model", "import", "{}/model.gguf", "--name", "smollm2"}).code,
            kExitRefused);
}

}  // namespace
}  // namespace deltaworks::services
