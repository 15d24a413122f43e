// A random Llama model of 20,000 parameters with a byte-level tokenizer, written as a GGUF file or
// as a Hugging Face folder: what tests import, train and generate with.
//
// Every weight is k / 64 with |k| < 128, so F32, F16 and BF16 hold it exactly and every way through
// the import must end in the same numbers. The tokenizer knows each of the 256 bytes, so any text
// can be encoded. Failures to write are CHECK failures.

#ifndef DELTAWORKS_TRAINER_IMPORT_TINY_MODEL_H_
#define DELTAWORKS_TRAINER_IMPORT_TINY_MODEL_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "trainer/formats/gguf_builder.h"
#include "trainer/model/config.h"
#include "trainer/tensor.h"

namespace deltaworks::trainer {

struct TinyModel {
  ModelConfig config;
  std::map<std::string, std::vector<float>> weights;  // By Hugging Face name, in its row order.
  std::vector<std::string> tokens;                    // In the byte alphabet, by id.
  std::vector<int32_t> token_types;                   // ggml's: 1 normal, 3 control.
  std::vector<std::string> merges;                    // "left right"
  std::string chat_template;
};

// 2 layers, hidden size 32, 4 heads and 2 key/value heads of 8, 263 tokens.
TinyModel MakeTinyModel(bool tie_word_embeddings = true, uint32_t seed = 1);

// The model as llama.cpp's converter would write it, q and k permuted. Matrices are of
// `matrix_type`: 0 F32, 1 F16, 30 BF16.
GgufBuilder TinyGguf(const TinyModel& model, uint32_t matrix_type = 0);

struct TinyHfOptions {
  DType dtype = DType::kF32;  // Of every tensor; or kF16, kBF16.
  int shards = 1;             // More than one: with an index.
  bool template_in_file = false;
};

void WriteTinyHfFolder(const TinyModel& model, const std::string& folder,
                       const TinyHfOptions& options = {});

// The tokenizer.json that the folder gets: GPT-2's pre-tokenizer.
std::string TinyTokenizerJson(const TinyModel& model);

// `values`, which the type holds exactly, as bytes of `dtype`: kF32, kF16 or kBF16.
std::string EncodeExactly(const std::vector<float>& values, DType dtype);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_IMPORT_TINY_MODEL_H_
