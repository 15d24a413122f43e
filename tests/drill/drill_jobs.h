// What the drill trains: a few specs that differ in all that may matter to the bytes (base, rank,
// targets, length, learning rate, data, checkpoints, evaluation), each some seconds long, and what
// an undisturbed run of each leaves behind.

#ifndef DELTAWORKS_TESTS_DRILL_DRILL_JOBS_H_
#define DELTAWORKS_TESTS_DRILL_DRILL_JOBS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "proto/deltaworks/v1/training_service.pb.h"
#include "tests/e2e/platform.h"

namespace deltaworks::drill {

namespace v1 = ::deltaworks::v1;

// Labels of a job: its spec, and on an undisturbed run that it is one.
inline constexpr char kSpecLabel[] = "spec";
inline constexpr char kUndisturbedLabel[] = "undisturbed";

// Specs are numbered from 0.
int SpecCount();
int64_t StepsOf(int spec);

// A job without an id: the scheduler makes one, so that a request taken twice would be two jobs.
v1::CreateJobRequest RequestOf(int spec, const std::string& tenant);

// Imports the bases and makes the datasets that the specs name.
void AddBasesAndData(e2e::Platform& platform, const std::string& tenant);

// Digests of a version's files by name, as taken from their bytes.
using Files = std::map<std::string, std::string>;
Files FilesOf(e2e::Platform& platform, const std::string& version);

// Runs each spec once, alone on a worker, with nobody to disturb it. Ends the program if one does
// not succeed. What it leaves is the same for every tenant.
using References = std::vector<Files>;  // By spec.
References RunReferences(e2e::Platform& platform, const std::string& tenant);

}  // namespace deltaworks::drill

#endif  // DELTAWORKS_TESTS_DRILL_DRILL_JOBS_H_
