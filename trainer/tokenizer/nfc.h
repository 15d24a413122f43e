// NFC: Unicode's canonical composition, ICU's, as Hugging Face tokenizers applies it.
//
// The original normalises with the tables of Unicode 9: marks that came later are not put in order
// and nothing composes with them. They are left alone here too. Pure function.

#ifndef DELTAWORKS_TRAINER_TOKENIZER_NFC_H_
#define DELTAWORKS_TRAINER_TOKENIZER_NFC_H_

#include <string>

#include "absl/strings/string_view.h"

namespace deltaworks::trainer {

// `text`, valid UTF-8 of less than 2^29 bytes, if it is in NFC already; otherwise its NFC, kept in
// `storage`.
absl::string_view Nfc(absl::string_view text, std::string* storage);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_TOKENIZER_NFC_H_
