#include "services/scheduler/event_store.h"

#include "scheduler/proto_time.h"

namespace deltaworks::services {

JobKey JobKey::Of(const scheduler::JobRecord& record) {
  return {.created_ns = absl::ToUnixNanos(scheduler::FromProto(record.job().create_time())),
          .name = record.job().name()};
}

}  // namespace deltaworks::services
