// TextEncoder: how a record of a dataset becomes tokens and labels.
//
//   chat               the chat template over all messages. The labels are the assistant's turns:
//                      from the end of what the template writes to make the assistant speak, up to
//                      and with the token that ends the turn
//   prompt-completion  prompt, completion, end-of-text token; labels: completion and end
//   text               text, end-of-text token; labels: all
//
// Text is cut where labels begin and end and each piece is tokenised by itself, so that the tokens
// before a label are those that generation will see (Tinker and TRL do the same; tokenising the
// whole could merge the last letter of the prompt with the first of the answer). A special token
// written out in a message is refused: it would end the turn in the middle.
//
// Immutable and thread-safe; what it is made from must outlive it.

#ifndef DELTAWORKS_TRAINER_DATA_TEXT_ENCODER_H_
#define DELTAWORKS_TRAINER_DATA_TEXT_ENCODER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "trainer/data/example.h"
#include "trainer/data/record.h"
#include "trainer/tokenizer/tokenizer.h"

namespace deltaworks::trainer {

enum class Truncation { kError, kTruncate, kSkip };
enum class TrainOn { kAssistantAll, kAssistantLast, kAllTokens };

// Where a chat's labels begin and end is found by rendering its beginnings: work that grows with
// the square of its length. So many messages are rendered for it; a chat of 1,000 answers is at the
// bound.
inline constexpr int64_t kRenderedMessagesMax = 1'000'000;

struct TextSettings {
  int64_t max_length = 1024;  // Tokens of one example, at least 2.
  Truncation truncation = Truncation::kError;
  TrainOn train_on = TrainOn::kAssistantAll;
};

// A part of an example's text, as it is tokenised.
struct TextPiece {
  std::string text;
  bool is_label = false;
  bool parse_special = false;  // The text is the template's: special tokens in it are meant.
};

// Renders messages by the model's chat template; `answer_follows`: end with what makes the
// assistant speak. Fails where the model has no template or the template refuses the messages.
using ChatRenderer = std::function<absl::StatusOr<std::string>(absl::Span<const Message> messages,
                                                               bool answer_follows)>;

class TextEncoder {
 public:
  TextEncoder(const Tokenizer& tokenizer, ChatRenderer render_chat, const TextSettings& settings)
      : tokenizer_(tokenizer), render_chat_(std::move(render_chat)), settings_(settings) {}

  const TextSettings& settings() const { return settings_; }

  // The pieces, without the end-of-text token. InvalidArgument if the record cannot be trained on.
  absl::StatusOr<std::vector<TextPiece>> Pieces(const Record& record) const;

  // Pieces as tokens, however long. InvalidArgument as Pieces, and if there is no label.
  absl::StatusOr<Example> Encode(const Record& record) const;

  // The tokens that ask for an answer: a chat up to the assistant's turn, or a plain prompt.
  absl::StatusOr<std::vector<int32_t>> EncodePrompt(absl::Span<const Message> messages) const;
  absl::StatusOr<std::vector<int32_t>> EncodePrompt(absl::string_view prompt) const;

 private:
  absl::StatusOr<std::vector<TextPiece>> ChatPieces(const Record& record) const;
  absl::Status CheckContent(const Record& record) const;

  const Tokenizer& tokenizer_;
  const ChatRenderer render_chat_;
  const TextSettings settings_;
};

enum class LengthVerdict { kFits, kTruncated, kSkipped };

// Applies max_length to `example`: cuts its end off, or says that it is to be skipped.
// InvalidArgument if it is too long and truncation is kError, or if no label is left.
absl::StatusOr<LengthVerdict> ApplyMaxLength(const TextSettings& settings, Example* example);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_DATA_TEXT_ENCODER_H_
