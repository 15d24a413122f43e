#include "services/inference/text_stream.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"

namespace deltaworks::services {
namespace {

// Bytes at the end of `text` that begin `stop`, but are not all of it.
size_t BeginningAtEnd(absl::string_view text, absl::string_view stop) {
  for (size_t size = std::min(text.size(), stop.size() - 1); size > 0; --size) {
    if (absl::EndsWith(text, stop.substr(0, size))) return size;
  }
  return 0;
}

}  // namespace

TextStream::TextStream(const trainer::Tokenizer& tokenizer, std::vector<std::string> stop)
    : decoder_(tokenizer, /*skip_special=*/true), stop_(std::move(stop)) {}

std::string TextStream::Push(int32_t token) {
  if (stopped_) return "";
  held_ += decoder_.Push(token);
  return Take(/*last=*/false);
}

std::string TextStream::Finish() {
  if (stopped_) return "";
  held_ += decoder_.Finish();
  return Take(/*last=*/true);
}

std::string TextStream::Take(bool last) {
  size_t end = held_.size(), kept = 0;
  for (const std::string& stop : stop_) {
    const size_t found = held_.find(stop);
    if (found != std::string::npos) {
      stopped_ = true;
      end = std::min(end, found);
    }
    kept = std::max(kept, BeginningAtEnd(held_, stop));
  }
  if (!stopped_ && !last) end = held_.size() - kept;
  std::string text = held_.substr(0, end);
  held_.erase(0, end);
  return text;
}

}  // namespace deltaworks::services
