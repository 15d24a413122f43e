#include "services/cli/adapter_commands.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "services/base/resource_names.h"
#include "services/cli/adapter_merge.h"
#include "services/cli/download_version.h"
#include "services/cli/enum_text.h"
#include "services/cli/exit_code.h"
#include "services/cli/format.h"
#include "services/cli/json_output.h"
#include "services/cli/names.h"
#include "services/cli/pages.h"
#include "services/cli/progress_line.h"
#include "services/cli/table.h"
#include "trainer/base/json.h"
#include "trainer/base/status_macros.h"
#include "trainer/import/staging_folder.h"

namespace deltaworks::services {
namespace {

Cell StateCell(const v1::AdapterVersion& version) {
  const Paint paint = version.state() == v1::AdapterVersion::READY ? Paint::kGreen : Paint::kRed;
  return {EnumText(version.state()), paint};
}

std::string SourceText(const v1::VersionSource& source) {
  const std::string job = ShortName(source.job());
  return source.product_case() == v1::VersionSource::kCheckpointStep
             ? absl::StrCat(job, " at step ", source.checkpoint_step())
             : job;
}

// "sha256:0123456789ab", enough to tell two apart by eye.
std::string ShortDigest(const std::string& digest) { return digest.substr(0, 19); }

class AdapterList final : public Command {
 public:
  std::string name() const override { return "adapter list"; }
  std::string summary() const override { return "List adapters, or the versions of one"; }
  std::vector<std::string> examples() const override {
    return {"dw adapter list", "dw adapter list notes", "dw adapter list notes --output json"};
  }
  void Declare(Arguments& arguments) override {
    arguments.Positional("ADAPTER", &adapter_, "whose versions").Optional();
    arguments.Flag("limit", &limit_, "most rows (default 1000)");
  }

  absl::StatusOr<int> Run(CommandContext& context) override {
    DW_ASSIGN_OR_RETURN(RegistryClient * registry, context.platform.registry());
    const absl::Status status =
        adapter_.empty() ? Adapters(context, *registry) : Versions(context, *registry);
    if (!status.ok()) return status;
    return kExitOk;
  }

 private:
  absl::Status Adapters(CommandContext& context, RegistryClient& registry) const {
    v1::ListAdaptersRequest request;
    request.set_parent(ParentName(context));
    DW_ASSIGN_OR_RETURN(
        const v1::ListAdaptersResponse all,
        ListAll(
            request, limit_, [&](const auto& page) { return registry.ListAdapters(page); },
            [](auto& response) { return response.mutable_adapters(); }));
    if (context.json()) return PrintJson(context, all), absl::OkStatus();
    Table table({"ADAPTER", ">LATEST", ">VERSIONS", "BASE SOURCE", "UPDATED"});
    for (const v1::Adapter& adapter : all.adapters()) {
      table.AddRow({ShortName(adapter.name()),
                    adapter.latest_version() > 0 ? absl::StrCat(adapter.latest_version()) : "-",
                    absl::StrCat(adapter.version_count()),
                    ShortDigest(adapter.base_source_digest()),
                    AgeText(ToTime(adapter.update_time()), context.clock.Now())});
    }
    table.Print(context.out, context.color);
    return absl::OkStatus();
  }

  absl::Status Versions(CommandContext& context, RegistryClient& registry) const {
    v1::ListVersionsRequest request;
    DW_ASSIGN_OR_RETURN(*request.mutable_parent(), AdapterName(context, "ADAPTER", adapter_));
    DW_ASSIGN_OR_RETURN(
        const v1::ListVersionsResponse all,
        ListAll(
            request, limit_, [&](const auto& page) { return registry.ListVersions(page); },
            [](auto& response) { return response.mutable_versions(); }));
    if (context.json()) return PrintJson(context, all), absl::OkStatus();
    Table table(
        {"VERSION", "STATE", ">LOSS", ">EVAL LOSS", ">PARAMETERS", ">SIZE", "JOB", "CREATED"});
    for (const v1::AdapterVersion& version : all.versions()) {
      const v1::MetricPoint& last = version.metrics();
      table.AddRow({ShortVersion(version.name()), StateCell(version),
                    version.has_metrics() ? LossText(last.loss()) : "-",
                    last.has_eval_loss() ? LossText(last.eval_loss()) : "-",
                    CountText(version.trainable_parameters()), BytesText(version.size_bytes()),
                    SourceText(version.source()),
                    AgeText(ToTime(version.create_time()), context.clock.Now())});
    }
    table.Print(context.out, context.color);
    return absl::OkStatus();
  }

