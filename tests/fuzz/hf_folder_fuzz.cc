// A Hugging Face folder: config.json, weights in one file or in shards with their index, the
// tokenizer's files. The input names its files as ScratchFolder::WriteAll() says.

#include <vector>

#include "absl/strings/string_view.h"
#include "glog/logging.h"
#include "tests/fuzz/bounded_memory.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/scratch_folder.h"
#include "trainer/import/model_source.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace deltaworks::trainer;
  static deltaworks::fuzz::ScratchFolder folder;
  folder.WriteAll(absl::string_view(reinterpret_cast<const char*>(data), size));
  deltaworks::fuzz::BoundedMemory memory(size);
  const auto source = OpenModelSource(folder.path());
  if (!source.ok()) return 0;
  std::vector<float> row;
  for (const auto& [name, tensor] : (*source)->tensors()) {
    row.resize(static_cast<size_t>(tensor.shape.back()));
    const int64_t rows = tensor.shape.size() == 1 ? 1 : tensor.shape.front();
    for (int64_t i = 0; i < rows; ++i) (*source)->ReadRows(name, i, i + 1, absl::MakeSpan(row));
  }
  return 0;
}
