// ModelSource: a base model as somebody else wrote it, seen as Hugging Face's names and f32 rows.
//
//   GgufSource   one .gguf file of llama.cpp                    gguf_source.h
//   HfSource     a folder of Hugging Face transformers          hf_source.h
//
// Opening one checks everything that can be checked without reading the weights: the config is
// supported, the tensors are exactly those of the config, with its shapes, and the vocabulary fits
// the embedding. Immutable afterwards; any thread may read.

#ifndef DELTAWORKS_TRAINER_IMPORT_MODEL_SOURCE_H_
#define DELTAWORKS_TRAINER_IMPORT_MODEL_SOURCE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "trainer/model/config.h"

namespace deltaworks::trainer {

struct TokenizerFiles {
  std::string tokenizer_json;
  std::string tokenizer_config_json;
};

struct SourceTensor {
  std::string dtype;           // As the source calls it: "Q4_1", "BF16".
  std::vector<int64_t> shape;  // As Hugging Face has it.
  absl::string_view bytes;     // As they lie in the file.
};

using SourceTensorMap = std::map<std::string, SourceTensor>;  // By Hugging Face name.

class ModelSource {
 public:
  virtual ~ModelSource() = default;

  virtual const ModelConfig& config() const = 0;
  virtual const TokenizerFiles& tokenizer() const = 0;

  // Exactly LlamaTensorShapes(config()).
  virtual const SourceTensorMap& tensors() const = 0;

  // Rows [row_begin, row_end) of the tensor `name` in Hugging Face's order, as f32, into `out`,
  // which has room for exactly that (CHECK). A vector is one row.
  virtual void ReadRows(const std::string& name, int64_t row_begin, int64_t row_end,
                        absl::Span<float> out) const = 0;
};

// Opens a folder as HfSource, a file as GgufSource. NotFound if there is no such path; else the
// errors of these two.
absl::StatusOr<std::unique_ptr<ModelSource>> OpenModelSource(const std::string& path);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_IMPORT_MODEL_SOURCE_H_
