#include "services/store/text_models.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "services/base/manifest.h"
#include "services/base/resource_names.h"
#include "trainer/base/status_macros.h"
#include "trainer/formats/manifest.h"

namespace deltaworks::services {

trainer::TextEncoder TextModel::MakeEncoder(const trainer::TextSettings& settings) const {
  const auto render = [this](absl::Span<const trainer::Message> messages,
                             bool answer_follows) -> absl::StatusOr<std::string> {
    if (chat_template == nullptr) return no_template;
    std::vector<trainer::ChatMessage> chat;
    chat.reserve(messages.size());
    for (const trainer::Message& message : messages) {
      chat.push_back({message.role, message.content});
    }
    return chat_template->Render(chat, answer_follows);
  };
  return trainer::TextEncoder(*tokenizer, render, settings);
}

absl::StatusOr<std::shared_ptr<const TextModel>> TextModels::Get(const v1::BaseModel& base_model) {
  {
    MutexLock lock(&mutex_);
    for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
      if (entry->manifest_digest != base_model.manifest_digest()) continue;
      entries_.splice(entries_.begin(), entries_, entry);
      return entry->model;
    }
  }
  DW_ASSIGN_OR_RETURN(std::shared_ptr<const TextModel> model, Load(base_model));
  MutexLock lock(&mutex_);
  entries_.push_front({base_model.manifest_digest(), model});
  if (entries_.size() > kept_max_) entries_.pop_back();
  return model;
}

absl::StatusOr<std::shared_ptr<const TextModel>> TextModels::Load(const v1::BaseModel& base_model) {
  const std::string tenant(TenantOf(base_model.name()));
  const auto read = [&](const std::string& digest) -> absl::StatusOr<std::string> {
    DW_ASSIGN_OR_RETURN(const auto reader,
                        blobs_.OpenVerified({tenant, base_model.name(), digest}));
    DW_ASSIGN_OR_RETURN(const absl::string_view bytes, reader->Map());
    return std::string(bytes);
  };
  DW_ASSIGN_OR_RETURN(const std::string manifest_bytes, read(base_model.manifest_digest()));
  DW_ASSIGN_OR_RETURN(const v1::Manifest manifest,
                      ParseManifest(manifest_bytes, base_model.name()));
  const auto read_file = [&](const char* path) -> absl::StatusOr<std::string> {
    const v1::ManifestFile* file = FindFile(manifest, path);
    if (file != nullptr) return read(file->digest());
    return absl::DataLossError(absl::StrCat(base_model.name(), " has no ", path));
  };
  DW_ASSIGN_OR_RETURN(const std::string tokenizer, read_file(trainer::kTokenizerFile));
  DW_ASSIGN_OR_RETURN(const std::string tokenizer_config, read_file(trainer::kTokenizerConfigFile));
  DW_ASSIGN_OR_RETURN(const std::string config, read_file(trainer::kConfigFile));

  auto model = std::make_shared<TextModel>();
  DW_ASSIGN_OR_RETURN(model->tokenizer, trainer::Tokenizer::Parse(tokenizer, tokenizer_config));
  auto chat_template = trainer::ChatTemplate::FromConfig(tokenizer_config);
  if (chat_template.ok()) {
    model->chat_template = *std::move(chat_template);
  } else {
    model->no_template = absl::InvalidArgumentError(absl::StrCat(
        "the base's chat template cannot be used: ", chat_template.status().message()));
  }
  DW_ASSIGN_OR_RETURN(model->config, trainer::ModelConfig::Parse(config, base_model.name()));
  return model;
}

}  // namespace deltaworks::services
