// TextModels: what the store needs of a base model to read text as the trainer will: tokenizer,
// chat template, config. Read from the base's blobs and kept, kKeptMax at a time.
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
#include "trainer/tokenizer/tokenizer.h"

namespace deltaworks::services {

struct TextModel {
  std::unique_ptr<const trainer::Tokenizer> tokenizer;
  trainer::ChatRenderer render_chat;
  trainer::ModelConfig config;

  // The encoder of this base. The model must outlive it.
  trainer::TextEncoder MakeEncoder(const trainer::TextSettings& settings) const;
};

class TextModels {
 public:
  static constexpr size_t kKeptMax = 4;

  // `blobs` must outlive this.
  explicit TextModels(Blobs& blobs) : blobs_(blobs) {}

  // Of a READY base. DataLoss: its files are damaged.
  absl::StatusOr<std::shared_ptr<const TextModel>> Get(const v1::BaseModel& base_model);

 private:
  absl::StatusOr<std::shared_ptr<const TextModel>> Load(const v1::BaseModel& base_model);
  // Null if it is not kept.
  std::shared_ptr<const TextModel> Find(const std::string& manifest_digest)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  struct Entry {
    std::string manifest_digest;
    std::shared_ptr<const TextModel> model;
  };
  Blobs& blobs_;
  Mutex mutex_;
  std::list<Entry> entries_ ABSL_GUARDED_BY(mutex_);  // Last used first.
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_STORE_TEXT_MODELS_H_
