#include "trainer/formats/gguf.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "trainer/base/status_macros.h"
#include "trainer/formats/byte_reader.h"
#include "trainer/formats/gguf_values.h"
#include "trainer/tensor.h"

namespace deltaworks::trainer {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr char kAlignmentKey[] = "general.alignment";
constexpr int64_t kDefaultAlignmentBytes = 32;
constexpr int64_t kAlignmentBytesMax = 1 << 20;
constexpr uint32_t kDimensionsMax = 4;
// The least that an entry takes: what bounds a count before anything is read for it.
constexpr uint64_t kMetadataBytesMin = 8 + 4 + 1;
constexpr uint64_t kTensorBytesMin = 8 + 4 + 8 + 4 + 8;

// Names from the file, fit for a message.
std::string Quoted(absl::string_view text) {
  return absl::StrCat("\"", absl::CEscape(text.substr(0, 80)), "\"");
}

}  // namespace

class GgufParser {
 public:
  GgufParser(absl::string_view bytes, absl::string_view subject)
      : bytes_(bytes), reader_(bytes, subject) {
    gguf_.subject_ = std::string(subject);
  }

  absl::StatusOr<Gguf> Parse() {
    DW_RETURN_IF_ERROR(ParseVersion());
    DW_ASSIGN_OR_RETURN(const uint64_t tensors, Count("number of tensors", kTensorBytesMin));
    DW_ASSIGN_OR_RETURN(const uint64_t entries, Count("number of metadata", kMetadataBytesMin));
    for (uint64_t i = 0; i < entries; ++i) DW_RETURN_IF_ERROR(ParseMetadata());
    for (uint64_t i = 0; i < tensors; ++i) DW_RETURN_IF_ERROR(ParseTensor());
    DW_RETURN_IF_ERROR(PlaceTensors());
    return std::move(gguf_);
  }

 private:
  template <typename... Parts>
  absl::Status Error(const Parts&... parts) const {
    return absl::InvalidArgumentError(absl::StrCat(gguf_.subject_, ": ", parts...));
  }

  absl::Status ParseVersion() {
    DW_ASSIGN_OR_RETURN(const uint32_t magic, reader_.Read<uint32_t>("magic"));
    if (magic != kMagic) {
      return Error("begins with ", Quoted(bytes_.substr(0, 4)), ", want \"GGUF\"");
    }
    DW_ASSIGN_OR_RETURN(gguf_.version_, reader_.Read<uint32_t>("version"));
    if (gguf_.version_ != 2 && gguf_.version_ != 3) {
      const bool big_endian = (gguf_.version_ & 0xffffu) == 0;
      return Error("version is ", gguf_.version_, big_endian ? " (a big-endian file?)" : "",
                   ", want 2 or 3, little-endian");
    }
    return absl::OkStatus();
  }

  // A count of things of at least `bytes_min` bytes each.
  absl::StatusOr<uint64_t> Count(absl::string_view what, uint64_t bytes_min) {
    DW_ASSIGN_OR_RETURN(const uint64_t count, reader_.Read<uint64_t>(what));
    if (count > reader_.remaining() / bytes_min) {
      return Error(what, " is ", count, ", want at most ", reader_.remaining() / bytes_min, " in ",
                   reader_.remaining(), " bytes");
    }
    return count;
  }

  absl::StatusOr<absl::string_view> ReadString(absl::string_view what) {
    DW_ASSIGN_OR_RETURN(const uint64_t length, reader_.Read<uint64_t>(what));
    return reader_.ReadBytes(length, what);
  }

  absl::Status ParseMetadata() {
    DW_ASSIGN_OR_RETURN(const absl::string_view key, ReadString("metadata key"));
    GgufValue value;
    DW_ASSIGN_OR_RETURN(value.type, reader_.Read<uint32_t>(key));
    value.element_type = value.type;
    if (value.type == kGgufArray) {
      DW_ASSIGN_OR_RETURN(value.element_type, reader_.Read<uint32_t>(key));
      const int64_t scalar_bytes = GgufScalarBytes(value.element_type);
      DW_ASSIGN_OR_RETURN(value.count, Count(absl::StrCat("count of ", Quoted(key)),
                                             scalar_bytes > 0 ? scalar_bytes : sizeof(uint64_t)));
    }
    DW_RETURN_IF_ERROR(ReadElements(key, value));
    if (!gguf_.metadata_.emplace(key, value).second) {
      return Error("metadata key ", Quoted(key), " occurs twice, want it once");
    }
    return absl::OkStatus();
  }

