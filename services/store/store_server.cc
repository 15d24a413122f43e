#include "services/store/store_server.h"

#include <utility>

#include "services/store/local_blob_store.h"
#include "services/store/sqlite_metadata.h"
#include "services/store/store_service.h"
#include "trainer/base/file.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

BaseModels::Options BaseModelOptions(const StoreServer::Options& options) {
  return {.work_folder = options.folder + "/imports",
          .import_folders = options.import_folders,
          .waiting_max = options.imports_waiting_max,
          .attempts_max = options.import_attempts_max};
}

}  // namespace

StoreServer::StoreServer(const Options& options, const Authenticator& authenticator,
                         const Clock& clock, Metrics& metrics,
                         std::unique_ptr<StoreMetadata> metadata,
                         std::unique_ptr<BlobStore> blob_store, std::unique_ptr<EventLoop> loop)
    : metrics_(metrics),
      metadata_(std::move(metadata)),
      blob_store_(std::move(blob_store)),
      blobs_(*blob_store_, *metadata_, clock, metrics_),
      whole_reads_(options.whole_reads_at_once_max),
      uploads_(blobs_, *metadata_, clock, metrics_, options.uploads),
      blob_calls_(*metadata_, blobs_, uploads_, whole_reads_, clock, metrics_),
      datasets_(blobs_, *metadata_, clock, options.datasets),
      base_models_(blobs_, *metadata_, clock, metrics_, BaseModelOptions(options)),
      text_models_(blobs_),
      texts_(*metadata_, datasets_, base_models_, text_models_, clock, options.texts),
      training_check_(datasets_, base_models_, texts_, text_models_),
      collector_(*loop, *blob_store_, *metadata_, uploads_, clock, metrics_, options.collector),
      loop_(std::move(loop)),
      service_(std::make_unique<StoreService>(StoreParts{authenticator, metrics_, blob_calls_,
                                                         whole_reads_, datasets_, base_models_,
                                                         texts_, training_check_})) {}

StoreServer::~StoreServer() = default;

grpc::Service* StoreServer::service() { return service_.get(); }

absl::StatusOr<std::unique_ptr<StoreServer>> StoreServer::Open(const Options& options,
                                                               const Authenticator& authenticator,
                                                               const Clock& clock,
                                                               Metrics& metrics) {
  DW_RETURN_IF_ERROR(MakeDirectories(options.folder));
  DW_ASSIGN_OR_RETURN(std::unique_ptr<BlobStore> blob_store,
                      LocalBlobStore::Open(options.folder + "/blobs"));
  return OpenWith(options, authenticator, clock, metrics, std::move(blob_store),
                  std::make_unique<RealEventLoop>(clock));
}

absl::StatusOr<std::unique_ptr<StoreServer>> StoreServer::OpenWith(
    const Options& options, const Authenticator& authenticator, const Clock& clock,
    Metrics& metrics, std::unique_ptr<BlobStore> blob_store, std::unique_ptr<EventLoop> loop) {
  // The lock first: nothing of the folder is touched while another store has it.
  DW_ASSIGN_OR_RETURN(std::unique_ptr<StoreMetadata> metadata,
                      SqliteStoreMetadata::Open(options.folder + "/store.db"));
  std::unique_ptr<StoreServer> server(new StoreServer(options, authenticator, clock, metrics,
                                                      std::move(metadata), std::move(blob_store),
                                                      std::move(loop)));
  DW_RETURN_IF_ERROR(server->collector_.Reconcile());
  DW_RETURN_IF_ERROR(server->base_models_.Start());
  server->collector_.Start();
  return server;
}

}  // namespace deltaworks::services
