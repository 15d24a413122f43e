// Two workers, one base: the base counts once in the machine's memory, nobody can write to it, and
// after training its bytes are what they were. Told by the kernel (/proc/PID/smaps).

#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "services/base/manifest.h"
#include "tests/e2e/platform.h"
#include "tests/e2e/workload.h"

namespace deltaworks::e2e {
namespace {

// What a worker needs for one short example, and what its libraries keep: 75 to 85 MB were seen. A
// copy of the base would add 63 MB in bf16, 127 MB in f32.
constexpr int64_t kOwnBytesMax = 110'000'000;

// What one process has mapped of the files under a folder, in bytes.
struct Mapped {
  int64_t size = 0;
  int64_t rss = 0;
  int64_t pss = 0;
  int64_t private_bytes = 0;
  bool read_only = true;
};

Mapped MappedBelow(pid_t pid, const std::string& folder) {
  Mapped mapped;
  std::ifstream smaps(absl::StrCat("/proc/", pid, "/smaps"));
  bool counts = false;
  for (std::string line; std::getline(smaps, line);) {
    std::istringstream words(line);
    std::string first;
    std::string second;
    words >> first >> second;
    if (!absl::EndsWith(first, ":")) {  // "7f..-7f.. r--s ... path" begins a mapping.
      counts = absl::StrContains(line, folder + "/") && absl::EndsWith(line, ".safetensors");
      if (counts && second != "r--s") mapped.read_only = false;
    } else if (counts) {
      const int64_t bytes = std::atoll(second.c_str()) * 1024;
      if (first == "Size:") mapped.size += bytes;
      if (first == "Rss:") mapped.rss += bytes;
      if (first == "Pss:") mapped.pss += bytes;
      if (absl::StartsWith(first, "Private_")) mapped.private_bytes += bytes;
    }
  }
  return mapped;
}

// Memory of its own that a process has touched, in bytes.
int64_t AnonymousBytes(pid_t pid) {
  std::ifstream status(absl::StrCat("/proc/", pid, "/status"));
  for (std::string line; std::getline(status, line);) {
    if (absl::StartsWith(line, "RssAnon:")) return std::atoll(line.c_str() + 8) * 1024;
  }
  return -1;
}

// It would take hours.
v1::CreateJobRequest SmallStepsJob(const std::string& id) {
  v1::CreateJobRequest request = JobRequest(id, 1'000'000);
  v1::TrainSpec& spec = *request.mutable_job()->mutable_train();
  spec.mutable_lora()->set_rank(1);
  spec.mutable_text()->set_max_length(64);
  spec.mutable_text()->set_truncation(v1::TextSettings::TRUNCATE);
  spec.set_micro_batch_tokens(64);
  spec.mutable_arguments()->set_per_device_train_batch_size(1);
  return request;
}

class TwoWorkersTest : public ::testing::TestWithParam<v1::NumberType> {};

TEST_P(TwoWorkersTest, ShareOneCopyOfTheBaseAndDoNotChangeIt) {
  Platform platform({.devices = {"cpu:0", "cpu:1"}});
  const v1::BaseModel base = ImportBase(platform, {.form = GetParam(), .model = LargerModel(1024)});
  AddDataset(platform, "pairs", 64, 1);
  const int64_t anonymous_before = AnonymousBytes(platform.worker(0).pid());
  const std::string first = Submit(platform, SmallStepsJob("first")).name();
  const std::string second = Submit(platform, SmallStepsJob("second")).name();
  AwaitStep(platform, first, 2);
  AwaitStep(platform, second, 2);
  EXPECT_NE(GetJob(platform, first).status().attempts(0).worker(),
            GetJob(platform, second).status().attempts(0).worker());

  const Mapped one = MappedBelow(platform.worker(0).pid(), platform.cache_folder());
  const Mapped two = MappedBelow(platform.worker(1).pid(), platform.cache_folder());
  // Everything but some bytes of a safetensors header is weights.
  EXPECT_GT(one.size, base.size_bytes() * 9 / 10);
  for (const Mapped& mapped : {one, two}) {
    EXPECT_TRUE(mapped.read_only);
    EXPECT_GT(mapped.rss, mapped.size * 9 / 10) << "training does not read the mapped weights";
    // No page belongs to one of them alone, but what only one has read so far.
    EXPECT_LT(mapped.private_bytes, mapped.size / 20);
  }
  // PSS divides a page by the processes that have it: together they are one copy.
  EXPECT_LE(one.pss + two.pss, one.size + one.size / 20);
  const int64_t anonymous = AnonymousBytes(platform.worker(0).pid()) - anonymous_before;
  EXPECT_LT(anonymous, kOwnBytesMax) << "the worker seems to have a copy of the base";
  std::cout << "base " << base.size_bytes() << " bytes; RSS of it " << one.rss << " + " << two.rss
            << ", PSS " << one.pss << " + " << two.pss << "; memory of its own of a worker "
            << anonymous << "\n";

  // The bytes that were trained on, in the cache and in the store, are what was imported.
  for (const std::string& name : {first, second}) {
    v1::CancelJobRequest cancel;
    cancel.set_name(name);
    Must(platform.training_of().CancelJob(cancel));
    AwaitEnd(platform, name);
  }
  v1::GetManifestRequest get;
  get.set_parent(Parent());
  get.set_digest(base.manifest_digest());
  const v1::Manifest manifest = Must(platform.store_of().GetManifest(get));
  int weights = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(platform.cache_folder())) {
    if (!absl::EndsWith(entry.path().string(), ".safetensors")) continue;
    ++weights;
    const std::string name = entry.path().filename().string();
    const v1::ManifestFile* file = services::FindFile(manifest, name);
    ASSERT_NE(file, nullptr) << name;
    EXPECT_EQ(Must(services::DescribeFile(name, entry.path().string())).digest(), file->digest());
    EXPECT_EQ(entry.status().permissions() & std::filesystem::perms::owner_write,
              std::filesystem::perms::none);
  }
  EXPECT_EQ(weights, 1) << "want one file of weights in the cache of both";
}

INSTANTIATE_TEST_SUITE_P(OfEachType, TwoWorkersTest, ::testing::Values(v1::F32, v1::BF16),
                         [](const auto& info) { return v1::NumberType_Name(info.param); });

}  // namespace
}  // namespace deltaworks::e2e
