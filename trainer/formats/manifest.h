// ModelManifest: what a stored base model consists of, and how to prove that it is intact.
//
// A stored base model is a folder of these files and nothing else that counts:
//
//   config.json             Hugging Face's Llama fields, in ModelConfig's normal form
//   tokenizer.json          Hugging Face's tokenizer
//   tokenizer_config.json   chat template, special tokens
//   model.safetensors       every tensor under its Hugging Face name, in the form's type; tensors
//                           of one dimension (norm weights) are F32 in both forms
//   manifest.json           this page; written last, lists the four others
//
// manifest.json in bytes: UTF-8 JSON, keys sorted, indented by 1, a newline at the end.
//
//   {
//    "architecture": "llama",
//    "files": [                       sorted by name, each once
//     {
//      "chunk_digests": [             one per 4 MiB (4194304 bytes), the last chunk may be shorter
//       "sha256:..."
//      ],
//      "digest": "sha256:...",        of the whole file
//      "name": "config.json",         a plain file name in the same folder
//      "size_bytes": 632
//     }, ...
//    ],
//    "form": "bf16",                  bf16 or f32
//    "format_version": 1,
//    "parameters": 134515008,         elements of all tensors
//    "source_digest": "sha256:...",   names the base whatever its form (import/source_digest.h)
//    "source_name": "org/model"       hub id or path that an exported adapter names; may be empty
//   }
//
// Errors: InvalidArgument for a manifest that is not of this shape, DataLoss for a file that is not
// the one listed. Plain functions, thread-safe.

#ifndef DELTAWORKS_TRAINER_FORMATS_MANIFEST_H_
#define DELTAWORKS_TRAINER_FORMATS_MANIFEST_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "trainer/tensor.h"

namespace deltaworks::trainer {

inline constexpr char kConfigFile[] = "config.json";
inline constexpr char kTokenizerFile[] = "tokenizer.json";
inline constexpr char kTokenizerConfigFile[] = "tokenizer_config.json";
inline constexpr char kWeightsFile[] = "model.safetensors";
inline constexpr char kManifestFile[] = "manifest.json";
inline constexpr int64_t kChunkBytes = int64_t{4} << 20;

struct ManifestFile {
  std::string name;
  int64_t size_bytes = 0;
  std::string digest;
  std::vector<std::string> chunk_digests;

  bool operator==(const ManifestFile&) const = default;
};

struct ModelManifest {
  std::string source_digest;
  std::string source_name;
  DType form = DType::kBF16;
  std::string architecture;
  int64_t parameters = 0;
  std::vector<ManifestFile> files;

  // `subject` begins every message.
  static absl::StatusOr<ModelManifest> Parse(absl::string_view text, absl::string_view subject);
  static absl::StatusOr<ModelManifest> Read(const std::string& folder);
  std::string Serialize() const;

  // nullptr if there is none of this name.
  const ManifestFile* Find(absl::string_view name) const;
};

// "bf16" or "f32"; no other type is a form.
absl::string_view FormName(DType form);
std::optional<DType> FormFromName(absl::string_view name);

// Hashes the file `folder`/`name`.
absl::StatusOr<ManifestFile> DescribeFile(const std::string& folder, const std::string& name);

// Reads every file that the manifest of `folder` lists. DataLoss names the first that is missing,
// of another size, or wrong, with the first chunk in which it is.
absl::Status VerifyModelFolder(const std::string& folder);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_FORMATS_MANIFEST_H_
