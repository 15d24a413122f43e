#include "trainer/generate/generator.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::trainer {

absl::StatusOr<std::unique_ptr<Generator>> Generator::Create(const Llama& model,
                                                             int64_t streams_max) {
  // Every stream takes as many rows, so that a place that is free has its room.
  DW_ASSIGN_OR_RETURN(
      std::unique_ptr<KvPool> pool,
      KvPool::Create(model.backend(), model.config(),
                     streams_max * ((model.positions_max() + kKeyPage - 1) / kKeyPage * kKeyPage)));
  std::unique_ptr<Generator> generator = CreateOn(model, *pool, {.streams_max = streams_max});
  generator->own_pool_ = std::move(pool);
  return generator;
}

std::unique_ptr<Generator> Generator::CreateOn(const Llama& model, KvPool& pool,
                                               const GeneratorOptions& options) {
  return std::unique_ptr<Generator>(new Generator(model, pool, options));
}

Generator::~Generator() {
  for (std::unique_ptr<Stream>& stream : places_) {
    if (stream != nullptr) Drop(stream);
  }
}

void Generator::Drop(std::unique_ptr<Stream>& stream) {
  pool_.Give(stream->pages);
  stream.reset();
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
  const int64_t tokens = static_cast<int64_t>(request.prompt.size()) + request.max_new_tokens;
  const int64_t rows = own_pool_ == nullptr ? tokens : model_.positions_max();
  std::vector<int32_t> pages = pool_.Take(rows);
  if (pages.empty()) {
    return absl::ResourceExhaustedError(absl::StrCat("the stream needs ", rows,
                                                     " tokens of the cache, ", pool_.rows_taken(),
                                                     " of ", pool_.rows(), " are taken"));
  }
  auto stream = std::make_unique<Stream>();
  stream->number = next_number_++;
  stream->pages = std::move(pages);
  stream->request = std::move(request);
  *place = std::move(stream);
  return (*place)->number;
}

bool Generator::HasStreams(bool reading) const {
  return std::any_of(places_.begin(), places_.end(), [reading](const auto& stream) {
    return stream != nullptr && (stream->prompt_left() > 0) == reading;
  });
}

void Generator::Append(Stream& stream, int64_t rows_max, PackedBatch* batch) {
  const int64_t begin = batch->rows();
  const int64_t reading = std::min(stream.prompt_left(), rows_max);
  for (int64_t i = 0; i < std::max<int64_t>(1, reading); ++i) {
    batch->ids.push_back(reading > 0 ? stream.request.prompt[stream.cached] : stream.last);
    batch->positions.push_back(static_cast<int32_t>(stream.cached++));
  }
  batch->spans.push_back({.query_begin = begin,
                          .query_end = batch->rows(),
                          .key_end = stream.cached,
                          .pages = stream.pages.data()});
  batch->segments.push_back({begin, batch->rows(), stream.request.adapter, DropoutKey()});
}

GeneratedToken Generator::Take(Stream& stream, int32_t likeliest, absl::Span<const float> logits) {
  const int32_t token =
      logits.empty() ? likeliest : SampleToken(logits, stream.request.sampling, stream.generated);
  const std::vector<int32_t>& stop = stream.request.stop_tokens;
  if (std::find(stop.begin(), stop.end(), token) != stop.end()) {
    return {stream.number, -1, GeneratedToken::Finish::kStop};
  }
  stream.last = token;
  const bool full = ++stream.generated == stream.request.max_new_tokens;
  return {stream.number, token,
          full ? GeneratedToken::Finish::kLength : GeneratedToken::Finish::kNot};
}

absl::StatusOr<std::vector<GeneratedToken>> Generator::Step() {
  const bool reading = HasStreams(true) && !(read_last_ && HasStreams(false));
  PackedBatch batch;
  // Places and rows whose logits give a token: not those of a prompt's earlier pieces.
  std::vector<std::pair<size_t, int32_t>> taking;
  int64_t left = options_.prompt_rows_max;
  for (size_t place = 0; place < places_.size() && left > 0; ++place) {
    Stream* stream = places_[place].get();
    if (stream == nullptr || (stream->prompt_left() > 0) != reading) continue;
    const int64_t rows_before = batch.rows();
    Append(*stream, left, &batch);
    if (reading) left -= batch.rows() - rows_before;
    if (stream->prompt_left() > 0) continue;
    taking.emplace_back(place, static_cast<int32_t>(batch.rows() - 1));
  }
  std::vector<GeneratedToken> tokens;
  if (batch.rows() == 0) return tokens;
  read_last_ = reading;
  const ProductPath path = reading ? ProductPath::kBatch : ProductPath::kDecode;
  // Only those that sample need their logits here.
  const auto others = std::stable_partition(taking.begin(), taking.end(),
                                            [&](const auto& each) { return Samples(each.first); });
  const auto sampled = static_cast<size_t>(others - taking.begin());
  std::vector<int32_t> rows;
  for (const auto& [place, row] : taking) rows.push_back(row);
  DW_ASSIGN_OR_RETURN(const NextTokens next, model_.Next(batch, rows, static_cast<int64_t>(sampled),
                                                         workspace_, path, &pool_.cache()));
  const size_t vocab = model_.config().vocab_size;
  for (size_t i = 0; i < taking.size(); ++i) {
    std::unique_ptr<Stream>& stream = places_[taking[i].first];
    absl::Span<const float> logits;
    if (i < sampled) logits = absl::MakeConstSpan(next.logits).subspan(i * vocab, vocab);
    tokens.push_back(Take(*stream, next.likeliest[i], logits));
    if (tokens.back().finish != GeneratedToken::Finish::kNot) Drop(stream);
  }
  std::sort(tokens.begin(), tokens.end(),
            [](const GeneratedToken& a, const GeneratedToken& b) { return a.stream < b.stream; });
  return tokens;
}

absl::Status Generator::Remove(int64_t number) {
  for (std::unique_ptr<Stream>& stream : places_) {
    if (stream != nullptr && stream->number == number) {
      Drop(stream);
      return absl::OkStatus();
    }
  }
  return absl::NotFoundError(absl::StrCat("stream ", number, " is not there"));
}

int64_t Generator::active() const {
  return static_cast<int64_t>(places_.size()) - std::count(places_.begin(), places_.end(), nullptr);
}

}  // namespace deltaworks::trainer
