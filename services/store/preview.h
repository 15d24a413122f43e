// PreviewExamples: single examples as the trainer sees them, piece by piece. Pure function.

#ifndef DELTAWORKS_SERVICES_STORE_PREVIEW_H_
#define DELTAWORKS_SERVICES_STORE_PREVIEW_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/deltaworks/v1/store_service.pb.h"
#include "services/store/text_models.h"
#include "trainer/data/text_encoder.h"

namespace deltaworks::services {

// Examples [first, first + count) of `jsonl`, counting every line that is an example, as many as
// there are and fit in one answer. OutOfRange: there is none at `first`. InvalidArgument: a line on
// the way is bad.
absl::StatusOr<v1::PreviewDatasetResponse> PreviewExamples(absl::string_view jsonl,
                                                           const TextModel& model,
                                                           const trainer::TextSettings& settings,
                                                           int64_t first, int64_t count);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_STORE_PREVIEW_H_
