// The store's process. `store --help` tells its flags; services/store/README.md the rest.

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "services/base/flags.h"
#include "services/base/service_main.h"
#include "services/store/store_server.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

class StoreProgram final : public ServiceProgram {
 public:
  std::string name() const override { return "store"; }
  std::string description() const override {
    return "Keeps base models, datasets, checkpoints and adapters, by digest.";
  }

  void AddFlags(FlagSet& flags) override {
    flags.Add("data_folder", &options_.folder, "where everything is kept; a local disk");
    flags.Add("import_folder", &options_.import_folders,
              "a folder that base models may be imported from by local_path; may be repeated");
    flags.Add("blob_bytes_max", &options_.uploads.blob_bytes_max, "largest blob");
    flags.Add("uploads_open_max", &options_.uploads.open_max, "uploads under way of one tenant");
    flags.Add("upload_lifetime", &options_.uploads.lifetime,
              "an upload is dropped after so long without data");
    flags.Add("dataset_bytes_max", &options_.datasets.dataset_bytes_max, "largest dataset");
    flags.Add("reports_kept_max", &options_.texts.reports_kept_max, "reports of datasets kept");
    flags.Add("reports_at_once_max", &options_.texts.reports_at_once_max,
              "reports of datasets computed at once");
    flags.Add("reports_waiting_max", &options_.texts.reports_waiting_max,
              "reports of datasets that may wait");
    flags.Add("imports_waiting_max", &options_.imports_waiting_max,
              "imports that may wait, of all tenants");
    flags.Add("import_attempts_max", &options_.import_attempts_max,
              "times that an import is begun in which the store died");
    flags.Add("whole_reads_at_once_max", &options_.whole_reads_at_once_max,
              "calls at once that read a blob as a whole: new datasets, checks without a base, "
              "previews, reports of damage");
    flags.Add("collection_interval", &options_.collector.interval,
              "between two looks for bytes that nobody needs");
  }

  absl::Status Start(const ServiceEnvironment& environment) override {
    if (options_.folder.empty()) {
      return absl::InvalidArgumentError("--data_folder is absent, want a folder");
    }
    DW_RETURN_IF_ERROR(CheckBounds());
    DW_ASSIGN_OR_RETURN(server_, StoreServer::Open(options_, environment.authenticator,
                                                   environment.clock, environment.metrics));
    return absl::OkStatus();
  }

  std::vector<grpc::Service*> services() override { return {server_->service()}; }
  void Stop() override { server_.reset(); }

 private:
  absl::Status CheckBounds() const {
    const std::pair<const char*, int64_t> bounds[] = {
        {"--blob_bytes_max", options_.uploads.blob_bytes_max},
        {"--uploads_open_max", options_.uploads.open_max},
        {"--dataset_bytes_max", options_.datasets.dataset_bytes_max},
        {"--reports_kept_max", options_.texts.reports_kept_max},
        {"--reports_at_once_max", options_.texts.reports_at_once_max},
        {"--reports_waiting_max", options_.texts.reports_waiting_max},
        {"--imports_waiting_max", options_.imports_waiting_max},
        {"--import_attempts_max", options_.import_attempts_max},
        {"--whole_reads_at_once_max", options_.whole_reads_at_once_max}};
    for (const auto& [flag, value] : bounds) {
      if (value >= 1) continue;
      return absl::InvalidArgumentError(absl::StrCat(flag, " is ", value, ", want at least 1"));
    }
    for (const auto& [flag, value] :
         {std::pair("--upload_lifetime", options_.uploads.lifetime),
          std::pair("--collection_interval", options_.collector.interval)}) {
      if (value >= absl::Seconds(1)) continue;
      return absl::InvalidArgumentError(
          absl::StrCat(flag, " is ", absl::FormatDuration(value), ", want at least 1s"));
    }
    return absl::OkStatus();
  }

  StoreServer::Options options_;
  std::unique_ptr<StoreServer> server_;
};

}  // namespace
}  // namespace deltaworks::services

int main(int argc, char** argv) {
  deltaworks::services::StoreProgram program;
  return deltaworks::services::ServiceMain(argc, argv, program);
}
