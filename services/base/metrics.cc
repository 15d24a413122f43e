#include "services/base/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/exposer.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <atomic>
#include <chrono>
#include <exception>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "services/base/address.h"
#include "services/base/process_metrics.h"
#include "services/base/version.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

void CheckName(const std::string& name, const std::string& help) {
  CHECK(absl::StartsWith(name, "deltaworks_")) << name;
  CHECK(!help.empty()) << name << " has no help";
}

}  // namespace

struct Metrics::State {
  const std::shared_ptr<prometheus::Registry> registry = std::make_shared<prometheus::Registry>();
  const std::shared_ptr<ProcessMetrics> process = std::make_shared<ProcessMetrics>();
  std::unique_ptr<prometheus::Exposer> exposer;
  HostPort address;  // Of the exposer.
};

Metrics::Metrics(absl::string_view service) : state_(std::make_unique<State>()) {
  Gauge("deltaworks_build_info", "1; the labels tell what runs.",
        {{"service", std::string(service)}, {"version", BuildVersion()}})
      .Set(1);
}

// civetweb looks whether it should stop every two seconds, or when somebody connects.
Metrics::~Metrics() {
  if (state_->exposer == nullptr) return;
  std::atomic<bool> stopped{false};
  std::thread caller([&] {
    while (!stopped) {
      TouchListener(state_->address);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  });
  state_->exposer.reset();
  stopped = true;
  caller.join();
}

prometheus::Counter& Metrics::Counter(const std::string& name, const std::string& help,
                                      const Labels& labels) {
  CheckName(name, help);
  CHECK(absl::EndsWith(name, "_total")) << name;
  return prometheus::BuildCounter().Name(name).Help(help).Register(*state_->registry).Add(labels);
}

prometheus::Gauge& Metrics::Gauge(const std::string& name, const std::string& help,
                                  const Labels& labels) {
  CheckName(name, help);
  CHECK(!absl::EndsWith(name, "_total")) << name;
  return prometheus::BuildGauge().Name(name).Help(help).Register(*state_->registry).Add(labels);
}

prometheus::Histogram& Metrics::Histogram(const std::string& name, const std::string& help,
                                          const std::vector<double>& bucket_bounds,
                                          const Labels& labels) {
  CheckName(name, help);
  return prometheus::BuildHistogram()
      .Name(name)
      .Help(help)
      .Register(*state_->registry)
      .Add(labels, prometheus::Histogram::BucketBoundaries(bucket_bounds));
}

const std::vector<double>& Metrics::LatencySeconds() {
  static const auto* const bounds = new std::vector<double>{
      0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100};
  return *bounds;
}

absl::StatusOr<int> Metrics::Serve(const std::string& address) {
  CHECK(state_->exposer == nullptr) << "served twice";
  DW_RETURN_IF_ERROR(CheckListenAddress("metrics_address", address));
  try {
    state_->exposer = std::make_unique<prometheus::Exposer>(address);
  } catch (const std::exception& error) {
    return ListenError("metrics_address", address);
  }
  state_->exposer->RegisterCollectable(state_->registry);
  state_->exposer->RegisterCollectable(state_->process);
  DW_ASSIGN_OR_RETURN(state_->address, ParseHostPort("metrics_address", address));
  state_->address.port = state_->exposer->GetListeningPorts().at(0);
  return state_->address.port;
}

std::string Metrics::Text() const {
  std::vector<prometheus::MetricFamily> families = state_->registry->Collect();
  for (prometheus::MetricFamily& family : state_->process->Collect()) {
    families.push_back(std::move(family));
  }
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace deltaworks::services
