// RegistryWorld: a registry over a store in memory, with a base and adapters that suit it.
//
// The base is a small Llama; an adapter is rank 2 on q_proj and v_proj, its numbers made from a
// seed. A test changes one thing of an AdapterParts, uploads it, and asks for a version. Crash()
// closes the database and opens it again, as a new process would.

#ifndef DELTAWORKS_SERVICES_REGISTRY_TESTING_REGISTRY_WORLD_H_
#define DELTAWORKS_SERVICES_REGISTRY_TESTING_REGISTRY_WORLD_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "services/base/clock.h"
#include "services/base/metrics.h"
#include "services/clients/fake_store_client.h"
#include "services/registry/metrics.h"
#include "services/registry/registry_core.h"
#include "trainer/lora/adapter.h"
#include "trainer/lora/peft_format.h"

namespace deltaworks::services {

inline constexpr char kTenant[] = "acme";
inline constexpr char kBaseName[] = "tenants/acme/baseModels/small";
inline constexpr char kAdapterName[] = "tenants/acme/adapters/poet";

// The caller of another tenant's token, of kTenant's, and a service's.
Caller Stranger();
Caller Owner();
Caller Platform();

// An adapter before it is uploaded.
struct AdapterParts {
  trainer::LoraConfig config;
  std::vector<trainer::AdapterTensor> tensors;
  std::vector<float> values;
  std::string base_digest;
  v1::Manifest manifest;         // Without files and adapter_digest.
  std::string extra_file_bytes;  // Of "extra.bin", unless empty.

  trainer::PeftFiles Files() const;
};

class RegistryWorld {
 public:
  // The database is a fresh file of this name in the test's folder.
  explicit RegistryWorld(const std::string& file);

  // Gives `tenant` a READY base; returns it.
  v1::BaseModel AddBase(const std::string& name, const std::string& seed);
  AdapterParts Parts(int seed = 1) const;
  // Uploads files and manifest; returns the manifest's digest. `change` may spoil the manifest that
  // describes them.
  std::string Upload(const AdapterParts& parts);
  std::string Upload(AdapterParts parts, const trainer::PeftFiles& files,
                     const std::function<void(v1::Manifest&)>& change = nullptr);

  v1::CreateVersionRequest Request(const std::string& job, const std::string& manifest) const;
  // A version of a sound adapter made from `job`'s name; Platform() asks.
  absl::StatusOr<v1::AdapterVersion> Create(const std::string& job, int seed = 1);
  absl::StatusOr<v1::AdapterVersion> CreateFrom(const std::string& manifest);

  void Crash();
  // Statements for the open connection, to make it fail.
  void RunSql(const std::string& sql);

  FakeStoreClient& store() { return store_; }
  RegistryCore& core() { return *core_; }
  FakeClock& clock() { return clock_; }
  const v1::BaseModel& base() const { return base_; }
  std::string MetricsText() const { return metrics_.Text(); }
  bool broken() const { return broken_; }

 private:
  void Open();

  const std::string path_;
  FakeClock clock_;
  Metrics metrics_{"registry"};
  RegistryMetrics registry_metrics_{metrics_};
  FakeStoreClient store_;
  v1::BaseModel base_;
  bool broken_ = false;
  Database* database_ = nullptr;  // Of core_.
  std::unique_ptr<RegistryCore> core_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_REGISTRY_TESTING_REGISTRY_WORLD_H_
