// Generator: continues several prompts at once over one base, each with an adapter of its own, in
// one batch. Keys and values of past tokens are kept, so each new token costs one row.
//
// A stream's tokens depend on its prompt, adapter and sampling only: never on the other streams,
// nor on when they came or left. Thread-compatible. The model, and each stream's adapter while the
// stream is there, must outlive it.

#ifndef DELTAWORKS_TRAINER_GENERATE_GENERATOR_H_
#define DELTAWORKS_TRAINER_GENERATE_GENERATOR_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "trainer/generate/sampler.h"
#include "trainer/lora/adapter.h"
#include "trainer/model/kv_cache.h"
#include "trainer/model/llama.h"

namespace deltaworks::trainer {

struct GenerationRequest {
  std::vector<int32_t> prompt;       // At least one token.
  const Adapter* adapter = nullptr;  // nullptr: the base, or merged weights.
  SamplingConfig sampling;
  int64_t max_new_tokens = 256;      // At least 1.
  std::vector<int32_t> stop_tokens;  // Each ends the stream and is not handed out.
};

struct GeneratedToken {
  enum class Finish { kNot, kStop, kLength };

  int64_t stream = 0;
  int32_t token = -1;  // -1 with kStop: no token is handed out.
  Finish finish = Finish::kNot;
};

class Generator {
 public:
  // Room for `streams_max` streams of model.positions_max() tokens. ResourceExhausted if the device
  // has none.
  static absl::StatusOr<std::unique_ptr<Generator>> Create(const Llama& model, int64_t streams_max);

  // Takes a stream and returns its number. InvalidArgument for a request out of bounds (an empty
  // prompt, a token outside the vocabulary, prompt + max_new_tokens beyond the positions);
  // ResourceExhausted if all places are taken.
  absl::StatusOr<int64_t> Add(GenerationRequest request);

  // Gives each stream one more token: first those whose prompt was not read yet, in one pass, then
  // in the next call the others. Returns what came, in order of streams. Finished streams are gone.
  absl::StatusOr<std::vector<GeneratedToken>> Step();

  // Drops a stream before its end. NotFound if it is gone.
  absl::Status Remove(int64_t stream);

  int64_t active() const;

 private:
  struct Stream {
    int64_t number = 0;
    GenerationRequest request;
    std::vector<int32_t> pending;  // Tokens whose keys are not in the cache yet.
    int64_t cached = 0;
    int64_t generated = 0;
  };

  Generator(const Llama& model, int64_t streams_max)
      : model_(model), places_(streams_max), workspace_(model.backend(), model.config()) {}
  absl::Status CheckRequest(const GenerationRequest& request) const;
  // Appends the stream's pending tokens; returns the row of the last.
  int32_t Append(Stream& stream, int64_t place, PackedBatch* batch);
  GeneratedToken Take(Stream& stream, absl::Span<const float> logits);

  const Llama& model_;
  std::vector<std::unique_ptr<Stream>> places_;
  std::unique_ptr<KvCache> cache_;
  Workspace workspace_;
  int64_t next_number_ = 1;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_GENERATE_GENERATOR_H_
