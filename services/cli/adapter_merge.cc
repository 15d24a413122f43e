#include "services/cli/adapter_merge.h"

#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "services/base/metrics.h"
#include "services/cli/client_file.h"
#include "services/cli/download_version.h"
#include "services/cli/exit_code.h"
#include "services/cli/format.h"
#include "services/cli/merge_version.h"
#include "services/cli/names.h"
#include "services/clients/base_cache.h"
#include "trainer/base/file.h"
#include "trainer/base/json.h"
#include "trainer/base/status_macros.h"
#include "trainer/import/staging_folder.h"

namespace deltaworks::services {
namespace {

class AdapterMerge final : public Command {
 public:
  std::string name() const override { return "adapter merge"; }
  std::string summary() const override {
    return "Merge a version into its base: a Hugging Face folder for transformers";
  }
  std::string details() const override {
    return "Fetches base and adapter, adds scale B A to the adapted matrices and writes "
           "config.json, model.safetensors and the tokenizer's files. The base is kept in the "
           "cache of --home, which a local platform shares.";
  }
  std::vector<std::string> examples() const override {
    return {"dw adapter merge notes/3 ./notes-merged",
            "dw adapter merge notes@champion ./champion --base_model smollm2-f32"};
  }
  void Declare(Arguments& arguments) override {
    arguments.Positional("VERSION", &version_, "ADAPTER/NUMBER, ADAPTER@ALIAS or ADAPTER");
    arguments.Positional("OUT_FOLDER", &out_, "made; must not exist").Kind(ValueKind::kFolder);
    arguments
        .Flag("base_model", &base_model_,
              "base model to merge into (default: the one it was trained on)")
        .ValueName("MODEL");
  }

  absl::StatusOr<int> Run(CommandContext& context) override {
    const std::string& home = context.platform.settings().home;
    DW_RETURN_IF_ERROR(CheckHome(home));
    DW_ASSIGN_OR_RETURN(const std::string name, VersionName(context, "VERSION", version_));
    DW_ASSIGN_OR_RETURN(RegistryClient * registry, context.platform.registry());
    DW_ASSIGN_OR_RETURN(StoreClient * store, context.platform.store());
    DW_ASSIGN_OR_RETURN(const v1::AdapterVersion version, registry->GetVersion(name));
    DW_ASSIGN_OR_RETURN(const v1::BaseModel base, FindBase(context, *store, version));
    DW_ASSIGN_OR_RETURN(const auto staging, trainer::StagingFolder::Create(out_));

    context.err << "fetching " << ShortName(base.name()) << " (" << BytesText(base.size_bytes())
                << ")\n";
    Metrics metrics("dw");
    BaseCache cache(home + "/cache", *store, metrics);
    DW_ASSIGN_OR_RETURN(const std::string base_folder,
                        cache.Ensure({.tenant = context.tenant, .reference = base.name()},
                                     base.manifest_digest(), [] { return false; }));
    const std::string adapter_folder = absl::StrCat(staging->path(), "/adapter");
    DW_RETURN_IF_ERROR(MakeDirectories(adapter_folder));
    DW_RETURN_IF_ERROR(
        DownloadVersion(*registry, version, adapter_folder, context.retry_policy(), nullptr));
    context.err << "merging " << ShortVersion(version.name()) << "\n";
    DW_ASSIGN_OR_RETURN(const MergeResult result,
                        MergeFolders(base_folder, adapter_folder, staging->path()));
    std::error_code left;  // Two small files too many are no reason to fail.
    std::filesystem::remove_all(adapter_folder, left);
    DW_RETURN_IF_ERROR(staging->Commit());
    Print(context, version, base, result);
    return kExitOk;
  }

 private:
  absl::StatusOr<v1::BaseModel> FindBase(const CommandContext& context, StoreClient& store,
                                         const v1::AdapterVersion& version) const {
    std::string name = version.base_model();
    if (!base_model_.empty()) {
      DW_ASSIGN_OR_RETURN(name, BaseModelName(context, "--base_model", base_model_));
    }
    DW_ASSIGN_OR_RETURN(const v1::BaseModel base, store.GetBaseModel(name));
    if (base.state() != v1::BaseModel::READY) {
      return absl::FailedPreconditionError(absl::StrCat(name, " is not READY"));
    }
    if (base.source_digest() != version.base_source_digest()) {
      return absl::FailedPreconditionError(
          absl::StrCat(version.name(), " is bound to a base of source ",
                       version.base_source_digest(), ", ", name, " has ", base.source_digest()));
    }
    return base;
  }

  void Print(CommandContext& context, const v1::AdapterVersion& version, const v1::BaseModel& base,
             const MergeResult& result) const {
    if (context.json()) {
      context.out << JsonText(Json{{"version", version.name()},
                                   {"base_model", base.name()},
                                   {"folder", out_},
                                   {"matrices", result.matrices},
                                   {"size_bytes", result.size_bytes},
                                   {"digest", result.digest},
                                   {"merge_error", result.merge_error}})
                  << "\n";
      return;
    }
    context.out << out_ << ": " << ShortName(base.name()) << " + " << ShortVersion(version.name())
                << ", " << BytesText(result.size_bytes) << ", " << result.matrices
                << " matrices changed"
                << absl::StrFormat(", rounding at most %.3g of an element's power of two\n",
                                   result.merge_error);
  }

  std::string version_, out_, base_model_;
};

}  // namespace

std::unique_ptr<Command> MakeAdapterMerge() { return std::make_unique<AdapterMerge>(); }

}  // namespace deltaworks::services
