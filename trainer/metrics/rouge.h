// ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004): how much of a reference text an answer contains.
//
// The numbers are those of Google's rouge-score package with use_stemmer = False, equal to the
// last bit; there is no stemmer. Text is lower-cased, every run of characters other than a-z and
// 0-9 separates words, so a text in another script has no words and scores 0.
//
// Pure functions, thread-safe. ROUGE-L takes time in the product of the two word counts, memory
// in their sum.

#ifndef DELTAWORKS_TRAINER_METRICS_ROUGE_H_
#define DELTAWORKS_TRAINER_METRICS_ROUGE_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace deltaworks::trainer {

// Each in [0, 1]; 0 where a text has no words (or no two words, for ROUGE-2).
struct RougeScore {
  double precision = 0;  // Share of the answer that is in the reference.
  double recall = 0;     // Share of the reference that is in the answer.
  double f_measure = 0;  // Their harmonic mean.
};

struct RougeScores {
  RougeScore rouge1;   // Single words, counted with their multiplicity.
  RougeScore rouge2;   // Pairs of neighbouring words.
  RougeScore rouge_l;  // The longest common subsequence of words.
};

RougeScores Rouge(absl::string_view reference, absl::string_view answer);

// The words that Rouge() compares. `text` is UTF-8; invalid bytes separate words.
std::vector<std::string> RougeWords(absl::string_view text);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_METRICS_ROUGE_H_
