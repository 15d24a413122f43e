#include "trainer/formats/gguf_builder.h"

#include <utility>

namespace deltaworks::trainer {
namespace {

constexpr uint32_t kInt32 = 5;
constexpr uint32_t kFloat32 = 6;
constexpr uint32_t kString = 8;
constexpr uint32_t kArray = 9;

template <typename T>
std::string ArrayBytes(uint32_t element_type, const std::vector<T>& values) {
  std::string bytes =
      GgufBuilder::Bytes(element_type) + GgufBuilder::Bytes<uint64_t>(values.size());
  for (const T& value : values) bytes += GgufBuilder::Bytes(value);
  return bytes;
}

}  // namespace

void GgufBuilder::AddUint32(const std::string& key, uint32_t value) {
  AddRaw(key, 4, Bytes(value));
}
void GgufBuilder::AddInt64(const std::string& key, int64_t value) { AddRaw(key, 11, Bytes(value)); }
void GgufBuilder::AddFloat32(const std::string& key, float value) {
  AddRaw(key, kFloat32, Bytes(value));
}
void GgufBuilder::AddBool(const std::string& key, bool value) {
  AddRaw(key, 7, Bytes(static_cast<uint8_t>(value)));
}
void GgufBuilder::AddString(const std::string& key, const std::string& value) {
  AddRaw(key, kString, StringBytes(value));
}
void GgufBuilder::AddStrings(const std::string& key, const std::vector<std::string>& values) {
  std::string bytes = Bytes(kString) + Bytes<uint64_t>(values.size());
  for (const std::string& value : values) bytes += StringBytes(value);
  AddRaw(key, kArray, bytes);
}
void GgufBuilder::AddInt32s(const std::string& key, const std::vector<int32_t>& values) {
  AddRaw(key, kArray, ArrayBytes(kInt32, values));
}
void GgufBuilder::AddFloat32s(const std::string& key, const std::vector<float>& values) {
  AddRaw(key, kArray, ArrayBytes(kFloat32, values));
}
void GgufBuilder::AddRaw(const std::string& key, uint32_t type, const std::string& bytes) {
  metadata_.push_back({key, type, bytes});
}

void GgufBuilder::Remove(const std::string& key) {
  std::erase_if(metadata_, [&](const Entry& entry) { return entry.key == key; });
}

void GgufBuilder::AddFloatTensor(const std::string& name, const std::vector<uint64_t>& dimensions,
                                 const std::vector<float>& values) {
  std::string data;
  for (const float value : values) data += Bytes(value);
  AddTensor({.name = name, .dimensions = dimensions, .type = 0, .data = std::move(data)});
}

std::string GgufBuilder::Header() const {
  std::string file = Bytes(magic) + Bytes(version) + Bytes(tensor_count.value_or(tensors_.size())) +
                     Bytes(metadata_count.value_or(metadata_.size()));
  for (const Entry& entry : metadata_) {
    file += StringBytes(entry.key) + Bytes(entry.type) + entry.bytes;
  }
  uint64_t offset = 0;
  for (const Tensor& tensor : tensors_) {
    file += StringBytes(tensor.name) + Bytes(static_cast<uint32_t>(tensor.dimensions.size()));
    for (const uint64_t size : tensor.dimensions) file += Bytes(size);
    file += Bytes(tensor.type) + Bytes(tensor.offset.value_or(offset));
    offset = Aligned(offset + tensor.data.size());
  }
  return file;
}

std::string GgufBuilder::Build() const {
  std::string file = Header();
  for (const Tensor& tensor : tensors_) {
    file.resize(Aligned(file.size()), '\0');
    file += tensor.data;
  }
  return file;
}

}  // namespace deltaworks::trainer
