#include "trainer/formats/safetensors.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "trainer/base/json.h"
#include "trainer/base/status_macros.h"
#include "trainer/formats/byte_reader.h"

namespace deltaworks::trainer {
namespace {

constexpr char kMetadata[] = "__metadata__";
constexpr absl::string_view kDTypes = "one of F64, F32, F16, BF16, I32, I64, U8";
constexpr int64_t kDataAlignmentBytes = 64;
// Hugging Face's own limit; a header of a million tensors is smaller.
constexpr uint64_t kHeaderBytesMax = 100'000'000;

// Json keeps the last of two equal keys; in a file of weights the second is a lie. This walks the
// header once more and stops at the first key that occurs twice in one object.
class DuplicateKeyFinder : public nlohmann::json_sax<Json> {
 public:
  const std::optional<std::string>& duplicate() const { return duplicate_; }

  bool start_object(std::size_t) override {
    keys_.emplace_back();
    return true;
  }
  bool end_object() override {
    keys_.pop_back();
    return true;
  }
  bool key(std::string& name) override {
    if (keys_.back().insert(name).second) return true;
    duplicate_ = name;
    return false;
  }
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(int64_t) override { return true; }
  bool number_unsigned(uint64_t) override { return true; }
  bool number_float(double, const std::string&) override { return true; }
  bool string(std::string&) override { return true; }
  bool binary(Json::binary_t&) override { return true; }
  bool start_array(std::size_t) override { return true; }
  bool end_array() override { return true; }
  bool parse_error(std::size_t, const std::string&, const Json::exception&) override {
    return false;
  }

 private:
  std::vector<std::set<std::string>> keys_;
  std::optional<std::string> duplicate_;
};

struct Header {
  Json json;
  absl::string_view data;
};

absl::StatusOr<Header> ParseHeader(absl::string_view bytes, absl::string_view subject) {
  ByteReader reader(bytes, subject);
  DW_ASSIGN_OR_RETURN(const uint64_t length, reader.Read<uint64_t>("the header's length"));
  if (length > reader.remaining() || length > kHeaderBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(subject, ": the header's length is ", length, ", want at most ",
                     std::min<uint64_t>(reader.remaining(), kHeaderBytesMax), " in a file of ",
                     bytes.size(), " bytes"));
  }
  DW_ASSIGN_OR_RETURN(const absl::string_view text, reader.ReadBytes(length, "the header"));
  const std::string header_subject = absl::StrCat(subject, ": header");
  DW_ASSIGN_OR_RETURN(Json json, ParseJson(text, header_subject));
  if (!json.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(header_subject, " is a JSON ", json.type_name(), ", want an object"));
  }
  DuplicateKeyFinder finder;
  Json::sax_parse(text.begin(), text.end(), &finder);
  if (finder.duplicate().has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat(header_subject, " has \"", *finder.duplicate(), "\" twice, want it once"));
  }
  return Header{std::move(json), bytes.substr(reader.position())};
}

absl::StatusOr<StringMap> ParseMetadata(const Json& json, absl::string_view subject) {
  StringMap metadata;
  const std::string name = absl::StrCat(subject, ": ", kMetadata);
  if (!json.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " is a JSON ", json.type_name(), ", want an object of strings"));
  }
  for (const auto& [key, value] : json.items()) {
    if (!value.is_string()) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ".", key, " is a JSON ", value.type_name(), ", want a string"));
    }
    metadata[key] = value.get<std::string>();
  }
  return metadata;
}

// The non-negative integers of the field `name`.
absl::StatusOr<std::vector<int64_t>> ParseSizes(const Json& entry, const std::string& name,
                                                absl::string_view subject) {
  const auto wrong = [&](absl::string_view got) {
    return absl::InvalidArgumentError(
        absl::StrCat(subject, ": ", name, " is ", got, ", want a list of integers >= 0"));
  };
  if (!entry.contains(name)) return wrong("absent");
  if (!entry[name].is_array()) return wrong(absl::StrCat("a JSON ", entry[name].type_name()));
  std::vector<int64_t> sizes;
  for (const Json& size : entry[name]) {
    if (!size.is_number_unsigned() || size.get<uint64_t>() > INT64_MAX) {
      return wrong(absl::StrCat("one with ", JsonText(size).substr(0, 40)));
    }
    sizes.push_back(size.get<int64_t>());
  }
  return sizes;
}

