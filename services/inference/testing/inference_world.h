// InferenceWorld: a store and a registry in memory with tiny bases and adapters on them, and a core
// that answers from them.
//
//   tenants/acme/baseModels/tiny         F32                 adapters/poet, adapters/coder on it
//   tenants/acme/baseModels/tiny-bf16    the same in BF16
//   tenants/acme/baseModels/other        another source
//   tenants/acme/baseModels/importing    not READY
//   tenants/globex/baseModels/theirs     the same source as tiny, another tenant's
//
// An adapter is rank 4 on every linear, its numbers made from a seed, large enough to change what
// is said.

#ifndef DELTAWORKS_SERVICES_INFERENCE_TESTING_INFERENCE_WORLD_H_
#define DELTAWORKS_SERVICES_INFERENCE_TESTING_INFERENCE_WORLD_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "services/base/caller.h"
#include "services/base/clock.h"
#include "services/base/metrics.h"
#include "services/clients/base_cache.h"
#include "services/clients/fake_registry_client.h"
#include "services/clients/fake_store_client.h"
#include "services/inference/inference_core.h"
#include "services/inference/metrics.h"
#include "trainer/lora/peft_format.h"
#include "trainer/model/config.h"

namespace deltaworks::services {

inline constexpr char kTiny[] = "tenants/acme/baseModels/tiny";
inline constexpr char kTinyBf16[] = "tenants/acme/baseModels/tiny-bf16";
inline constexpr char kOther[] = "tenants/acme/baseModels/other";
inline constexpr char kImporting[] = "tenants/acme/baseModels/importing";
inline constexpr char kTheirs[] = "tenants/globex/baseModels/theirs";
inline constexpr char kPoet[] = "tenants/acme/adapters/poet/versions/1";
inline constexpr char kCoder[] = "tenants/acme/adapters/coder/versions/1";
inline const Caller kAcme = {"acme"};

// One backend thread, and room for a few streams.
InferenceCore::Options SmallOptions();

// A backend on the CPU.
absl::StatusOr<std::unique_ptr<trainer::Backend>> MakeCpuBackend(trainer::DType type);

// What a call of Generate sent, put together.
struct Answer {
  absl::Status status;
  std::string text;
  std::vector<int32_t> tokens;
  std::vector<v1::GenerateResponse> messages;
  // The last message.
  const v1::GenerateResponse& last() const { return messages.back(); }
};

class InferenceWorld {
 public:
  // The cache of bases is a fresh folder of the test's.
  explicit InferenceWorld(const InferenceCore::Options& options = SmallOptions(),
                          Engine::BackendFactory make_backend = MakeCpuBackend,
                          const Clock& clock = RealClock());

  // Registers a READY version of `adapter` ("tenants/acme/adapters/x"), whose files say that they
  // are bound to `file_digest` (empty: as the version, to tiny). Returns its name.
  std::string AddVersion(const std::string& adapter, int seed, const std::string& file_digest = "");
  trainer::PeftFiles MakeFiles(int seed, const std::string& base_digest) const;

  // A greedy request of acme for 12 tokens after "the cat".
  static v1::GenerateRequest Request(const std::string& model,
                                     v1::ModelSelector::Mode mode = v1::ModelSelector::UNMERGED);
  static v1::ScoreRequest ScoreRequest(const std::string& model);
  Answer Generate(const v1::GenerateRequest& request, const Caller& caller = kAcme);

  InferenceCore& core() { return *core_; }
  FakeStoreClient& store() { return store_; }
  FakeRegistryClient& registry() { return registry_; }
  InferenceMetrics& metrics() { return inference_metrics_; }
  // The value of a metric with labels, as /metrics tells it; CHECK-fails if there is none.
  double Metric(const std::string& name_and_labels) const;
  v1::BaseModel BaseModel(const std::string& name) { return *store_.GetBaseModel(name); }
  // Of the base `name` in the node's cache.
  std::string BaseFolder(const std::string& name);
  const trainer::ModelConfig& config() const { return config_; }

 private:
  // Gives the store a base made from `seed` in `form`.
  void AddBase(const std::string& name, uint32_t seed, trainer::DType form);

  const std::string folder_;
  Metrics metrics_{"inference"};
  InferenceMetrics inference_metrics_{metrics_};
  FakeStoreClient store_;
  FakeRegistryClient registry_;
  trainer::ModelConfig config_;
  std::unique_ptr<BaseCache> bases_;
  std::unique_ptr<InferenceCore> core_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_INFERENCE_TESTING_INFERENCE_WORLD_H_
