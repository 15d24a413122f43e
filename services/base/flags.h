// FlagSet: the settings of a program, from four places. The first that has a value wins:
//
//   1. the command line       --stop_deadline=20s
//   2. the environment        DELTAWORKS_STORE_STOP_DEADLINE=20s
//   3. the config file        stop_deadline = "20s", in a TOML or INI file named by --config; a
//                             section [store] counts for the store only, and before the top level
//   4. the default
//
// Every flag has all four; lists are repeated on the command line, separated by commas in the
// environment, arrays in the file. Durations are "500ms", "20s", "1h30m". A name that no flag has
// and a value that does not parse are errors that say where they came from.
//
// Not thread-safe; values are read once, at start.

#ifndef DELTAWORKS_SERVICES_BASE_FLAGS_H_
#define DELTAWORKS_SERVICES_BASE_FLAGS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace deltaworks::services {

class FlagSet {
 public:
  // `service` ("store") is in the environment's names and is the file's section.
  FlagSet(const std::string& service, const std::string& description);
  ~FlagSet();
  FlagSet(const FlagSet&) = delete;
  FlagSet& operator=(const FlagSet&) = delete;

  // `*value` holds the default, gets the value, and must outlive Parse(). Names are
  // lower_snake_case.
  void Add(const std::string& name, std::string* value, const std::string& help);
  void Add(const std::string& name, int64_t* value, const std::string& help);
  void Add(const std::string& name, double* value, const std::string& help);
  void Add(const std::string& name, bool* value, const std::string& help);
  void Add(const std::string& name, absl::Duration* value, const std::string& help);
  void Add(const std::string& name, std::vector<std::string>* value, const std::string& help);

  // False: --help or --version was asked for and its text is in output(). InvalidArgument: subject,
  // got, want.
  absl::StatusOr<bool> Parse(int argc, const char* const* argv);
  const std::string& output() const;

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_FLAGS_H_
