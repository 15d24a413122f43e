// ImportModel: a GGUF file or a Hugging Face folder becomes a stored base model, whose files are
// described at the top of trainer/formats/manifest.h.
//
// Matrices are dequantised and stored in the form asked for, bf16 (rounded to nearest even) or f32;
// norm weights, the only tensors of one dimension, stay f32 in both forms. Everything is Hugging
// Face's: names, row order (llama.cpp's order of q and k is undone), config, tokenizer.
//
// All or nothing: the folder is written under another name beside its place and renamed; after an
// error nothing is left. Deterministic: the same source, form and name give the same bytes and
// digests. Rows pass through in pieces of a megabyte, so memory stays small however large the
// model. Thread-safe: several imports may run at once, each to a folder of its own.

#ifndef DELTAWORKS_TRAINER_IMPORT_IMPORT_H_
#define DELTAWORKS_TRAINER_IMPORT_IMPORT_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "trainer/formats/manifest.h"
#include "trainer/model/config.h"
#include "trainer/tensor.h"

namespace deltaworks::trainer {

struct ImportOptions {
  std::string source_path;    // model.gguf, or a folder with config.json.
  std::string output_folder;  // Must not exist; its parents are made.
  DType form = DType::kBF16;  // Or kF32; anything else is a CHECK failure.
  std::string source_name;    // Hub id or path that an exported adapter will name.
};

struct ImportProgress {
  int64_t tensors_done = 0;
  int64_t tensors_total = 0;
  int64_t parameters_done = 0;
  int64_t parameters_total = 0;
};

// Called before the first and after each tensor, from the importing thread. An error ends the
// import, which returns it: so a caller cancels.
using ImportProgressCallback = std::function<absl::Status(const ImportProgress&)>;

struct ImportResult {
  ModelConfig config;
  ModelManifest manifest;
};

// Errors:
//   NotFound           the source, or a file that it needs, is not there.
//   InvalidArgument    the source is not what it should be, or of a kind that is not supported; the
//                      message has the file, what it has and what is wanted. Also weights that are
//                      infinite or no number, in the source or in the form.
//   AlreadyExists      there is something at output_folder.
//   ResourceExhausted  the disk is full.
absl::StatusOr<ImportResult> ImportModel(const ImportOptions& options,
                                         const ImportProgressCallback& progress = nullptr);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_IMPORT_IMPORT_H_