absl::StatusOr<int64_t> ByteSize(DType dtype, const std::vector<int64_t>& shape,
                                 absl::string_view subject) {
  int64_t bytes = SizeOf(dtype);
  for (const int64_t size : shape) {
    if (__builtin_mul_overflow(bytes, size, &bytes)) {
      return absl::InvalidArgumentError(absl::StrCat(subject, ": shape ", ShapeText(shape),
                                                     " overflows, want at most 2^63-1 bytes"));
    }
  }
  return bytes;
}

struct Entry {
  int64_t begin = 0;
  int64_t end = 0;
  std::string name;
  auto operator<=>(const Entry&) const = default;
};

// Parses one entry, with its data checked against the file's but not yet against its neighbours.
absl::StatusOr<ConstTensorView> ParseTensor(const Json& json, absl::string_view data,
                                            absl::string_view subject, Entry& entry) {
  if (!json.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(subject, " is a JSON ", json.type_name(), ", want an object"));
  }
  DW_ASSIGN_OR_RETURN(const std::string dtype_name, JsonString(json, "dtype", subject));
  const std::optional<DType> dtype = DTypeFromName(dtype_name);
  if (!dtype.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat(subject, ": dtype is \"", dtype_name, "\", want ", kDTypes));
  }
  DW_ASSIGN_OR_RETURN(std::vector<int64_t> shape, ParseSizes(json, "shape", subject));
  DW_ASSIGN_OR_RETURN(const int64_t bytes, ByteSize(*dtype, shape, subject));
  DW_ASSIGN_OR_RETURN(const std::vector<int64_t> offsets,
                      ParseSizes(json, "data_offsets", subject));
  const int64_t data_bytes = static_cast<int64_t>(data.size());
  if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > data_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(subject, ": data_offsets are ", ShapeText(offsets),
                     ", want [begin, end] inside the file's ", data_bytes, " bytes of data"));
  }
  if (offsets[1] - offsets[0] != bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        subject, ": data_offsets ", ShapeText(offsets), " hold ", offsets[1] - offsets[0],
        " bytes, want ", bytes, " for ", dtype_name, " ", ShapeText(shape)));
  }
  entry.begin = offsets[0];
  entry.end = offsets[1];
  return ConstTensorView(data.data() + offsets[0], *dtype, std::move(shape));
}

// `entries` must cover the data exactly.
absl::Status CheckCoverage(std::vector<Entry> entries, int64_t data_bytes,
                           absl::string_view subject) {
  std::sort(entries.begin(), entries.end());
  int64_t position = 0;
  for (const Entry& entry : entries) {
    if (entry.begin != position) {
      return absl::InvalidArgumentError(absl::StrCat(
          subject, ": tensor ", entry.name, " begins at byte ", entry.begin, " of the data, want ",
          position, entry.begin < position ? " (it overlaps another)" : " (there is a hole)"));
    }
    position = entry.end;
  }
  if (position != data_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(subject, ": the file has ", data_bytes,
                                                   " bytes of data, want ", position,
                                                   ", the end of its last tensor"));
  }
  return absl::OkStatus();
}

std::string PlanHeader(const std::vector<TensorPlan>& order, const StringMap& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header[kMetadata] = metadata;
  int64_t position = 0;
  for (const TensorPlan& tensor : order) {
    const int64_t end = position + tensor.bytes();
    header[tensor.name] = {{"dtype", std::string(NameOf(tensor.dtype))},
                           {"shape", tensor.shape},
                           {"data_offsets", {position, end}}};
    position = end;
  }
  std::string text = JsonText(header);
  const int64_t length_bytes = sizeof(uint64_t);
  while ((text.size() + length_bytes) % kDataAlignmentBytes != 0) text += ' ';
  uint64_t length = text.size();
  return absl::StrCat(absl::string_view(reinterpret_cast<const char*>(&length), sizeof(length)),
                      text);
}

