// Renders the templates of well-known models, and one snippet per construct, and compares with what
// jinja2 made of them under transformers' settings (tests/golden/tokenizer/template_golden.py).
// Then the bounds: what a hostile template may not do.

#include "trainer/tokenizer/chat_template.h"

#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/base/file.h"
#include "trainer/base/json.h"

namespace deltaworks::trainer {
namespace {

using ::testing::HasSubstr;

class ChatTemplateTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto text = ReadFile("tests/golden/tokenizer/chat_templates.json");
    ASSERT_TRUE(text.ok()) << text.status();
    golden_ = ParseJson(*text, "chat_templates.json").value();
    tokens_.bos = golden_["tokens"]["bos_token"];
    tokens_.eos = golden_["tokens"]["eos_token"];
  }

  std::vector<ChatMessage> Chat(const std::string& name) const {
    std::vector<ChatMessage> messages;
    for (const Json& message : golden_["chats"][name]) {
      messages.push_back({message["role"], message["content"]});
    }
    return messages;
  }

  absl::StatusOr<std::string> Render(const std::string& source, const std::string& chat,
                                     bool add_generation_prompt,
                                     const jinja::Limits& limits = {}) const {
    const auto chat_template = ChatTemplate::Parse(source, tokens_, limits);
    if (!chat_template.ok()) return chat_template.status();
    return (*chat_template)->Render(Chat(chat), add_generation_prompt);
  }

  std::string Message(const std::string& source, const jinja::Limits& limits = {}) const {
    return std::string(Render(source, "system", false, limits).status().message());
  }

  Json golden_;
  ChatTokens tokens_;
};

TEST_F(ChatTemplateTest, TemplatesOfWellKnownModelsGiveTheTextOfTransformers) {
  int compared = 0;
  for (const Json& want : golden_["renderings"]) {
    const std::string name = want["template"], chat = want["chat"];
    const bool add_generation_prompt = want["add_generation_prompt"];
    const auto got = Render(golden_["templates"][name], chat, add_generation_prompt);
    const std::string what = absl::StrCat(name, ", chat ", chat, ", ", add_generation_prompt);
    if (want.contains("error")) {
      EXPECT_FALSE(got.ok()) << what << ": got " << *got;
    } else {
      ASSERT_TRUE(got.ok()) << what << ": " << got.status();
      EXPECT_EQ(*got, want["text"].get<std::string>()) << what;
    }
    ++compared;
  }
  EXPECT_EQ(compared, 392);
}

TEST_F(ChatTemplateTest, EachConstructMeansWhatItMeansInJinja2OrIsRefused) {
  for (const Json& want : golden_["snippets"]) {
    const std::string source = want["template"];
    const auto got = Render(source, "system", true);
    if (want.contains("text")) {
      ASSERT_TRUE(got.ok()) << source << ": " << got.status();
      EXPECT_EQ(*got, want["text"].get<std::string>()) << source;
      continue;
    }
    ASSERT_FALSE(got.ok()) << source << ": got " << *got;
    EXPECT_THAT(got.status().message(), HasSubstr("chat template: line ")) << source;
    if (!want.contains("refused")) continue;
    EXPECT_FALSE(ChatTemplate::Parse(source, tokens_).ok()) << source << ": parsed";
    EXPECT_THAT(got.status().message(), HasSubstr(want["refused"].get<std::string>()));
  }
}

TEST_F(ChatTemplateTest, WhatATemplateRaisesReachesTheCaller) {
  EXPECT_EQ(Message("a\n{{ raise_exception('roles must alternate') }}"),
            "chat template: line 2: the template says: roles must alternate");
}

TEST_F(ChatTemplateTest, AMessageThatIsNotUtf8IsRepaired) {
  const auto chat_template = ChatTemplate::Parse("{{ messages[0].content }}", {});
  ASSERT_TRUE(chat_template.ok()) << chat_template.status();
  EXPECT_EQ((*chat_template)->Render({{"user", "a\xFFz"}}, false).value(), "a\xEF\xBF\xBDz");
}

TEST_F(ChatTemplateTest, AnEndlessTemplateRunsOutOfSteps) {
  const std::string loop = "{% for i in range(100000) %}";
  std::string source;
  for (int i = 0; i < 4; ++i) source += loop;
  for (int i = 0; i < 4; ++i) source += "{% endfor %}";
  const auto got = Render(source, "one", false);
  EXPECT_TRUE(absl::IsResourceExhausted(got.status())) << got.status();
}

