// TextStream: generated tokens as text that may be shown, and where a stop text ends it.
//
// What is given out is whole UTF-8 and never changes: a character is held back until it is
// complete, and text that could become a stop text until it did or did not. Thread-compatible.

#ifndef DELTAWORKS_SERVICES_INFERENCE_TEXT_STREAM_H_
#define DELTAWORKS_SERVICES_INFERENCE_TEXT_STREAM_H_

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/tokenizer/decode_stream.h"
#include "trainer/tokenizer/tokenizer.h"

namespace deltaworks::services {

class TextStream {
 public:
  // `tokenizer` must outlive it. `stop`: not empty each.
  TextStream(const trainer::Tokenizer& tokenizer, std::vector<std::string> stop);

  // The text that `token` makes certain; it ends before the first stop text.
  std::string Push(int32_t token);
  // No token follows: what was held back.
  std::string Finish();

  // A stop text came. From then on nothing is given out.
  bool stopped() const { return stopped_; }

 private:
  std::string Take(bool last);

  trainer::DecodeStream decoder_;
  const std::vector<std::string> stop_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_INFERENCE_TEXT_STREAM_H_
