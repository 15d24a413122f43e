#include "tests/golden/golden_files.h"

#include "glog/logging.h"
#include "trainer/base/file.h"

namespace deltaworks::trainer {

std::string GoldenPath(const std::string& name) { return "tests/golden/llama/" + name; }

Json GoldenJson(const std::string& name) {
  const auto text = ReadFile(GoldenPath(name));
  CHECK(text.ok()) << text.status();
  auto json = ParseJson(*text, name);
  CHECK(json.ok()) << json.status();
  return *std::move(json);
}

std::unique_ptr<SafetensorsFile> GoldenTensors(const std::string& name) {
  auto file = SafetensorsFile::Open(GoldenPath(name));
  CHECK(file.ok()) << file.status();
  return *std::move(file);
}

std::vector<int32_t> GoldenIds(const Json& list) { return list.get<std::vector<int32_t>>(); }

GoldenModel::GoldenModel(const std::string& folder)
    : file(GoldenTensors(folder + "/model.safetensors")) {
  const auto text = ReadFile(GoldenPath(folder + "/config.json"));
  CHECK(text.ok()) << text.status();
  auto parsed = ModelConfig::Parse(*text, folder);
  CHECK(parsed.ok()) << parsed.status();
  config = *std::move(parsed);
}

}  // namespace deltaworks::trainer