  std::string adapter_;
  int64_t limit_ = 1000;
};

void PrintVersion(CommandContext& context, const v1::AdapterVersion& version) {
  if (context.json()) return PrintJson(context, version);
  const v1::LoraConfig& lora = version.spec().lora();
  FactSheet facts;
  facts.Add("version", {version.name(), Paint::kBold});
  facts.Add("state", StateCell(version));
  if (version.has_failure()) facts.Add("failure", {version.failure().message(), Paint::kRed});
  facts.Add("from", SourceText(version.source()));
  facts.Add("base model", absl::StrCat(ShortName(version.base_model()), " (",
                                       EnumText(version.base_form()), ")"));
  facts.Add("dataset", ShortName(version.dataset()));
  if (version.has_spec()) {
    facts.Add("LoRA",
              absl::StrFormat("rank %d, lora_alpha %g, on %s", lora.rank(), lora.lora_alpha(),
                              absl::StrJoin(lora.target_modules(), ", ")));
  }
  facts.Add("parameters", CountText(version.trainable_parameters()));
  if (version.has_metrics()) {
    const v1::MetricPoint& last = version.metrics();
    facts.Add("last step", absl::StrCat(last.step(), ", loss ", LossText(last.loss()),
                                        last.has_eval_loss() ? ", eval loss " : "",
                                        last.has_eval_loss() ? LossText(last.eval_loss()) : ""));
  }
  facts.Add("size", BytesText(version.size_bytes()));
  facts.Add("exact", version.exact() ? "yes" : "no: attempts ran in different numerics classes");
  facts.Add("numerics class", version.numerics_class());
  facts.Add("adapter digest", version.adapter_digest());
  facts.Add("base source", version.base_source_digest());
  facts.Add("manifest", version.manifest_digest());
  facts.Add("build", version.build_version());
  facts.Add("created", TimeText(ToTime(version.create_time())));
  facts.Print(context.out, context.color);
}

class AdapterGet final : public Command {
 public:
  std::string name() const override { return "adapter get"; }
  std::string summary() const override { return "Show one version with its lineage"; }
  std::vector<std::string> examples() const override {
    return {"dw adapter get notes", "dw adapter get notes/3", "dw adapter get notes@champion"};
  }
  void Declare(Arguments& arguments) override {
    arguments.Positional("VERSION", &version_,
                         "ADAPTER/NUMBER, ADAPTER@ALIAS, or ADAPTER for its newest READY one");
  }

  absl::StatusOr<int> Run(CommandContext& context) override {
    DW_ASSIGN_OR_RETURN(const std::string name, VersionName(context, "VERSION", version_));
    DW_ASSIGN_OR_RETURN(RegistryClient * registry, context.platform.registry());
    DW_ASSIGN_OR_RETURN(const v1::AdapterVersion version, registry->GetVersion(name));
    PrintVersion(context, version);
    return kExitOk;
  }

 private:
  std::string version_;
};

class AdapterDownload final : public Command {
 public:
  std::string name() const override { return "adapter download"; }
  std::string summary() const override { return "Download a version as a PEFT folder"; }
  std::string details() const override {
    return "Writes adapter_config.json and adapter_model.safetensors, which "
           "PeftModel.from_pretrained reads. The folder appears whole or not at all.";
  }
  std::vector<std::string> examples() const override {
    return {"dw adapter download notes/3", "dw adapter download notes@champion ./champion"};
  }
  void Declare(Arguments& arguments) override {
    arguments.Positional("VERSION", &version_, "ADAPTER/NUMBER, ADAPTER@ALIAS or ADAPTER");
    arguments.Positional("FOLDER", &folder_, "made; must not exist (default ./ADAPTER-NUMBER)")
        .Optional()
        .Kind(ValueKind::kFolder);
  }

  absl::StatusOr<int> Run(CommandContext& context) override {
    DW_ASSIGN_OR_RETURN(const std::string name, VersionName(context, "VERSION", version_));
    DW_ASSIGN_OR_RETURN(RegistryClient * registry, context.platform.registry());
    // An alias may move while we read: name the version once.
    DW_ASSIGN_OR_RETURN(const v1::AdapterVersion version, registry->GetVersion(name));
    const std::string folder =
        folder_.empty() ? absl::StrReplaceAll(ShortVersion(version.name()), {{"/", "-"}}) : folder_;
    DW_ASSIGN_OR_RETURN(const auto staging, trainer::StagingFolder::Create(folder));
    DW_RETURN_IF_ERROR(Download(context, *registry, version, staging->path()));
    DW_RETURN_IF_ERROR(staging->Commit());
    if (context.json()) {
      context.out << JsonText(Json{{"version", version.name()},
                                   {"folder", folder},
                                   {"adapter_digest", version.adapter_digest()}})
                  << "\n";
    } else {
      context.out << ShortVersion(version.name()) << " is in " << folder << "\n";
    }
    return kExitOk;
  }

 private:
  static absl::Status Download(CommandContext& context, RegistryClient& registry,
                               const v1::AdapterVersion& version, const std::string& folder) {
    std::string current;
    std::optional<ProgressLine> line;
    return DownloadVersion(registry, version, folder, context.retry_policy(),
                           [&](const std::string& file, int64_t done, int64_t total) {
                             if (file != current) line.emplace(context, file);
                             current = file;
                             line->ShowBytes(done, total);
                           });
  }

  std::string version_, folder_;
};

}  // namespace

void AddAdapterCommands(CommandTable& table) {
  table.push_back(std::make_unique<AdapterList>());
  table.push_back(std::make_unique<AdapterGet>());
  table.push_back(std::make_unique<AdapterDownload>());
  table.push_back(MakeAdapterMerge());
}

}  // namespace deltaworks::services
