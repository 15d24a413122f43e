// Runs a fuzz target on its corpus, then on mutations of the corpus:
//
//   gguf_fuzz [--mutations=N] [--seconds=S] [--seed=K] FILE_OR_FOLDER...
//
// Files run first, in the order of their names, each exactly as it is. Then mutations: for S
// seconds if that is given, else N of them (none by default). The same seed and corpus give the
// same inputs in the same order.
//
// The target must return within kInputSeconds of processor time, within the memory of
// bounded_memory.h, without aborting. If it does not, the input is written to "failed-input" in
// $TEST_UNDECLARED_OUTPUTS_DIR or here, and its path is the last line: give it to the same program
// to see the failure again.

#include <fcntl.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/mutator.h"
#include "trainer/base/file.h"

// Read by the sanitizers: a report must abort, or the input is not kept.
extern "C" const char* __asan_default_options() { return "abort_on_error=1"; }
extern "C" const char* __ubsan_default_options() { return "abort_on_error=1"; }

namespace deltaworks::fuzz {
namespace {

constexpr int kInputSeconds = 20;
constexpr uint64_t kDefaultSeed = 1;

// What the signal handlers say and keep; set before an input runs.
const std::string* current_input = nullptr;
char failed_path[4096];

void Say(const char* text) {
  if (write(STDERR_FILENO, text, std::strlen(text)) < 0) _exit(1);
}

// Only what a signal handler may do.
extern "C" void KeepInputAndDie(int signal_number) {
  if (signal_number == SIGPROF) Say("the parser takes too long\n");
  const int fd = open(failed_path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  const auto size = static_cast<ssize_t>(current_input == nullptr ? 0 : current_input->size());
  if (current_input != nullptr && fd >= 0 && write(fd, current_input->data(), size) == size) {
    Say("the input is in\n");
    Say(failed_path);
    Say("\n");
  }
  signal(SIGABRT, SIG_DFL);
  abort();
}

void CatchFailures() {
  const char* folder = std::getenv("TEST_UNDECLARED_OUTPUTS_DIR");
  std::snprintf(failed_path, sizeof(failed_path), "%s/failed-input",
                folder == nullptr ? "." : folder);
  signal(SIGABRT, KeepInputAndDie);
  signal(SIGPROF, KeepInputAndDie);
#if !defined(__SANITIZE_ADDRESS__)
  signal(SIGSEGV, KeepInputAndDie);
  signal(SIGFPE, KeepInputAndDie);
#endif
}

void Run(const std::string& input) {
  current_input = &input;
  // A copy of exactly this size, so that a read past its end is seen.
  const std::vector<uint8_t> bytes(input.begin(), input.end());
  itimerval limit = {.it_interval = {}, .it_value = {.tv_sec = kInputSeconds, .tv_usec = 0}};
  setitimer(ITIMER_PROF, &limit, nullptr);
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  limit.it_value.tv_sec = 0;
  setitimer(ITIMER_PROF, &limit, nullptr);
  current_input = nullptr;
}

std::vector<std::string> FilesOf(const std::vector<std::string>& paths) {
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    if (!std::filesystem::is_directory(path)) {
      files.push_back(path);
      continue;
    }
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      files.push_back(entry.path().string());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

struct Options {
  uint64_t mutations = 0;
  uint64_t seconds = 0;
  uint64_t seed = kDefaultSeed;
  std::vector<std::string> paths;
};

bool Parse(int argc, char** argv, Options* options) {
  for (int i = 1; i < argc; ++i) {
    absl::string_view argument = argv[i];
    bool ok = true;
    if (absl::ConsumePrefix(&argument, "--mutations=")) {
      ok = absl::SimpleAtoi(argument, &options->mutations);
    } else if (absl::ConsumePrefix(&argument, "--seconds=")) {
      ok = absl::SimpleAtoi(argument, &options->seconds);
    } else if (absl::ConsumePrefix(&argument, "--seed=")) {
      ok = absl::SimpleAtoi(argument, &options->seed);
    } else {
      ok = !absl::StartsWith(argument, "-");
      options->paths.emplace_back(argument);
    }
    if (!ok) {
      std::fprintf(stderr, "got %s, want --mutations=N, --seconds=S, --seed=K or a path\n",
                   argv[i]);
      return false;
    }
  }
  return true;
}

int Main(int argc, char** argv) {
  Options options;
  if (!Parse(argc, argv, &options)) return 2;
  CatchFailures();
  const auto begin = std::chrono::steady_clock::now();
  const auto seconds = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  std::vector<std::string> seeds;
  for (const std::string& path : FilesOf(options.paths)) {
    const auto bytes = ReadFile(path);
    if (!bytes.ok()) {
      std::fprintf(stderr, "%s\n", bytes.status().ToString().c_str());
      return 2;
    }
    std::printf("%s\n", path.c_str());
    std::fflush(stdout);
    Run(seeds.emplace_back(*bytes));
  }
  if (seeds.empty()) {
    std::fprintf(stderr, "got no files, want a corpus\n");
    return 2;
  }
  const size_t files = seeds.size();
  const double until_s = seconds() + static_cast<double>(options.seconds);
  const auto go_on = [&](uint64_t done) {
    return options.seconds > 0 ? seconds() < until_s : done < options.mutations;
  };
  Mutator mutator(std::move(seeds), options.seed);
  uint64_t mutations = 0;
  for (; go_on(mutations); ++mutations) Run(mutator.Next());
  std::printf("%zu files and %llu mutations (seed %llu) in %.1f s\n", files,
              static_cast<unsigned long long>(mutations),
              static_cast<unsigned long long>(options.seed), seconds());
  return 0;
}

}  // namespace
}  // namespace deltaworks::fuzz

int main(int argc, char** argv) { return deltaworks::fuzz::Main(argc, argv); }
