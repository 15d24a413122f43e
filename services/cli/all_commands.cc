#include "services/cli/all_commands.h"

#include "services/cli/adapter_commands.h"
#include "services/cli/alias_commands.h"
#include "services/cli/apply_command.h"
#include "services/cli/completion_command.h"
#include "services/cli/dataset_commands.h"
#include "services/cli/eval_command.h"
#include "services/cli/generate_command.h"
#include "services/cli/help_command.h"
#include "services/cli/job_commands.h"
#include "services/cli/local/local_commands.h"
#include "services/cli/model_commands.h"
#include "services/cli/platform_commands.h"
#include "services/cli/quota_commands.h"
#include "services/cli/usage_command.h"
#include "services/cli/worker_commands.h"

namespace deltaworks::services {

CommandTable AllCommands() {
  CommandTable table;
  AddLocalCommands(table);
  AddModelCommands(table);
  AddDatasetCommands(table);
  AddJobCommands(table);
  table.push_back(MakeApply());
  AddAdapterCommands(table);
  AddAliasCommands(table);
  table.push_back(MakeGenerate());
  table.push_back(MakeEval());
  AddWorkerCommands(table);
  AddQuotaCommands(table);
  table.push_back(MakeUsage());
  AddPlatformCommands(table);
  table.push_back(MakeCompletion());
  table.push_back(MakeHelp());
  return table;
}

}  // namespace deltaworks::services
