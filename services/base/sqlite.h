// SQLite, thinly: a connection, queries, transactions, migrations; errors as absl::Status.
//
//   DW_ASSIGN_OR_RETURN(auto db, Database::Open(path, {}));
//   DW_RETURN_IF_ERROR(db->Migrate(kMigrations));
//   DW_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*db));
//   DW_RETURN_IF_ERROR(db->Run("INSERT INTO pins (owner, digest) VALUES (?, ?)", {owner, digest}));
//   DW_RETURN_IF_ERROR(transaction.Commit());
//
//   DW_ASSIGN_OR_RETURN(Rows rows, db->Query("SELECT digest FROM pins WHERE owner = ?", {owner}));
//   while (rows.Next()) digests.push_back(rows.Text(0));
//   DW_RETURN_IF_ERROR(rows.status());
//
// A database is a local file, in WAL mode with synchronous=FULL: what was committed survives the
// loss of power, and so does whatever is read after Open(). It is opened with an exclusive lock
// that the system drops when the process dies.
//
// Errors name the file:
//   FailedPrecondition  locked by another process, read-only, on a network file system, or newer
//                       than this program
//   ResourceExhausted   disk full
//   AlreadyExists       a UNIQUE or PRIMARY KEY constraint
//   DataLoss            the file is damaged, or no database
//   Internal            anything else
// After a failed Commit nothing of the transaction is kept, unless the code is Internal: then the
// outcome is unknown until the database is opened again.
//
// Thread-compatible: one thread at a time may use a Database and what came from it.

#ifndef DELTAWORKS_SERVICES_BASE_SQLITE_H_
#define DELTAWORKS_SERVICES_BASE_SQLITE_H_

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

struct sqlite3;
struct sqlite3_stmt;

namespace deltaworks::services {

// Bytes that are bound as a BLOB rather than as text.
struct SqlBlob {
  absl::string_view bytes;
};

// One bound value. Views must live until the call returns.
class SqlValue {
 public:
  SqlValue(std::nullptr_t) {}
  SqlValue(int value) : value_(int64_t{value}) {}
  SqlValue(int64_t value) : value_(value) {}
  SqlValue(bool value) : value_(int64_t{value}) {}
  SqlValue(double value) : value_(value) {}
  SqlValue(absl::string_view value) : value_(value) {}
  SqlValue(const std::string& value) : value_(absl::string_view(value)) {}
  SqlValue(const char* value) : value_(absl::string_view(value)) {}
  SqlValue(SqlBlob value) : value_(value) {}

 private:
  friend class Database;
  std::variant<std::monostate, int64_t, double, absl::string_view, SqlBlob> value_;
};

class Database;

// The rows of a query, one at a time. Give it back (let it die) before the same text is used again.
class Rows {
 public:
  Rows(Rows&& other) noexcept;
  Rows& operator=(Rows&&) = delete;
  ~Rows();

  // Moves to the next row. False at the end or on an error, which status() tells apart.
  bool Next();
  const absl::Status& status() const { return status_; }

  // Column `index` of the current row. NULL is 0, 0.0, "".
  int64_t Int64(int index) const;
  double Double(int index) const;
  std::string Text(int index) const;  // Of a BLOB: its bytes.
  bool IsNull(int index) const;

 private:
  friend class Database;
  Rows(Database& database, sqlite3_stmt* statement) : database_(&database), statement_(statement) {}
  Database* database_;
  sqlite3_stmt* statement_;
  absl::Status status_;
};

class Database {
 public:
  struct Options {
    // Hold the file for this process alone. False only for tools that read beside a service.
    bool exclusive = true;
    // How long to wait for another process to let go of the lock. A service restarted after kill -9
    // finds it free; this covers a predecessor that is just closing.
    int64_t busy_timeout_ms = 2000;
    // 0: no bound. In bytes; beyond it writes fail as if the disk were full.
    int64_t size_bytes_max = 0;
  };

  // Opens or makes the database.
  static absl::StatusOr<std::unique_ptr<Database>> Open(const std::string& path,
                                                        const Options& options);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  // Applies the steps that the file has not seen, each in a transaction. Step i brings a file from
  // version i to i + 1; steps are only ever added.
  absl::Status Migrate(absl::Span<const char* const> steps);

  // `sql` is one statement with ? for each value. Statements are kept prepared by their text, so it
  // should be a literal.
  absl::StatusOr<Rows> Query(absl::string_view sql, std::initializer_list<SqlValue> values = {});
  absl::Status Run(absl::string_view sql, std::initializer_list<SqlValue> values = {});

  // Several statements without values.
  absl::Status RunScript(const std::string& sql);

  // Rows changed by the last Run().
  int64_t changes() const;
  // Of the last row inserted.
  int64_t last_insert_rowid() const;
  bool in_transaction() const;
  const std::string& path() const { return path_; }

 private:
  friend class Rows;
  Database(std::string path, sqlite3* handle) : path_(std::move(path)), handle_(handle) {}

  absl::Status Prepare(const Options& options);
  absl::StatusOr<sqlite3_stmt*> Statement(absl::string_view sql);
  absl::Status Bind(sqlite3_stmt* statement, std::initializer_list<SqlValue> values);
  // The status for result code `code` of the last call.
  absl::Status Error(int code) const;

  const std::string path_;
  sqlite3* const handle_;
  absl::flat_hash_map<std::string, sqlite3_stmt*> statements_;
};

// BEGIN IMMEDIATE ... COMMIT; rolls back if it dies uncommitted. Not nested.
class Transaction {
 public:
  static absl::StatusOr<Transaction> Begin(Database& database);
  Transaction(Transaction&& other) noexcept : database_(std::exchange(other.database_, nullptr)) {}
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();

  absl::Status Commit();

 private:
  explicit Transaction(Database& database) : database_(&database) {}
  Database* database_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_SQLITE_H_