TEST_F(ChatTemplateTest, ATextThatDoublesRunsOutOfBytes) {
  const auto got = Render(
      "{% set ns = namespace(x='ab') %}{% for i in range(100) %}{% set ns.x = ns.x + ns.x %}"
      "{% endfor %}{{ ns.x }}",
      "one", false);
  EXPECT_TRUE(absl::IsResourceExhausted(got.status())) << got.status();
  EXPECT_TRUE(
      absl::IsResourceExhausted(Render("{{ 'ab' * 9000000000000000000 }}", "one", false).status()));
}

TEST_F(ChatTemplateTest, AListThatDoublesRunsOutOfSteps) {
  const auto got = Render(
      "{% set ns = namespace(x=[]) %}{% for i in range(30) %}{% set ns.x = [ns.x, ns.x] %}"
      "{% endfor %}{{ ns.x|tojson }}",
      "one", false);
  EXPECT_TRUE(absl::IsResourceExhausted(got.status())) << got.status();
}

TEST_F(ChatTemplateTest, ReadingTakesStepsSoThatNoTemplateLoopsOverALongTextForHours) {
  jinja::Limits limits;
  limits.steps_max = 10'000;
  const std::string text = "{% set s = 'a' * 200000 %}{% set t = s + '' %}";
  const std::string spaces = "{% set s = ' ' * 200000 %}";
  for (const std::string& source : {text + "{% for i in range(100) %}{{ 'b' in s }}{% endfor %}",
                                    text + "{% for i in range(100) %}{{ s|length }}{% endfor %}",
                                    text + "{% for i in range(100) %}{{ s == t }}{% endfor %}",
                                    text + "{% for i in range(100) %}{{ s < t }}{% endfor %}",
                                    text + "{% for i in range(100) %}{{ s[-1] }}{% endfor %}",
                                    text + "{{ range(100)|map(attribute=s)|list|length }}",
                                    spaces + "{% for i in range(100) %}{{ s|trim }}{% endfor %}"}) {
    EXPECT_THAT(Message(source, limits), HasSubstr("more than 10000 steps")) << source;
  }
}

TEST_F(ChatTemplateTest, SearchesThatCompareALongTextEverywhereAreRefused) {
  const std::string texts = "{% set s = 'a' * 5000000 %}{% set t = 'a' * 2500000 + 'b' %}";
  for (const char* search :
       {"{{ t in s }}", "{{ s.find(t) }}", "{{ s|replace(t, '') }}", "{{ s.split(t)|length }}"}) {
    EXPECT_THAT(Message(texts + search), HasSubstr("more than 2000000 steps")) << search;
  }
  EXPECT_THAT(Message("{{ 'b'.strip('a' * 257) }}"),
              HasSubstr("what is stripped off has 257 bytes, want at most 256"));
  EXPECT_THAT(Message("{{ 'b'|trim('a' * 257) }}"), HasSubstr("want at most 256"));
}

TEST_F(ChatTemplateTest, WhatIsMadeOnTheWayIsChargedBeforeItIsMade) {
  jinja::Limits limits;
  limits.bytes_max = 1 << 20;
  EXPECT_THAT(Message("{{ ('a ' * 100000).split()|length }}", limits),
              HasSubstr("more than 1048576 bytes"));
  std::string blocks = "{% set s = 'a' * 200000 %}", ends;
  for (int i = 0; i < 10; ++i) {
    blocks += "{% set x %}{{ s }}";
    ends += "{% endset %}";
  }
  EXPECT_THAT(Message(blocks + ends, limits), HasSubstr("more than 1048576 bytes"));
}

TEST_F(ChatTemplateTest, TheOutputIsBounded) {
  jinja::Limits limits;
  limits.output_bytes_max = 10;
  EXPECT_EQ(Render("0123456789", "one", false, limits).value(), "0123456789");
  EXPECT_THAT(Message("01234\n{{ '56789' }}", limits), HasSubstr("more than 10 bytes"));
}

TEST_F(ChatTemplateTest, DepthIsBoundedInEveryDirection) {
  const auto repeat = [](const std::string& text, int count) {
    std::string all;
    for (int i = 0; i < count; ++i) all += text;
    return all;
  };
  const int many = 15'000;
  for (const std::string& source :
       {"{{ " + repeat("(", many) + "1" + repeat(")", many) + " }}",
        "{{ " + repeat("[", many) + repeat("]", many) + " }}", "{{ " + repeat("- ", many) + "1 }}",
        "{{ " + repeat("not ", many) + "1 }}", "{{ 1" + repeat("+1", many) + " }}",
        "{{ 'a'" + repeat("|trim", many) + " }}", "{{ a" + repeat(".b", many) + " }}",
        "{{ a" + repeat("[0]", many) + " }}", "{{ 1" + repeat(" if 1 else 1", many) + " }}",
        "{{ " + repeat("{'a':", many) + "1" + repeat("}", many) + " }}"}) {
    EXPECT_THAT(Message(source), HasSubstr("nested deeper than")) << source.substr(0, 20);
  }
  EXPECT_THAT(Message(repeat("{% if 1 %}", many / 2) + repeat("{% endif %}", many / 2)),
              HasSubstr("blocks are nested deeper than"));
  EXPECT_THAT(Message("{% set ns = namespace(x=[]) %}{% for i in range(99) %}"
                      "{% set ns.x = [ns.x] %}{% endfor %}"),
              HasSubstr("a list is nested deeper than 32"));
}

