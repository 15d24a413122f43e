#include "scheduler/message_difference.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/util/message_differencer.h"

namespace deltaworks::scheduler {
namespace {

using google::protobuf::Message;
using google::protobuf::util::MessageDifferencer;

// Keeps the path of the first report.
class FirstPath : public MessageDifferencer::Reporter {
 public:
  using Path = std::vector<MessageDifferencer::SpecificField>;

  void ReportAdded(const Message&, const Message&, const Path& path) override { Keep(path); }
  void ReportDeleted(const Message&, const Message&, const Path& path) override { Keep(path); }
  void ReportModified(const Message&, const Message&, const Path& path) override { Keep(path); }

  const std::string& text() const { return text_; }

 private:
  void Keep(const Path& path) {
    if (!text_.empty()) return;
    for (const MessageDifferencer::SpecificField& part : path) {
      absl::StrAppend(&text_, text_.empty() ? "" : ".",
                      part.field != nullptr ? part.field->name() : "(unknown field)");
      // What lies inside a map entry is named by the map.
      if (part.field != nullptr && part.field->is_map()) return;
      if (part.field != nullptr && part.field->is_repeated()) {
        absl::StrAppend(&text_, "[", std::max(part.index, part.new_index), "]");
      }
    }
  }

  std::string text_;
};

}  // namespace

std::string FirstDifference(const Message& a, const Message& b) {
  FirstPath reporter;
  MessageDifferencer differencer;
  differencer.ReportDifferencesTo(&reporter);
  differencer.Compare(a, b);
  return reporter.text();
}

}  // namespace deltaworks::scheduler
