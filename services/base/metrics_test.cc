#include "services/base/metrics.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/base/file.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;

std::string Get(int port, const std::string& path) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  const std::string request = "GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  EXPECT_EQ(write(fd, request.data(), request.size()), static_cast<ssize_t>(request.size()));
  std::string answer;
  char buffer[4096];
  for (ssize_t count; (count = read(fd, buffer, sizeof(buffer))) > 0;) answer.append(buffer, count);
  close(fd);
  return answer;
}

TEST(MetricsTest, OneNameAndLabelsIsOneMetric) {
  Metrics metrics("store");
  prometheus::Counter& ok = metrics.Counter("deltaworks_x_total", "X.", {{"code", "OK"}});
  EXPECT_EQ(&ok, &metrics.Counter("deltaworks_x_total", "X.", {{"code", "OK"}}));
  EXPECT_NE(&ok, &metrics.Counter("deltaworks_x_total", "X.", {{"code", "BAD"}}));
}

TEST(MetricsTest, PrometheusReadsWhatWasCounted) {
  Metrics metrics("store");
  metrics.Counter("deltaworks_uploads_total", "Uploads finished.").Increment(3);
  metrics.Gauge("deltaworks_blob_bytes", "Bytes of blobs.").Set(12);
  metrics
      .Histogram("deltaworks_wait_seconds", "Time waited.", Metrics::LatencySeconds(),
                 {{"kind", "a"}})
      .Observe(0.3);
  const auto port = metrics.Serve("127.0.0.1:0");
  ASSERT_TRUE(port.ok()) << port.status();
  const std::string answer = Get(*port, "/metrics");
  EXPECT_THAT(answer, HasSubstr("200 OK"));
  EXPECT_THAT(answer, HasSubstr("deltaworks_uploads_total 3"));
  EXPECT_THAT(answer, HasSubstr("deltaworks_blob_bytes 12"));
  EXPECT_THAT(answer, HasSubstr("deltaworks_wait_seconds_bucket{kind=\"a\",le=\"0.5\"} 1"));
  EXPECT_THAT(answer, HasSubstr("deltaworks_build_info{"));
  EXPECT_THAT(answer, HasSubstr("process_resident_memory_bytes"));
  EXPECT_THAT(Get(*port, "/other"), HasSubstr("404"));
}

TEST(MetricsTest, AnAddressInUseIsAClearError) {
  Metrics first("store");
  const auto port = first.Serve("127.0.0.1:0");
  ASSERT_TRUE(port.ok()) << port.status();
  Metrics second("store");
  const auto again = second.Serve(absl::StrCat("127.0.0.1:", *port));
  ASSERT_TRUE(absl::IsFailedPrecondition(again.status())) << again.status();
  EXPECT_THAT(std::string(again.status().message()), HasSubstr("in use by another process"));
}

// Debian's promtool reads the text as Prometheus does and complains about names.
TEST(MetricsTest, PromtoolHasNothingToComplainAbout) {
  ASSERT_EQ(std::system("command -v promtool > /dev/null"), 0)
      << "promtool is absent; deploy/setup --tests installs it";
  Metrics metrics("store");
  metrics.Counter("deltaworks_uploads_total", "Uploads finished.").Increment();
  metrics.Histogram("deltaworks_wait_seconds", "Time waited.", Metrics::LatencySeconds());
  const auto port = metrics.Serve("127.0.0.1:0");
  ASSERT_TRUE(port.ok()) << port.status();
  const std::string answer = Get(*port, "/metrics");
  const std::string path = ::testing::TempDir() + "/metrics.txt";
  ASSERT_TRUE(WriteFileAtomically(path, answer.substr(answer.find("\r\n\r\n") + 4)).ok());
  EXPECT_EQ(std::system(("promtool check metrics < " + path).c_str()), 0);
}

}  // namespace
}  // namespace deltaworks::services
