#include "trainer/tokenizer/added_tokens.h"

#include <algorithm>
#include <utility>

#include "glog/logging.h"
#include "trainer/tokenizer/utf8.h"

namespace deltaworks::trainer {
namespace {

size_t LeadingSpace(absl::string_view text) {
  size_t size = 0;
  while (size < text.size()) {
    const Utf8Step step = DecodeUtf8(text.substr(size));
    if (!IsWhiteSpace(step.code_point)) break;
    size += step.size_bytes;
  }
  return size;
}

// Where the white space at the end of `text` begins.
size_t TrailingSpaceBegin(absl::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    size_t begin = end - 1;
    while (begin > 0 && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) --begin;
    if (!IsWhiteSpace(DecodeUtf8(text.substr(begin)).code_point)) break;
    end = begin;
  }
  return end;
}

uint64_t ChildKey(int32_t node, uint8_t byte) { return (static_cast<uint64_t>(node) << 8) | byte; }

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedTokenSpec> tokens)
    : tokens_(std::move(tokens)), node_token_(1, -1) {
  root_.fill(-1);
  for (size_t i = 0; i < tokens_.size(); ++i) {
    CHECK(!tokens_[i].text.empty());
    int32_t node = 0;
    for (const char c : tokens_[i].text) {
      const uint8_t byte = static_cast<uint8_t>(c);
      int32_t child = Child(node, byte);
      if (child < 0) {
        child = static_cast<int32_t>(node_token_.size());
        node_token_.push_back(-1);
        (node == 0 ? root_[byte] : children_[ChildKey(node, byte)]) = child;
      }
      node = child;
    }
    // Normalisation can make two tokens equal; the first one counts.
    if (node_token_[node] < 0) node_token_[node] = static_cast<int32_t>(i);
  }
}

int32_t AddedTokens::Child(int32_t node, uint8_t byte) const {
  if (node == 0) return root_[byte];
  const auto child = children_.find(ChildKey(node, byte));
  return child == children_.end() ? -1 : child->second;
}

const AddedTokenSpec* AddedTokens::Match(absl::string_view text) const {
  int32_t longest = -1;
  int32_t node = 0;
  for (const char c : text) {
    node = Child(node, static_cast<uint8_t>(c));
    if (node < 0) break;
    if (node_token_[node] >= 0) longest = node_token_[node];
  }
  return longest < 0 ? nullptr : &tokens_[longest];
}

void AddedTokens::Split(absl::string_view text, bool parse_special,
                        std::vector<Piece>* pieces) const {
  pieces->clear();
  size_t done = 0;  // Everything before is in `pieces`.
  for (size_t i = 0; i < text.size();) {
    const AddedTokenSpec* const token = Match(text.substr(i));
    if (token == nullptr) {
      ++i;
      continue;
    }
    size_t begin = i;
    size_t end = i + token->text.size();
    i = end;
    if (token->special && !parse_special) continue;
    if (token->lstrip) begin = std::max(done, TrailingSpaceBegin(text.substr(0, begin)));
    if (token->rstrip) end += LeadingSpace(text.substr(end));
    if (begin > done) pieces->push_back({text.substr(done, begin - done), -1});
    pieces->push_back({text.substr(begin, end - begin), token->id});
    done = end;
  }
  if (done < text.size()) pieces->push_back({text.substr(done), -1});
}

bool AddedTokens::HasSpecial(absl::string_view text) const {
  for (size_t i = 0; i < text.size();) {
    const AddedTokenSpec* const token = Match(text.substr(i));
    if (token != nullptr && token->special) return true;
    i += token == nullptr ? 1 : token->text.size();
  }
  return false;
}

}  // namespace deltaworks::trainer
