// DiskTables: ordered tables in memory and one file on a SimulatedDisk, to which every commit is
// appended and synced before it counts. What a database does for a service, at a tenth of the time.
//
// A commit is a header (size, number, checksum of what follows) and its changes, each a write of
// its own. After a failed Commit nothing of it is kept, unless the code is Internal: then the
// outcome is unknown until the tables are opened again. The next commit is written over it.
//
// Not thread-safe.

#ifndef DELTAWORKS_TESTS_SIMULATION_DISK_TABLES_H_
#define DELTAWORKS_TESTS_SIMULATION_DISK_TABLES_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/simulation/simulated_disk.h"

namespace deltaworks::simulation {

class DiskTables {
 public:
  using Row = std::vector<std::string>;
  using Table = absl::btree_map<std::string, Row>;
  struct Change {
    int table = 0;
    std::string key;
    std::optional<Row> row;  // nullopt: it goes.
  };

  // What is read survives a loss of power. `disk` must outlive it.
  static absl::StatusOr<std::unique_ptr<DiskTables>> Open(SimulatedDisk& disk,
                                                          const std::string& path, int tables);

  const Table& table(int index) const { return tables_[index]; }
  // In order. Internal, or ResourceExhausted: the disk is full.
  absl::Status Commit(std::vector<Change> changes);

 private:
  DiskTables(SimulatedDisk& disk, DiskFile& file, int tables)
      : disk_(disk), file_(file), tables_(static_cast<size_t>(tables)) {}

  // Applies the commit at end_; false if there is none.
  bool ReadNext();
  void Apply(std::vector<Change> changes);

  SimulatedDisk& disk_;
  DiskFile& file_;
  std::vector<Table> tables_;
  int64_t commits_ = 0;
  int64_t end_ = 0;  // Of the last commit, in the file.
};

}  // namespace deltaworks::simulation

#endif  // DELTAWORKS_TESTS_SIMULATION_DISK_TABLES_H_
