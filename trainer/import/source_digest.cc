#include "trainer/import/source_digest.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "trainer/base/sha256.h"
#include "trainer/formats/manifest.h"

namespace deltaworks::trainer {

std::string SourceDigest(const SourceTensorMap& tensors, absl::string_view config_json,
                         const TokenizerFiles& tokenizer) {
  Sha256Stream stream;
  stream.Update("deltaworks source 1\n");
  for (const auto& [name, tensor] : tensors) {
    stream.Update(absl::StrCat("tensor ", name, " ", tensor.dtype, " ",
                               absl::StrJoin(tensor.shape, "x"), " ", Sha256Digest(tensor.bytes),
                               "\n"));
  }
  const auto add_file = [&](absl::string_view name, absl::string_view bytes) {
    stream.Update(absl::StrCat("file ", name, " ", bytes.size(), "\n"));
    stream.Update(bytes);
  };
  add_file(kConfigFile, config_json);
  add_file(kTokenizerFile, tokenizer.tokenizer_json);
  add_file(kTokenizerConfigFile, tokenizer.tokenizer_config_json);
  return stream.Finish();
}

}  // namespace deltaworks::trainer
