// DecodeStream: the text of tokens as they are generated.
//
// A character may be spread over several tokens; it is held back until it is complete, so that
// what was given out never changes. All results of Push() and Finish() together are what
// Tokenizer::Decode() makes of the same ids. Thread-compatible.

#ifndef DELTAWORKS_TRAINER_TOKENIZER_DECODE_STREAM_H_
#define DELTAWORKS_TRAINER_TOKENIZER_DECODE_STREAM_H_

#include <cstdint>
#include <string>

#include "trainer/tokenizer/tokenizer.h"

namespace deltaworks::trainer {

class DecodeStream {
 public:
  // `tokenizer` must outlive the stream.
  DecodeStream(const Tokenizer& tokenizer, bool skip_special)
      : tokenizer_(tokenizer), skip_special_(skip_special) {}

  // The text that `id` completes, often empty; always valid UTF-8.
  std::string Push(int32_t id);

  // What is left: U+FFFD if the last character never became complete. The stream starts anew.
  std::string Finish();

 private:
  const Tokenizer& tokenizer_;
  const bool skip_special_;
  std::string pending_;  // The beginning of one character, at most three bytes.
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_TOKENIZER_DECODE_STREAM_H_
