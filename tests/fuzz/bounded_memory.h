// BoundedMemory: ends the program when a parser holds more memory than its input can justify.
//
// While one is alive, every allocation of the program is counted by the hooks of AddressSanitizer;
// above kFixedBytes + kBytesPerByte for each byte of input the program aborts, in the allocation
// that went too far. Without AddressSanitizer nothing is counted. One at a time, one thread.

#ifndef DELTAWORKS_TESTS_FUZZ_BOUNDED_MEMORY_H_
#define DELTAWORKS_TESTS_FUZZ_BOUNDED_MEMORY_H_

#include <cstddef>
#include <cstdint>

namespace deltaworks::fuzz {

class BoundedMemory {
 public:
  static constexpr int64_t kFixedBytes = int64_t{64} << 20;
  static constexpr int64_t kBytesPerByte = 64;

  explicit BoundedMemory(size_t input_bytes);
  ~BoundedMemory();
  BoundedMemory(const BoundedMemory&) = delete;
  BoundedMemory& operator=(const BoundedMemory&) = delete;
};

}  // namespace deltaworks::fuzz

#endif  // DELTAWORKS_TESTS_FUZZ_BOUNDED_MEMORY_H_
