// ScratchFolder: files of one fuzz input, for parsers that open paths. The files have the names
// that the input gives them, so a target passes on harmless names only. One folder per process,
// removed at its end. Failures to write are CHECK failures.

#ifndef DELTAWORKS_TESTS_FUZZ_SCRATCH_FOLDER_H_
#define DELTAWORKS_TESTS_FUZZ_SCRATCH_FOLDER_H_

#include <string>

#include "absl/strings/string_view.h"

namespace deltaworks::fuzz {

class ScratchFolder {
 public:
  ScratchFolder();
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const std::string& path() const { return path_; }

  void Clear();
  void Write(const std::string& name, absl::string_view bytes);

  // Writes the files of an input such as
  //   === config.json
  //   {"model_type": "llama"}
  //   === tokenizer.json
  // where a file ends before the line feed of the next "\n=== ", or with the input. Names are
  // letters, digits, '.', '-' and '_'; a file of another name is passed over.
  void WriteAll(absl::string_view input);

 private:
  std::string path_;
};

}  // namespace deltaworks::fuzz

#endif  // DELTAWORKS_TESTS_FUZZ_SCRATCH_FOLDER_H_
