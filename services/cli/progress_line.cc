#include "services/cli/progress_line.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "services/cli/format.h"

namespace deltaworks::services {
namespace {
constexpr int64_t kBarWidth = 24;
}  // namespace

ProgressLine::ProgressLine(CommandContext& context, std::string what)
    : context_(context), what_(std::move(what)) {}

ProgressLine::~ProgressLine() {
  if (context_.err_terminal && shown_ >= 0) context_.err << "\n" << std::flush;
}

void ProgressLine::Show(double share, const std::string& detail) {
  share = std::clamp(share, 0.0, 1.0);
  const int64_t place = static_cast<int64_t>(share * (context_.err_terminal ? 1000 : 4));
  // A line in a log should say something was done.
  if (place == shown_ || (place == 0 && !context_.err_terminal)) return;
  shown_ = place;
  const std::string percent = absl::StrFormat("%3.0f %%", share * 100);
  if (context_.err_terminal) {
    context_.err << "\r" << what_ << " " << ProgressBar(share, kBarWidth) << " " << percent << "  "
                 << detail << "\x1b[K" << std::flush;
  } else {
    context_.err << what_ << ": " << percent << (detail.empty() ? "" : ", ") << detail << "\n"
                 << std::flush;
  }
}

void ProgressLine::ShowBytes(int64_t done, int64_t total) {
  Show(total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 1,
       absl::StrCat(BytesText(done), " of ", BytesText(total)));
}

}  // namespace deltaworks::services
