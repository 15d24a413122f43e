#include "trainer/comm/message_header.h"

#include "absl/strings/str_cat.h"
#include "trainer/base/status_macros.h"
#include "trainer/comm/communicator.h"

namespace deltaworks::trainer {
namespace {

std::string What(const MessageHeader& header) {
  switch (header.operation) {
    case Operation::kOrderedSum:
      return absl::StrCat("sum ", header.sequence, " of ", header.count, " floats");
    case Operation::kBroadcast:
      return absl::StrCat("broadcast ", header.sequence, " of ", header.count, " bytes from rank ",
                          header.root);
    case Operation::kBarrier:
      return absl::StrCat("barrier ", header.sequence);
  }
  return absl::StrCat("unknown operation ", static_cast<uint32_t>(header.operation));
}

absl::Status CheckHeader(const MessageHeader& mine, const MessageHeader& theirs, int peer) {
  if (theirs.magic != MessageHeader::kMagic) {
    return absl::FailedPreconditionError(absl::StrCat(
        Describe(mine), ": rank ", peer, " sent ", absl::Hex(theirs.magic, absl::kZeroPad16),
        " where a header begins, want ", absl::Hex(MessageHeader::kMagic)));
  }
  if (theirs.rank != peer || theirs.size != mine.size) {
    return absl::FailedPreconditionError(
        absl::StrCat(Describe(mine), ": rank ", peer, " says it is rank ", theirs.rank, " of ",
                     theirs.size, ", want rank ", peer, " of ", mine.size));
  }
  if (theirs.operation != mine.operation || theirs.sequence != mine.sequence) {
    return absl::FailedPreconditionError(absl::StrCat(Describe(mine), ": rank ", peer, " is at ",
                                                      What(theirs), ", want ", What(mine)));
  }
  if (theirs.count != mine.count || theirs.root != mine.root) {
    return absl::InvalidArgumentError(absl::StrCat(Describe(mine), ": rank ", peer, " has ",
                                                   What(theirs), ", want ", What(mine)));
  }
  return absl::OkStatus();
}

}  // namespace

std::string Describe(const MessageHeader& header) {
  return absl::StrCat("rank ", header.rank, " of ", header.size, ": ", What(header));
}

absl::Status CheckHeaders(const MessageHeader& mine, const std::vector<MessageHeader>& theirs) {
  for (int peer = 0; peer < theirs.size(); ++peer) {
    DW_RETURN_IF_ERROR(CheckHeader(mine, theirs[peer], peer));
  }
  return absl::OkStatus();
}

absl::Status CheckBounds(const MessageHeader& mine) {
  const int64_t unit = mine.operation == Operation::kOrderedSum ? sizeof(float) : 1;
  const int64_t count_max = Communicator::kBytesMax / unit;
  if (mine.count < 0 || mine.count > count_max) {
    return absl::InvalidArgumentError(
        absl::StrCat(Describe(mine), ": count is ", mine.count, ", want 0..", count_max));
  }
  if (mine.root < 0 || mine.root >= mine.size) {
    return absl::InvalidArgumentError(
        absl::StrCat(Describe(mine), ": root is ", mine.root, ", want 0..", mine.size - 1));
  }
  return absl::OkStatus();
}

}  // namespace deltaworks::trainer
