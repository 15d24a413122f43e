// The lexer of chat templates: text and tags to tokens, white space control done.
//
// Follows jinja2 with trim_blocks and lstrip_blocks, as transformers sets them: the newline after a
// block tag or comment is dropped, so is the space before one that is alone at the beginning of its
// line; {%- and -%} strip all white space on their side; newlines become "\n" and one at the end of
// the template is dropped. Pure function.

#ifndef DELTAWORKS_TRAINER_TOKENIZER_JINJA_LEXER_H_
#define DELTAWORKS_TRAINER_TOKENIZER_JINJA_LEXER_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace deltaworks::trainer::jinja {

struct Token {
  enum class Kind {
    kText,        // Outside of tags.
    kPrintBegin,  // {{
    kPrintEnd,    // }}
    kBlockBegin,  // {%
    kBlockEnd,    // %}
    kName,
    kString,   // `text` is its value.
    kInteger,  // `text` is its digits.
    kOperator,
    kEnd,  // Of the template.
  };
  Kind kind = Kind::kEnd;
  int line = 0;
  std::string text;
};

// InvalidArgument: "line 3: ..." about the message.
absl::Status TemplateError(int line, absl::string_view message);

// The tokens of `source`, valid UTF-8; the last one is kEnd.
absl::StatusOr<std::vector<Token>> Tokenize(absl::string_view source);

}  // namespace deltaworks::trainer::jinja

#endif  // DELTAWORKS_TRAINER_TOKENIZER_JINJA_LEXER_H_
