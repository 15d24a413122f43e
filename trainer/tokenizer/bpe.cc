#include "trainer/tokenizer/bpe.h"

#include <algorithm>
#include <limits>
#include <tuple>

#include "glog/logging.h"
#include "trainer/tokenizer/byte_alphabet.h"

namespace deltaworks::trainer {
namespace {

constexpr int32_t kGone = -2;

uint64_t PairKey(int32_t left, int32_t right) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
}

// The heap's top is the candidate of lowest rank, then of lowest position.
bool ComesLater(const Bpe::Scratch::Candidate& a, const Bpe::Scratch::Candidate& b) {
  return std::tie(a.rank, a.position) > std::tie(b.rank, b.position);
}

}  // namespace

Bpe::Bpe(const TokenizerSpec& spec) : unk_id_(spec.unk_id), fuse_unk_(spec.fuse_unk) {
  byte_ids_.fill(-1);
  absl::flat_hash_map<std::string, uint8_t> alphabet;
  for (int byte = 0; byte < 256; ++byte) {
    alphabet[ByteToAlphabet(static_cast<uint8_t>(byte))] = static_cast<uint8_t>(byte);
  }
  for (const TokenSpec& token : spec.vocab) {
    if (const auto byte = alphabet.find(token.text); byte != alphabet.end()) {
      byte_ids_[byte->second] = token.id;
    }
    if (spec.ignore_merges) words_[AlphabetToBytes(token.text)] = token.id;
  }
  merges_.reserve(spec.merges.size());
  for (size_t rank = 0; rank < spec.merges.size(); ++rank) {
    const MergeSpec& merge = spec.merges[rank];
    // Of two merges of the same pair the later one counts, as in the original.
    merges_[PairKey(merge.left, merge.right)] = {static_cast<int32_t>(rank), merge.merged};
  }
}

void Bpe::Encode(absl::string_view word, Scratch* scratch, std::vector<int32_t>* ids) const {
  CHECK_LT(word.size(), static_cast<size_t>(std::numeric_limits<int32_t>::max()));
  if (!words_.empty()) {
    if (const auto whole = words_.find(word); whole != words_.end()) {
      ids->push_back(whole->second);
      return;
    }
  }
  AppendSymbols(word, &scratch->symbols);
  ApplyMerges(scratch);
  for (const Scratch::Symbol& symbol : scratch->symbols) {
    if (symbol.next != kGone) ids->push_back(symbol.id);
  }
}

void Bpe::AppendSymbols(absl::string_view word, std::vector<Scratch::Symbol>* symbols) const {
  symbols->clear();
  bool after_unk = false;
  for (const char byte : word) {
    int32_t id = byte_ids_[static_cast<uint8_t>(byte)];
    const bool unk = id < 0;
    if (unk && (!unk_id_.has_value() || (after_unk && fuse_unk_))) continue;
    if (unk) id = *unk_id_;
    after_unk = unk;
    const int32_t position = static_cast<int32_t>(symbols->size());
    symbols->push_back({id, position - 1, position + 1});
  }
}

void Bpe::PushCandidate(int32_t position, Scratch* scratch) const {
  const Scratch::Symbol& left = scratch->symbols[position];
  const auto merge = merges_.find(PairKey(left.id, scratch->symbols[left.next].id));
  if (merge == merges_.end()) return;
  scratch->heap.push_back({merge->second.rank, position, merge->second.merged});
  std::push_heap(scratch->heap.begin(), scratch->heap.end(), ComesLater);
}

void Bpe::ApplyMerges(Scratch* scratch) const {
  auto& symbols = scratch->symbols;
  auto& heap = scratch->heap;
  heap.clear();
  const int32_t size = static_cast<int32_t>(symbols.size());
  for (int32_t i = 0; i + 1 < size; ++i) PushCandidate(i, scratch);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), ComesLater);
    const Scratch::Candidate top = heap.back();
    heap.pop_back();
    Scratch::Symbol& left = symbols[top.position];
    if (left.next == kGone || left.next == size) continue;
    Scratch::Symbol& right = symbols[left.next];
    // Stale if the pair has changed since; the original compares what it would become.
    const auto merge = merges_.find(PairKey(left.id, right.id));
    if (merge == merges_.end() || merge->second.merged != top.merged) continue;
    left.id = top.merged;
    left.next = right.next;
    right.next = kGone;
    if (left.next < size) symbols[left.next].previous = top.position;
    if (left.previous >= 0) PushCandidate(left.previous, scratch);
    if (left.next < size) PushCandidate(top.position, scratch);
  }
}

}  // namespace deltaworks::trainer
