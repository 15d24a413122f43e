#include "services/cli/dataset_commands.h"

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "services/base/random_id.h"
#include "services/base/resource_names.h"
#include "services/cli/dataset_views.h"
#include "services/cli/enum_text.h"
#include "services/cli/exit_code.h"
#include "services/cli/format.h"
#include "services/cli/json_output.h"
#include "services/cli/names.h"
#include "services/cli/pages.h"
#include "services/cli/progress_line.h"
#include "services/cli/table.h"
#include "services/cli/text_flags.h"
#include "services/clients/blob_transfer.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

absl::StatusOr<std::string> UploadDataset(CommandContext& context, StoreClient& store,
                                          const std::string& path) {
  ProgressLine line(context, absl::StrCat("uploading ", path));
  TransferOptions options;
  options.progress = [&](int64_t done, int64_t total) {
    line.ShowBytes(done, total);
    return absl::OkStatus();
  };
  DW_ASSIGN_OR_RETURN(const v1::ManifestFile file,
                      UploadFile(store, context.tenant, "data.jsonl", path, options));
  return file.digest();
}

void PrintDataset(CommandContext& context, const v1::Dataset& dataset) {
  if (context.json()) return PrintJson(context, dataset);
  FactSheet facts;
  facts.Add("dataset", {dataset.name(), Paint::kBold});
  facts.Add("display name", dataset.display_name());
  facts.Add("format", EnumWords(dataset.format()));
  facts.Add("examples", CountText(dataset.example_count()));
  facts.Add("size", BytesText(dataset.size_bytes()));
  facts.Add("digest", dataset.blob_digest());
  facts.Add("manifest", dataset.manifest_digest());
  facts.Add("created", TimeText(ToTime(dataset.create_time())));
  facts.Print(context.out, context.color);
}

class DatasetAdd final : public Command {
 public:
  std::string name() const override { return "dataset add"; }
  std::string summary() const override { return "Upload a JSONL file as a dataset"; }
  std::string details() const override {
    return "One object a line, all of one form: {\"messages\": [{\"role\", \"content\"}, ...]}, "
           "{\"prompt\", \"completion\"}, or {\"text\"}. Every line is read before the dataset is "
           "accepted; `dw dataset check FILE` lists all problems at once.";
  }
  std::vector<std::string> examples() const override {
    return {"dw dataset add train.jsonl --name notes",
            "dw dataset add train.jsonl --name notes --display_name \"Release notes, October\""};
  }
  void Declare(Arguments& arguments) override {
    arguments.Positional("PATH", &path_, "JSONL file").Kind(ValueKind::kFile);
    arguments.Flag("name", &id_, "id of the new dataset (default: the store makes one)")
        .ValueName("ID");
    arguments.Flag("display_name", &display_name_, "for people");
  }

  absl::StatusOr<int> Run(CommandContext& context) override {
    if (!id_.empty()) DW_RETURN_IF_ERROR(CheckResourceId("--name", id_));
    DW_ASSIGN_OR_RETURN(StoreClient * store, context.platform.store());
    v1::CreateDatasetRequest request;
    request.set_parent(ParentName(context));
    request.set_dataset_id(id_);
    request.mutable_dataset()->set_display_name(display_name_);
    DW_ASSIGN_OR_RETURN(*request.mutable_dataset()->mutable_blob_digest(),
                        UploadDataset(context, *store, path_));
    request.set_request_id(RandomHexId());
    DW_ASSIGN_OR_RETURN(const v1::Dataset dataset, store->CreateDataset(request));
    PrintDataset(context, dataset);
    return kExitOk;
  }

 private:
  std::string path_, id_, display_name_;
};

class DatasetList final : public Command {
 public:
  std::string name() const override { return "dataset list"; }
  std::string summary() const override { return "List datasets, newest first"; }
  std::vector<std::string> examples() const override {
    return {"dw dataset list", "dw dataset list --limit 10 --output json"};
  }
  void Declare(Arguments& arguments) override {
    arguments.Flag("limit", &limit_, "most rows (default 1000)");
  }

  absl::StatusOr<int> Run(CommandContext& context) override {
    DW_ASSIGN_OR_RETURN(StoreClient * store, context.platform.store());
    v1::ListDatasetsRequest request;
    request.set_parent(ParentName(context));
    DW_ASSIGN_OR_RETURN(
        const v1::ListDatasetsResponse all,
        ListAll(
            request, limit_, [&](const auto& page) { return store->ListDatasets(page); },
            [](auto& response) { return response.mutable_datasets(); }));
    if (context.json()) return PrintJson(context, all), kExitOk;
    Table table({"DATASET", "FORMAT", ">EXAMPLES", ">SIZE", "CREATED", "DISPLAY NAME"});
    for (const v1::Dataset& dataset : all.datasets()) {
      table.AddRow({ShortName(dataset.name()), EnumWords(dataset.format()),
                    CountText(dataset.example_count()), BytesText(dataset.size_bytes()),
                    AgeText(ToTime(dataset.create_time()), context.clock.Now()),
                    dataset.display_name()});
    }
    table.Print(context.out, context.color);
    return kExitOk;
  }

 private:
  int64_t limit_ = 1000;
};

class DatasetGet final : public Command {
 public:
  std::string name() const override { return "dataset get"; }
  std::string summary() const override { return "Show one dataset"; }
  std::vector<std::string> examples() const override { return {"dw dataset get notes"}; }
  void Declare(Arguments& arguments) override {
    arguments.Positional("DATASET", &dataset_, "id or name of the dataset");
  }

