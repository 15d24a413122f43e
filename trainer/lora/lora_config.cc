#include "trainer/lora/lora_config.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::trainer {
namespace {

constexpr char kAllLinear[] = "all-linear";

// PEFT: the whole name, or its end after a dot.
bool Matches(const std::string& name, const std::string& key) {
  return name == key || absl::EndsWith(name, absl::StrCat(".", key));
}

absl::Status CheckRank(int64_t rank, absl::string_view field) {
  if (rank >= 1 && rank <= kRankMax) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", rank, ", want 1..", kRankMax));
}

absl::Status CheckAlpha(double alpha, absl::string_view field) {
  if (std::isfinite(alpha) && alpha > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", alpha, ", want a number above 0"));
}

std::string ShortNames(absl::Span<const LinearModule> modules) {
  std::set<std::string> names;
  for (const LinearModule& module : modules) {
    names.insert(module.name.substr(module.name.rfind('.') + 1));
  }
  return absl::StrJoin(names, ", ");
}

absl::Status CheckKeyMatches(const std::string& key, absl::string_view field,
                             absl::Span<const LinearModule> modules) {
  for (const LinearModule& module : modules) {
    if (Matches(module.name, key)) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(field, " has \"", key, "\", want a module of this base: ", ShortNames(modules),
                   field == "target_modules" ? ", or all-linear" : ""));
}

absl::Status CheckConfig(const LoraConfig& config, absl::Span<const LinearModule> modules) {
  DW_RETURN_IF_ERROR(CheckRank(config.rank, "rank"));
  DW_RETURN_IF_ERROR(CheckAlpha(config.lora_alpha, "lora_alpha"));
  if (!(config.lora_dropout >= 0 && config.lora_dropout < 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("lora_dropout is ", config.lora_dropout, ", want 0 <= p < 1"));
  }
  if (config.target_modules.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("target_modules is empty, want all-linear or some of: ", ShortNames(modules)));
  }
  for (const std::string& key : config.target_modules) {
    if (key == kAllLinear && config.target_modules.size() == 1) continue;
    DW_RETURN_IF_ERROR(CheckKeyMatches(key, "target_modules", modules));
  }
  for (const auto& [key, rank] : config.rank_pattern) {
    DW_RETURN_IF_ERROR(CheckKeyMatches(key, "rank_pattern", modules));
    DW_RETURN_IF_ERROR(CheckRank(rank, absl::StrCat("rank_pattern[\"", key, "\"]")));
  }
  for (const auto& [key, alpha] : config.alpha_pattern) {
    DW_RETURN_IF_ERROR(CheckKeyMatches(key, "alpha_pattern", modules));
    DW_RETURN_IF_ERROR(CheckAlpha(alpha, absl::StrCat("alpha_pattern[\"", key, "\"]")));
  }
  return absl::OkStatus();
}

// The value of the longest key that matches, so that a full name wins over its last part.
template <typename Value>
Value PatternValue(const std::map<std::string, Value>& pattern, const std::string& name,
                   Value otherwise) {
  size_t longest = 0;
  for (const auto& [key, value] : pattern) {
    if (Matches(name, key) && key.size() > longest) {
      longest = key.size();
      otherwise = value;
    }
  }
  return otherwise;
}

}  // namespace

absl::StatusOr<std::vector<LoraTarget>> ResolveTargets(const LoraConfig& config,
                                                       absl::Span<const LinearModule> modules) {
  DW_RETURN_IF_ERROR(CheckConfig(config, modules));
  const bool all = config.target_modules[0] == kAllLinear;
  std::vector<LoraTarget> targets;
  for (const LinearModule& module : modules) {
    const bool adapted =
        all || std::any_of(config.target_modules.begin(), config.target_modules.end(),
                           [&](const std::string& key) { return Matches(module.name, key); });
    if (!adapted) continue;
    LoraTarget target{.module = module};
    target.rank = PatternValue(config.rank_pattern, module.name, config.rank);
    target.lora_alpha = PatternValue(config.alpha_pattern, module.name, config.lora_alpha);
    const double divisor = config.use_rslora ? std::sqrt(static_cast<double>(target.rank))
                                             : static_cast<double>(target.rank);
    target.scale = static_cast<float>(target.lora_alpha / divisor);
    targets.push_back(std::move(target));
  }
  std::sort(targets.begin(), targets.end(),
            [](const LoraTarget& a, const LoraTarget& b) { return a.module.name < b.module.name; });
  return targets;
}

int64_t TrainableParameters(absl::Span<const LoraTarget> targets) {
  int64_t sum = 0;
  for (const LoraTarget& target : targets) sum += target.parameters();
  return sum;
}

}  // namespace deltaworks::trainer
