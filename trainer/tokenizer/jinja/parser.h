// The parser of chat templates: source to statements.
//
// Understands the subset of jinja2 that chat templates use (ast.h, builtins.h) and refuses the rest
// with the line and the construct, so that what parses can be rendered. Expressions nest at most
// kExpressionDepthMax deep and blocks kBlockDepthMax. Pure function.

#ifndef DELTAWORKS_TRAINER_TOKENIZER_JINJA_PARSER_H_
#define DELTAWORKS_TRAINER_TOKENIZER_JINJA_PARSER_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "trainer/tokenizer/jinja/ast.h"

namespace deltaworks::trainer::jinja {

inline constexpr int kExpressionDepthMax = 100;
inline constexpr int kBlockDepthMax = 50;

// InvalidArgument: "line 3: the tag macro is not supported; ...".
absl::StatusOr<Block> ParseTemplate(absl::string_view source);

}  // namespace deltaworks::trainer::jinja

#endif  // DELTAWORKS_TRAINER_TOKENIZER_JINJA_PARSER_H_
