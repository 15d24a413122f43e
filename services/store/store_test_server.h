// StoreTestServer: a whole store behind a real gRPC server on a free port, for tests: with a clock
// and a loop that move when told, a disk that fails when told, tokens of two tenants and the
// platform, and a restart in the same folder. CHECK-fails where a test could not go on.

#ifndef DELTAWORKS_SERVICES_STORE_STORE_TEST_SERVER_H_
#define DELTAWORKS_SERVICES_STORE_STORE_TEST_SERVER_H_

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "proto/deltaworks/v1/store_service.grpc.pb.h"
#include "services/base/authenticator.h"
#include "services/base/clock.h"
#include "services/base/event_loop.h"
#include "services/base/metrics.h"
#include "services/base/server.h"
#include "services/base/token_file.h"
#include "services/clients/channel.h"
#include "services/clients/store_client.h"
#include "services/store/local_blob_store.h"
#include "services/store/store_server.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {

// What a test does to the disk. The functions are set while no call is under way.
struct DiskFaults {
  // Bytes that still fit; counted down by what is written.
  std::atomic<int64_t> room{INT64_MAX};
  // Called before objects are opened or removed, and staged bytes dropped; may wait. An error is
  // the answer.
  std::function<absl::Status(const ObjectKey&key)> on_open, on_remove;
  std::function<absl::Status(const std::string& id)> on_drop;
};

// A BlobStore on such a disk.
class FaultyBlobStore final : public BlobStore {
 public:
  // `faults` must outlive this.
  FaultyBlobStore(std::unique_ptr<BlobStore> store, DiskFaults& faults)
      : store_(std::move(store)), faults_(faults) {}

  absl::Status AppendStaged(const std::string& id, int64_t offset, absl::string_view data) override;
  absl::Status SyncStaged(const std::string& id) override { return store_->SyncStaged(id); }
  absl::StatusOr<std::unique_ptr<BlobReader>> OpenStaged(const std::string& id) override {
    return store_->OpenStaged(id);
  }
  absl::Status StageFile(const std::string& id, const std::string& path) override {
    return store_->StageFile(id, path);
  }
  absl::Status DropStaged(const std::string& id) override {
    if (faults_.on_drop) DW_RETURN_IF_ERROR(faults_.on_drop(id));
    return store_->DropStaged(id);
  }
  absl::StatusOr<std::vector<std::string>> ListStaged() override { return store_->ListStaged(); }
  absl::Status Promote(const std::string& id, const ObjectKey& key) override {
    return store_->Promote(id, key);
  }
  absl::StatusOr<std::unique_ptr<BlobReader>> Open(const ObjectKey& key) override {
    if (faults_.on_open) DW_RETURN_IF_ERROR(faults_.on_open(key));
    return store_->Open(key);
  }
  absl::Status Remove(const ObjectKey& key) override {
    if (faults_.on_remove) DW_RETURN_IF_ERROR(faults_.on_remove(key));
    return store_->Remove(key);
  }
  absl::StatusOr<std::vector<ObjectKey>> List() override { return store_->List(); }
  absl::Status Link(const ObjectKey& key, const std::string& path) override {
    return store_->Link(key, path);
  }
  absl::StatusOr<int64_t> AvailableBytes() override { return faults_.room.load(); }

 private:
  const std::unique_ptr<BlobStore> store_;
  DiskFaults& faults_;
};

class StoreTestServer {
 public:
  // Begins with an empty folder of this name under TempDir().
  explicit StoreTestServer(const std::string& name, const StoreServer::Options& options = {});
  ~StoreTestServer();

  void Start();
  void Stop();
  void Restart() {
    Stop();
    Start();
  }

  // Clients that show the token of "acme", "other" or the platform ("-"). Not retried, so that a
  // test sees every answer.
  StoreClient& client(const std::string& tenant = "acme");
  v1::StoreService::StubInterface& stub() { return *stub_; }
  // Sets the token for a call through stub().
  void Authorize(grpc::ClientContext& context, const std::string& tenant = "acme");

  // Uploads bytes; returns their digest.
  std::string Upload(const std::string& data, const std::string& tenant = "acme");
  // The bytes of a blob, or the status as text.
  std::string Read(const std::string& digest, const std::string& reference = "",
                   const std::string& tenant = "acme");
  // Waits until the base is no longer IMPORTING.
  v1::BaseModel AwaitImport(const std::string& name, const std::string& tenant = "acme");

  // Where the first generation of a blob lies.
  std::string PathOf(const std::string& digest, int64_t generation = 1);
  void FlipByte(const std::string& digest, int64_t offset);

  // Time passes and the loop runs.
  void Advance(absl::Duration step) { loop_->Advance(step); }

  // For the next Start().
  StoreServer::Options& options() { return options_; }
  const std::string& folder() const { return options_.folder; }
  Metrics& metrics() { return *metrics_; }

  FakeClock clock;
  DiskFaults disk;

 private:
  StoreServer::Options options_;
  std::map<std::string, std::string> token_of_;
  std::unique_ptr<TokenFile> tokens_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<Authenticator> authenticator_;
  FakeEventLoop* loop_ = nullptr;
  std::unique_ptr<StoreServer> store_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<v1::StoreService::StubInterface> stub_;
  std::map<std::string, std::unique_ptr<StoreClient>> clients_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_STORE_STORE_TEST_SERVER_H_
