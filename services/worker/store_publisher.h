// StorePublisher: a Publisher over the store, on a thread of its own, one thing after the other.
//
// Order of a publication: files, manifest, then the pin with the job as owner, which the store
// takes only if it has everything. A file's upload resumes where an earlier try ended.

#ifndef DELTAWORKS_SERVICES_WORKER_STORE_PUBLISHER_H_
#define DELTAWORKS_SERVICES_WORKER_STORE_PUBLISHER_H_

#include <atomic>
#include <memory>
#include <string>

#include "services/base/event_loop.h"
#include "services/clients/blob_transfer.h"
#include "services/clients/store_client.h"
#include "services/worker/seams.h"

namespace deltaworks::services {

// The work itself, blocking.
absl::Status PublishArtifact(StoreClient& store, const std::string& job, const Artifact& artifact,
                             const TransferOptions& options = {});
absl::StatusOr<Publisher::AdapterBytes> ReadBackAdapter(StoreClient& store, const std::string& job,
                                                        const Artifact& artifact,
                                                        const TransferOptions& options = {});

// Thread-safe.
class StorePublisher final : public Publisher {
 public:
  // `done` functions run on `loop`. Both must outlive this.
  StorePublisher(StoreClient& store, EventLoop& loop) : store_(store), loop_(loop) {}
  // Ends what is under way.
  ~StorePublisher() override { stopping_ = true; }

  void Publish(const std::string& job, std::shared_ptr<const Artifact> artifact,
               Done done) override;
  void ReadBack(const std::string& job, std::shared_ptr<const Artifact> artifact,
                ReadDone done) override;

 private:
  StoreClient& store_;
  EventLoop& loop_;
  std::atomic<bool> stopping_ = false;
  RealEventLoop worker_;  // Last: its tasks use what is above. They block, nothing else runs there.
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_STORE_PUBLISHER_H_
