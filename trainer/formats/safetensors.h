// Safetensors: named tensors in one file, as Hugging Face defined it.
//
//   bytes 0..7        H, the length of the header, little-endian u64
//   bytes 8..8+H      JSON: {"__metadata__": {string: string},
//                            name: {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}}
//   bytes 8+H..       data; offsets count from here, without holes, overlaps or a tail
//
// Reading takes hostile input: everything above is checked before a tensor is handed out, and an
// error (InvalidArgument) names the tensor, what the file says and what would be right. Views
// point into the file's bytes; nothing is copied.
//
// Writing is deterministic: equal tensors and metadata give equal bytes. The header lists names in
// byte order and is padded with spaces so that data begins at a multiple of 64; data lies by
// element size, largest first, then by name, so that every tensor is aligned to its type (the
// order of Hugging Face's own writer).
//
// Values and files read are immutable: any thread may use them. A writer is thread-compatible.

#ifndef DELTAWORKS_TRAINER_FORMATS_SAFETENSORS_H_
#define DELTAWORKS_TRAINER_FORMATS_SAFETENSORS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "trainer/base/file.h"
#include "trainer/tensor.h"

namespace deltaworks::trainer {

using TensorMap = std::map<std::string, ConstTensorView>;  // In byte order of the names.
using StringMap = std::map<std::string, std::string>;

// What a file holds; views are valid as long as the bytes they were parsed from.
struct Safetensors {
  TensorMap tensors;
  StringMap metadata;

  // nullptr if there is none of this name.
  const ConstTensorView* Find(const std::string& name) const;

  // InvalidArgument naming the first tensor whose data is not aligned to its element size. Files
  // by old writers may be so: copy such data with memcpy, never read it through as<T>().
  absl::Status CheckAligned(absl::string_view subject) const;
};

// Parses the bytes of a whole file; `subject` begins every message.
absl::StatusOr<Safetensors> ParseSafetensors(absl::string_view bytes, absl::string_view subject);

// A safetensors file, mapped read-only. Its views live as long as it does.
class SafetensorsFile {
 public:
  static absl::StatusOr<std::unique_ptr<SafetensorsFile>> Open(const std::string& path);

  const TensorMap& tensors() const { return contents_.tensors; }
  const StringMap& metadata() const { return contents_.metadata; }
  const Safetensors& contents() const { return contents_; }
  const std::string& path() const { return file_->path(); }

 private:
  SafetensorsFile(std::unique_ptr<MappedFile> file, Safetensors contents)
      : file_(std::move(file)), contents_(std::move(contents)) {}
  const std::unique_ptr<MappedFile> file_;
  const Safetensors contents_;
};

struct TensorPlan {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;

  int64_t bytes() const { return ConstTensorView(nullptr, dtype, shape).bytes(); }
};

// Writes a file tensor by tensor; memory stays small however large the file.
//
//   auto writer = SafetensorsWriter::Create(path, plan, metadata);
//   for (const TensorPlan& tensor : writer->order()) writer->Append(...), once or in pieces;
//   writer->Finish();
//
// The file appears under its path only after Finish() returned OK.
class SafetensorsWriter {
 public:
  // A plan with a name twice, an empty one, "__metadata__" or a negative size is a CHECK failure.
  // Fails as AtomicFile does.
  static absl::StatusOr<std::unique_ptr<SafetensorsWriter>> Create(const std::string& path,
                                                                   std::vector<TensorPlan> plan,
                                                                   const StringMap& metadata);

  // The plan in the order in which data must be appended.
  const std::vector<TensorPlan>& order() const { return order_; }

  // The next bytes of the data. More than planned is a CHECK failure.
  absl::Status Append(absl::string_view bytes);

  // Makes the file durable under its path. Less data than planned is a CHECK failure.
  absl::Status Finish();

 private:
  SafetensorsWriter(std::unique_ptr<AtomicFile> file, std::vector<TensorPlan> order);
  const std::unique_ptr<AtomicFile> file_;
  const std::vector<TensorPlan> order_;
  int64_t bytes_left_ = 0;
};

// A whole file in memory, for small ones.
std::string SerializeSafetensors(const TensorMap& tensors, const StringMap& metadata);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_FORMATS_SAFETENSORS_H_