TEST_F(ChatTemplateTest, ANamespaceCannotHoldItself) {
  EXPECT_THAT(Message("{% set ns = namespace() %}{% set ns.x = ns %}"),
              HasSubstr("cannot set an attribute"));
  EXPECT_THAT(Message("{% set ns = namespace() %}{% set ns.x = [ns] %}"),
              HasSubstr("a namespace cannot be put inside another value"));
}

TEST_F(ChatTemplateTest, NumbersThatOverflowAreErrors) {
  const std::string big = "9223372036854775807";
  for (const std::string& source :
       {"{{ " + big + " + 1 }}", "{{ 0 - " + big + " - 2 }}", "{{ " + big + " * 2 }}",
        "{{ (0 - " + big + " - 1) // -1 }}", "{{ -(0 - " + big + " - 1) }}"}) {
    EXPECT_THAT(Message(source), HasSubstr("larger than 64 bits")) << source;
  }
  EXPECT_THAT(Message("{{ range(1, 0 - " + big + " - 1)|length }}"), HasSubstr("range"));
  EXPECT_EQ(Render("{{ (0 - " + big + " - 1) % -1 }}{{ 'abc'[(0 - " + big + " - 1):" + big + ":" +
                       big + "] }}",
                   "one", false)
                .value(),
            "0a");
}

TEST_F(ChatTemplateTest, ATemplateThatIsTooLargeIsRefused) {
  EXPECT_THAT(Message(std::string(kChatTemplateBytesMax + 1, 'x')), HasSubstr("want at most"));
}

TEST_F(ChatTemplateTest, FoldersKeepTheTemplateInEitherOfTwoPlaces) {
  const std::string folder = absl::StrCat(::testing::TempDir(), "/chat_template_test");
  std::filesystem::remove_all(folder);
  ASSERT_TRUE(MakeDirectories(folder).ok());
  EXPECT_TRUE(absl::IsNotFound(ChatTemplate::FromFolder(folder).status()));

  ASSERT_TRUE(WriteFileAtomically(folder + "/tokenizer_config.json",
                                  R"({"bos_token": {"content": "<b>"}, "eos_token": "<e>",
                                      "chat_template": "{{ bos_token }}1{{ eos_token }}"})")
                  .ok());
  auto chat_template = ChatTemplate::FromFolder(folder);
  ASSERT_TRUE(chat_template.ok()) << chat_template.status();
  EXPECT_EQ((*chat_template)->Render({}, false).value(), "<b>1<e>");

  ASSERT_TRUE(WriteFileAtomically(folder + "/chat_template.jinja", "{{ bos_token }}2\n").ok());
  chat_template = ChatTemplate::FromFolder(folder);
  ASSERT_TRUE(chat_template.ok()) << chat_template.status();
  EXPECT_EQ((*chat_template)->Render({}, false).value(), "<b>2");
}

TEST_F(ChatTemplateTest, OfSeveralTemplatesTheDefaultIsTaken) {
  const auto chat_template = ChatTemplate::FromConfig(
      R"({"chat_template": [{"name": "rag", "template": "no"},
                            {"name": "default", "template": "yes"}]})");
  ASSERT_TRUE(chat_template.ok()) << chat_template.status();
  EXPECT_EQ((*chat_template)->Render({}, false).value(), "yes");
  EXPECT_TRUE(absl::IsInvalidArgument(
      ChatTemplate::FromConfig(R"({"chat_template": [{"name": "rag", "template": "no"}]})")
          .status()));
}

TEST_F(ChatTemplateTest, NoPrefixOrMutationOfATemplateCrashes) {
  // The fuzzer goes further; this keeps the cheap half of its findings out.
  int parsed = 0;
  for (const auto& [name, source] : golden_["templates"].items()) {
    const std::string text = source;
    for (size_t cut = 0; cut < text.size(); cut += 7) {
      parsed += Render(text.substr(0, cut), "system", true).ok();
      std::string mutated = text;
      mutated[cut] = "{}%#'\"|.[]()-+~:= \n\0"[cut % 20];
      parsed += Render(mutated, "long", false).ok();
    }
  }
  EXPECT_GT(parsed, 100);
}

}  // namespace
}  // namespace deltaworks::trainer
