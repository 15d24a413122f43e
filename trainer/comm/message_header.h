// MessageHeader: what a rank says to every other before an operation, 64 bytes.
//
// Headers travel in the machine's own byte order, which is little-endian on every machine we know;
// one of another order would send another magic and be refused. Shared by all implementations, so
// that a disagreement reads the same everywhere. Pure functions.

#ifndef DELTAWORKS_TRAINER_COMM_MESSAGE_HEADER_H_
#define DELTAWORKS_TRAINER_COMM_MESSAGE_HEADER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace deltaworks::trainer {

enum class Operation : uint32_t { kOrderedSum = 1, kBroadcast = 2, kBarrier = 3 };

struct MessageHeader {
  static constexpr uint64_t kMagic = 0x31304d4d4f435744;  // "DWCOMM01".

  uint64_t magic = kMagic;
  uint64_t sequence = 0;  // 1 for the first operation of the gang.
  Operation operation = Operation::kBarrier;
  int32_t root = 0;   // Of a broadcast, else 0.
  int64_t count = 0;  // Floats of a sum, bytes of a broadcast, else 0.
  int32_t rank = 0;   // The sender.
  int32_t size = 0;
  uint8_t reserved[24] = {};
};
static_assert(sizeof(MessageHeader) == 64);

// "rank 0 of 4: sum 7 of 100 floats": how every error of an operation begins.
std::string Describe(const MessageHeader& header);

// Whether `theirs`, one per rank in rank order (one's own included), agree with `mine`. The first
// rank that does not is named:
//   FailedPrecondition  it sent no header of this protocol, or is at another operation or call.
//   InvalidArgument     it gave another count or root.
absl::Status CheckHeaders(const MessageHeader& mine, const std::vector<MessageHeader>& theirs);

// InvalidArgument if count or root is out of bounds.
absl::Status CheckBounds(const MessageHeader& mine);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_COMM_MESSAGE_HEADER_H_
