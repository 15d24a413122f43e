// Reads the files of tests/golden/llama from the runfiles of a test. A missing or broken file ends
// the test program: golden numbers are part of the tree.

#ifndef DELTAWORKS_TESTS_GOLDEN_GOLDEN_FILES_H_
#define DELTAWORKS_TESTS_GOLDEN_GOLDEN_FILES_H_

#include <memory>
#include <string>
#include <vector>

#include "trainer/base/json.h"
#include "trainer/formats/safetensors.h"
#include "trainer/model/config.h"

namespace deltaworks::trainer {

// The path of tests/golden/llama/`name`.
std::string GoldenPath(const std::string& name);
Json GoldenJson(const std::string& name);
std::unique_ptr<SafetensorsFile> GoldenTensors(const std::string& name);
std::vector<int32_t> GoldenIds(const Json& list);

// A Hugging Face folder of the golden models.
struct GoldenModel {
  explicit GoldenModel(const std::string& folder);
  ModelConfig config;
  std::unique_ptr<SafetensorsFile> file;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TESTS_GOLDEN_GOLDEN_FILES_H_
