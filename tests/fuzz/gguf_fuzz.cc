// A GGUF file: the format itself with every typed accessor, then the import of a model from it.

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "glog/logging.h"
#include "tests/fuzz/bounded_memory.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/scratch_folder.h"
#include "trainer/formats/gguf.h"
#include "trainer/import/model_source.h"

namespace deltaworks::trainer {
namespace {

void ReadEverything(const Gguf& gguf) {
  for (const auto& [key, value] : gguf.metadata()) {
    // Exactly one of these fits the type; the others must refuse it.
    const int fits = gguf.Int(key).ok() + gguf.Float(key).ok() + gguf.Bool(key).ok() +
                     gguf.String(key).ok() + gguf.Ints(key).ok() + gguf.Floats(key).ok() +
                     gguf.Strings(key).ok();
    CHECK_LE(fits, 1) << key;
  }
  std::vector<float> row;
  for (const GgufTensor& tensor : gguf.tensors()) {
    CHECK_EQ(gguf.Find(tensor.name), &tensor);
    row.resize(static_cast<size_t>(tensor.row_elements()));
    for (int64_t i = 0; i < tensor.rows(); ++i) {
      DequantizeRows(tensor, i, i + 1, absl::MakeSpan(row));
    }
  }
}

void ReadModel(const ModelSource& source) {
  std::vector<float> row;
  for (const auto& [name, tensor] : source.tensors()) {
    row.resize(static_cast<size_t>(tensor.shape.back()));
    const int64_t rows = tensor.shape.size() == 1 ? 1 : tensor.shape.front();
    for (int64_t i = 0; i < rows; ++i) source.ReadRows(name, i, i + 1, absl::MakeSpan(row));
  }
}

}  // namespace
}  // namespace deltaworks::trainer

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace deltaworks::trainer;
  static deltaworks::fuzz::ScratchFolder folder;
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  deltaworks::fuzz::BoundedMemory memory(size);
  const auto gguf = ParseGguf(bytes, "input.gguf");
  if (!gguf.ok()) return 0;
  ReadEverything(*gguf);
  folder.Write("input.gguf", bytes);
  const auto source = OpenModelSource(folder.path() + "/input.gguf");
  if (source.ok()) ReadModel(**source);
  return 0;
}
