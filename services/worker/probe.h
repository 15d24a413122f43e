// The probe of a result: the job's first training examples, dropout off, cut at 512 tokens, and the
// logits that an adapter gives on it, at the rows that predict a label, at most 64 of them. Equal
// adapters give equal bytes; so the digest of these logits proves that an adapter read back from
// the store is the one that was trained.

#ifndef DELTAWORKS_SERVICES_WORKER_PROBE_H_
#define DELTAWORKS_SERVICES_WORKER_PROBE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "trainer/data/example.h"
#include "trainer/lora/adapter.h"
#include "trainer/model/llama.h"

namespace deltaworks::services {

inline constexpr int64_t kProbeTokensMax = 512;
inline constexpr size_t kProbeRowsMax = 64;

// The SHA-256 of the logits' bytes. ResourceExhausted if the device has no room. `examples` is not
// empty.
absl::StatusOr<std::string> ProbeDigest(const trainer::Llama& model,
                                        absl::Span<const trainer::Example> examples,
                                        const trainer::Adapter& adapter);

// The digest for an adapter in PEFT's format, loaded on `model` as anybody would load it. DataLoss
// if it cannot be.
absl::StatusOr<std::string> ProbeDigestOfFiles(const trainer::Llama& model,
                                               absl::Span<const trainer::Example> examples,
                                               absl::string_view adapter_model,
                                               absl::string_view adapter_config);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_PROBE_H_
