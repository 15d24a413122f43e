#include "services/base/sqlite.h"

#include <linux/magic.h>
#include <sqlite3.h>
#include <sys/vfs.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr int64_t kCifsMagic = 0xFF534D42;
constexpr int64_t kSmb2Magic = 0xFE534D42;

// Locks of network file systems do not keep two processes apart.
absl::Status CheckFileSystem(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  struct statfs info;
  if (statfs(folder.empty() ? "." : folder.c_str(), &info) != 0) return absl::OkStatus();
  const int64_t type = static_cast<int64_t>(static_cast<uint32_t>(info.f_type));
  if (type == NFS_SUPER_MAGIC || type == SMB_SUPER_MAGIC || type == kCifsMagic ||
      type == kSmb2Magic) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": on a network file system, want a local disk"));
  }
  return absl::OkStatus();
}

}  // namespace

// ---- Rows ----

Rows::Rows(Rows&& other) noexcept
    : database_(other.database_),
      statement_(std::exchange(other.statement_, nullptr)),
      status_(std::move(other.status_)) {}

Rows::~Rows() {
  if (statement_ != nullptr) sqlite3_reset(statement_);
}

bool Rows::Next() {
  if (!status_.ok()) return false;
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code != SQLITE_DONE) status_ = database_->Error(code);
  return false;
}

int64_t Rows::Int64(int index) const { return sqlite3_column_int64(statement_, index); }
double Rows::Double(int index) const { return sqlite3_column_double(statement_, index); }

std::string Rows::Text(int index) const {
  const void* bytes = sqlite3_column_blob(statement_, index);
  const int size = sqlite3_column_bytes(statement_, index);
  return bytes == nullptr ? "" : std::string(static_cast<const char*>(bytes), size);
}

bool Rows::IsNull(int index) const { return sqlite3_column_type(statement_, index) == SQLITE_NULL; }

// ---- Database ----

absl::StatusOr<std::unique_ptr<Database>> Database::Open(const std::string& path,
                                                         const Options& options) {
  DW_RETURN_IF_ERROR(CheckFileSystem(path));
  sqlite3* handle = nullptr;
  const int code = sqlite3_open_v2(
      path.c_str(), &handle,
      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
      nullptr);
  std::unique_ptr<Database> database(new Database(path, handle));
  if (code != SQLITE_OK) return database->Error(code);
  DW_RETURN_IF_ERROR(database->Prepare(options));
  return database;
}

Database::~Database() {
  for (const auto& [sql, statement] : statements_) sqlite3_finalize(statement);
  const int code = sqlite3_close(handle_);
  LOG_IF(DFATAL, code != SQLITE_OK) << path_ << ": closed while rows were read";
}

