#include "trainer/tokenizer/jinja/parser.h"

#include <algorithm>
#include <initializer_list>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "trainer/base/status_macros.h"
#include "trainer/tokenizer/jinja/expression_parser.h"
#include "trainer/tokenizer/jinja/lexer.h"
#include "trainer/tokenizer/jinja/token_stream.h"

namespace deltaworks::trainer::jinja {
namespace {

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)), expressions_(tokens_) {}

  // Statements up to one of the tags `ends`, whose name is left as the current token; up to the end
  // of the template if there are none.
  absl::StatusOr<Block> ParseBlock(std::initializer_list<absl::string_view> ends) {
    const int line = tokens_.line();
    if (++depth_ > kBlockDepthMax) {
      return TemplateError(line, absl::StrCat("blocks are nested deeper than ", kBlockDepthMax));
    }
    const absl::Cleanup leave = [this] { --depth_; };
    Block block;
    while (tokens_.current().kind != Token::Kind::kEnd) {
      Statement statement;
      statement.line = tokens_.line();
      if (tokens_.current().kind == Token::Kind::kText) {
        statement.text = tokens_.current().text;
        tokens_.Skip();
      } else if (tokens_.current().kind == Token::Kind::kPrintBegin) {
        tokens_.Skip();
        statement.kind = Statement::Kind::kPrint;
        DW_ASSIGN_OR_RETURN(statement.expression, expressions_.Parse());
        DW_RETURN_IF_ERROR(tokens_.Expect(Token::Kind::kPrintEnd, "}}"));
      } else {
        DW_RETURN_IF_ERROR(tokens_.Expect(Token::Kind::kBlockBegin, "{%"));
        if (std::find(ends.begin(), ends.end(), tokens_.current().text) != ends.end()) {
          return block;
        }
        DW_RETURN_IF_ERROR(Tag(&statement));
      }
      block.push_back(std::move(statement));
    }
    if (ends.size() == 0) return block;
    return TemplateError(line,
                         absl::StrCat("a block has no end, want ", absl::StrJoin(ends, " or ")));
  }

 private:
  absl::Status BlockEnd() { return tokens_.Expect(Token::Kind::kBlockEnd, "%}"); }

  absl::Status Tag(Statement* statement) {
    DW_ASSIGN_OR_RETURN(const std::string name, tokens_.ExpectName("the name of a tag"));
    if (name == "if") return If(statement);
    if (name == "for") return For(statement);
    if (name == "set") return Set(statement);
    if (name == "generation") return Generation(statement);
    if (name == "break" || name == "continue") {
      if (loop_depth_ == 0) {
        return TemplateError(statement->line, absl::StrCat(name, " outside of a loop"));
      }
      statement->kind = name == "break" ? Statement::Kind::kBreak : Statement::Kind::kContinue;
      return BlockEnd();
    }
    return TemplateError(statement->line, absl::StrCat("the tag ", name,
                                                       " is not supported here; supported are if, "
                                                       "for, set, break, continue and generation"));
  }

  absl::Status If(Statement* statement) {
    statement->kind = Statement::Kind::kIf;
    while (true) {
      Statement::Branch branch;
      DW_ASSIGN_OR_RETURN(branch.condition, expressions_.ParseTuple());
      DW_RETURN_IF_ERROR(BlockEnd());
      DW_ASSIGN_OR_RETURN(branch.body, ParseBlock({"elif", "else", "endif"}));
      statement->branches.push_back(std::move(branch));
      if (!tokens_.SkipName("elif")) break;
    }
    if (tokens_.SkipName("else")) {
      Statement::Branch branch;
      DW_RETURN_IF_ERROR(BlockEnd());
      DW_ASSIGN_OR_RETURN(branch.body, ParseBlock({"endif"}));
      statement->branches.push_back(std::move(branch));
    }
    tokens_.Skip();  // endif
    return BlockEnd();
  }

  absl::Status For(Statement* statement) {
    statement->kind = Statement::Kind::kFor;
    DW_RETURN_IF_ERROR(Targets(statement));
    if (!tokens_.SkipName("in")) return tokens_.Unexpected("in");
    DW_ASSIGN_OR_RETURN(statement->expression, expressions_.ParseWithoutCondition());
    if (tokens_.SkipName("if")) {
      DW_ASSIGN_OR_RETURN(statement->filter, expressions_.Parse());
    }
    if (tokens_.AtName("recursive")) {
      return TemplateError(tokens_.line(), "a recursive loop is not supported");
    }
    DW_RETURN_IF_ERROR(BlockEnd());
    ++loop_depth_;
    DW_ASSIGN_OR_RETURN(statement->body, ParseBlock({"else", "endfor"}));
    --loop_depth_;
    if (tokens_.SkipName("else")) {
      DW_RETURN_IF_ERROR(BlockEnd());
      DW_ASSIGN_OR_RETURN(statement->orelse, ParseBlock({"endfor"}));
    }
    tokens_.Skip();  // endfor
    return BlockEnd();
  }

  absl::Status Set(Statement* statement) {
    statement->kind = Statement::Kind::kSet;
    DW_RETURN_IF_ERROR(Targets(statement));
    if (statement->targets.size() == 1 && tokens_.SkipOperator(".")) {
      DW_ASSIGN_OR_RETURN(statement->attribute, tokens_.ExpectName("the name of an attribute"));
    }
    if (tokens_.SkipOperator("=")) {
      DW_ASSIGN_OR_RETURN(statement->expression, expressions_.ParseTuple());
      return BlockEnd();
    }
    if (tokens_.AtOperator("|")) {
      return TemplateError(statement->line, "a filter on a set block is not supported");
    }
    if (statement->targets.size() != 1 || !statement->attribute.empty()) {
      return tokens_.Unexpected("\"=\"");
    }
    statement->kind = Statement::Kind::kSetBlock;
    DW_RETURN_IF_ERROR(BlockEnd());
    DW_ASSIGN_OR_RETURN(statement->body, ParseBlock({"endset"}));
    tokens_.Skip();  // endset
    return BlockEnd();
  }

  // transformers' marks around what the model is to learn; they print nothing.
  absl::Status Generation(Statement* statement) {
    statement->kind = Statement::Kind::kScope;
    DW_RETURN_IF_ERROR(BlockEnd());
    // A loop cannot be left from inside: in jinja2 this is a function of its own.
    const int outer_loop_depth = std::exchange(loop_depth_, 0);
    DW_ASSIGN_OR_RETURN(statement->body, ParseBlock({"endgeneration"}));
    loop_depth_ = outer_loop_depth;
    tokens_.Skip();  // endgeneration
    return BlockEnd();
  }

  // One or more names.
  absl::Status Targets(Statement* statement) {
    do {
      DW_ASSIGN_OR_RETURN(std::string name, tokens_.ExpectName("the name of a variable"));
      for (absl::string_view reserved :
           {"true", "false", "none", "True", "False", "None", "loop"}) {
        if (name == reserved) {
          return TemplateError(statement->line, absl::StrCat("cannot assign to ", name));
        }
      }
      statement->targets.push_back(std::move(name));
    } while (tokens_.SkipOperator(","));
    return absl::OkStatus();
  }

  TokenStream tokens_;
  ExpressionParser expressions_;
  int depth_ = 0;
  int loop_depth_ = 0;
};

}  // namespace

absl::StatusOr<Block> ParseTemplate(absl::string_view source) {
  DW_ASSIGN_OR_RETURN(std::vector<Token> tokens, Tokenize(source));
  return Parser(std::move(tokens)).ParseBlock({});
}

}  // namespace deltaworks::trainer::jinja
