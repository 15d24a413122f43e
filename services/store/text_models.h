// TextModels: what the store needs of a base model to read text as the trainer will: tokenizer,
// chat template, config. Read from the base's blobs once and kept, a few at a time.
//
// Thread-safe; a TextModel is immutable and lives as long as somebody holds it.

#ifndef DELTAWORKS_SERVICES_STORE_TEXT_MODELS_H_
#define DELTAWORKS_SERVICES_STORE_TEXT_MODELS_H_

#include <list>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "proto/deltaworks/v1/store_service.pb.h"
#include "services/store/blobs.h"
#include "trainer/base/mutex.h"
#include "trainer/data/text_encoder.h"
#include "trainer/model/config.h"
#include "trainer/tokenizer/chat_template.h"
#include "trainer/tokenizer/tokenizer.h"

namespace deltaworks::services {

struct TextModel {
  std::unique_ptr<const trainer::Tokenizer> tokenizer;
  // Null if the base has none; then chats are refused with the reason.
  std::unique_ptr<const trainer::ChatTemplate> chat_template;
  absl::Status no_template;
  trainer::ModelConfig config;

  // The encoder of this base. The model must outlive it.
  trainer::TextEncoder MakeEncoder(const trainer::TextSettings& settings) const;
};

class TextModels {
 public:
  // `blobs` must outlive this. Keeps `kept_max` models.
  explicit TextModels(Blobs& blobs, size_t kept_max = 4) : blobs_(blobs), kept_max_(kept_max) {}

  // Of a READY base. DataLoss: its files are damaged.
  absl::StatusOr<std::shared_ptr<const TextModel>> Get(const v1::BaseModel& base_model);

 private:
  absl::StatusOr<std::shared_ptr<const TextModel>> Load(const v1::BaseModel& base_model);

  struct Entry {
    std::string manifest_digest;
    std::shared_ptr<const TextModel> model;
  };
  Blobs& blobs_;
  const size_t kept_max_;
  Mutex mutex_;
  std::list<Entry> entries_ ABSL_GUARDED_BY(mutex_);  // Last used first.
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_STORE_TEXT_MODELS_H_
