// Requests of inference as the engine's own structs, and everything that can be said against one
// without a model. Every error is InvalidArgument, names the field ("chat.messages[2].role"), what
// was got and what is wanted. Plain functions, thread-safe.

#ifndef DELTAWORKS_SERVICES_INFERENCE_REQUEST_CHECKS_H_
#define DELTAWORKS_SERVICES_INFERENCE_REQUEST_CHECKS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/deltaworks/v1/inference_service.pb.h"
#include "services/inference/engine_job.h"
#include "services/inference/loaded_model.h"
#include "trainer/data/example.h"
#include "trainer/data/record.h"
#include "trainer/data/text_encoder.h"

namespace deltaworks::services {

// Fields of Generate besides parent and model.
absl::Status CheckGenerate(const v1::GenerateRequest& request);
// Fields of Score besides parent and model.
absl::Status CheckScore(const v1::ScoreRequest& request);

// ---- With the model at hand; for requests that passed the checks above ----

// The prompt as tokens, how to sample, and max_new_tokens, cut to what `context` leaves. A prompt
// that leaves no room is InvalidArgument with both lengths.
absl::StatusOr<GenerationTask> MakeTask(const v1::GenerateRequest& request, const LoadedBase& base,
                                        int64_t context);

// Tokens and labels as training makes them. An example that text.truncation = SKIP leaves out has
// no labels. A bad one is named "examples[3]: ...".
absl::StatusOr<std::vector<trainer::Example>> MakeExamples(const v1::ScoreRequest& request,
                                                           const LoadedBase& base, int64_t context);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_INFERENCE_REQUEST_CHECKS_H_
