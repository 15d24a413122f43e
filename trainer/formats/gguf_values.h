// The value types of GGUF's metadata: what the parser and the typed accessors share. Internal to
// this folder.

#ifndef DELTAWORKS_TRAINER_FORMATS_GGUF_VALUES_H_
#define DELTAWORKS_TRAINER_FORMATS_GGUF_VALUES_H_

#include <cstdint>
#include <string>

namespace deltaworks::trainer {

enum GgufValueType : uint32_t {
  kGgufUint8 = 0,
  kGgufInt8 = 1,
  kGgufUint16 = 2,
  kGgufInt16 = 3,
  kGgufUint32 = 4,
  kGgufInt32 = 5,
  kGgufFloat32 = 6,
  kGgufBool = 7,
  kGgufString = 8,
  kGgufArray = 9,
  kGgufUint64 = 10,
  kGgufInt64 = 11,
  kGgufFloat64 = 12,
};

// Bytes of one scalar; 0 for strings, arrays and unknown types.
inline int64_t GgufScalarBytes(uint32_t type) {
  switch (type) {
    case kGgufUint8:
    case kGgufInt8:
    case kGgufBool:
      return 1;
    case kGgufUint16:
    case kGgufInt16:
      return 2;
    case kGgufUint32:
    case kGgufInt32:
    case kGgufFloat32:
      return 4;
    case kGgufUint64:
    case kGgufInt64:
    case kGgufFloat64:
      return 8;
    default:
      return 0;
  }
}

// "uint8", ..., "type 77".
std::string GgufValueTypeName(uint32_t type);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_FORMATS_GGUF_VALUES_H_
