#include "services/cli/generate_command.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "scheduler/proto_time.h"
#include "services/cli/exit_code.h"
#include "services/cli/format.h"
#include "services/cli/generation_flags.h"
#include "services/cli/json_output.h"
#include "services/cli/names.h"
#include "services/cli/table.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

class Generate final : public Command {
 public:
  std::string name() const override { return "generate"; }
  std::string summary() const override { return "Generate text from a base or an adapter"; }
  std::string details() const override {
    return "The text is shown as it comes. --prompt is continued as it is; --chat goes through the "
           "base's chat template. With --output json each part is one GenerateResponse a line.";
  }
  std::vector<std::string> examples() const override {
    return {
        "dw generate smollm2 --chat \"What is a delta?\"",
        "dw generate --adapter notes@champion --chat \"Summarise: ...\" --max_new_tokens 64",
        "dw generate smollm2 --adapter notes/3 --prompt \"Once upon\" --temperature 0.8 --seed 7"};
  }
  void Declare(Arguments& arguments) override {
    arguments.Positional("MODEL", &model_, "base model; may be left out with --adapter").Optional();
    arguments.Flag("adapter", &adapter_, "version that answers").ValueName("VERSION");
    arguments.Flag("prompt", &prompt_, "text to go on with");
    arguments.Flag("chat", &chat_, "what the user says");
    arguments.Flag("system", &system_, "system message before it");
    arguments.Flag("merged", &merged_, "merge the adapter into a copy of the base first");
    generation_.Declare(arguments);
  }

  absl::StatusOr<int> Run(CommandContext& context) override {
    v1::GenerateRequest request;
    DW_RETURN_IF_ERROR(Fill(context, request));
    DW_ASSIGN_OR_RETURN(InferenceClient * inference, context.platform.inference());
    v1::GenerateResponse last;
    DW_RETURN_IF_ERROR(inference->Generate(request, [&](const v1::GenerateResponse& response) {
      if (context.json()) {
        PrintJsonLine(context, response);
      } else {
        context.out << SafeText(response.text()) << std::flush;
      }
      last = response;
      return absl::OkStatus();
    }));
    if (context.json()) return kExitOk;
    context.out << "\n";
    PrintSpeed(context, last);
    return kExitOk;
  }

 private:
  absl::Status Fill(const CommandContext& context, v1::GenerateRequest& request) const {
    request.set_parent(ParentName(context));
    v1::ModelSelector& model = *request.mutable_model();
    if (model_.empty() && adapter_.empty()) {
      return absl::InvalidArgumentError("nobody is asked, want MODEL or --adapter VERSION");
    }
    if (prompt_.empty() == chat_.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("--prompt and --chat are ",
                                                     prompt_.empty() ? "both absent" : "both given",
                                                     ", want one of them"));
    }
    if (!model_.empty()) {
      DW_ASSIGN_OR_RETURN(*model.mutable_model(), BaseModelName(context, "MODEL", model_));
    }
    if (!adapter_.empty()) {
      model.set_base_model(model.model());
      DW_ASSIGN_OR_RETURN(*model.mutable_model(), VersionName(context, "--adapter", adapter_));
    }
    if (merged_) model.set_mode(v1::ModelSelector::MERGED);
    if (!prompt_.empty()) {
      request.set_prompt(prompt_);
    } else {
      if (!system_.empty()) AddMessage("system", system_, *request.mutable_chat());
      AddMessage("user", chat_, *request.mutable_chat());
    }
    return generation_.Apply(request);
  }

  static void AddMessage(const char* role, const std::string& content, v1::Chat& chat) {
    v1::ChatMessage& message = *chat.add_messages();
    message.set_role(role);
    message.set_content(content);
  }

  static void PrintSpeed(CommandContext& context, const v1::GenerateResponse& last) {
    const double seconds = absl::ToDoubleSeconds(scheduler::FromProto(last.decode_time()));
    const std::string speed =
        seconds > 0 ? absl::StrFormat(", %.1f tokens/s",
                                      static_cast<double>(last.generated_tokens()) / seconds)
                    : "";
    const std::string by =
        last.version().empty() ? "" : absl::StrCat(" by ", ShortVersion(last.version()));
    context.err << Painted(absl::StrCat(last.prompt_tokens(), " tokens read, ",
                                        last.generated_tokens(), " generated", by, speed),
                           Paint::kDim, context.err_color)
                << "\n";
  }

  std::string model_, adapter_, prompt_, chat_, system_;
  bool merged_ = false;
  GenerationFlags generation_{256};
};

}  // namespace

std::unique_ptr<Command> MakeGenerate() { return std::make_unique<Generate>(); }

}  // namespace deltaworks::services