std::vector<TensorPlan> InDataOrder(std::vector<TensorPlan> plan) {
  std::sort(plan.begin(), plan.end(), [](const TensorPlan& a, const TensorPlan& b) {
    return std::make_pair(-SizeOf(a.dtype), a.name) < std::make_pair(-SizeOf(b.dtype), b.name);
  });
  std::set<std::string> names;
  for (const TensorPlan& tensor : plan) {
    CHECK(!tensor.name.empty() && tensor.name != kMetadata) << "tensor name " << tensor.name;
    CHECK(names.insert(tensor.name).second) << "two tensors are named " << tensor.name;
    for (const int64_t size : tensor.shape) {
      CHECK_GE(size, 0) << tensor.name << " has shape " << ShapeText(tensor.shape);
    }
  }
  return plan;
}

}  // namespace

const ConstTensorView* Safetensors::Find(const std::string& name) const {
  const auto it = tensors.find(name);
  return it == tensors.end() ? nullptr : &it->second;
}

absl::Status Safetensors::CheckAligned(absl::string_view subject) const {
  for (const auto& [name, view] : tensors) {
    const uintptr_t off = reinterpret_cast<uintptr_t>(view.data) % SizeOf(view.dtype);
    if (off != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(subject, ": tensor ", name, " lies ", off, " bytes off, want a multiple of ",
                       SizeOf(view.dtype), " for ", NameOf(view.dtype)));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Safetensors> ParseSafetensors(absl::string_view bytes, absl::string_view subject) {
  DW_ASSIGN_OR_RETURN(const Header header, ParseHeader(bytes, subject));
  Safetensors result;
  std::vector<Entry> entries;
  for (const auto& [name, json] : header.json.items()) {
    if (name == kMetadata) {
      DW_ASSIGN_OR_RETURN(result.metadata, ParseMetadata(json, subject));
      continue;
    }
    Entry entry{.name = name};
    DW_ASSIGN_OR_RETURN(
        result.tensors[name],
        ParseTensor(json, header.data, absl::StrCat(subject, ": tensor ", name), entry));
    entries.push_back(std::move(entry));
  }
  DW_RETURN_IF_ERROR(
      CheckCoverage(std::move(entries), static_cast<int64_t>(header.data.size()), subject));
  return result;
}

absl::StatusOr<std::unique_ptr<SafetensorsFile>> SafetensorsFile::Open(const std::string& path) {
  DW_ASSIGN_OR_RETURN(std::unique_ptr<MappedFile> file, MappedFile::Open(path));
  DW_ASSIGN_OR_RETURN(Safetensors contents, ParseSafetensors(file->bytes(), path));
  return std::unique_ptr<SafetensorsFile>(
      new SafetensorsFile(std::move(file), std::move(contents)));
}

SafetensorsWriter::SafetensorsWriter(std::unique_ptr<AtomicFile> file,
                                     std::vector<TensorPlan> order)
    : file_(std::move(file)), order_(std::move(order)) {
  for (const TensorPlan& tensor : order_) bytes_left_ += tensor.bytes();
}

absl::StatusOr<std::unique_ptr<SafetensorsWriter>> SafetensorsWriter::Create(
    const std::string& path, std::vector<TensorPlan> plan, const StringMap& metadata) {
  std::vector<TensorPlan> order = InDataOrder(std::move(plan));
  DW_ASSIGN_OR_RETURN(std::unique_ptr<AtomicFile> file, AtomicFile::Create(path));
  DW_RETURN_IF_ERROR(file->Append(PlanHeader(order, metadata)));
  return std::unique_ptr<SafetensorsWriter>(
      new SafetensorsWriter(std::move(file), std::move(order)));
}

absl::Status SafetensorsWriter::Append(absl::string_view bytes) {
  CHECK_LE(static_cast<int64_t>(bytes.size()), bytes_left_) << "more data than planned";
  bytes_left_ -= static_cast<int64_t>(bytes.size());
  return file_->Append(bytes);
}

absl::Status SafetensorsWriter::Finish() {
  CHECK_EQ(bytes_left_, 0) << "less data than planned";
  return file_->Commit();
}

std::string SerializeSafetensors(const TensorMap& tensors, const StringMap& metadata) {
  std::vector<TensorPlan> plan;
  for (const auto& [name, view] : tensors) plan.push_back({name, view.dtype, view.shape});
  plan = InDataOrder(std::move(plan));
  std::string result = PlanHeader(plan, metadata);
  for (const TensorPlan& tensor : plan) {
    result.append(static_cast<const char*>(tensors.at(tensor.name).data),
                  static_cast<size_t>(tensor.bytes()));
  }
  return result;
}

}  // namespace deltaworks::trainer
