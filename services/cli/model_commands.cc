#include "services/cli/model_commands.h"

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "services/base/random_id.h"
#include "services/base/resource_names.h"
#include "services/cli/enum_text.h"
#include "services/cli/exit_code.h"
#include "services/cli/format.h"
#include "services/cli/json_output.h"
#include "services/cli/model_files.h"
#include "services/cli/names.h"
#include "services/cli/pages.h"
#include "services/cli/progress_line.h"
#include "services/cli/table.h"
#include "services/clients/blob_transfer.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr absl::Duration kPollInterval = absl::Milliseconds(300);

Cell StateCell(const v1::BaseModel& model) {
  switch (model.state()) {
    case v1::BaseModel::READY:
      return {"READY", Paint::kGreen};
    case v1::BaseModel::FAILED:
      return {"FAILED", Paint::kRed};
    case v1::BaseModel::IMPORTING:
      return {absl::StrCat("IMPORTING ", static_cast<int>(model.import_progress() * 100), " %"),
              Paint::kYellow};
    default:
      return EnumText(model.state());
  }
}

void PrintModel(CommandContext& context, const v1::BaseModel& model) {
  if (context.json()) return PrintJson(context, model);
  FactSheet facts;
  facts.Add("model", {model.name(), Paint::kBold});
  facts.Add("display name", model.display_name());
  facts.Add("state", StateCell(model));
  if (model.has_failure()) facts.Add("failure", {model.failure().message(), Paint::kRed});
  facts.Add("architecture", model.architecture());
  if (model.parameter_count() > 0) facts.Add("parameters", CountText(model.parameter_count()));
  if (model.form() != v1::NUMBER_TYPE_UNSPECIFIED) facts.Add("form", EnumText(model.form()));
  if (model.size_bytes() > 0) facts.Add("size", BytesText(model.size_bytes()));
  if (model.context_length_tokens() > 0) {
    facts.Add("context", absl::StrCat(CountText(model.context_length_tokens()), " tokens"));
  }
  facts.Add("target modules", absl::StrJoin(model.target_modules(), ", "));
  facts.Add("origin", model.origin());
  facts.Add("source digest", model.source_digest());
  facts.Add("manifest", model.manifest_digest());
  facts.Add("created", TimeText(ToTime(model.create_time())));
  facts.Print(context.out, context.color);
}

class ModelImport final : public Command {
 public:
  std::string name() const override { return "model import"; }
  std::string summary() const override { return "Import a base model from this machine"; }
  std::string details() const override {
    return "Takes a GGUF file or a folder of Hugging Face transformers (config.json, safetensors, "
           "tokenizer.json), uploads what an import reads, and waits until the store has converted "
           "it. An upload that was cut goes on where it was when the command is repeated.";
  }
  std::vector<std::string> examples() const override {
    return {
        "dw model import smollm2-135m-instruct.gguf --name smollm2",
        "dw model import ./Llama-3.2-1B --name llama --form f32 --origin meta-llama/Llama-3.2-1B"};
  }

  void Declare(Arguments& arguments) override {
    arguments.Positional("PATH", &path_, "GGUF file or Hugging Face folder").Kind(ValueKind::kFile);
    arguments.Flag("name", &id_, "id of the new base model").ValueName("ID").Required();
    arguments.Flag("form", &form_, "number type that it is stored in (default bf16)")
        .ValueName("TYPE")
        .Choices({"f32", "bf16"});
    arguments.Flag("origin", &origin_,
                   "hub id or path that exported adapters name as their base (default: the file)");
    arguments.Flag("display_name", &display_name_, "for people");
    arguments.Flag("on_store", &on_store_,
                   "PATH is on the store's machine, in a folder that it may import from");
    arguments.Flag("no_wait", &no_wait_, "return while the store is still importing");
  }

  absl::StatusOr<int> Run(CommandContext& context) override {
    DW_RETURN_IF_ERROR(CheckResourceId("--name", id_));
    DW_ASSIGN_OR_RETURN(StoreClient * store, context.platform.store());
    v1::ImportBaseModelRequest request;
    request.set_parent(ParentName(context));
    request.set_base_model_id(id_);
    request.set_display_name(display_name_);
    request.set_form(EnumOf<v1::NumberType>(form_));
    request.set_origin(
        origin_.empty() && !on_store_ ? std::filesystem::path(path_).filename().string() : origin_);
    request.set_request_id(RandomHexId());
    if (on_store_) {
      request.set_local_path(path_);
    } else {
      DW_RETURN_IF_ERROR(Upload(context, *store, *request.mutable_uploaded_files()));
    }
    DW_ASSIGN_OR_RETURN(v1::BaseModel model, store->ImportBaseModel(request));
    if (!no_wait_) {
      DW_ASSIGN_OR_RETURN(model, Wait(context, *store, std::move(model)));
    }
    PrintModel(context, model);
    return model.state() == v1::BaseModel::FAILED ? kExitBadOutcome : kExitOk;
  }

