#include "services/store/uploads.h"

#include <prometheus/counter.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "services/base/caller.h"
#include "services/base/clock.h"
#include "services/base/log.h"
#include "services/store/metrics.h"
#include "trainer/base/sha256.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

// The last part of the upload's name is the id of its staged bytes.
std::string StagedId(const UploadRow& row) { return row.name.substr(row.name.rfind('/') + 1); }

}  // namespace

absl::StatusOr<Uploads::State> Uploads::Create(const std::string& tenant, const std::string& digest,
                                               int64_t size) {
  if (size < 0) {
    return absl::InvalidArgumentError(absl::StrCat("size_bytes is ", size, ", want at least 0"));
  }
  if (size > options_.blob_bytes_max) {
    return absl::ResourceExhaustedError(absl::StrCat("size_bytes is ", size, ", want at most ",
                                                     options_.blob_bytes_max, " (blob_bytes_max)"));
  }
  if (size == 0 && digest != Sha256Digest("")) {
    // Nothing else bounds uploads that need no bytes.
    return absl::InvalidArgumentError(
        absl::StrCat("digest is ", digest, ", want ", Sha256Digest(""), " for size_bytes 0"));
  }
  // Also holds it for a day if it is there.
  DW_RETURN_IF_ERROR(metadata_.FindMissing(tenant, {digest}, clock_.Now()).status());
  DW_ASSIGN_OR_RETURN(const UploadRow row,
                      metadata_.BeginUpload(tenant, digest, size, options_.open_max,
                                            options_.lifetime, clock_.Now()));
  DW_ASSIGN_OR_RETURN(State state, Settle(row));
  if (state.done) return state;
  DW_ASSIGN_OR_RETURN(const int64_t available, blobs_.store().AvailableBytes());
  if (available < size - state.row.committed) {
    DW_RETURN_IF_ERROR(DropIfEmpty(row.name));
    return absl::ResourceExhaustedError(
        absl::StrCat("disk is full: ", available, " bytes are free, want ",
                     size - state.row.committed, " for blob ", digest));
  }
  return state;
}

// So that what was refused does not count among the open ones.
absl::Status Uploads::DropIfEmpty(const std::string& name) {
  MutexLock lock(&mutex_);
  if (active_.contains(name)) return absl::OkStatus();
  const absl::StatusOr<UploadRow> row = metadata_.FindUpload(name);
  if (absl::IsNotFound(row.status()) || (row.ok() && row->committed > 0)) return absl::OkStatus();
  DW_RETURN_IF_ERROR(row.status());
  return metadata_.DropUpload(name);
}

absl::StatusOr<Uploads::State> Uploads::Get(const std::string& name) {
  DW_ASSIGN_OR_RETURN(const UploadRow row, metadata_.FindUpload(name));
  return Settle(row);
}

absl::StatusOr<Uploads::State> Uploads::Settle(UploadRow row) {
  MutexLock lock(&mutex_);
  if (active_.contains(row.name)) return State{std::move(row), /*done=*/false};
  return SettleIdle(std::move(row));
}

absl::StatusOr<Uploads::State> Uploads::SettleIdle(UploadRow row) {
  const std::string id = StagedId(row);
  const absl::StatusOr<ObjectRow> object =
      metadata_.FindBlob(row.tenant, "", row.digest, clock_.Now());
  if (object.ok() && object->size != row.size) {
    return absl::InvalidArgumentError(absl::StrCat("size_bytes is ", row.size, ", want ",
                                                   object->size, ", that of ", row.digest));
  }
  if (object.ok()) {
    if (row.committed < row.size) {
      // It came another way.
      DW_RETURN_IF_ERROR(
          metadata_.CommitUpload(row.name, row.size, options_.lifetime, clock_.Now()));
      DW_RETURN_IF_ERROR(blobs_.store().DropStaged(id));
      row.committed = row.size;
    }
    return State{std::move(row), /*done=*/true};
  }
  if (!absl::IsNotFound(object.status())) return object.status();
  const absl::StatusOr<std::unique_ptr<BlobReader>> staged = blobs_.store().OpenStaged(id);
  if (!staged.ok() && !absl::IsNotFound(staged.status())) return staged.status();
  if (row.committed > (staged.ok() ? (*staged)->size() : 0)) {
    // Its bytes became a blob that is gone since, or a crash came between the two.
    DW_RETURN_IF_ERROR(metadata_.RestartUpload(row.name));
    row.committed = 0;
  }
  return State{std::move(row), /*done=*/false};
}

