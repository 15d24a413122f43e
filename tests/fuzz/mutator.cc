#include "tests/fuzz/mutator.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace deltaworks::fuzz {
namespace {

constexpr size_t kEditsMax = 8;
constexpr size_t kPieceBytesMax = 64;
constexpr size_t kRepetitionsMax = 2000;

// Deep nesting and odd text, for all formats that are text.
constexpr const char* kFragments[] = {
    "[",    "{\"\":", "]", "}",     "\"",   "\\",           "\\u0000",          "\\ud800",  "null",
    "true", "-",      "0", "1e999", "\xff", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc0\x80", "\n"};

constexpr const char* kJsonValues[] = {"null",  "true",    "0",  "-1",     "1.5", "\"\"",
                                       "\"x\"", "\"a b\"", "[]", "[null]", "{}",  "{\"x\": 1}"};

}  // namespace

Mutator::Mutator(std::vector<std::string> seeds, uint64_t seed)
    : seeds_(std::move(seeds)), state_(seed * 0x9E3779B97F4A7C15u + 1) {
  CHECK(!seeds_.empty());
}

std::string Mutator::Next() {
  std::string input = seeds_[Below(seeds_.size())];
  for (size_t edits = 1 + Below(kEditsMax); edits > 0; --edits) Edit(&input);
  if (input.size() > kInputBytesMax) input.resize(kInputBytesMax);
  return input;
}

uint64_t Mutator::Random() {
  state_ ^= state_ >> 12;
  state_ ^= state_ << 25;
  state_ ^= state_ >> 27;
  return state_ * 0x2545F4914F6CDD1Du;
}

size_t Mutator::Below(size_t bound) { return bound == 0 ? 0 : (Random() >> 16) % bound; }

void Mutator::Edit(std::string* input) {
  switch (Below(12)) {
    case 0:
      return FlipBit(input);
    case 1:
    case 2:
      return SetNumber(input);
    case 3:
    case 4:
      return SetDecimal(input);
    case 5:
    case 6:
      return SetJsonValue(input);
    case 7:
    case 8:
      return InsertPiece(input);
    case 9:
      return OverwriteWithPiece(input);
    case 10:
      return Erase(input);
    default:
      return Repeat(input);
  }
}

void Mutator::FlipBit(std::string* input) {
  if (input->empty()) return;
  char& byte = (*input)[Below(input->size())];
  byte = static_cast<char>(byte ^ (1 << Below(8)));
}

// Values at which sizes, signs and products turn over.
uint64_t Mutator::BoundaryValue(size_t input_bytes) {
  const uint64_t near_power = uint64_t{1} << Below(64);
  switch (Below(6)) {
    case 0:
      return Below(17);
    case 1:
      return near_power;
    case 2:
      return near_power - 1;
    case 3:
      return ~uint64_t{0} - Below(16);
    case 4:
      return input_bytes - 8 + Below(17);
    default:
      return near_power + Below(16);
  }
}

void Mutator::SetNumber(std::string* input) {
  const size_t bytes = size_t{1} << Below(4);
  if (input->size() < bytes) return;
  const uint64_t value = BoundaryValue(input->size());
  const size_t at = Below(input->size() - bytes + 1);
  for (size_t i = 0; i < bytes; ++i) (*input)[at + i] = static_cast<char>(value >> (8 * i));
}

// Replaces the decimal number at or after a random place.
void Mutator::SetDecimal(std::string* input) {
  const auto is_digit = [](char c) { return absl::ascii_isdigit(c); };
  const auto from = input->begin() + static_cast<ptrdiff_t>(Below(input->size()));
  const auto begin = std::find_if(from, input->end(), is_digit);
  if (begin == input->end()) return;
  const auto end = std::find_if_not(begin, input->end(), is_digit);
  const uint64_t value = BoundaryValue(input->size());
  const bool is_negative = Below(4) == 0;
  input->replace(begin, end,
                 is_negative ? absl::StrCat(static_cast<int64_t>(value)) : absl::StrCat(value));
}

// Replaces the quoted string, key or value, at or after a random place.
void Mutator::SetJsonValue(std::string* input) {
  const size_t begin = input->find('"', Below(input->size()));
  if (begin == std::string::npos) return;
  const size_t end = input->find('"', begin + 1);
  if (end == std::string::npos) return;
  input->replace(begin, end - begin + 1, kJsonValues[Below(std::size(kJsonValues))]);
}

std::string Mutator::PieceOf(const std::string& text) {
  const size_t begin = Below(text.size());
  return text.substr(begin, 1 + Below(kPieceBytesMax));
}

void Mutator::InsertPiece(std::string* input) {
  const std::string piece = Below(2) == 0 ? kFragments[Below(std::size(kFragments))]
                                          : PieceOf(seeds_[Below(seeds_.size())]);
  input->insert(Below(input->size() + 1), piece);
}

void Mutator::OverwriteWithPiece(std::string* input) {
  const std::string piece = PieceOf(seeds_[Below(seeds_.size())]);
  input->replace(Below(input->size()), piece.size(), piece);
}

void Mutator::Erase(std::string* input) {
  if (input->empty()) return;
  const size_t begin = Below(input->size());
  switch (Below(3)) {
    case 0:
      input->erase(begin, 1);
      return;
    case 1:
      input->erase(begin, 1 + Below(kPieceBytesMax));
      return;
    default:
      input->erase(begin);
  }
}

void Mutator::Repeat(std::string* input) {
  const std::string piece =
      Below(2) == 0 ? kFragments[Below(std::size(kFragments))] : PieceOf(*input);
  std::string pieces;
  for (size_t count = 1 + Below(kRepetitionsMax); count > 0; --count) pieces += piece;
  if (input->size() + pieces.size() > kInputBytesMax) return;
  input->insert(Below(input->size() + 1), pieces);
}

}  // namespace deltaworks::fuzz