  // Sets value.bytes to the elements.
  absl::Status ReadElements(absl::string_view key, GgufValue& value) {
    const size_t begin = reader_.position();
    if (const int64_t scalar_bytes = GgufScalarBytes(value.element_type); scalar_bytes > 0) {
      // No overflow: Count() compared an array's count with what is left.
      DW_RETURN_IF_ERROR(reader_.ReadBytes(value.count * scalar_bytes, key).status());
    } else if (value.element_type == kGgufString) {
      for (uint64_t i = 0; i < value.count; ++i) DW_RETURN_IF_ERROR(ReadString(key).status());
    } else {
      return Error("metadata ", Quoted(key), " has ",
                   value.type == kGgufArray ? "elements of " : "",
                   GgufValueTypeName(value.element_type),
                   ", want a number, bool, string or an array of these");
    }
    value.bytes = bytes_.substr(begin, reader_.position() - begin);
    return absl::OkStatus();
  }

  absl::Status ParseTensor() {
    GgufTensor tensor;
    DW_ASSIGN_OR_RETURN(const absl::string_view name, ReadString("tensor name"));
    tensor.name = std::string(name);
    if (!names_.insert(name).second) {
      return Error("tensor ", Quoted(name), " occurs twice, want it once");
    }
    DW_RETURN_IF_ERROR(ParseShape(tensor));
    DW_ASSIGN_OR_RETURN(const uint32_t type, reader_.Read<uint32_t>(name));
    tensor.type = FindGgufTensorType(type);
    if (tensor.type == nullptr) {
      return Error("tensor ", Quoted(name), " is ", GgufTensorTypeName(type), ", want one of ",
                   SupportedGgufTensorTypes());
    }
    DW_ASSIGN_OR_RETURN(const uint64_t offset, reader_.Read<uint64_t>(name));
    offsets_.push_back(offset);
    gguf_.tensors_.push_back(std::move(tensor));
    return absl::OkStatus();
  }

