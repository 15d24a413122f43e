#include "tests/fuzz/scratch_folder.h"

#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/strip.h"
#include "glog/logging.h"

namespace deltaworks::fuzz {
namespace {

constexpr absl::string_view kMark = "=== ";

bool IsHarmless(absl::string_view name) {
  if (name.empty() || name[0] == '.' || name.size() > 100) return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(c) || c == '.' || c == '-' || c == '_';
  });
}

}  // namespace

ScratchFolder::ScratchFolder()
    : path_(std::filesystem::temp_directory_path() / "deltaworks-fuzz-XXXXXX") {
  CHECK(mkdtemp(path_.data()) != nullptr) << path_;
}

ScratchFolder::~ScratchFolder() { std::filesystem::remove_all(path_); }

void ScratchFolder::Clear() {
  for (const auto& entry : std::filesystem::directory_iterator(path_)) {
    std::filesystem::remove(entry.path());
  }
}

void ScratchFolder::Write(const std::string& name, absl::string_view bytes) {
  std::ofstream file(path_ + "/" + name, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  CHECK(file.good()) << path_ << "/" << name;
}

void ScratchFolder::WriteAll(absl::string_view input) {
  Clear();
  while (absl::ConsumePrefix(&input, kMark)) {
    const size_t line_end = std::min(input.find('\n'), input.size());
    const std::string name(input.substr(0, line_end));
    input.remove_prefix(std::min(line_end + 1, input.size()));
    // A mark right at the beginning: an empty file.
    const size_t next = absl::StartsWith(input, kMark) ? 0 : input.find("\n=== ");
    if (IsHarmless(name)) Write(name, input.substr(0, next));
    if (next == absl::string_view::npos) return;
    input.remove_prefix(next == 0 ? 0 : next + 1);
  }
}

}  // namespace deltaworks::fuzz
