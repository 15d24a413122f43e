#include "trainer/tokenizer/split_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "trainer/base/status_macros.h"
#include "trainer/tokenizer/unicode_additions.h"

namespace deltaworks::trainer {
namespace {

constexpr size_t kPatternBytesMax = 1 << 16;
constexpr uint32_t kHeapKibMax = 64 << 10;  // Of the interpreter; PCRE2's own limit is 20 GB.

struct CodeDeleter {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct ContextDeleter {
  void operator()(pcre2_compile_context* context) const { pcre2_compile_context_free(context); }
};
struct MatchContextDeleter {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};
struct MatchDataDeleter {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};

std::string ErrorText(int error) {
  char text[256];
  pcre2_get_error_message(error, reinterpret_cast<PCRE2_UCHAR*>(text), sizeof(text));
  return text;
}

}  // namespace

struct SplitPattern::Code {
  std::unique_ptr<pcre2_code, CodeDeleter> code;
};

SplitPattern::SplitPattern(std::unique_ptr<Code> code) : code_(std::move(code)) {}
SplitPattern::~SplitPattern() = default;
SplitPattern::SplitPattern(SplitPattern&&) noexcept = default;
SplitPattern& SplitPattern::operator=(SplitPattern&&) noexcept = default;

absl::StatusOr<SplitPattern> SplitPattern::Compile(absl::string_view regex) {
  if (regex.size() > kPatternBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("the pattern has ", regex.size(), " bytes, want at most ", kPatternBytesMax));
  }
  DW_ASSIGN_OR_RETURN(const std::string perl, TranslateOniguruma(regex));
  const std::unique_ptr<pcre2_compile_context, ContextDeleter> context(
      pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE error_offset = 0;
  auto code = std::make_unique<Code>();
  // MULTILINE: ^ and $ are line anchors in Ruby.
  code->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(perl.data()), perl.size(),
                                 PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error, &error_offset,
                                 context.get()));
  if (code->code == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("the pattern does not compile at byte ",
                                                   error_offset, ": ", ErrorText(error)));
  }
  uint32_t matches_empty = 0;
  CHECK_EQ(pcre2_pattern_info(code->code.get(), PCRE2_INFO_MATCHEMPTY, &matches_empty), 0);
  if (matches_empty != 0) {
    return absl::InvalidArgumentError(
        "the pattern can match nothing, want one that matches at least a character");
  }
  // Where the JIT is not allowed, pcre2_match() interprets: slower, same matches.
  pcre2_jit_compile(code->code.get(), PCRE2_JIT_COMPLETE);
  return SplitPattern(std::move(code));
}

absl::StatusOr<SplitPattern> SplitPattern::Literal(absl::string_view text) {
  std::string regex;
  for (const char c : text) {
    if (absl::ascii_ispunct(c)) regex.push_back('\\');
    regex.push_back(c);
  }
  return Compile(regex);
}

absl::Status SplitPattern::FindMatches(absl::string_view text,
                                       std::vector<TextRange>* matches) const {
  matches->clear();
  std::string storage;
  const absl::string_view subject = WithKnownCategories(text, &storage);
  const std::unique_ptr<pcre2_match_data, MatchDataDeleter> data(
      pcre2_match_data_create(1, nullptr));
  const std::unique_ptr<pcre2_match_context, MatchContextDeleter> context(
      pcre2_match_context_create(nullptr));
  CHECK(data != nullptr && context != nullptr) << "out of memory";
  pcre2_set_heap_limit(context.get(), kHeapKibMax);
  const PCRE2_SIZE* const range = pcre2_get_ovector_pointer(data.get());
  const auto match = [&](size_t from, uint32_t options) {
    return pcre2_match(code_->code.get(), reinterpret_cast<PCRE2_SPTR>(subject.data()),
                       subject.size(), from, PCRE2_NO_UTF_CHECK | options, data.get(),
                       context.get());
  };
  for (size_t from = 0; from < subject.size();) {
    int found = match(from, 0);
    // The JIT's stack is small; the interpreter keeps its own on the heap.
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) found = match(from, PCRE2_NO_JIT);
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) {
      return absl::ResourceExhaustedError(absl::StrCat("the pre-tokenizer's pattern fails at byte ",
                                                       from, " of a text of ", text.size(),
                                                       " bytes: ", ErrorText(found)));
    }
    // Compile() was told that this cannot be; an endless loop is no way to learn otherwise.
    if (range[1] <= range[0]) {
      return absl::InternalError("the pre-tokenizer's pattern matched nothing");
    }
    matches->push_back({range[0], range[1]});
    from = range[1];
  }
  return absl::OkStatus();
}

}  // namespace deltaworks::trainer
