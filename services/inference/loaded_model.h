// What is in memory of a base, an adapter on it, and a merge of both; and ModelHandle, which a
// request holds while it needs them.
//
//   LoadedBase     mapped weights (one copy for the base, whatever adapters run on it), tokenizer,
//                  chat template
//   LoadedAdapter  A and B of one version, checked against the base
//   LoadedMerge    the adapted matrices of the base with the adapter added in; the others are the
//                  base's own
//
// Everything is read and checked without a device. The one member that changes afterwards,
// `device`, is what the engine made of it on its backend: the engine's thread alone touches it, and
// it may be destroyed anywhere once no stream uses it. All else is immutable and thread-safe.

#ifndef DELTAWORKS_SERVICES_INFERENCE_LOADED_MODEL_H_
#define DELTAWORKS_SERVICES_INFERENCE_LOADED_MODEL_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "trainer/base/mutex.h"
#include "trainer/data/text_encoder.h"
#include "trainer/lora/adapter.h"
#include "trainer/lora/merge.h"
#include "trainer/lora/peft_format.h"
#include "trainer/model/weights.h"
#include "trainer/tokenizer/tokenizer.h"

namespace deltaworks::services {

// What the engine keeps with a model.
class DeviceState {
 public:
  virtual ~DeviceState() = default;
};

class LoadedBase {
 public:
  // InvalidArgument, NotFound or DataLoss if the folder is no base that can answer.
  static absl::StatusOr<std::shared_ptr<LoadedBase>> Open(const std::string& folder);

  const trainer::ModelWeights& weights() const { return *weights_; }
  const trainer::ModelConfig& config() const { return weights_->config(); }
  const trainer::Tokenizer& tokenizer() const { return *tokenizer_; }
  const std::string& source_digest() const { return weights_->manifest().source_digest; }
  trainer::DType form() const { return weights_->manifest().form; }
  // Linears that can be adapted.
  const std::vector<trainer::LinearModule>& modules() const { return modules_; }
  // Tokens that end an answer.
  const std::vector<int32_t>& end_tokens() const { return end_tokens_; }
  // Of the mapped weights.
  int64_t bytes() const;

  // The base must outlive the encoder.
  trainer::TextEncoder MakeEncoder(const trainer::TextSettings& settings) const;

  // A request was answered by the base alone (or, with `count` 0, through an adapter) under this
  // resource name; beyond 1,000 names they are no longer told apart.
  void Count(const std::string& name, int64_t count);
  std::map<std::string, int64_t> RequestCounts() const;

 private:
  LoadedBase() = default;

  std::unique_ptr<trainer::ModelWeights> weights_;
  std::vector<trainer::LinearModule> modules_;
  std::unique_ptr<const trainer::Tokenizer> tokenizer_;
  trainer::ChatRenderer render_chat_;
  std::vector<int32_t> end_tokens_;

  mutable Mutex mutex_;
  std::map<std::string, int64_t> requests_ ABSL_GUARDED_BY(mutex_);

 public:
  std::unique_ptr<DeviceState> device;  // Last: destroyed before the weights.
};

struct LoadedAdapter {
  std::string version;
  std::shared_ptr<LoadedBase> base;
  trainer::PeftAdapter peft;
  int64_t bytes = 0;
  std::atomic<int64_t> requests = 0;
  std::unique_ptr<trainer::Adapter> device;
};

struct LoadedMerge {
  std::string version;
  std::shared_ptr<LoadedBase> base;
  std::unique_ptr<const trainer::MergedWeights> weights;
  int64_t bytes = 0;
  std::atomic<int64_t> requests = 0;
  std::unique_ptr<DeviceState> device;  // Destroyed before the weights.
};

// What answers a request: the base alone, with an adapter, or a merge.
struct ModelHandle {
  std::string base_name;  // Resource name of the base.
  std::shared_ptr<LoadedBase> base;
  std::shared_ptr<LoadedAdapter> adapter;
  std::shared_ptr<LoadedMerge> merge;

  // Empty for a base alone.
  std::string version() const {
    if (merge != nullptr) return merge->version;
    return adapter == nullptr ? "" : adapter->version;
  }
  // Counts a request that was answered.
  void CountRequest() const;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_INFERENCE_LOADED_MODEL_H_
