#include "trainer/formats/gguf_quant.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "trainer/formats/float16.h"
#include "trainer/tensor.h"

namespace deltaworks::trainer {
namespace {

enum TypeId : uint32_t { kF32 = 0, kF16 = 1, kQ4_0 = 2, kQ4_1 = 3, kQ8_0 = 8, kBF16 = 30 };

constexpr GgufTensorType kTypes[] = {
    {kF32, "F32", 1, 4},     {kF16, "F16", 1, 2},     {kQ4_0, "Q4_0", 32, 18},
    {kQ4_1, "Q4_1", 32, 20}, {kQ8_0, "Q8_0", 32, 34}, {kBF16, "BF16", 1, 2},
};

// Types of ggml that we refuse, so that the refusal can name them.
constexpr GgufTensorType kRefusedTypes[] = {
    {6, "Q5_0"},   {7, "Q5_1"},    {9, "Q8_1"},   {10, "Q2_K"},    {11, "Q3_K"},   {12, "Q4_K"},
    {13, "Q5_K"},  {14, "Q6_K"},   {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"},
    {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"}, {22, "IQ2_S"},   {23, "IQ4_XS"}, {24, "I8"},
    {25, "I16"},   {26, "I32"},    {27, "I64"},   {28, "F64"},     {29, "IQ1_M"},  {34, "TQ1_0"},
    {35, "TQ2_0"}, {39, "MXFP4"},
};

constexpr int64_t kBlock = 32;
constexpr int64_t kHalfBlock = kBlock / 2;

template <typename T>
T Load(const char* source) {
  T value;
  std::memcpy(&value, source, sizeof(value));
  return value;
}

void DequantizeQ4_0(const char* block, float* out) {
  const float d = FloatFromHalf(Load<uint16_t>(block));
  const auto* q = reinterpret_cast<const uint8_t*>(block + 2);
  for (int64_t i = 0; i < kHalfBlock; ++i) {
    out[i] = d * static_cast<float>(static_cast<int>(q[i] & 15) - 8);
    out[i + kHalfBlock] = d * static_cast<float>(static_cast<int>(q[i] >> 4) - 8);
  }
}

void DequantizeQ4_1(const char* block, float* out) {
  const float d = FloatFromHalf(Load<uint16_t>(block));
  const float m = FloatFromHalf(Load<uint16_t>(block + 2));
  const auto* q = reinterpret_cast<const uint8_t*>(block + 4);
  for (int64_t i = 0; i < kHalfBlock; ++i) {
    out[i] = d * static_cast<float>(q[i] & 15) + m;
    out[i + kHalfBlock] = d * static_cast<float>(q[i] >> 4) + m;
  }
}

void DequantizeQ8_0(const char* block, float* out) {
  const float d = FloatFromHalf(Load<uint16_t>(block));
  const auto* q = reinterpret_cast<const int8_t*>(block + 2);
  for (int64_t i = 0; i < kBlock; ++i) out[i] = d * static_cast<float>(q[i]);
}

}  // namespace

const GgufTensorType* FindGgufTensorType(uint32_t id) {
  for (const GgufTensorType& type : kTypes) {
    if (type.id == id) return &type;
  }
  return nullptr;
}

std::string GgufTensorTypeName(uint32_t id) {
  if (const GgufTensorType* type = FindGgufTensorType(id)) return std::string(type->name);
  for (const GgufTensorType& type : kRefusedTypes) {
    if (type.id == id) return std::string(type.name);
  }
  return absl::StrCat("type ", id);
}

std::string SupportedGgufTensorTypes() {
  std::string text;
  for (const GgufTensorType& type : kTypes) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", type.name);
  }
  return text;
}

void DequantizeGguf(const GgufTensorType& type, const char* source, int64_t elements, float* out) {
  CHECK_EQ(elements % type.block_elements, 0) << type.name;
  const int64_t blocks = elements / type.block_elements;
  const auto each_block = [&](auto convert) {
    for (int64_t b = 0; b < blocks; ++b) {
      convert(source + b * type.block_bytes, out + b * type.block_elements);
    }
  };
  switch (type.id) {
    case kF32:
      std::memcpy(out, source, static_cast<size_t>(elements) * sizeof(float));
      return;
    case kF16:
      return each_block(
          [](const char* in, float* value) { *value = FloatFromHalf(Load<uint16_t>(in)); });
    case kBF16:
      return each_block(
          [](const char* in, float* value) { *value = static_cast<float>(Load<BFloat16>(in)); });
    case kQ4_0:
      return each_block(DequantizeQ4_0);
    case kQ4_1:
      return each_block(DequantizeQ4_1);
    case kQ8_0:
      return each_block(DequantizeQ8_0);
  }
  LOG(FATAL) << "no dequantiser for " << type.name;
}

}  // namespace deltaworks::trainer
