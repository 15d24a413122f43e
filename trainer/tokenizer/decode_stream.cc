#include "trainer/tokenizer/decode_stream.h"

#include <algorithm>

#include "trainer/tokenizer/utf8.h"

namespace deltaworks::trainer {
namespace {

// How many bytes at the end of `text` begin a character that is not complete.
size_t IncompleteTail(absl::string_view text) {
  for (size_t size = 1; size <= std::min<size_t>(3, text.size()); ++size) {
    const absl::string_view tail = text.substr(text.size() - size);
    if ((static_cast<uint8_t>(tail[0]) & 0xC0) == 0x80) continue;  // Not where one begins.
    return DecodeUtf8(tail).kind == Utf8Step::Kind::kTruncated ? size : 0;
  }
  return 0;
}

}  // namespace

std::string DecodeStream::Push(int32_t id) {
  if (skip_special_ && tokenizer_.IsSpecial(id)) return "";
  const absl::string_view bytes = tokenizer_.TokenBytes(id);
  pending_.append(bytes.data(), bytes.size());
  const size_t complete = pending_.size() - IncompleteTail(pending_);
  std::string repaired;
  std::string text(ValidUtf8(absl::string_view(pending_).substr(0, complete), &repaired));
  pending_.erase(0, complete);
  return text;
}

std::string DecodeStream::Finish() {
  std::string repaired;
  std::string text(ValidUtf8(pending_, &repaired));
  pending_.clear();
  return text;
}

}  // namespace deltaworks::trainer