absl::Status Database::Prepare(const Options& options) {
  sqlite3_busy_timeout(handle_, static_cast<int>(options.busy_timeout_ms));
  // locking_mode comes before the first access, so that WAL needs no shared memory file.
  if (options.exclusive) DW_RETURN_IF_ERROR(RunScript("PRAGMA locking_mode = EXCLUSIVE"));
  DW_RETURN_IF_ERROR(
      RunScript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON"));
  if (options.size_bytes_max > 0) {
    constexpr int64_t kPageBytes = 4096;
    DW_RETURN_IF_ERROR(
        RunScript(absl::StrCat("PRAGMA max_page_count = ", options.size_bytes_max / kPageBytes)));
  }
  // The lock is taken by the first transaction and, in exclusive mode, kept from then on.
  DW_RETURN_IF_ERROR(RunScript(options.exclusive ? "BEGIN EXCLUSIVE; COMMIT" : "BEGIN; COMMIT"));
  if (!options.exclusive) return absl::OkStatus();
  // A commit whose sync failed, or did not come because the process died, is read as committed, but
  // a loss of power could still undo it. A checkpoint syncs it first, and a full disk does not keep
  // it from that.
  const absl::Status synced = RunScript("PRAGMA wal_checkpoint");
  return absl::IsResourceExhausted(synced) ? absl::OkStatus() : synced;
}

absl::Status Database::Error(int code) const {
  const std::string what = handle_ == nullptr ? sqlite3_errstr(code) : sqlite3_errmsg(handle_);
  const int os_error = handle_ == nullptr ? 0 : sqlite3_system_errno(handle_);
  const std::string message = absl::StrCat(path_, ": ", what);
  switch (code & 0xFF) {
    case SQLITE_OK:
      return absl::OkStatus();
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return absl::FailedPreconditionError(
          absl::StrCat("database locked by another process: ", path_));
    case SQLITE_FULL:
      return absl::ResourceExhaustedError(absl::StrCat(path_, ": disk is full"));
    case SQLITE_READONLY:
      return absl::FailedPreconditionError(absl::StrCat(path_, ": database is read-only"));
    case SQLITE_CONSTRAINT:
      return code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY
                 ? absl::AlreadyExistsError(message)
                 : absl::InternalError(message);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return absl::DataLossError(message);
    case SQLITE_CANTOPEN:
      return absl::FailedPreconditionError(absl::StrCat(message, os_error == 0 ? "" : ": ",
                                                        os_error == 0 ? "" : strerror(os_error)));
    case SQLITE_IOERR:
      if (os_error == ENOSPC || os_error == EDQUOT) {
        return absl::ResourceExhaustedError(absl::StrCat(path_, ": disk is full"));
      }
      return absl::InternalError(absl::StrCat(message, ": ", strerror(os_error)));
    default:
      return absl::InternalError(message);
  }
}

absl::StatusOr<sqlite3_stmt*> Database::Statement(absl::string_view sql) {
  const auto found = statements_.find(sql);
  if (found != statements_.end()) {
    CHECK(!sqlite3_stmt_busy(found->second)) << "a query is still read: " << sql;
    return found->second;
  }
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v3(handle_, sql.data(), static_cast<int>(sql.size()),
                                      SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  if (code != SQLITE_OK) return Error(code);
  statements_.emplace(std::string(sql), statement);
  return statement;
}

absl::Status Database::Bind(sqlite3_stmt* statement, std::initializer_list<SqlValue> values) {
  CHECK_EQ(sqlite3_bind_parameter_count(statement), static_cast<int>(values.size()))
      << sqlite3_sql(statement);
  int index = 0;
  for (const SqlValue& value : values) {
    ++index;
    int code = SQLITE_OK;
    // Copied by SQLite: the statement may be stepped after the caller's values are gone.
    if (const auto* integer = std::get_if<int64_t>(&value.value_)) {
      code = sqlite3_bind_int64(statement, index, *integer);
    } else if (const auto* real = std::get_if<double>(&value.value_)) {
      code = sqlite3_bind_double(statement, index, *real);
    } else if (const auto* text = std::get_if<absl::string_view>(&value.value_)) {
      code = sqlite3_bind_text64(statement, index, text->data() == nullptr ? "" : text->data(),
                                 text->size(), SQLITE_TRANSIENT, SQLITE_UTF8);
    } else if (const auto* blob = std::get_if<SqlBlob>(&value.value_)) {
      code = sqlite3_bind_blob64(statement, index,
                                 blob->bytes.data() == nullptr ? "" : blob->bytes.data(),
                                 blob->bytes.size(), SQLITE_TRANSIENT);
    } else {
      code = sqlite3_bind_null(statement, index);
    }
    if (code != SQLITE_OK) return Error(code);
  }
  return absl::OkStatus();
}

absl::StatusOr<Rows> Database::Query(absl::string_view sql,
                                     std::initializer_list<SqlValue> values) {
  DW_ASSIGN_OR_RETURN(sqlite3_stmt* const statement, Statement(sql));
  DW_RETURN_IF_ERROR(Bind(statement, values));
  return Rows(*this, statement);
}

absl::Status Database::Run(absl::string_view sql, std::initializer_list<SqlValue> values) {
  DW_ASSIGN_OR_RETURN(Rows rows, Query(sql, values));
  while (rows.Next()) {
  }
  return rows.status();
}

absl::Status Database::RunScript(const std::string& sql) {
  return Error(sqlite3_exec(handle_, sql.c_str(), nullptr, nullptr, nullptr));
}

absl::Status Database::Migrate(absl::Span<const char* const> steps) {
  int64_t version = 0;
  {
    DW_ASSIGN_OR_RETURN(Rows rows, Query("PRAGMA user_version"));
    if (rows.Next()) version = rows.Int64(0);
    DW_RETURN_IF_ERROR(rows.status());
  }
  if (version < 0 || version > static_cast<int64_t>(steps.size())) {
    return absl::FailedPreconditionError(absl::StrCat(path_, ": schema version is ", version,
                                                      ", want at most ", steps.size(),
                                                      ": the file was written by a newer program"));
  }
  for (; version < static_cast<int64_t>(steps.size()); ++version) {
    DW_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*this));
    DW_RETURN_IF_ERROR(RunScript(steps[version]));
    DW_RETURN_IF_ERROR(RunScript(absl::StrCat("PRAGMA user_version = ", version + 1)));
    DW_RETURN_IF_ERROR(transaction.Commit());
  }
  return absl::OkStatus();
}

int64_t Database::changes() const { return sqlite3_changes64(handle_); }
int64_t Database::last_insert_rowid() const { return sqlite3_last_insert_rowid(handle_); }
bool Database::in_transaction() const { return sqlite3_get_autocommit(handle_) == 0; }

// ---- Transaction ----

absl::StatusOr<Transaction> Transaction::Begin(Database& database) {
  CHECK(!database.in_transaction()) << "transactions are not nested";
  DW_RETURN_IF_ERROR(database.Run("BEGIN IMMEDIATE"));
  return Transaction(database);
}

absl::Status Transaction::Commit() {
  CHECK(database_ != nullptr) << "committed twice";
  absl::Status status = database_->Run("COMMIT");
  if (status.ok()) database_ = nullptr;
  return status;  // Otherwise the destructor rolls back.
}

Transaction::~Transaction() {
  // Some errors roll back by themselves.
  if (database_ == nullptr || !database_->in_transaction()) return;
  const absl::Status status = database_->Run("ROLLBACK");
  LOG_IF(ERROR, !status.ok()) << status;
}

}  // namespace deltaworks::services
