// Seconds and GB/s of TcpCommunicator::OrderedSum between processes of this machine, beside the
// roof of a plain memcpy of the same bytes on one thread:
//
//   comm_benchmark [ranks ...]      2 and 4 by default
//
// 42 Mi floats, the gradients of an 8B model's adapter of rank 16. GB/s are the bytes of one rank's
// data divided by the seconds; over its connections a rank sends 2 (n - 1) / n times as many.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <list>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "trainer/comm/monotonic.h"
#include "trainer/comm/testing/meeting.h"
#include "trainer/comm/testing/rank_process.h"

namespace deltaworks::trainer {
namespace {

constexpr int64_t kCount = int64_t{42} << 20;
constexpr int64_t kBytes = kCount * sizeof(float);
constexpr int kRounds = 5;  // After one that warms up.

// The median of kRounds.
template <typename Function>
double Seconds(const Function& function) {
  function();
  std::vector<double> seconds;
  for (int round = 0; round < kRounds; ++round) {
    const absl::Time begin = MonotonicNow();
    function();
    seconds.push_back(absl::ToDoubleSeconds(MonotonicNow() - begin));
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[kRounds / 2];
}

void Print(const std::string& what, double seconds) {
  std::printf("%-28s %7.4f s %7.2f GB/s\n", what.c_str(), seconds, kBytes / seconds / 1e9);
}

std::string SumOnOneRank(Meeting& meeting, int rank) {
  auto member = meeting.Join(rank, absl::Minutes(2));
  if (!member.ok()) return std::string(member.status().message());
  std::vector<float> data(kCount, 1.0f);
  absl::Status status;
  const double seconds =
      Seconds([&] { status.Update((*member)->communicator().OrderedSum(data.data(), kCount)); });
  return status.ok() ? absl::StrCat(seconds) : std::string(status.message());
}

void Sum(int size) {
  Meeting meeting(CommunicatorKind::kTcp, size);
  std::list<RankProcess> processes;
  for (int rank = 0; rank < size; ++rank) {
    processes.emplace_back([&](Link&) { return SumOnOneRank(meeting, rank); });
  }
  double slowest = 0;
  for (RankProcess& each : processes) {
    const std::string said = each.link().Hear();
    const double seconds = std::strtod(said.c_str(), nullptr);
    if (seconds <= 0) std::printf("failed: %s\n", said.c_str());
    slowest = std::max(slowest, seconds);
  }
  Print(absl::StrCat("sum of ", size, " ranks"), slowest);
}

void Copy() {
  const std::vector<char> from(kBytes, 'x');
  std::vector<char> to(kBytes);
  const double seconds = Seconds([&] { std::memcpy(to.data(), from.data(), kBytes); });
  Print("memcpy, one thread", seconds);
}

}  // namespace
}  // namespace deltaworks::trainer

int main(int argc, char** argv) {
  using namespace deltaworks::trainer;
  std::vector<int> sizes;
  for (int i = 1; i < argc; ++i) sizes.push_back(std::clamp(std::atoi(argv[i]), 1, 64));
  if (sizes.empty()) sizes = {2, 4};
  std::printf("%.0f MB of f32, median of %d\n", kBytes / 1e6, kRounds);
  std::fflush(stdout);
  Copy();
  for (const int size : sizes) {
    std::fflush(stdout);  // Before it is forked with us.
    Sum(size);
  }
}
