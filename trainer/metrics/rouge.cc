#include "trainer/metrics/rouge.h"

#include <algorithm>
#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

namespace deltaworks::trainer {
namespace {

// Words as numbers, the same word the same number in both texts.
using WordIds = std::vector<uint32_t>;

WordIds Number(const std::vector<std::string>& words,
               absl::flat_hash_map<std::string, uint32_t>& numbers) {
  WordIds ids;
  ids.reserve(words.size());
  for (const std::string& word : words) {
    ids.push_back(numbers.try_emplace(word, static_cast<uint32_t>(numbers.size())).first->second);
  }
  return ids;
}

RougeScore Score(int64_t common, int64_t reference_count, int64_t answer_count) {
  RougeScore score;
  score.precision = static_cast<double>(common) / std::max<int64_t>(answer_count, 1);
  score.recall = static_cast<double>(common) / std::max<int64_t>(reference_count, 1);
  if (common > 0) {
    score.f_measure = 2 * score.precision * score.recall / (score.precision + score.recall);
  }
  return score;
}

// Runs of `length` (1 or 2) words, packed in 64 bits, with how often each occurs.
absl::flat_hash_map<uint64_t, int64_t> CountRuns(const WordIds& ids, int length) {
  absl::flat_hash_map<uint64_t, int64_t> counts;
  for (size_t i = 0; i + length <= ids.size(); ++i) {
    ++counts[length == 1 ? ids[i] : uint64_t{ids[i]} << 32 | ids[i + 1]];
  }
  return counts;
}

RougeScore RunScore(const WordIds& reference, const WordIds& answer, int length) {
  const auto reference_counts = CountRuns(reference, length);
  int64_t common = 0;
  for (const auto& [run, count] : CountRuns(answer, length)) {
    const auto found = reference_counts.find(run);
    if (found != reference_counts.end()) common += std::min(count, found->second);
  }
  const auto runs = [length](const WordIds& ids) {
    return std::max<int64_t>(static_cast<int64_t>(ids.size()) - length + 1, 0);
  };
  return Score(common, runs(reference), runs(answer));
}

int64_t LongestCommonSubsequence(const WordIds& a, const WordIds& b) {
  // length[j] is the answer for the words of `a` so far and the first j words of `b`.
  std::vector<int64_t> length(b.size() + 1, 0);
  for (const uint32_t word : a) {
    int64_t diagonal = 0;
    for (size_t j = 1; j <= b.size(); ++j) {
      const int64_t above = length[j];
      length[j] = word == b[j - 1] ? diagonal + 1 : std::max(above, length[j - 1]);
      diagonal = above;
    }
  }
  return length.back();
}

}  // namespace

std::vector<std::string> RougeWords(absl::string_view text) {
  // The only characters outside ASCII whose lower case begins with a letter a-z.
  constexpr absl::string_view kCapitalIWithDot = "\xC4\xB0";
  constexpr absl::string_view kKelvinSign = "\xE2\x84\xAA";
  std::vector<std::string> words;
  std::string word;
  const auto finish = [&] {
    if (!word.empty()) words.push_back(std::move(word));
    word.clear();
  };
  while (!text.empty()) {
    size_t used = 1;
    if (absl::ascii_isalnum(text[0])) {
      word.push_back(absl::ascii_tolower(text[0]));
    } else if (absl::StartsWith(text, kKelvinSign)) {
      word.push_back('k');
      used = kKelvinSign.size();
    } else if (absl::StartsWith(text, kCapitalIWithDot)) {
      // Its lower case is an i and a combining dot, which ends the word.
      word.push_back('i');
      finish();
      used = kCapitalIWithDot.size();
    } else {
      finish();
    }
    text.remove_prefix(used);
  }
  finish();
  return words;
}

RougeScores Rouge(absl::string_view reference, absl::string_view answer) {
  absl::flat_hash_map<std::string, uint32_t> numbers;
  const WordIds reference_ids = Number(RougeWords(reference), numbers);
  const WordIds answer_ids = Number(RougeWords(answer), numbers);
  return RougeScores{
      .rouge1 = RunScore(reference_ids, answer_ids, 1),
      .rouge2 = RunScore(reference_ids, answer_ids, 2),
      .rouge_l = Score(LongestCommonSubsequence(reference_ids, answer_ids), reference_ids.size(),
                       answer_ids.size()),
  };
}

}  // namespace deltaworks::trainer
