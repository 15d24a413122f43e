#include "trainer/backend/cuda/adapter_table.h"

#include <cstring>

namespace deltaworks::trainer::cuda {
namespace {

// Arrays one behind the other, each 16 bytes aligned.
class Image {
 public:
  template <typename T>
  int64_t Append(const std::vector<T>& values) {
    const int64_t offset = static_cast<int64_t>(bytes_.size());
    const size_t size = values.size() * sizeof(T);
    bytes_.resize(offset + (size + 15) / 16 * 16);
    if (size > 0) std::memcpy(bytes_.data() + offset, values.data(), size);
    return offset;
  }
  const std::vector<char>& bytes() const { return bytes_; }

 private:
  std::vector<char> bytes_;
};

struct Offsets {
  int64_t segments, slices, group_columns, flags;
  std::vector<int64_t> linear_columns;
};

Offsets Append(const AdapterPart& part, Image* image) {
  Offsets offsets;
  offsets.segments = image->Append(part.segments);
  offsets.slices = image->Append(part.slices);
  offsets.group_columns = image->Append(part.group_columns);
  offsets.flags = image->Append(std::vector<int32_t>(part.slices.size()));
  for (const std::vector<Column>& columns : part.linear_columns) {
    offsets.linear_columns.push_back(image->Append(columns));
  }
  return offsets;
}

}  // namespace

int64_t TableBytes(const AdapterPart& part) {
  Image image;
  Append(part, &image);
  return static_cast<int64_t>(image.bytes().size());
}

UploadedPart Upload(Gpu& gpu, const AdapterPart& part, void* device) {
  Image image;
  const Offsets offsets = Append(part, &image);
  if (!image.bytes().empty()) {
    gpu.CopyToDevice(image.bytes().data(), device, static_cast<int64_t>(image.bytes().size()));
  }
  char* base = static_cast<char*>(device);
  UploadedPart uploaded;
  uploaded.table = {
      .segments = reinterpret_cast<const SegmentRows*>(base + offsets.segments),
      .slices = reinterpret_cast<const Slice*>(base + offsets.slices),
      .group_columns = reinterpret_cast<const Column*>(base + offsets.group_columns),
      .flags = reinterpret_cast<int32_t*>(base + offsets.flags),
      .segment_count = static_cast<int32_t>(part.segments.size()),
      .slice_count = static_cast<int32_t>(part.slices.size()),
      .group_width = static_cast<int32_t>(part.group_width()),
  };
  for (const int64_t offset : offsets.linear_columns) {
    uploaded.linear_columns.push_back(reinterpret_cast<const Column*>(base + offset));
  }
  return uploaded;
}

}  // namespace deltaworks::trainer::cuda
