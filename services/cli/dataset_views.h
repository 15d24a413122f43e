// What `dw dataset check` and `dw dataset preview` print for people. Pure functions.

#ifndef DELTAWORKS_SERVICES_CLI_DATASET_VIEWS_H_
#define DELTAWORKS_SERVICES_CLI_DATASET_VIEWS_H_

#include <ostream>
#include <string>

#include "proto/deltaworks/v1/store_service.pb.h"

namespace deltaworks::services {

// Every problem with its line, then tokens min/median/p95/max, how many examples are longer than
// which limit, the share of label tokens. `subject` is the file or dataset.
void PrintReport(std::ostream& out, bool color, const std::string& subject,
                 const v1::DatasetReport& report);

// The exact text of each example; label tokens are green, or in [[ ]] without colours.
void PrintPreview(std::ostream& out, bool color, const v1::PreviewDatasetResponse& preview);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_DATASET_VIEWS_H_
