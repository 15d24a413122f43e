// JobDifferences: how a job differs from what a file says about it. Pure, thread-safe.

#ifndef DELTAWORKS_SERVICES_CLI_JOB_DIFFERENCE_H_
#define DELTAWORKS_SERVICES_CLI_JOB_DIFFERENCE_H_

#include <string>
#include <vector>

#include "proto/deltaworks/v1/job.pb.h"
#include "services/cli/apply_file.h"

namespace deltaworks::services {

struct FieldDifference {
  std::string field;  // "train.lora.rank", "labels[\"team\"]".
  // As protobuf's text format writes values; empty: it says nothing.
  std::string file;
  std::string job;
};

struct JobDifference {
  bool differs = false;
  // In the order of job.proto. May be empty though it differs: the file was changed since, in
  // nothing that the job shows (a default that was written out, say).
  std::vector<FieldDifference> fields;
};

// `job` is the scheduler's, made by any tool. Equal digests are equal jobs. Other digests are
// different ones, even if what the file says is what the job has: a field is gone from the file.
// Without a digest, each field that the file says must be as it says, and only that is compared.
JobDifference DifferenceOf(const FileJob& file, const v1::Job& job);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_JOB_DIFFERENCE_H_