absl::Status Uploads::DropExpired(int64_t max) {
  DW_ASSIGN_OR_RETURN(const std::vector<UploadRow> expired,
                      metadata_.ExpiredUploads(clock_.Now(), max));
  for (const UploadRow& row : expired) {
    MutexLock lock(&mutex_);  // No writer begins meanwhile.
    if (active_.contains(row.name)) continue;
    // It may have been asked for again since it was listed, which gives it a new lifetime.
    DW_ASSIGN_OR_RETURN(const bool dropped, metadata_.DropExpiredUpload(row.name, clock_.Now()));
    if (!dropped) continue;
    DW_RETURN_IF_ERROR(blobs_.store().DropStaged(StagedId(row)));
    if (row.committed < row.size) metrics_.uploads_expired.Increment();
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Uploads::Writer>> Uploads::OpenWriter(const std::string& name) {
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(UploadRow row, metadata_.FindUpload(name));
  if (active_.contains(name)) {
    return absl::AbortedError(absl::StrCat(name, ": another writer is active"));
  }
  DW_ASSIGN_OR_RETURN(State state, SettleIdle(std::move(row)));
  active_.insert(name);
  return std::unique_ptr<Writer>(new Writer(*this, std::move(state)));
}

Uploads::Writer::~Writer() {
  if (!dropped_) {
    if (absl::Status status = Commit(); !status.ok()) {
      LogWarning("the end of a cut upload was not kept", {{"name", row_.name}, {"error", status}});
    }
  }
  MutexLock lock(&uploads_.mutex_);
  uploads_.active_.erase(row_.name);
}

absl::Status Uploads::Writer::Write(int64_t offset, absl::string_view data) {
  if (offset != written_) {
    return absl::OutOfRangeError(
        absl::StrCat(row_.name, ": offset is ", offset, ", want ", written_));
  }
  if (static_cast<int64_t>(data.size()) > row_.size - offset) {
    return absl::OutOfRangeError(absl::StrCat(row_.name, ": data go to ", offset + data.size(),
                                              ", want at most ", row_.size, " (size_bytes)"));
  }
  DW_RETURN_IF_ERROR(uploads_.blobs_.store().AppendStaged(StagedId(row_), offset, data));
  written_ += static_cast<int64_t>(data.size());
  uploads_.metrics_.upload_bytes.Increment(static_cast<double>(data.size()));
  return written_ - row_.committed >= uploads_.options_.commit_bytes ? Commit() : absl::OkStatus();
}

absl::Status Uploads::Writer::Commit() {
  if (written_ == row_.committed) return absl::OkStatus();
  DW_RETURN_IF_ERROR(uploads_.blobs_.store().SyncStaged(StagedId(row_)));
  DW_RETURN_IF_ERROR(uploads_.metadata_.CommitUpload(
      row_.name, written_, uploads_.options_.lifetime, uploads_.clock_.Now()));
  row_.committed = written_;
  row_.expire_time = uploads_.clock_.Now() + uploads_.options_.lifetime;
  return absl::OkStatus();
}

// Reads every byte back from the disk.
absl::Status Uploads::Writer::Verify() {
  const std::string id = StagedId(row_);
  BlobStore& store = uploads_.blobs_.store();
  // An empty blob has had no data; and nothing beyond the end may count.
  DW_RETURN_IF_ERROR(store.AppendStaged(id, row_.size, ""));
  DW_ASSIGN_OR_RETURN(const std::unique_ptr<BlobReader> reader, store.OpenStaged(id));
  DW_ASSIGN_OR_RETURN(const std::string digest, DigestOf(*reader));
  if (digest == row_.digest) return absl::OkStatus();
  uploads_.metrics_.uploads_refused.Increment();
  dropped_ = true;
  DW_RETURN_IF_ERROR(uploads_.metadata_.DropUpload(row_.name));
  DW_RETURN_IF_ERROR(store.DropStaged(id));
  return absl::DataLossError(absl::StrCat(row_.name, ": digest is ", digest, ", want ", row_.digest,
                                          "; the upload is dropped"));
}

absl::StatusOr<Uploads::State> Uploads::Writer::Finish() {
  if (done_) return State{row_, /*done=*/true};
  DW_RETURN_IF_ERROR(Commit());
  if (written_ < row_.size) return State{row_, /*done=*/false};
  DW_RETURN_IF_ERROR(Verify());
  DW_RETURN_IF_ERROR(uploads_.blobs_.Promote(StagedId(row_), row_.tenant, row_.digest, row_.size));
  uploads_.metrics_.uploads_finished.Increment();
  return State{row_, /*done=*/true};
}

}  // namespace deltaworks::services
