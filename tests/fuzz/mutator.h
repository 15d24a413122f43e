// Mutator: turns good inputs of a parser into nearly good ones.
//
// Without coverage to guide it, it knows what parsers trip over: lengths and counts (little-endian
// numbers of 1 to 8 bytes and decimal ones are replaced by boundary values), a JSON value of
// another type, pieces of other seeds in the wrong place, repetition and nesting, bytes cut off.
// The same seed gives the same inputs on every machine. Thread-compatible.

#ifndef DELTAWORKS_TESTS_FUZZ_MUTATOR_H_
#define DELTAWORKS_TESTS_FUZZ_MUTATOR_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace deltaworks::fuzz {

class Mutator {
 public:
  static constexpr size_t kInputBytesMax = 16 << 10;

  // `seeds` is not empty.
  Mutator(std::vector<std::string> seeds, uint64_t seed);

  // A seed after one to eight edits, at most kInputBytesMax bytes.
  std::string Next();

 private:
  uint64_t Random();           // xorshift64*.
  size_t Below(size_t bound);  // 0 for a bound of 0.
  std::string PieceOf(const std::string& text);
  uint64_t BoundaryValue(size_t input_bytes);

  void Edit(std::string* input);
  void FlipBit(std::string* input);
  void SetNumber(std::string* input);
  void SetDecimal(std::string* input);
  void SetJsonValue(std::string* input);
  void InsertPiece(std::string* input);
  void OverwriteWithPiece(std::string* input);
  void Erase(std::string* input);
  void Repeat(std::string* input);

  const std::vector<std::string> seeds_;
  uint64_t state_;
};

}  // namespace deltaworks::fuzz

#endif  // DELTAWORKS_TESTS_FUZZ_MUTATOR_H_