 private:
  absl::Status Upload(CommandContext& context, StoreClient& store, v1::UploadedFiles& uploaded) {
    DW_ASSIGN_OR_RETURN(const std::vector<ModelFile> files, ModelFiles(path_));
    for (const ModelFile& file : files) {
      ProgressLine line(context, absl::StrCat("uploading ", file.name));
      TransferOptions options;
      options.progress = [&](int64_t done, int64_t total) {
        line.ShowBytes(done, total);
        return absl::OkStatus();
      };
      DW_ASSIGN_OR_RETURN(*uploaded.add_files(),
                          UploadFile(store, context.tenant, file.name, file.path, options));
      uploaded.mutable_files(uploaded.files_size() - 1)->clear_chunk_digests();
    }
    return absl::OkStatus();
  }

  static absl::StatusOr<v1::BaseModel> Wait(CommandContext& context, StoreClient& store,
                                            v1::BaseModel model) {
    context.on_interrupt(
        absl::StrCat("The import goes on. See it with: dw model get ", ShortName(model.name())));
    ProgressLine line(context, "importing");
    while (model.state() == v1::BaseModel::IMPORTING) {
      line.Show(model.import_progress(), "");
      context.sleep(kPollInterval);
      DW_ASSIGN_OR_RETURN(model, store.GetBaseModel(model.name()));
    }
    if (model.state() == v1::BaseModel::READY) line.Show(1, "");
    return model;
  }

  std::string path_, id_, form_ = "bf16", origin_, display_name_;
  bool on_store_ = false, no_wait_ = false;
};

class ModelList final : public Command {
 public:
  std::string name() const override { return "model list"; }
  std::string summary() const override { return "List base models"; }
  std::vector<std::string> examples() const override {
    return {"dw model list", "dw model list --output json"};
  }
  void Declare(Arguments& arguments) override {
    arguments.Flag("limit", &limit_, "most rows (default 1000)");
  }

  absl::StatusOr<int> Run(CommandContext& context) override {
    DW_ASSIGN_OR_RETURN(StoreClient * store, context.platform.store());
    v1::ListBaseModelsRequest request;
    request.set_parent(ParentName(context));
    DW_ASSIGN_OR_RETURN(
        const v1::ListBaseModelsResponse all,
        ListAll(
            request, limit_, [&](const auto& page) { return store->ListBaseModels(page); },
            [](auto& response) { return response.mutable_base_models(); }));
    if (context.json()) return PrintJson(context, all), kExitOk;
    Table table({"MODEL", "STATE", "FORM", ">PARAMETERS", ">SIZE", ">CONTEXT", "CREATED"});
    for (const v1::BaseModel& model : all.base_models()) {
      table.AddRow({ShortName(model.name()), StateCell(model),
                    model.form() == v1::NUMBER_TYPE_UNSPECIFIED ? "-" : EnumText(model.form()),
                    CountText(model.parameter_count()), BytesText(model.size_bytes()),
                    CountText(model.context_length_tokens()),
                    AgeText(ToTime(model.create_time()), context.clock.Now())});
    }
    table.Print(context.out, context.color);
    return kExitOk;
  }

 private:
  int64_t limit_ = 1000;
};

class ModelGet final : public Command {
 public:
  std::string name() const override { return "model get"; }
  std::string summary() const override { return "Show one base model"; }
  std::vector<std::string> examples() const override { return {"dw model get smollm2"}; }
  void Declare(Arguments& arguments) override {
    arguments.Positional("MODEL", &model_, "id or name of the base model");
  }

  absl::StatusOr<int> Run(CommandContext& context) override {
    DW_ASSIGN_OR_RETURN(const std::string name, BaseModelName(context, "MODEL", model_));
    DW_ASSIGN_OR_RETURN(StoreClient * store, context.platform.store());
    DW_ASSIGN_OR_RETURN(const v1::BaseModel model, store->GetBaseModel(name));
    PrintModel(context, model);
    return kExitOk;
  }

 private:
  std::string model_;
};

}  // namespace

void AddModelCommands(CommandTable& table) {
  table.push_back(std::make_unique<ModelImport>());
  table.push_back(std::make_unique<ModelList>());
  table.push_back(std::make_unique<ModelGet>());
}

}  // namespace deltaworks::services
