// Collection and totals of SqliteStoreMetadata.

#include "services/base/request_log.h"
#include "services/store/sqlite_metadata.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {

absl::StatusOr<int64_t> SqliteStoreMetadata::MarkUnreferenced(absl::Time now, int64_t max) {
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  DW_RETURN_IF_ERROR(
      database_->Run("DELETE FROM holds WHERE expire_time_us <= ?", {absl::ToUnixMicros(now)}));
  DW_RETURN_IF_ERROR(database_->Run(
      "UPDATE objects SET state = 3 WHERE (digest, generation) IN ("
      "  SELECT digest, generation FROM objects o WHERE state = 2"
      "  AND NOT EXISTS (SELECT 1 FROM holds h WHERE h.digest = o.digest)"
      "  AND NOT EXISTS (SELECT 1 FROM pins p WHERE p.digest = o.digest)"
      "  AND NOT EXISTS (SELECT 1 FROM manifest_members m JOIN pins p ON p.digest = m.manifest"
      "                  WHERE m.member = o.digest)"
      "  LIMIT ?)",
      {max}));
  const int64_t marked = database_->changes();
  DW_RETURN_IF_ERROR(PruneRequests(*database_, now, max).status());
  DW_RETURN_IF_ERROR(transaction.Commit());
  return marked;
}

absl::StatusOr<std::vector<ObjectKey>> SqliteStoreMetadata::DeletingObjects(int64_t max) {
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(
      Rows rows,
      database_->Query("SELECT digest, generation FROM objects WHERE state = 3 LIMIT ?", {max}));
  std::vector<ObjectKey> keys;
  while (rows.Next()) keys.push_back({rows.Text(0), rows.Int64(1)});
  DW_RETURN_IF_ERROR(rows.status());
  return keys;
}

absl::Status SqliteStoreMetadata::ForgetObjects(const std::vector<ObjectKey>& keys) {
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  for (const ObjectKey& key : keys) {
    DW_RETURN_IF_ERROR(
        database_->Run("DELETE FROM objects WHERE digest = ? AND generation = ? AND state = 3",
                       {key.digest, key.generation}));
    // A pinned manifest that was damaged keeps its members: they hold what a repaired copy names.
    DW_RETURN_IF_ERROR(
        database_->Run("DELETE FROM manifest_members WHERE manifest = ?1 "
                       "AND NOT EXISTS (SELECT 1 FROM objects WHERE digest = ?1) "
                       "AND NOT EXISTS (SELECT 1 FROM pins WHERE digest = ?1)",
                       {key.digest}));
  }
  return transaction.Commit();
}

absl::Status SqliteStoreMetadata::AbandonPending() {
  MutexLock lock(&mutex_);
  return database_->Run("UPDATE objects SET state = 3 WHERE state = 1");
}

absl::StatusOr<bool> SqliteStoreMetadata::KnowsObject(const ObjectKey& key) {
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(Rows rows,
                      database_->Query("SELECT 1 FROM objects WHERE digest = ? AND generation = ?",
                                       {key.digest, key.generation}));
  const bool known = rows.Next();
  DW_RETURN_IF_ERROR(rows.status());
  return known;
}

absl::StatusOr<StoreMetadata::Totals> SqliteStoreMetadata::CountTotals() {
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(
      Rows rows,
      database_->Query(
          "SELECT (SELECT COUNT(*) FROM objects WHERE state = 2),"
          " (SELECT COALESCE(SUM(size), 0) FROM objects WHERE state = 2),"
          " (SELECT COUNT(*) FROM uploads WHERE committed < size), (SELECT COUNT(*) FROM pins)"));
  Totals totals;
  if (rows.Next()) {
    totals = {rows.Int64(0), rows.Int64(1), rows.Int64(2), rows.Int64(3)};
  }
  DW_RETURN_IF_ERROR(rows.status());
  return totals;
}

}  // namespace deltaworks::services
