// ByteReader: little-endian numbers and byte strings out of memory that nobody vouches for. Every
// read is checked against what is left before a byte is touched; nothing is allocated. Errors
// (InvalidArgument) say where, what was wanted and what there was:
//   "x.gguf: byte 24: metadata key needs 900 bytes, 12 are left".
// The bytes must outlive the reader and everything it returned. Thread-compatible.

#ifndef DELTAWORKS_TRAINER_FORMATS_BYTE_READER_H_
#define DELTAWORKS_TRAINER_FORMATS_BYTE_READER_H_

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace deltaworks::trainer {

static_assert(std::endian::native == std::endian::little,
              "numbers in files are copied as they are");

class ByteReader {
 public:
  // `subject` begins every message.
  ByteReader(absl::string_view bytes, absl::string_view subject)
      : bytes_(bytes), subject_(subject) {}

  // `what` names the thing wanted in the message.
  template <typename Number>
  absl::StatusOr<Number> Read(absl::string_view what) {
    if (remaining() < sizeof(Number)) return TooShort(sizeof(Number), what);
    Number value;
    std::memcpy(&value, bytes_.data() + position_, sizeof(value));
    position_ += sizeof(value);
    return value;
  }

  absl::StatusOr<absl::string_view> ReadBytes(uint64_t count, absl::string_view what) {
    if (remaining() < count) return TooShort(count, what);
    const absl::string_view result = bytes_.substr(position_, count);
    position_ += count;
    return result;
  }

  size_t position() const { return position_; }
  size_t remaining() const { return bytes_.size() - position_; }

 private:
  absl::Status TooShort(uint64_t count, absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat(subject_, ": byte ", position_, ": ", what,
                                                   " needs ", count, " bytes, ", remaining(),
                                                   " are left"));
  }

  const absl::string_view bytes_;
  const absl::string_view subject_;
  size_t position_ = 0;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_FORMATS_BYTE_READER_H_
