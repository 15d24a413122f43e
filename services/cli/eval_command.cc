#include "services/cli/eval_command.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "services/cli/eval_data.h"
#include "services/cli/eval_run.h"
#include "services/cli/eval_view.h"
#include "services/cli/exit_code.h"
#include "services/cli/generation_flags.h"
#include "services/cli/names.h"
#include "services/cli/progress_line.h"
#include "services/cli/text_flags.h"
#include "services/clients/blob_transfer.h"
#include "trainer/base/file.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr int64_t kDatasetBytesMax = int64_t{256} << 20;
constexpr int64_t kConcurrencyMax = 256;

class Eval final : public Command {
 public:
  std::string name() const override { return "eval"; }
  std::string summary() const override {
    return "Compare an adapter with its base on held-out data";
  }
  std::string details() const override {
    return "Prints loss and ROUGE-1/2/L of the answers, base beside adapter, with the 95 % "
           "interval of the gain (paired bootstrap over the examples), and some answers of each. "
           "An interval that does not hold 0 says that the gain is no accident of the examples.";
  }
  std::vector<std::string> examples() const override {
    return {"dw eval --model smollm2 --adapter notes/3 --dataset test.jsonl",
            "dw eval --model smollm2 --adapter notes@champion --dataset test.jsonl --limit 20 "
            "--examples 5 --output json"};
  }
  void Declare(Arguments& arguments) override {
    arguments.Flag("model", &model_, "base model").ValueName("MODEL").Required();
    arguments.Flag("adapter", &adapter_, "version to compare with it")
        .ValueName("VERSION")
        .Required();
    arguments.Flag("dataset", &dataset_, "JSONL file, or a dataset of the store")
        .ValueName("DATASET")
        .Kind(ValueKind::kFile)
        .Required();
    arguments.Flag("limit", &limit_, "most examples, from the first on (default 1000)");
    arguments.Flag("examples", &shown_, "answers to show (default 3)");
    arguments.Flag("loss_only", &loss_only_, "no answers, no ROUGE");
    arguments.Flag("concurrency", &concurrency_, "calls under way at a time, 1..256 (default 16)");
    arguments.Flag("merged", &merged_, "merge the adapter into a copy of the base first");
    text_.Declare(arguments);
    generation_.Declare(arguments);
  }

  absl::StatusOr<int> Run(CommandContext& context) override {
    EvalOptions options;
    DW_RETURN_IF_ERROR(Fill(context, options));
    DW_ASSIGN_OR_RETURN(const std::string jsonl, ReadDataset(context));
    DW_ASSIGN_OR_RETURN(const std::vector<EvalExample> examples,
                        ReadEvalExamples(jsonl, dataset_, limit_));
    DW_RETURN_IF_ERROR(FixVersion(context, options.adapter));
    DW_ASSIGN_OR_RETURN(InferenceClient * inference, context.platform.inference());
    EvalResult result;
    {
      ProgressLine line(context, "evaluating");
      options.progress = [&](double share) { line.Show(share, ""); };
      DW_ASSIGN_OR_RETURN(result, RunEval(*inference, examples, options));
    }
    if (context.json()) {
      context.out << EvalJson(options, examples, result) << "\n";
    } else {
      PrintEval(context.out, context.color, options, examples, result, shown_);
    }
    return kExitOk;
  }

 private:
  absl::Status Fill(const CommandContext& context, EvalOptions& options) const {
    if (limit_ < 1 || concurrency_ < 1 || concurrency_ > kConcurrencyMax || shown_ < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("--limit is ", limit_, ", --concurrency is ", concurrency_,
                       ", --examples is ", shown_, ", want >= 1, 1..", kConcurrencyMax, ", >= 0"));
    }
    options.parent = ParentName(context);
    DW_ASSIGN_OR_RETURN(*options.base.mutable_model(), BaseModelName(context, "--model", model_));
    DW_ASSIGN_OR_RETURN(*options.adapter.mutable_model(),
                        VersionName(context, "--adapter", adapter_));
    options.adapter.set_base_model(options.base.model());
    if (merged_) options.adapter.set_mode(v1::ModelSelector::MERGED);
    DW_RETURN_IF_ERROR(text_.Apply(options.text));
    DW_RETURN_IF_ERROR(generation_.Apply(options.generation));
    options.answers = !loss_only_;
    options.concurrency = concurrency_;
    options.retry = context.retry_policy();
    return absl::OkStatus();
  }

  // An alias may move, and an adapter get a newer version, while we ask: name the version once.
  static absl::Status FixVersion(CommandContext& context, v1::ModelSelector& adapter) {
    DW_ASSIGN_OR_RETURN(RegistryClient * registry, context.platform.registry());
    DW_ASSIGN_OR_RETURN(const v1::AdapterVersion version, registry->GetVersion(adapter.model()));
    adapter.set_model(version.name());
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> ReadDataset(CommandContext& context) const {
    std::error_code no_file;
    if (std::filesystem::is_regular_file(dataset_, no_file)) {
      return ReadFile(dataset_, kDatasetBytesMax);
    }
    absl::StatusOr<std::string> name = DatasetName(context, "--dataset", dataset_);
    if (!name.ok()) {
      return absl::NotFoundError(absl::StrCat(
          dataset_, " is neither a file here nor a dataset: ", name.status().message()));
    }
    DW_ASSIGN_OR_RETURN(StoreClient * store, context.platform.store());
    DW_ASSIGN_OR_RETURN(const v1::Dataset dataset, store->GetDataset(*name));
    return DownloadBytes(*store, {.tenant = context.tenant, .reference = dataset.name()},
                         dataset.blob_digest(), kDatasetBytesMax);
  }

  std::string model_, adapter_, dataset_;
  int64_t limit_ = 1000, shown_ = 3, concurrency_ = 16;
  bool loss_only_ = false, merged_ = false;
  TextFlags text_;
  GenerationFlags generation_{128};
};

}  // namespace

std::unique_ptr<Command> MakeEval() { return std::make_unique<Eval>(); }

}  // namespace deltaworks::services
