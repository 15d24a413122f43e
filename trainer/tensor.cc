#include "trainer/tensor.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace deltaworks::trainer {

int64_t SizeOf(DType dtype) {
  switch (dtype) {
    case DType::kF64:
    case DType::kI64:
      return 8;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kF16:
    case DType::kBF16:
      return 2;
    case DType::kF8E4M3:
    case DType::kU8:
      return 1;
  }
  LOG(FATAL) << "unknown DType " << static_cast<int>(dtype);
}

absl::string_view NameOf(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return "F64";
    case DType::kF32:
      return "F32";
    case DType::kF16:
      return "F16";
    case DType::kBF16:
      return "BF16";
    case DType::kF8E4M3:
      return "F8_E4M3";
    case DType::kI32:
      return "I32";
    case DType::kI64:
      return "I64";
    case DType::kU8:
      return "U8";
  }
  LOG(FATAL) << "unknown DType " << static_cast<int>(dtype);
}

std::optional<DType> DTypeFromName(absl::string_view safetensors_name) {
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kF16, DType::kBF16, DType::kI32,
                            DType::kI64, DType::kU8}) {
    if (NameOf(dtype) == safetensors_name) return dtype;
  }
  return std::nullopt;
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

}  // namespace deltaworks::trainer
