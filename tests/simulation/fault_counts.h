// FaultCounts: how often each kind of fault happened. Thread-compatible.

#ifndef DELTAWORKS_TESTS_SIMULATION_FAULT_COUNTS_H_
#define DELTAWORKS_TESTS_SIMULATION_FAULT_COUNTS_H_

#include <cstdint>
#include <string>

#include "absl/container/btree_map.h"
#include "absl/strings/string_view.h"

namespace deltaworks::simulation {

class FaultCounts {
 public:
  void Count(absl::string_view fault) { ++counts_[fault]; }
  void Add(const FaultCounts& other) {
    for (const auto& [fault, count] : other.counts_) counts_[fault] += count;
  }
  const absl::btree_map<std::string, int64_t>& counts() const { return counts_; }

 private:
  absl::btree_map<std::string, int64_t> counts_;
};

}  // namespace deltaworks::simulation

#endif  // DELTAWORKS_TESTS_SIMULATION_FAULT_COUNTS_H_
