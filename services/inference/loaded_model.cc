#include "services/inference/loaded_model.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "trainer/base/status_macros.h"
#include "trainer/data/chat_renderer.h"
#include "trainer/formats/manifest.h"
#include "trainer/model/llama.h"
#include "trainer/tokenizer/chat_template.h"

namespace deltaworks::services {
namespace {

constexpr size_t kNamesMax = 1'000;

}  // namespace

absl::StatusOr<std::shared_ptr<LoadedBase>> LoadedBase::Open(const std::string& folder) {
  std::shared_ptr<LoadedBase> base(new LoadedBase());
  DW_ASSIGN_OR_RETURN(base->weights_, trainer::ModelWeights::Open(folder));
  DW_ASSIGN_OR_RETURN(base->tokenizer_, trainer::Tokenizer::FromFolder(folder));
  if (base->tokenizer_->vocab_size() > base->config().vocab_size) {
    return absl::InvalidArgumentError(
        absl::StrCat(folder, ": the tokenizer has ", base->tokenizer_->vocab_size(),
                     " tokens, want at most vocab_size = ", base->config().vocab_size));
  }
  base->render_chat_ = trainer::MakeChatRenderer(trainer::ChatTemplate::FromFolder(folder));
  base->modules_ = trainer::LlamaModules(base->config());
  for (const int64_t id : base->config().eos_token_ids) {
    base->end_tokens_.push_back(static_cast<int32_t>(id));
  }
  if (const auto eos = base->tokenizer_->eos_id(); eos.has_value()) {
    base->end_tokens_.push_back(*eos);
  }
  return base;
}

int64_t LoadedBase::bytes() const {
  const trainer::ManifestFile* file = weights_->manifest().Find(trainer::kWeightsFile);
  return file == nullptr ? 0 : file->size_bytes;
}

trainer::TextEncoder LoadedBase::MakeEncoder(const trainer::TextSettings& settings) const {
  return trainer::TextEncoder(*tokenizer_, render_chat_, settings);
}

void LoadedBase::Count(const std::string& name, int64_t count) {
  MutexLock lock(&mutex_);
  if (requests_.size() >= kNamesMax && requests_.count(name) == 0) return;
  requests_[name] += count;
}

std::map<std::string, int64_t> LoadedBase::RequestCounts() const {
  MutexLock lock(&mutex_);
  return requests_;
}

void ModelHandle::CountRequest() const {
  if (merge != nullptr) ++merge->requests;
  if (adapter != nullptr) ++adapter->requests;
  base->Count(base_name, version().empty() ? 1 : 0);
}

}  // namespace deltaworks::services
