// GgufBuilder: GGUF files for tests, byte by byte as gguf.h describes them, and with whatever lie
// the test asks for. Nothing is checked here: the parser under test does that.

#ifndef DELTAWORKS_TRAINER_FORMATS_GGUF_BUILDER_H_
#define DELTAWORKS_TRAINER_FORMATS_GGUF_BUILDER_H_

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

namespace deltaworks::trainer {

class GgufBuilder {
 public:
  struct Tensor {
    std::string name;
    std::vector<uint64_t> dimensions;  // Innermost first, as in the file.
    uint32_t type = 0;
    std::string data;
    std::optional<uint64_t> offset;  // Instead of the right one.
  };

  // Public, so that a test can lie about them.
  uint32_t magic = 0x46554747;
  uint32_t version = 3;
  std::optional<uint64_t> tensor_count;
  std::optional<uint64_t> metadata_count;
  uint64_t alignment = 32;  // Of the layout; the metadata key is the test's to add.

  void AddUint32(const std::string& key, uint32_t value);
  void AddInt64(const std::string& key, int64_t value);
  void AddFloat32(const std::string& key, float value);
  void AddBool(const std::string& key, bool value);
  void AddString(const std::string& key, const std::string& value);
  void AddStrings(const std::string& key, const std::vector<std::string>& values);
  void AddInt32s(const std::string& key, const std::vector<int32_t>& values);
  void AddFloat32s(const std::string& key, const std::vector<float>& values);
  // An entry of any type: `bytes` is the value as it stands in the file.
  void AddRaw(const std::string& key, uint32_t type, const std::string& bytes);
  // Forgets what was added under `key`.
  void Remove(const std::string& key);

  void AddTensor(Tensor tensor) { tensors_.push_back(std::move(tensor)); }
  void AddFloatTensor(const std::string& name, const std::vector<uint64_t>& dimensions,
                      const std::vector<float>& values);
  std::vector<Tensor>& tensors() { return tensors_; }

  // Header, metadata and tensor infos.
  std::string Header() const;
  // The whole file.
  std::string Build() const;

  template <typename T>
  static std::string Bytes(const T& value) {
    std::string bytes(sizeof(value), '\0');
    std::memcpy(bytes.data(), &value, sizeof(value));
    return bytes;
  }
  static std::string StringBytes(const std::string& value) {
    return Bytes<uint64_t>(value.size()) + value;
  }

 private:
  struct Entry {
    std::string key;
    uint32_t type = 0;
    std::string bytes;
  };
  uint64_t Aligned(uint64_t size) const { return (size + alignment - 1) / alignment * alignment; }

  std::vector<Entry> metadata_;
  std::vector<Tensor> tensors_;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_FORMATS_GGUF_BUILDER_H_
