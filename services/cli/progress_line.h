// ProgressLine: how far a transfer is, on the error stream: one line redrawn on a terminal, else a
// line at every quarter. Not thread-safe.

#ifndef DELTAWORKS_SERVICES_CLI_PROGRESS_LINE_H_
#define DELTAWORKS_SERVICES_CLI_PROGRESS_LINE_H_

#include <cstdint>
#include <string>

#include "services/cli/command.h"

namespace deltaworks::services {

class ProgressLine {
 public:
  // `context` must outlive it.
  ProgressLine(CommandContext& context, std::string what);
  // Ends the line if one stands.
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // `detail` ("12.1 MB of 93.4 MB") is shown after the share, which is in [0, 1].
  void Show(double share, const std::string& detail);
  void ShowBytes(int64_t done, int64_t total);

 private:
  CommandContext& context_;
  const std::string what_;
  int64_t shown_ = -1;  // The last per mille, or quarter.
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_PROGRESS_LINE_H_
