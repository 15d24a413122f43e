// SQLite on a SimulatedDisk: a VFS under which production code opens its databases unchanged.

#ifndef DELTAWORKS_TESTS_SIMULATION_SQLITE_ON_DISK_H_
#define DELTAWORKS_TESTS_SIMULATION_SQLITE_ON_DISK_H_

namespace deltaworks::simulation {

// From now on databases of this program are on simulated disks: a path is NAME_OF_DISK/FILE.
// Repeating it does no harm. Thread-safe.
void PutSqliteOnSimulatedDisks();

}  // namespace deltaworks::simulation

#endif  // DELTAWORKS_TESTS_SIMULATION_SQLITE_ON_DISK_H_
