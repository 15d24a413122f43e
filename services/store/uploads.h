// Uploads: bytes that come in pieces, survive every restart, and become a blob only whole and
// right.
//
// What was synced is recorded every commit_bytes and at the end of each writer; after a crash the
// rest is cut off, so an upload never holds bytes that nobody vouched for. When the last byte has
// come, everything is read again from the disk and the digest compared. A full disk ends a writer
// with ResourceExhausted; what was committed stays.
//
// Thread-safe; one writer per upload.

#ifndef DELTAWORKS_SERVICES_STORE_UPLOADS_H_
#define DELTAWORKS_SERVICES_STORE_UPLOADS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "services/store/blobs.h"
#include "services/store/metadata.h"
#include "trainer/base/mutex.h"

namespace deltaworks::services {

class Uploads {
 public:
  struct Options {
    int64_t blob_bytes_max = int64_t{1} << 40;
    int64_t open_max = 1000;  // By tenant.
    int64_t commit_bytes = int64_t{8} << 20;
    absl::Duration lifetime = absl::Hours(24 * 7);  // Without data.
  };

  struct State {
    UploadRow row;
    bool done = false;
  };

  // All must outlive this.
  Uploads(Blobs& blobs, StoreMetadata& metadata, const Clock& clock, StoreMetrics& metrics,
          const Options& options)
      : blobs_(blobs), metadata_(metadata), clock_(clock), metrics_(metrics), options_(options) {}

  // Begins or finds again. ResourceExhausted: a limit, or the disk has no room for it.
  absl::StatusOr<State> Create(const std::string& tenant, const std::string& digest, int64_t size);
  // A finished upload is remembered for its lifetime, and done while the tenant has the blob.
  absl::StatusOr<State> Get(const std::string& name);

  // Drops uploads whose time is up, at most `max`.
  absl::Status DropExpired(int64_t max);

  class Writer {
   public:
    // Commits what came, as far as the disk allows.
    ~Writer();
    Writer(const Writer&) = delete;
    Writer& operator=(const Writer&) = delete;

    // OutOfRange: offset is not where the upload is, or the data go beyond its size.
    absl::Status Write(int64_t offset, absl::string_view data);

    // No more comes now. If all is there, verifies it and makes the blob; DataLoss: the digest
    // differs, and the upload is dropped. Once only.
    absl::StatusOr<State> Finish();

   private:
    friend class Uploads;
    Writer(Uploads& uploads, State state)
        : uploads_(uploads),
          row_(std::move(state.row)),
          done_(state.done),
          written_(row_.committed) {}
    absl::Status Commit();
    absl::Status Verify();

    Uploads& uploads_;
    UploadRow row_;
    const bool done_;  // The blob is there already.
    int64_t written_;
    bool dropped_ = false;
  };

  // Aborted: another writer is active. NotFound.
  absl::StatusOr<std::unique_ptr<Writer>> OpenWriter(const std::string& name);

 private:
  // What has become of the upload: done, or how much of it is really there.
  absl::StatusOr<State> Settle(UploadRow row);
  absl::StatusOr<State> SettleIdle(UploadRow row) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status DropIfEmpty(const std::string& name);

  Blobs& blobs_;
  StoreMetadata& metadata_;
  const Clock& clock_;
  StoreMetrics& metrics_;
  const Options options_;
  Mutex mutex_;
  absl::flat_hash_set<std::string> active_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_STORE_UPLOADS_H_
