// ChatTemplate: turns the messages of a chat into the text that a model was trained on.
//
// The template is the model's own, a Jinja program of a few lines in its tokenizer_config.json. The
// subset that such templates use is interpreted here (jinja/), with the results of transformers'
// apply_chat_template; anything else is refused when the template is parsed. The time of day is not
// available to templates: the same chat always gives the same text.
//
// Immutable, so thread-safe. Templates and messages may be hostile: steps, memory, output and
// nesting are bounded.

#ifndef DELTAWORKS_TRAINER_TOKENIZER_CHAT_TEMPLATE_H_
#define DELTAWORKS_TRAINER_TOKENIZER_CHAT_TEMPLATE_H_

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "trainer/tokenizer/jinja/ast.h"
#include "trainer/tokenizer/jinja/budget.h"

namespace deltaworks::trainer {

inline constexpr size_t kChatTemplateBytesMax = 256 << 10;
inline constexpr size_t kChatMessagesMax = 100'000;

struct ChatMessage {
  std::string role;
  std::string content;
};

// The special tokens that a template may print; undefined in the template where there is none.
struct ChatTokens {
  std::optional<std::string> bos;
  std::optional<std::string> eos;
  std::optional<std::string> pad;
  std::optional<std::string> unk;
};

class ChatTemplate {
 public:
  // InvalidArgument: "chat template: line 3: the tag macro is not supported; ...".
  static absl::StatusOr<std::unique_ptr<const ChatTemplate>> Parse(
      absl::string_view source, const ChatTokens& tokens, const jinja::Limits& limits = {});

  // The template and tokens of a model folder: chat_template.jinja if there is one, otherwise
  // chat_template of tokenizer_config.json (of several, the one named "default"). NotFound if there
  // is none.
  static absl::StatusOr<std::unique_ptr<const ChatTemplate>> FromFolder(const std::string& folder);

  // The template of a tokenizer_config.json.
  static absl::StatusOr<std::unique_ptr<const ChatTemplate>> FromConfig(
      absl::string_view tokenizer_config_json);

  // The text of `messages`; with `add_generation_prompt` it ends where the model's answer begins.
  // InvalidArgument: what the template raises, such as "roles must alternate", with its line.
  // ResourceExhausted: the template does more than its limits allow.
  absl::StatusOr<std::string> Render(absl::Span<const ChatMessage> messages,
                                     bool add_generation_prompt) const;

  const std::string& source() const { return source_; }

 private:
  ChatTemplate(std::string source, jinja::Block block, ChatTokens tokens, jinja::Limits limits);

  const std::string source_;
  const jinja::Block block_;
  const ChatTokens tokens_;
  const jinja::Limits limits_;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_TOKENIZER_CHAT_TEMPLATE_H_
