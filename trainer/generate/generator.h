// Generator: continues several prompts at once over one base, each with an adapter of its own, in
// one batch. Keys and values of past tokens are kept, so each new token costs one row.
//
// A stream's tokens depend on its prompt, adapter and sampling only: never on the other streams,
// nor on when they came or left, nor on how its prompt was cut. Thread-compatible. The model, the
// pool, and each stream's adapter while the stream is there, must outlive it.

#ifndef DELTAWORKS_TRAINER_GENERATE_GENERATOR_H_
#define DELTAWORKS_TRAINER_GENERATE_GENERATOR_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "trainer/generate/kv_pool.h"
#include "trainer/generate/sampler.h"
#include "trainer/lora/adapter.h"
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

struct GeneratorOptions {
  int64_t streams_max = 1;
  // Prompt tokens read in one Step(): the memory of a pass, and how long the others wait for it.
  int64_t prompt_rows_max = 512;
};

class Generator {
 public:
  // Room for `streams_max` streams of model.positions_max() tokens. ResourceExhausted if the device
  // has none.
  static absl::StatusOr<std::unique_ptr<Generator>> Create(const Llama& model, int64_t streams_max);

  // Streams take their rows from `pool`, which was made for the model's backend and config.
  static std::unique_ptr<Generator> CreateOn(const Llama& model, KvPool& pool,
                                             const GeneratorOptions& options);

  // Takes a stream and returns its number. InvalidArgument for a request out of bounds (an empty
  // prompt, a token outside the vocabulary, prompt + max_new_tokens beyond the positions);
  // ResourceExhausted if all places are taken, or the pool has no room for so many tokens.
  absl::StatusOr<int64_t> Add(GenerationRequest request);

  // One pass: either it reads prompts, or it gives each stream whose prompt is read one more token;
  // in turn, if there are both. A prompt's last token gives the first new one. Returns what came,
  // in order of streams. Finished streams are gone.
  absl::StatusOr<std::vector<GeneratedToken>> Step();

  // Drops a stream before its end. NotFound if it is gone.
  absl::Status Remove(int64_t stream);

  int64_t active() const;

  ~Generator();

 private:
  struct Stream {
    int64_t number = 0;
    GenerationRequest request;
    std::vector<int32_t> pages;  // Of the pool.
    int64_t cached = 0;          // Tokens whose keys are there.
    int32_t last = -1;           // The token generated last, whose keys are not.
    int64_t generated = 0;

    int64_t prompt_left() const {
      return std::max<int64_t>(0, static_cast<int64_t>(request.prompt.size()) - cached);
    }
  };

  Generator(const Llama& model, KvPool& pool, const GeneratorOptions& options)
      : model_(model),
        options_(options),
        pool_(pool),
        places_(options.streams_max),
        workspace_(model.backend(), model.config()) {}
  absl::Status CheckRequest(const GenerationRequest& request) const;
  // Of streams that have prompt tokens to read, or of the others.
  bool HasStreams(bool reading) const;
  // Appends up to `rows_max` tokens of the stream.
  void Append(Stream& stream, int64_t rows_max, PackedBatch* batch);
  // `logits` is empty if the stream takes the likeliest.
  GeneratedToken Take(Stream& stream, int32_t likeliest, absl::Span<const float> logits);
  void Drop(std::unique_ptr<Stream>& stream);
  bool Samples(size_t place) const { return places_[place]->request.sampling.temperature > 0; }

  const Llama& model_;
  const GeneratorOptions options_;
  std::unique_ptr<KvPool> own_pool_;  // Of Create().
  KvPool& pool_;
  std::vector<std::unique_ptr<Stream>> places_;
  Workspace workspace_;
  int64_t next_number_ = 1;
  bool read_last_ = false;  // The last pass read prompts.
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_GENERATE_GENERATOR_H_
