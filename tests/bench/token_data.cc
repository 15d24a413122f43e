#include "tests/bench/token_data.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "glog/logging.h"
#include "trainer/base/file.h"
#include "trainer/base/json.h"

namespace deltaworks::trainer {

std::shared_ptr<TrainingData> ReadTokenData(const std::string& path) {
  const auto text = ReadFile(path);
  CHECK(text.ok()) << text.status();
  const auto json = ParseJson(*text, path);
  CHECK(json.ok()) << json.status();
  auto data = std::make_shared<TrainingData>();
  for (const Json& item : *json) {
    Example example{.ids = item["ids"].get<std::vector<int32_t>>()};
    const int64_t prompt = item["prompt_tokens"];
    for (int64_t i = 0; i < example.tokens(); ++i) example.is_label.push_back(i >= prompt);
    data->train.push_back(std::move(example));
  }
  return data;
}

}  // namespace deltaworks::trainer
