// What a card and its cuBLASLt and NCCL do, as far as the cuda backend's design rests on it.
//
//   probe [--records FILE] [section...]     sections, all but digests without one: see kSections
//
// tests/gpu/README.md has the questions and what was found.

#include <cstring>
#include <string>

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
    {"digests", [] { AskRows(/*thorough=*/false); }},  // To compare two libraries.
};

int Main(int argc, char** argv) {
  bool asked = false;
  const auto wanted = [&](const char* name) {
    bool named = false;
    bool any = false;
    for (int i = 1; i < argc; ++i) {
      if (std::strcmp(argv[i], "--records") == 0) {
        ++i;
        continue;
      }
      any = true;
      named = named || std::strcmp(argv[i], name) == 0;
    }
    return named || (!any && std::strcmp(name, "digests") != 0);
  };
  for (int i = 1; i + 1 < argc; ++i) {
    if (std::strcmp(argv[i], "--records") != 0) continue;
    Records() = std::fopen(argv[i + 1], "a");
    if (Records() == nullptr) {
      std::fprintf(stderr, "%s cannot be written\n", argv[i + 1]);
      return 1;
    }
  }
  for (const Section& section : kSections) {
    if (!wanted(section.name)) continue;
    asked = true;
    std::printf("== %s\n", section.name);
    section.ask();
    std::fflush(nullptr);
  }
  if (!asked) std::fprintf(stderr, "no such section; probe.cc lists them\n");
  return asked ? 0 : 1;
}

}  // namespace
}  // namespace deltaworks::gpu_probe

int main(int argc, char** argv) { return deltaworks::gpu_probe::Main(argc, argv); }
