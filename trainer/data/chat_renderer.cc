#include "trainer/data/chat_renderer.h"

#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"

namespace deltaworks::trainer {

ChatRenderer MakeChatRenderer(absl::StatusOr<std::unique_ptr<const ChatTemplate>> chat_template) {
  if (!chat_template.ok()) {
    return [status = absl::InvalidArgumentError(absl::StrCat(
                "the base's chat template cannot be used: ", chat_template.status().message()))](
               absl::Span<const Message>, bool) -> absl::StatusOr<std::string> { return status; };
  }
  return [shared = std::shared_ptr<const ChatTemplate>(*std::move(chat_template))](
             absl::Span<const Message> messages, bool answer_follows) {
    std::vector<ChatMessage> chat;
    chat.reserve(messages.size());
    for (const Message& message : messages) chat.push_back({message.role, message.content});
    return shared->Render(chat, answer_follows);
  };
}

}  // namespace deltaworks::trainer