  absl::Status ParseShape(GgufTensor& tensor) {
    DW_ASSIGN_OR_RETURN(const uint32_t dimensions, reader_.Read<uint32_t>(tensor.name));
    if (dimensions < 1 || dimensions > kDimensionsMax) {
      return Error("tensor ", Quoted(tensor.name), " has ", dimensions, " dimensions, want 1..",
                   kDimensionsMax);
    }
    for (uint32_t i = 0; i < dimensions; ++i) {
      DW_ASSIGN_OR_RETURN(const uint64_t size, reader_.Read<uint64_t>(tensor.name));
      if (size < 1 || size > INT64_MAX) {
        return Error("tensor ", Quoted(tensor.name), ": dimension ", i, " is ", size,
                     ", want 1..2^63-1");
      }
      tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(size));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<int64_t> Alignment() const {
    if (!gguf_.Has(kAlignmentKey)) return kDefaultAlignmentBytes;
    DW_ASSIGN_OR_RETURN(const int64_t alignment, gguf_.Int(kAlignmentKey));
    if (alignment < 1 || alignment > kAlignmentBytesMax || (alignment & (alignment - 1)) != 0) {
      return Error(kAlignmentKey, " is ", alignment, ", want a power of two up to ",
                   kAlignmentBytesMax);
    }
    return alignment;
  }

  absl::StatusOr<uint64_t> ByteSize(const GgufTensor& tensor) const {
    if (tensor.row_elements() % tensor.type->block_elements != 0) {
      return Error("tensor ", Quoted(tensor.name), " has rows of ", tensor.row_elements(),
                   ", want a multiple of ", tensor.type->block_elements, " for ",
                   tensor.type->name);
    }
    int64_t bytes = tensor.type->block_bytes;
    bool overflow =
        __builtin_mul_overflow(bytes, tensor.row_elements() / tensor.type->block_elements, &bytes);
    for (size_t i = 0; i + 1 < tensor.shape.size(); ++i) {
      overflow = overflow || __builtin_mul_overflow(bytes, tensor.shape[i], &bytes);
    }
    // Elements can be more than bytes in quantised types.
    int64_t elements = 1;
    for (const int64_t size : tensor.shape) {
      overflow = overflow || __builtin_mul_overflow(elements, size, &elements);
    }
    if (overflow) {
      return Error("tensor ", Quoted(tensor.name), ": shape ", ShapeText(tensor.shape),
                   " overflows, want at most 2^63-1 elements and bytes");
    }
    return static_cast<uint64_t>(bytes);
  }

  // Gives each tensor its bytes; they must lie inside the data, aligned, without overlap.
  absl::Status PlaceTensors() {
    if (gguf_.tensors_.empty()) return absl::OkStatus();
    DW_ASSIGN_OR_RETURN(const int64_t alignment, Alignment());
    const uint64_t begin = (reader_.position() + alignment - 1) / alignment * alignment;
    const absl::string_view data = begin < bytes_.size() ? bytes_.substr(begin) : "";
    std::vector<std::pair<uint64_t, size_t>> order;
    for (size_t i = 0; i < gguf_.tensors_.size(); ++i) {
      GgufTensor& tensor = gguf_.tensors_[i];
      DW_ASSIGN_OR_RETURN(const uint64_t size, ByteSize(tensor));
      if (offsets_[i] % alignment != 0 || offsets_[i] > data.size() ||
          size > data.size() - offsets_[i]) {
        return Error("tensor ", Quoted(tensor.name), " takes ", size, " bytes at offset ",
                     offsets_[i], ", want an offset that is a multiple of ", alignment,
                     " and an end inside the file's ", data.size(), " bytes of data");
      }
      tensor.bytes = data.substr(offsets_[i], size);
      order.emplace_back(offsets_[i], i);
    }
    std::sort(order.begin(), order.end());
    for (size_t i = 1; i < order.size(); ++i) {
      const GgufTensor& before = gguf_.tensors_[order[i - 1].second];
      if (order[i - 1].first + before.bytes.size() > order[i].first) {
        return Error("tensor ", Quoted(gguf_.tensors_[order[i].second].name), " begins at offset ",
                     order[i].first, ", want at least ", order[i - 1].first + before.bytes.size(),
                     ", the end of ", Quoted(before.name));
      }
    }
    return absl::OkStatus();
  }

  const absl::string_view bytes_;
  ByteReader reader_;
  Gguf gguf_;
  std::vector<uint64_t> offsets_;
  std::set<absl::string_view> names_;
};

int64_t GgufTensor::rows() const {
  int64_t rows = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
  return rows;
}

const GgufTensor* Gguf::Find(absl::string_view name) const {
  for (const GgufTensor& tensor : tensors_) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

absl::StatusOr<Gguf> ParseGguf(absl::string_view bytes, absl::string_view subject) {
  return GgufParser(bytes, subject).Parse();
}

void DequantizeRows(const GgufTensor& tensor, int64_t row_begin, int64_t row_end,
                    absl::Span<float> out) {
  CHECK(0 <= row_begin && row_begin <= row_end && row_end <= tensor.rows())
      << tensor.name << ": rows " << row_begin << ".." << row_end << " of " << tensor.rows();
  const int64_t elements = (row_end - row_begin) * tensor.row_elements();
  CHECK_EQ(static_cast<int64_t>(out.size()), elements) << tensor.name;
  const int64_t row_bytes =
      tensor.row_elements() / tensor.type->block_elements * tensor.type->block_bytes;
  DequantizeGguf(*tensor.type, tensor.bytes.data() + row_begin * row_bytes, elements, out.data());
}

absl::StatusOr<std::unique_ptr<GgufFile>> GgufFile::Open(const std::string& path) {
  DW_ASSIGN_OR_RETURN(std::unique_ptr<MappedFile> file, MappedFile::Open(path));
  DW_ASSIGN_OR_RETURN(Gguf contents, ParseGguf(file->bytes(), path));
  return std::unique_ptr<GgufFile>(new GgufFile(std::move(file), std::move(contents)));
}

}  // namespace deltaworks::trainer