  absl::StatusOr<int> Run(CommandContext& context) override {
    DW_ASSIGN_OR_RETURN(const std::string name, DatasetName(context, "DATASET", dataset_));
    DW_ASSIGN_OR_RETURN(StoreClient * store, context.platform.store());
    DW_ASSIGN_OR_RETURN(const v1::Dataset dataset, store->GetDataset(name));
    PrintDataset(context, dataset);
    return kExitOk;
  }

 private:
  std::string dataset_;
};

// Sets the source of `request`: the file DATASET, uploaded, or the dataset of this name.
template <typename Request>
absl::Status SetSource(CommandContext& context, StoreClient& store, const std::string& text,
                       Request& request) {
  std::error_code no_file;
  if (std::filesystem::is_regular_file(text, no_file)) {
    DW_ASSIGN_OR_RETURN(*request.mutable_blob_digest(), UploadDataset(context, store, text));
    return absl::OkStatus();
  }
  absl::StatusOr<std::string> name = DatasetName(context, "DATASET", text);
  if (!name.ok()) {
    return absl::NotFoundError(
        absl::StrCat(text, " is neither a file here nor a dataset: ", name.status().message()));
  }
  request.set_dataset(*std::move(name));
  return absl::OkStatus();
}

class DatasetCheck final : public Command {
 public:
  std::string name() const override { return "dataset check"; }
  std::string summary() const override { return "Check a file or dataset as a job would read it"; }
  std::string details() const override {
    return "Reports all problems at once, with line numbers. With --base_model also tokens "
           "min/median/p95/max, how many examples are cut at which limit, and the share of tokens "
           "with a label. Exit code 6 if there are problems.";
  }
  std::vector<std::string> examples() const override {
    return {"dw dataset check train.jsonl --base_model smollm2",
            "dw dataset check notes --base_model smollm2 --max_length 256 --truncation skip"};
  }
  void Declare(Arguments& arguments) override {
    arguments.Positional("DATASET", &dataset_, "JSONL file, or a dataset").Kind(ValueKind::kFile);
    arguments.Flag("base_model", &base_model_, "whose tokenizer counts the tokens")
        .ValueName("MODEL");
    text_flags_.Declare(arguments);
  }

  absl::StatusOr<int> Run(CommandContext& context) override {
    DW_ASSIGN_OR_RETURN(StoreClient * store, context.platform.store());
    v1::CheckDatasetRequest request;
    request.set_parent(ParentName(context));
    if (!base_model_.empty()) {
      DW_ASSIGN_OR_RETURN(*request.mutable_base_model(),
                          BaseModelName(context, "--base_model", base_model_));
    }
    DW_RETURN_IF_ERROR(text_flags_.Apply(*request.mutable_text()));
    DW_RETURN_IF_ERROR(SetSource(context, *store, dataset_, request));
    DW_ASSIGN_OR_RETURN(const v1::DatasetReport report, store->CheckDataset(request));
    if (context.json()) {
      PrintJson(context, report);
    } else {
      PrintReport(context.out, context.color, dataset_, report);
    }
    return report.problem_count() > 0 ? kExitBadOutcome : kExitOk;
  }

 private:
  std::string dataset_, base_model_;
  TextFlags text_flags_;
};

class DatasetPreview final : public Command {
 public:
  std::string name() const override { return "dataset preview"; }
  std::string summary() const override { return "Show the exact text that the trainer sees"; }
  std::string details() const override {
    return "Tokens that carry a label are green; without colours they stand in [[ ]].";
  }
  std::vector<std::string> examples() const override {
    return {"dw dataset preview train.jsonl --base_model smollm2",
            "dw dataset preview notes --base_model smollm2 --first 10 --count 5"};
  }
  void Declare(Arguments& arguments) override {
    arguments.Positional("DATASET", &dataset_, "JSONL file, or a dataset").Kind(ValueKind::kFile);
    arguments.Flag("base_model", &base_model_, "whose tokenizer and chat template are used")
        .ValueName("MODEL")
        .Required();
    arguments.Flag("first", &first_, "number of the first example, from 0 (default 0)");
    arguments.Flag("count", &count_, "examples, 1..100 (default 3)");
    text_flags_.Declare(arguments);
  }

  absl::StatusOr<int> Run(CommandContext& context) override {
    if (count_ < 1 || count_ > 100) {
      return absl::InvalidArgumentError(absl::StrCat("--count is ", count_, ", want 1..100"));
    }
    DW_ASSIGN_OR_RETURN(StoreClient * store, context.platform.store());
    v1::PreviewDatasetRequest request;
    request.set_parent(ParentName(context));
    DW_ASSIGN_OR_RETURN(*request.mutable_base_model(),
                        BaseModelName(context, "--base_model", base_model_));
    request.set_first_example(first_);
    request.set_example_count(static_cast<int32_t>(count_));
    DW_RETURN_IF_ERROR(text_flags_.Apply(*request.mutable_text()));
    DW_RETURN_IF_ERROR(SetSource(context, *store, dataset_, request));
    DW_ASSIGN_OR_RETURN(const v1::PreviewDatasetResponse preview, store->PreviewDataset(request));
    if (context.json()) {
      PrintJson(context, preview);
    } else {
      PrintPreview(context.out, context.color, preview);
    }
    return kExitOk;
  }

 private:
  std::string dataset_, base_model_;
  int64_t first_ = 0, count_ = 3;
  TextFlags text_flags_;
};

}  // namespace

void AddDatasetCommands(CommandTable& table) {
  table.push_back(std::make_unique<DatasetAdd>());
  table.push_back(std::make_unique<DatasetList>());
  table.push_back(std::make_unique<DatasetGet>());
  table.push_back(std::make_unique<DatasetCheck>());
  table.push_back(std::make_unique<DatasetPreview>());
}

}  // namespace deltaworks::services
