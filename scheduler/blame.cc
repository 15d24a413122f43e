#include "scheduler/blame.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "scheduler/job_record.h"
#include "trainer/base/utf8_prefix.h"

namespace deltaworks::scheduler {
namespace {

constexpr char kOutOfMemory[] = "OUT_OF_MEMORY";

v1::Failure MakeFailure(const std::string& code, const std::string& message,
                        v1::Failure::Fault fault) {
  v1::Failure failure;
  failure.set_code(code);
  failure.set_message(std::string(Utf8Prefix(message, kFailureMessageBytesMax)));
  failure.set_fault(fault);
  return failure;
}

std::string LastWords(const v1::Failure& failure) {
  return failure.message().empty() ? "" : absl::StrCat("; the last one said: ", failure.message());
}

}  // namespace

Blame JudgeEnd(const JobRecord& record, const v1::Failure& failure, bool told_to_leave,
               const Options& options) {
  Blame blame;
  blame.run_alone = record.run_alone();
  if (failure.fault() == v1::Failure::USER) {
    blame.job_fails = true;
    blame.failure = failure;
    return blame;
  }
  if (told_to_leave) return blame;
  if (failure.code() == kOutOfMemory) {
    if (record.current().alone()) {
      blame.job_fails = true;
      blame.failure = MakeFailure(
          kOutOfMemory, absl::StrCat("the job does not fit an empty worker: ", failure.message()),
          v1::Failure::USER);
    }
    blame.run_alone = true;
    return blame;
  }

  blame.death = true;
  blame.cost_retry = !record.current().made_checkpoint();
  const v1::JobStatus& status = record.job().status();
  const int32_t deaths = status.deaths_without_checkpoint() + 1;
  const int32_t deaths_alone = record.deaths_alone() + (record.current().alone() ? 1 : 0);
  blame.run_alone = deaths >= options.deaths_until_alone;

  if (options.deaths_until_poison > 0 && deaths_alone >= options.deaths_until_poison) {
    blame.job_fails = true;
    blame.failure =
        MakeFailure("POISONED",
                    absl::StrCat(deaths_alone,
                                 " attempts in a row died alone on their worker without a new "
                                 "checkpoint, want fewer than ",
                                 options.deaths_until_poison, LastWords(failure)),
                    v1::Failure::PLATFORM);
    return blame;
  }
  const int32_t retries = status.retries_used() + (blame.cost_retry ? 1 : 0);
  const int32_t retries_max = record.job().retry_policy().max_retries();
  if (retries_max >= 0 && retries > retries_max) {
    blame.job_fails = true;
    blame.failure = MakeFailure(
        "RETRIES_EXHAUSTED",
        absl::StrCat(retries, " attempts ended badly without a new checkpoint, want at most ",
                     retries_max, " (retry_policy.max_retries)", LastWords(failure)),
        v1::Failure::PLATFORM);
  }
  return blame;
}

}  // namespace deltaworks::scheduler
