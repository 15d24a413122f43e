#include "trainer/tokenizer/pre_tokenizer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::trainer {
namespace {

// GPT-2's words, as written in ByteLevel of Hugging Face tokenizers.
constexpr absl::string_view kByteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// A stretch of a piece, which is a match or lies between two.
struct Part {
  TextRange range;
  bool is_match = false;
};

void PartsOf(absl::string_view text, const std::vector<TextRange>& matches, bool invert,
             std::vector<Part>* parts) {
  parts->clear();
  size_t end = 0;
  for (const TextRange& match : matches) {
    if (match.begin > end) parts->push_back({{end, match.begin}, invert});
    parts->push_back({match, !invert});
    end = match.end;
  }
  if (end < text.size()) parts->push_back({{end, text.size()}, invert});
}

// Each of the three joins neighbours in place.
void JoinContiguous(std::vector<Part>* parts) {
  size_t count = 0;
  for (const Part& part : *parts) {
    if (count > 0 && (*parts)[count - 1].is_match == part.is_match) {
      (*parts)[count - 1].range.end = part.range.end;
    } else {
      (*parts)[count++] = part;
    }
  }
  parts->resize(count);
}

// A match joins the part before it, unless that is, or ends in, a match.
void JoinPrevious(std::vector<Part>* parts) {
  size_t count = 0;
  for (const Part& part : *parts) {
    if (part.is_match && count > 0 && !(*parts)[count - 1].is_match) {
      (*parts)[count - 1].range.end = part.range.end;
      (*parts)[count - 1].is_match = true;
    } else {
      (*parts)[count++] = part;
    }
  }
  parts->resize(count);
}

// The mirror image: a match joins the part after it.
void JoinNext(std::vector<Part>* parts) {
  const auto mirror = [parts] {
    std::reverse(parts->begin(), parts->end());
    for (Part& part : *parts) std::swap(part.range.begin, part.range.end);
  };
  mirror();
  JoinPrevious(parts);
  mirror();
}

void ApplyBehavior(SplitBehavior behavior, std::vector<Part>* parts) {
  switch (behavior) {
    case SplitBehavior::kIsolated:
      return;
    case SplitBehavior::kRemoved:
      parts->erase(std::remove_if(parts->begin(), parts->end(),
                                  [](const Part& part) { return part.is_match; }),
                   parts->end());
      return;
    case SplitBehavior::kContiguous:
      return JoinContiguous(parts);
    case SplitBehavior::kMergedWithPrevious:
      return JoinPrevious(parts);
    case SplitBehavior::kMergedWithNext:
      return JoinNext(parts);
  }
}

}  // namespace

absl::StatusOr<PreTokenizer> PreTokenizer::Create(const std::vector<PreTokenizerStep>& specs) {
  std::vector<Step> steps;
  for (size_t i = 0; i < specs.size(); ++i) {
    const PreTokenizerStep& spec = specs[i];
    Step step;
    step.behavior = spec.behavior;
    step.invert = spec.invert;
    step.add_prefix_space = spec.add_prefix_space;
    const bool byte_level = spec.kind == PreTokenizerStep::Kind::kByteLevel;
    if (!byte_level || spec.use_regex) {
      absl::StatusOr<SplitPattern> pattern = byte_level ? SplitPattern::Compile(kByteLevelPattern)
                                             : spec.pattern_is_literal
                                                 ? SplitPattern::Literal(spec.pattern)
                                                 : SplitPattern::Compile(spec.pattern);
      if (!pattern.ok()) {
        return absl::Status(pattern.status().code(),
                            absl::StrCat("tokenizer.json: pre_tokenizer step ", i + 1, ": ",
                                         pattern.status().message()));
      }
      step.pattern = *std::move(pattern);
    }
    steps.push_back(std::move(step));
  }
  return PreTokenizer(std::move(steps));
}

absl::Status PreTokenizer::Split(absl::string_view text, Words* words) const {
  words->views.clear();
  words->storage.clear();
  if (text.empty()) return absl::OkStatus();
  words->views.push_back(text);
  std::vector<absl::string_view> pieces;
  std::vector<TextRange> matches;
  std::vector<Part> parts;
  for (const Step& step : steps_) {
    pieces.swap(words->views);
    words->views.clear();
    for (absl::string_view piece : pieces) {
      if (step.add_prefix_space && !absl::StartsWith(piece, " ")) {
        piece = words->storage.emplace_back(absl::StrCat(" ", piece));
      }
      if (!step.pattern.has_value()) {
        words->views.push_back(piece);
        continue;
      }
      DW_RETURN_IF_ERROR(step.pattern->FindMatches(piece, &matches));
      PartsOf(piece, matches, step.invert, &parts);
      ApplyBehavior(step.behavior, &parts);
      for (const Part& part : parts) {
        words->views.push_back(piece.substr(part.range.begin, part.range.end - part.range.begin));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace deltaworks::trainer
