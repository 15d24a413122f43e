// What `dw eval` prints. Pure but for the stream.

#ifndef DELTAWORKS_SERVICES_CLI_EVAL_VIEW_H_
#define DELTAWORKS_SERVICES_CLI_EVAL_VIEW_H_

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "services/cli/eval_data.h"
#include "services/cli/eval_run.h"

namespace deltaworks::services {

// Base beside adapter (`options` names them) with the gain and its 95 % interval, then
// `example_count` answers of each.
void PrintEval(std::ostream& out, bool color, const EvalOptions& options,
               const std::vector<EvalExample>& examples, const EvalResult& result,
               int64_t example_count);

// The same, every example included, as one JSON document.
std::string EvalJson(const EvalOptions& options, const std::vector<EvalExample>& examples,
                     const EvalResult& result);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_EVAL_VIEW_H_
