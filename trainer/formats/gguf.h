// GGUF: the file format of llama.cpp, little-endian, versions 2 and 3; read only.
//
//   u32 magic "GGUF"   u32 version   u64 number of tensors   u64 number of metadata entries
//   metadata entry     string key, u32 value type, value; an array is u32 element type, u64 count,
//                      elements. A string is u64 length and that many bytes.
//   tensor             string name, u32 n, n x u64 dimension (innermost first), u32 type,
//                      u64 offset from the start of the data
//   padding to general.alignment (32 unless said otherwise), then the data
//
// Reads hostile input: each count and length is compared with the bytes that are left before
// anything is allocated, so memory is bounded by a small multiple of the header; keys and names
// may occur once; tensors must lie inside the file, aligned, without overlap. Errors are
// InvalidArgument with subject, got, want. Arrays of arrays do not occur and are refused.
//
// Everything here is a view of the file's bytes, which must outlive it, and immutable.

#ifndef DELTAWORKS_TRAINER_FORMATS_GGUF_H_
#define DELTAWORKS_TRAINER_FORMATS_GGUF_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "trainer/base/file.h"
#include "trainer/formats/gguf_quant.h"

namespace deltaworks::trainer {

// A metadata value: its raw bytes, validated.
struct GgufValue {
  uint32_t type = 0;          // 9 for an array.
  uint32_t element_type = 0;  // Of an array, else equal to `type`.
  uint64_t count = 1;         // Elements of an array, else 1.
  absl::string_view bytes;    // The elements, one after the other.
};

struct GgufTensor {
  std::string name;
  const GgufTensorType* type = nullptr;
  std::vector<int64_t> shape;  // Outermost first, as everywhere else in the trainer.
  absl::string_view bytes;

  int64_t row_elements() const { return shape.back(); }
  int64_t rows() const;
};

class Gguf {
 public:
  // The typed value of `key`. InvalidArgument if it is absent or of another type. Integers of any
  // width are read as int64; a Float is f32 or f64, and an f32 becomes the shortest decimal number
  // that rounds to it (1e-05, not 9.999999747378752e-06).
  absl::StatusOr<int64_t> Int(const std::string& key) const;
  absl::StatusOr<double> Float(const std::string& key) const;
  absl::StatusOr<bool> Bool(const std::string& key) const;
  absl::StatusOr<absl::string_view> String(const std::string& key) const;
  absl::StatusOr<std::vector<int64_t>> Ints(const std::string& key) const;
  absl::StatusOr<std::vector<double>> Floats(const std::string& key) const;
  absl::StatusOr<std::vector<absl::string_view>> Strings(const std::string& key) const;
  bool Has(const std::string& key) const { return metadata_.contains(key); }

  const std::map<std::string, GgufValue>& metadata() const { return metadata_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }  // In the file's order.
  // nullptr if there is none of this name.
  const GgufTensor* Find(absl::string_view name) const;
  const std::string& subject() const { return subject_; }
  uint32_t version() const { return version_; }

 private:
  friend class GgufParser;
  absl::StatusOr<const GgufValue*> Value(const std::string& key, absl::string_view want) const;
  absl::Status WrongType(const std::string& key, const GgufValue& value,
                         absl::string_view want) const;

  std::string subject_;
  uint32_t version_ = 0;
  std::map<std::string, GgufValue> metadata_;
  std::vector<GgufTensor> tensors_;
};

// Parses the bytes of a whole file; `subject` begins every message.
absl::StatusOr<Gguf> ParseGguf(absl::string_view bytes, absl::string_view subject);

// Rows [row_begin, row_end) of `tensor` as f32. `out` has room for exactly that (CHECK). A tensor
// of one dimension is one row.
void DequantizeRows(const GgufTensor& tensor, int64_t row_begin, int64_t row_end,
                    absl::Span<float> out);

// A GGUF file, mapped read-only.
class GgufFile {
 public:
  static absl::StatusOr<std::unique_ptr<GgufFile>> Open(const std::string& path);
  const Gguf& contents() const { return contents_; }

 private:
  GgufFile(std::unique_ptr<MappedFile> file, Gguf contents)
      : file_(std::move(file)), contents_(std::move(contents)) {}
  const std::unique_ptr<MappedFile> file_;
  const Gguf contents_;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_FORMATS_GGUF_H_
