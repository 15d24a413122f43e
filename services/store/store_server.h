// StoreServer: the composition root of the store: owns every part, in the order of their needs, and
// the gRPC service in front of them.
//
//   FOLDER/store.db    metadata; its lock keeps a second store out of the folder
//   FOLDER/blobs/      the bytes
//   FOLDER/imports/    imports under way
//
// Open() repairs what a crash left before anything is answered.

#ifndef DELTAWORKS_SERVICES_STORE_STORE_SERVER_H_
#define DELTAWORKS_SERVICES_STORE_STORE_SERVER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "services/base/event_loop.h"
#include "services/store/base_models.h"
#include "services/store/blob_calls.h"
#include "services/store/blobs.h"
#include "services/store/collector.h"
#include "services/store/dataset_texts.h"
#include "services/store/datasets.h"
#include "services/store/metadata.h"
#include "services/store/metrics.h"
#include "services/store/text_models.h"
#include "services/store/training_check.h"
#include "services/store/uploads.h"
#include "services/store/whole_reads.h"

namespace grpc {
class Service;
}

namespace deltaworks::services {

class Authenticator;
class Metrics;
class StoreService;

class StoreServer {
 public:
  struct Options {
    std::string folder;
    std::vector<std::string> import_folders;
    Uploads::Options uploads;
    Datasets::Options datasets;
    DatasetTexts::Options texts;
    Collector::Options collector;
    int64_t imports_waiting_max = 100;
    int64_t import_attempts_max = 10;
    int64_t whole_reads_at_once_max = 32;
  };

  // The other arguments must outlive the server. Errors name file or folder:
  //   FailedPrecondition  another process holds the folder
  //   ResourceExhausted, PermissionDenied, DataLoss, ...  of the disk
  static absl::StatusOr<std::unique_ptr<StoreServer>> Open(const Options& options,
                                                           const Authenticator& authenticator,
                                                           const Clock& clock, Metrics& metrics);
  // The same over another blob store and loop: for tests that lie about the disk and the time.
  static absl::StatusOr<std::unique_ptr<StoreServer>> OpenWith(
      const Options& options, const Authenticator& authenticator, const Clock& clock,
      Metrics& metrics, std::unique_ptr<BlobStore> blob_store, std::unique_ptr<EventLoop> loop);
  ~StoreServer();

  grpc::Service* service();

 private:
  StoreServer(const Options& options, const Authenticator& authenticator, const Clock& clock,
              Metrics& metrics, std::unique_ptr<StoreMetadata> metadata,
              std::unique_ptr<BlobStore> blob_store, std::unique_ptr<EventLoop> loop);

  StoreMetrics metrics_;
  const std::unique_ptr<StoreMetadata> metadata_;
  const std::unique_ptr<BlobStore> blob_store_;
  Blobs blobs_;
  WholeReads whole_reads_;
  Uploads uploads_;
  BlobCalls blob_calls_;
  Datasets datasets_;
  BaseModels base_models_;
  TextModels text_models_;
  DatasetTexts texts_;
  TrainingCheck training_check_;
  Collector collector_;
  const std::unique_ptr<EventLoop> loop_;  // Ends before what its tasks use.
  const std::unique_ptr<StoreService> service_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_STORE_STORE_SERVER_H_
