#include "scheduler/job_draft.h"

#include <string>
#include <utility>

#include "glog/logging.h"
#include "scheduler/job_fold.h"
#include "scheduler/job_record.h"
#include "scheduler/proto_time.h"
#include "trainer/base/utf8_prefix.h"

namespace deltaworks::scheduler {

Event JobDraft::NewEvent() const {
  Event event;
  *event.mutable_time() = ToProto(now_);
  event.set_job(record().job().name());
  return event;
}

Event JobDraft::NewEvent(v1::JobEvent::Type type, v1::JobState state, v1::JobReason reason,
                         const std::string& message) const {
  Event event = NewEvent();
  v1::JobEvent& shown = *event.mutable_shown();
  shown.set_seq(record().job().status().last_event_seq() + 1);
  *shown.mutable_time() = event.time();
  shown.set_level(v1::JobEvent::INFO);
  shown.set_type(type);
  shown.set_state(state);
  shown.set_reason(reason);
  shown.set_message(std::string(Utf8Prefix(message, kEventMessageBytesMax)));
  if (record().has_current()) shown.set_lease_epoch(record().current().lease_epoch());
  return event;
}

void JobDraft::Add(Event event) {
  if (device_ms_ != 0) event.set_attempt_device_ms(std::exchange(device_ms_, 0));
  if (!copy_.has_value()) copy_ = *original_;
  const absl::Status folded = FoldIntoJob(event, &*copy_);
  CHECK(folded.ok()) << folded;
  events_.push_back(std::move(event));
}

}  // namespace deltaworks::scheduler
