#include "trainer/generate/generator.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::trainer {

absl::StatusOr<std::unique_ptr<Generator>> Generator::Create(const Llama& model,
                                                             int64_t streams_max) {
  auto generator = std::unique_ptr<Generator>(new Generator(model, streams_max));
  DW_ASSIGN_OR_RETURN(generator->cache_, KvCache::Create(model.backend(), model.config(),
                                                         streams_max * model.positions_max()));
  return generator;
}

absl::Status Generator::CheckRequest(const GenerationRequest& request) const {
  DW_RETURN_IF_ERROR(CheckSamplingConfig(request.sampling));
  const int64_t prompt = static_cast<int64_t>(request.prompt.size());
  if (prompt < 1) return absl::InvalidArgumentError("the prompt has 0 tokens, want at least 1");
  if (request.max_new_tokens < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_new_tokens is ", request.max_new_tokens, ", want >= 1"));
  }
  if (request.max_new_tokens > model_.positions_max() - prompt) {
    return absl::InvalidArgumentError(absl::StrCat("prompt of ", prompt, " and max_new_tokens of ",
                                                   request.max_new_tokens, " tokens, want at most ",
                                                   model_.positions_max(), " together"));
  }
  for (const int32_t id : request.prompt) {
    if (id < 0 || id >= model_.config().vocab_size) {
      return absl::InvalidArgumentError(
          absl::StrCat("the prompt has token ", id, ", want 0..", model_.config().vocab_size - 1));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> Generator::Add(GenerationRequest request) {
  DW_RETURN_IF_ERROR(CheckRequest(request));
  const auto place = std::find(places_.begin(), places_.end(), nullptr);
  if (place == places_.end()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("all ", places_.size(), " places for streams are taken"));
  }
  auto stream = std::make_unique<Stream>();
  stream->number = next_number_++;
  stream->pending = request.prompt;
  stream->request = std::move(request);
  *place = std::move(stream);
  return (*place)->number;
}

int32_t Generator::Append(Stream& stream, int64_t place, PackedBatch* batch) {
  const int64_t begin = batch->rows(), keys = place * model_.positions_max();
  for (const int32_t id : stream.pending) {
    batch->ids.push_back(id);
    batch->positions.push_back(static_cast<int32_t>(stream.cached++));
  }
  stream.pending.clear();
  batch->spans.push_back({begin, batch->rows(), keys, keys + stream.cached});
  batch->segments.push_back({begin, batch->rows(), stream.request.adapter, DropoutKey()});
  return static_cast<int32_t>(batch->rows() - 1);
}

GeneratedToken Generator::Take(Stream& stream, absl::Span<const float> logits) {
  const int32_t token = SampleToken(logits, stream.request.sampling, stream.generated);
  const std::vector<int32_t>& stop = stream.request.stop_tokens;
  if (std::find(stop.begin(), stop.end(), token) != stop.end()) {
    return {stream.number, -1, GeneratedToken::Finish::kStop};
  }
  stream.pending = {token};
  const bool full = ++stream.generated == stream.request.max_new_tokens;
  return {stream.number, token,
          full ? GeneratedToken::Finish::kLength : GeneratedToken::Finish::kNot};
}

absl::StatusOr<std::vector<GeneratedToken>> Generator::Step() {
  const bool prompts = std::any_of(places_.begin(), places_.end(), [](const auto& stream) {
    return stream != nullptr && stream->cached == 0;
  });
  PackedBatch batch;
  std::vector<int32_t> rows;
  std::vector<size_t> taking;
  for (size_t place = 0; place < places_.size(); ++place) {
    if (places_[place] == nullptr || (places_[place]->cached == 0) != prompts) continue;
    rows.push_back(Append(*places_[place], static_cast<int64_t>(place), &batch));
    taking.push_back(place);
  }
  std::vector<GeneratedToken> tokens;
  if (taking.empty()) return tokens;
  const ProductPath path = prompts ? ProductPath::kBatch : ProductPath::kDecode;
  DW_ASSIGN_OR_RETURN(const std::vector<float> logits,
                      model_.Logits(batch, rows, workspace_, path, cache_.get()));
  const size_t vocab = model_.config().vocab_size;
  for (size_t i = 0; i < taking.size(); ++i) {
    std::unique_ptr<Stream>& stream = places_[taking[i]];
    tokens.push_back(Take(*stream, absl::MakeConstSpan(logits).subspan(i * vocab, vocab)));
    if (tokens.back().finish != GeneratedToken::Finish::kNot) stream.reset();
  }
  std::sort(tokens.begin(), tokens.end(),
            [](const GeneratedToken& a, const GeneratedToken& b) { return a.stream < b.stream; });
  return tokens;
}

absl::Status Generator::Remove(int64_t number) {
  for (std::unique_ptr<Stream>& stream : places_) {
    if (stream != nullptr && stream->number == number) {
      stream.reset();
      return absl::OkStatus();
    }
  }
  return absl::NotFoundError(absl::StrCat("stream ", number, " is not there"));
}

int64_t Generator::active() const {
  return static_cast<int64_t>(places_.size()) - std::count(places_.begin(), places_.end(), nullptr);
}

}  // namespace deltaworks::trainer
