#include "services/store/text_models.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "services/base/manifest.h"
#include "services/base/resource_names.h"
#include "trainer/base/status_macros.h"
#include "trainer/data/chat_renderer.h"
#include "trainer/formats/manifest.h"
#include "trainer/tokenizer/chat_template.h"

namespace deltaworks::services {

trainer::TextEncoder TextModel::MakeEncoder(const trainer::TextSettings& settings) const {
  return trainer::TextEncoder(*tokenizer, render_chat, settings);
}

std::shared_ptr<const TextModel> TextModels::Find(const std::string& manifest_digest) {
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    if (entry->manifest_digest != manifest_digest) continue;
    entries_.splice(entries_.begin(), entries_, entry);
    return entry->model;
  }
  return nullptr;
}

absl::StatusOr<std::shared_ptr<const TextModel>> TextModels::Get(const v1::BaseModel& base_model) {
  const std::string& digest = base_model.manifest_digest();
  {
    MutexLock lock(&mutex_);
    if (auto kept = Find(digest); kept != nullptr) return kept;
  }
  DW_ASSIGN_OR_RETURN(std::shared_ptr<const TextModel> model, Load(base_model));
  MutexLock lock(&mutex_);
  // Another thread may have loaded it meanwhile.
  if (auto kept = Find(digest); kept != nullptr) return kept;
  entries_.push_front({digest, model});
  if (entries_.size() > kKeptMax) entries_.pop_back();
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
  model->render_chat =
      trainer::MakeChatRenderer(trainer::ChatTemplate::FromConfig(tokenizer_config));
  DW_ASSIGN_OR_RETURN(model->config, trainer::ModelConfig::Parse(config, base_model.name()));
  return model;
}

}  // namespace deltaworks::services
