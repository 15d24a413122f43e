#include "services/base/message_difference.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/message.h>
#include <google/protobuf/util/message_differencer.h>

#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "trainer/base/sha256.h"

namespace deltaworks::services {
namespace {

using ::google::protobuf::Descriptor;
using ::google::protobuf::FieldDescriptor;
using ::google::protobuf::Message;
using ::google::protobuf::util::MessageDifferencer;

// Keeps the path of the first difference reported.
class FirstPath final : public MessageDifferencer::Reporter {
 public:
  using Path = std::vector<MessageDifferencer::SpecificField>;
  void ReportAdded(const Message&, const Message&, const Path& path) override { Keep(path); }
  void ReportDeleted(const Message&, const Message&, const Path& path) override { Keep(path); }
  void ReportModified(const Message&, const Message&, const Path& path) override { Keep(path); }
  const std::string& path() const { return path_; }

 private:
  void Keep(const Path& path) {
    if (!path_.empty()) return;
    for (const MessageDifferencer::SpecificField& part : path) {
      if (part.field == nullptr) continue;
      absl::StrAppend(&path_, path_.empty() ? "" : ".", part.field->name());
    }
  }
  std::string path_;
};

void ClearField(Message& message, const std::string& name) {
  const FieldDescriptor* field = message.GetDescriptor()->FindFieldByName(name);
  if (field != nullptr) message.GetReflection()->ClearField(&message, field);
}

}  // namespace

std::string FirstDifference(const Message& a, const Message& b) {
  MessageDifferencer differencer;
  FirstPath first;
  differencer.ReportDifferencesTo(&first);
  if (differencer.Compare(a, b)) return "";
  return first.path().empty() ? "(unknown field)" : first.path();
}

std::string RequestFingerprint(const Message& request) {
  std::unique_ptr<Message> copy(request.New());
  copy->CopyFrom(request);
  for (const char* name : {"page_size", "page_token", "request_id"}) ClearField(*copy, name);
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    copy->SerializeToCodedStream(&coded);
  }
  return Sha256Digest(absl::StrCat(request.GetDescriptor()->full_name(), "\n", bytes));
}

}  // namespace deltaworks::services
