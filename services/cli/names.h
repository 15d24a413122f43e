// Names as people type them: an id where a resource name is wanted. Full names pass unchanged, of
// any tenant. InvalidArgument: argument, got, want. Plain functions, thread-safe.

#ifndef DELTAWORKS_SERVICES_CLI_NAMES_H_
#define DELTAWORKS_SERVICES_CLI_NAMES_H_

#include <string>

#include "absl/status/statusor.h"
#include "services/cli/command.h"

namespace deltaworks::services {

// "job-7" -> "tenants/T/jobs/job-7". `argument` ("JOB") begins the messages.
absl::StatusOr<std::string> JobName(const CommandContext& context, const std::string& argument,
                                    const std::string& text);
absl::StatusOr<std::string> DatasetName(const CommandContext& context, const std::string& argument,
                                        const std::string& text);
absl::StatusOr<std::string> BaseModelName(const CommandContext& context,
                                          const std::string& argument, const std::string& text);
absl::StatusOr<std::string> AdapterName(const CommandContext& context, const std::string& argument,
                                        const std::string& text);

// "notes/3" and "notes/versions/3" -> .../adapters/notes/versions/3; "notes@champion" ->
// .../aliases/champion; "notes" -> the adapter, which means its newest READY version.
absl::StatusOr<std::string> VersionName(const CommandContext& context, const std::string& argument,
                                        const std::string& text);
// "notes@champion" only.
absl::StatusOr<std::string> AliasName(const CommandContext& context, const std::string& argument,
                                      const std::string& text);

// "box-cpu-0" -> "workers/box-cpu-0".
absl::StatusOr<std::string> WorkerName(const std::string& argument, const std::string& text);
// "team-a" -> "tenants/team-a".
absl::StatusOr<std::string> TenantArgument(const std::string& argument, const std::string& text);

// "tenants/T".
std::string ParentName(const CommandContext& context);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_NAMES_H_
