// A config.json. What is accepted has a normal form that says the same, and shapes whose products
// do not overflow.

#include <string>

#include "absl/strings/string_view.h"
#include "glog/logging.h"
#include "tests/fuzz/bounded_memory.h"
#include "tests/fuzz/fuzz_target.h"
#include "trainer/model/config.h"
#include "trainer/model/llama_tensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace deltaworks::trainer;
  deltaworks::fuzz::BoundedMemory memory(size);
  const auto config =
      ModelConfig::Parse(absl::string_view(reinterpret_cast<const char*>(data), size));
  if (!config.ok()) return 0;
  const std::string normal = config->ToJson();
  const auto again = ModelConfig::Parse(normal);
  CHECK(again.ok()) << again.status();
  CHECK_EQ(again->ToJson(), normal);
  CHECK_GT(LlamaParameters(*config), 0);
  return 0;
}
