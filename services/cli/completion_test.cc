// Completion scripts: the shells themselves must take them, and every command and flag is in them.

#include "services/cli/completion.h"

#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/cli/all_commands.h"
#include "services/cli/dw.h"
#include "services/cli/parser.h"
#include "trainer/base/file.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class CompletionTest : public ::testing::Test {
 protected:
  CompletionTest() {
    catalog_.commands = DeclareAll(table_);
    flags_.Declare(catalog_.global);
  }

  // Writes the script to a file of this test and returns its path.
  std::string Write(const std::string& name, const std::string& text) {
    const std::string path = absl::StrCat(::testing::TempDir(), "/", name);
    EXPECT_TRUE(WriteFileAtomically(path, text).ok());
    return path;
  }

  // What bash answers to `script`.
  std::string Bash(const std::string& script) {
    const std::string path = Write("run.sh", script);
    FILE* pipe = popen(absl::StrCat("bash ", path, " 2>&1").c_str(), "r");
    std::string output;
    char buffer[4096];
    while (pipe != nullptr && fgets(buffer, sizeof(buffer), pipe) != nullptr) output += buffer;
    EXPECT_EQ(pclose(pipe), 0) << output;
    return output;
  }

  // What is offered after the words, the last of which is being typed.
  std::string Offered(const std::string& words, int last) {
    return Bash(absl::StrCat("source ", Write("dw.bash", BashCompletion(catalog_)),
                             "\nCOMP_WORDS=(", words, ")\nCOMP_CWORD=", last,
                             "\n_dw\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n"));
  }

  GlobalFlags flags_;
  CommandTable table_ = AllCommands();
  Catalog catalog_;
};

TEST_F(CompletionTest, EveryVisibleCommandAndFlagIsInEveryScript) {
  for (const std::string& script :
       {BashCompletion(catalog_), ZshCompletion(catalog_), FishCompletion(catalog_)}) {
    for (const DeclaredCommand& command : catalog_.commands) {
      if (command.command->hidden()) {
        EXPECT_THAT(script, Not(HasSubstr(command.name)));
        continue;
      }
      EXPECT_THAT(script, HasSubstr(command.name));
      for (const Argument& argument : command.arguments.all()) {
        if (argument.is_positional) continue;
        EXPECT_THAT(script, HasSubstr(argument.name));
      }
    }
  }
}

TEST_F(CompletionTest, BashTakesTheScript) {
  const std::string path = Write("dw.bash", BashCompletion(catalog_));
  EXPECT_EQ(std::system(absl::StrCat("bash -n ", path).c_str()), 0);
}

TEST_F(CompletionTest, ZshScriptIsWellFormedForAShellOfItsFamily) {
  // zsh is rarely there; what the script uses of the common grammar, bash can check.
  const std::string path = Write("dw.zsh", ZshCompletion(catalog_));
  const char* shell = std::system("command -v zsh >/dev/null") == 0 ? "zsh" : "bash";
  EXPECT_EQ(std::system(absl::StrCat(shell, " -n ", path).c_str()), 0);
}

TEST_F(CompletionTest, CommandsFlagsAndChoicesAreOffered) {
  EXPECT_THAT(Offered("dw jo", 1), HasSubstr("job\n"));
  EXPECT_EQ(Offered("dw job ca", 2), "cancel\n");
  EXPECT_EQ(Offered("dw adapter alias hi", 3), "history\n");
  EXPECT_EQ(Offered("dw job submit --lora_a", 3), "--lora_alpha\n");
  EXPECT_EQ(Offered("dw job submit --lr_scheduler_type co", 4),
            "cosine\nconstant\nconstant_with_warmup\n");
  EXPECT_EQ(Offered("dw --no_color job submit --output j", 5), "json\n");
  EXPECT_EQ(Offered("dw completion b", 2), "bash\n");
}

TEST_F(CompletionTest, FilesAreOfferedWhereAFileIsWanted) {
  const std::string path = Write("some-data.jsonl", "");
  EXPECT_EQ(Offered(absl::StrCat("dw dataset add ", path.substr(0, path.size() - 3)), 3),
            absl::StrCat(path, "\n"));
  EXPECT_EQ(Offered(absl::StrCat("dw eval --dataset ", path.substr(0, path.size() - 3)), 3),
            absl::StrCat(path, "\n"));
}

}  // namespace
}  // namespace deltaworks::services
