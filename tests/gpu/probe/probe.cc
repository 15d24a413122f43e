// What a card and its cuBLASLt and NCCL do, as far as the cuda backend's design rests on it.
//
//   probe [--records FILE] [section...]     sections, all but digests without one: see kSections
//
// tests/gpu/README.md has the questions and what was found.

#include <string>
#include <vector>

#include "tests/gpu/probe/gpu.h"
#include "tests/gpu/probe/sections.h"

namespace deltaworks::gpu_probe {

std::FILE*& Records() {
  static std::FILE* file = stdout;
  return file;
}

namespace {

struct Section {
  const char* name;
  void (*ask)();
  bool by_name_only = false;
};

constexpr Section kSections[] = {
    {"card", AskCard},
    {"peak", AskPeak},
    {"columns", AskFurtherColumns},
    {"sums", AskTokenSums},
    {"sustained", AskSustained},
    {"fp8", AskFp8},
    {"graph", AskGraph},
    {"nccl", AskNccl},
    {"rows", [] { AskRows(/*thorough=*/true); }},
    // To compare two libraries: the first shapes of `rows`.
    {"digests", [] { AskRows(/*thorough=*/false); }, /*by_name_only=*/true},
};

int Main(int argc, char** argv) {
  std::vector<std::string> wanted;
  for (int i = 1; i < argc; ++i) {
    if (std::string(argv[i]) != "--records") {
      wanted.emplace_back(argv[i]);
      continue;
    }
    const char* const path = ++i < argc ? argv[i] : "";
    Records() = std::fopen(path, "a");
    if (Records() == nullptr) {
      std::fprintf(stderr, "records file '%s' cannot be written\n", path);
      return 1;
    }
  }
  const bool all = wanted.empty();
  for (const Section& section : kSections) {
    if (all ? section.by_name_only : std::erase(wanted, section.name) == 0) continue;
    std::printf("== %s\n", section.name);
    section.ask();
    std::fflush(nullptr);
  }
  for (const std::string& name : wanted)
    std::fprintf(stderr, "section is '%s', want one of kSections\n", name.c_str());
  return wanted.empty() ? 0 : 1;
}

}  // namespace
}  // namespace deltaworks::gpu_probe

int main(int argc, char** argv) { return deltaworks::gpu_probe::Main(argc, argv); }
