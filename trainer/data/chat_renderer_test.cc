#include "trainer/data/chat_renderer.h"

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace deltaworks::trainer {
namespace {

using ::testing::HasSubstr;

const std::vector<Message> kChat = {{.role = "user", .content = "hello"}};

TEST(ChatRendererTest, MessagesGoThroughTheTemplateInTheirOrder) {
  const ChatRenderer render = MakeChatRenderer(ChatTemplate::FromConfig(
      R"({"chat_template": "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %})"
      R"({% if add_generation_prompt %}<assistant>{% endif %}"})"));
  EXPECT_EQ(*render(kChat, /*answer_follows=*/false), "<user>hello");
  EXPECT_EQ(*render(kChat, /*answer_follows=*/true), "<user>hello<assistant>");
}

TEST(ChatRendererTest, AMissingTemplateIsAnErrorOfTheChatWithTheReason) {
  const ChatRenderer render = MakeChatRenderer(absl::NotFoundError("there is none"));
  const auto text = render(kChat, false);
  ASSERT_TRUE(absl::IsInvalidArgument(text.status())) << text.status();
  EXPECT_THAT(std::string(text.status().message()), HasSubstr("there is none"));
}

}  // namespace
}  // namespace deltaworks::trainer
