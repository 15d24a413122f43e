// A safetensors file. What was read can be written, and is then read as the same.

#include <string>

#include "absl/strings/string_view.h"
#include "glog/logging.h"
#include "tests/fuzz/bounded_memory.h"
#include "tests/fuzz/fuzz_target.h"
#include "trainer/formats/safetensors.h"

namespace deltaworks::trainer {
namespace {

void WriteAndReadAgain(const Safetensors& contents) {
  const std::string written = SerializeSafetensors(contents.tensors, contents.metadata);
  const auto again = ParseSafetensors(written, "written");
  CHECK(again.ok()) << again.status();
  CHECK(again->metadata == contents.metadata);
  CHECK_EQ(again->tensors.size(), contents.tensors.size());
  CHECK(again->CheckAligned("written").ok());
  for (const auto& [name, view] : contents.tensors) {
    const ConstTensorView* const copy = again->Find(name);
    CHECK(copy != nullptr) << name;
    CHECK(copy->dtype == view.dtype && copy->shape == view.shape) << name;
    CHECK(std::memcmp(copy->data, view.data, static_cast<size_t>(view.bytes())) == 0) << name;
  }
}

}  // namespace
}  // namespace deltaworks::trainer

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace deltaworks::trainer;
  deltaworks::fuzz::BoundedMemory memory(size);
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto contents = ParseSafetensors(bytes, "input");
  if (contents.ok()) WriteAndReadAgain(*contents);
  return 0;
}
