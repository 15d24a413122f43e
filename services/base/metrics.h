// Metrics: the numbers of one process, served to Prometheus at http://ADDRESS/metrics.
//
// A service keeps its metrics in one file, services/NAME/metrics.{h,cc}: a struct of references
// made from a Metrics, so that every name, unit and help text is read in one place. Names begin
// with "deltaworks_", counters end with "_total", the unit is a word of the name ("_seconds",
// "_bytes"). Labels have few values: never a job, tenant or digest.
//
// Every process also has deltaworks_build_info and Prometheus' usual process_* metrics.
// Thread-safe. References live as long as the Metrics.

#ifndef DELTAWORKS_SERVICES_BASE_METRICS_H_
#define DELTAWORKS_SERVICES_BASE_METRICS_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace prometheus {
class Counter;
class Gauge;
class Histogram;
}  // namespace prometheus

namespace deltaworks::services {

class Metrics {
 public:
  using Labels = std::map<std::string, std::string>;

  explicit Metrics(absl::string_view service);
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // The metric of this name and labels, made at the first call. Include <prometheus/counter.h> and
  // its like to use it. CHECK-fails on a name that breaks the rules above.
  prometheus::Counter& Counter(const std::string& name, const std::string& help,
                               const Labels& labels = {});
  prometheus::Gauge& Gauge(const std::string& name, const std::string& help,
                           const Labels& labels = {});
  prometheus::Histogram& Histogram(const std::string& name, const std::string& help,
                                   const std::vector<double>& bucket_bounds,
                                   const Labels& labels = {});

  // 1 ms to 100 s, three to a decade.
  static const std::vector<double>& LatencySeconds();

  // Serves at "host:port"; port 0 takes a free one. Returns the port. Once only.
  //   FailedPrecondition  the address is in use or not one of this machine
  absl::StatusOr<int> Serve(const std::string& address);

  // What Serve() answers.
  std::string Text() const;

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_METRICS_H_
