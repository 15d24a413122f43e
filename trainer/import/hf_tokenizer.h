// The tokenizer files of a Hugging Face folder: what is kept of them is said in hf_source.h. Only
// what concerns the model is checked (each token has a row of the embedding); whether the
// tokenizer is of a kind that the trainer can run is trainer/tokenizer's to say.

#ifndef DELTAWORKS_TRAINER_IMPORT_HF_TOKENIZER_H_
#define DELTAWORKS_TRAINER_IMPORT_HF_TOKENIZER_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "trainer/import/model_source.h"

namespace deltaworks::trainer {

// NotFound names the file that is missing. InvalidArgument: not JSON, a token id that is no row of
// an embedding of `vocab_size`, a special token that is neither string nor object.
absl::StatusOr<TokenizerFiles> ReadHfTokenizer(const std::string& folder, int64_t vocab_size);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_IMPORT_HF_TOKENIZER_H_
