#include "services/inference/model_loader.h"

#include <algorithm>
#include <string_view>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/base/resource_names.h"
#include "services/base/spec_conversion.h"
#include "services/clients/version_download.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

using Cancelled = std::function<bool()>;

// How long a download may stand still.
constexpr absl::Duration kStallMax = absl::Seconds(30);

std::string BaseKey(const v1::BaseModel& base) {
  return absl::StrCat("base ", base.source_digest(), " in ", v1::NumberType_Name(base.form()));
}

std::string VersionKey(const ResolvedModel& model) {
  return absl::StrCat(model.version->name(), " on ", BaseKey(model.base));
}

// Parsed values, masters on the device, and their rounded copy.
int64_t AdapterBytes(const trainer::PeftAdapter& peft, const LoadedBase& base) {
  const auto elements = static_cast<int64_t>(peft.values.size());
  const bool rounded = base.form() == trainer::DType::kBF16;
  return elements * (4 + 4 + (rounded ? 2 : 0));
}

// While it is fetched: the file, and the values parsed from it.
int64_t FetchBytes(const v1::AdapterVersion& version) {
  constexpr int64_t kNoOverflow = int64_t{1} << 60;
  return 2 * std::min(version.size_bytes(), kNoOverflow);
}

int64_t MergedBytes(const trainer::PeftAdapter& peft, const LoadedBase& base) {
  int64_t elements = 0;
  for (const trainer::LoraTarget& target : peft.targets) {
    elements += target.module.n * target.module.k;
  }
  return elements * trainer::SizeOf(base.form());
}

v1::LoadedModel Entry(const std::string& name, v1::ModelSelector::Mode mode, const LoadedBase& base,
                      int64_t bytes, int64_t requests) {
  v1::LoadedModel entry;
  entry.set_name(name);
  entry.set_mode(mode);
  entry.set_base_source_digest(base.source_digest());
  entry.set_memory_bytes(bytes);
  entry.set_request_count(requests);
  return entry;
}

// What tells the entries of a list apart: they do not say the form of the base.
auto KeyOf(const v1::LoadedModel& model) {
  return std::tuple(std::string_view(model.name()), model.mode(),
                    std::string_view(model.base_source_digest()));
}

}  // namespace

ModelLoader::ModelLoader(const Options& options, BaseCache& bases, RegistryClient& registry,
                         InferenceMetrics& metrics)
    : options_(options),
      base_cache_(bases),
      registry_(registry),
      bases_("bases", "--base_bytes_max", options.base_bytes_max, metrics.base_bytes,
             metrics.base_loads, metrics.evictions),
      adapters_("adapters", "--adapter_bytes_max", options.adapter_bytes_max, metrics.adapter_bytes,
                metrics.adapter_loads, metrics.evictions),
      merges_("merged models", "--merged_bytes_max", options.merged_bytes_max, metrics.merged_bytes,
              metrics.merged_loads, metrics.evictions) {}

absl::StatusOr<ModelHandle> ModelLoader::Load(const ResolvedModel& model,
                                              const Cancelled& cancelled) {
  ModelHandle handle;
  handle.base_name = model.base.name();
  DW_ASSIGN_OR_RETURN(handle.base, Base(model.base, cancelled));
  if (!model.version.has_value()) return handle;
  if (model.merged) {
    DW_ASSIGN_OR_RETURN(handle.merge, Merge(model, handle.base, cancelled));
  } else {
    DW_ASSIGN_OR_RETURN(handle.adapter, Adapter(model, handle.base, cancelled));
  }
  return handle;
}

absl::StatusOr<std::shared_ptr<LoadedBase>> ModelLoader::Base(const v1::BaseModel& base,
                                                              const Cancelled& cancelled) {
  const auto load =
      [&](const ModelCache<LoadedBase>::Room& room) -> absl::StatusOr<std::shared_ptr<LoadedBase>> {
    DW_ASSIGN_OR_RETURN(const std::string folder,
                        base_cache_.Ensure({std::string(TenantOf(base.name())), base.name()},
                                           base.manifest_digest(), cancelled));
    DW_ASSIGN_OR_RETURN(std::shared_ptr<LoadedBase> loaded, LoadedBase::Open(folder));
    if (loaded->source_digest() != base.source_digest() ||
        ToNumberType(loaded->form()) != base.form()) {
      return absl::DataLossError(absl::StrCat(
          base.name(), " is ", base.source_digest(), " in ", v1::NumberType_Name(base.form()),
          ", but its files say ", loaded->source_digest(), " in ",
          v1::NumberType_Name(ToNumberType(loaded->form()))));
    }
    if (absl::Status status = room(loaded->bytes()); !status.ok()) {
      // Adapters that nobody uses hold their bases.
      adapters_.DropIdle();
      merges_.DropIdle();
      DW_RETURN_IF_ERROR(room(loaded->bytes()));
    }
    return loaded;
  };
  return bases_.Get(BaseKey(base), base.name(), cancelled, load);
}

absl::StatusOr<trainer::PeftAdapter> ModelLoader::Fetch(const v1::AdapterVersion& version,
                                                        const LoadedBase& base,
                                                        const Cancelled& cancelled) {
  VersionDownloadOptions options;
  options.retry.total_max = kStallMax;
  options.bytes_max = version.size_bytes();
  options.cancelled = cancelled;
  trainer::PeftFiles files;
  for (const auto& [path, bytes] : {std::pair(trainer::kAdapterConfigFile, &files.adapter_config),
                                    std::pair(trainer::kAdapterModelFile, &files.adapter_model)}) {
    DW_RETURN_IF_ERROR(DownloadVersionFile(registry_, version, path, options,
                                           [&](absl::string_view data, int64_t size_bytes) {
                                             bytes->reserve(static_cast<size_t>(size_bytes));
                                             bytes->append(data.data(), data.size());
                                             return absl::OkStatus();
                                           }));
  }
  auto peft = trainer::ParsePeft(files.adapter_model, files.adapter_config, base.modules());
  if (!peft.ok()) {
    return absl::FailedPreconditionError(absl::StrCat(version.name(), " cannot act on base ",
                                                      base.source_digest(), ": ",
                                                      peft.status().message()));
  }
  // What the file itself says is the last word; an imported one may say nothing.
  if (!peft->base_digest.empty() && peft->base_digest != base.source_digest()) {
    return absl::FailedPreconditionError(absl::StrCat(version.name(), " is bound to base ",
                                                      peft->base_digest, ", but the base is ",
                                                      base.source_digest()));
  }
  return peft;
}

absl::StatusOr<std::shared_ptr<LoadedAdapter>> ModelLoader::Adapter(
    const ResolvedModel& model, std::shared_ptr<LoadedBase> base, const Cancelled& cancelled) {
  const auto load = [&](const ModelCache<LoadedAdapter>::Room& room)
      -> absl::StatusOr<std::shared_ptr<LoadedAdapter>> {
    auto adapter = std::make_shared<LoadedAdapter>();
    const int64_t fetched = FetchBytes(*model.version);
    DW_RETURN_IF_ERROR(room(fetched));
    DW_ASSIGN_OR_RETURN(adapter->peft, Fetch(*model.version, *base, cancelled));
    adapter->version = model.version->name();
    adapter->bytes = AdapterBytes(adapter->peft, *base);
    DW_RETURN_IF_ERROR(room(adapter->bytes - fetched));
    adapter->base = std::move(base);
    return adapter;
  };
  return adapters_.Get(VersionKey(model), model.version->name(), cancelled, load);
}

absl::StatusOr<std::shared_ptr<LoadedMerge>> ModelLoader::Merge(const ResolvedModel& model,
                                                                std::shared_ptr<LoadedBase> base,
                                                                const Cancelled& cancelled) {
  const auto load = [&](const ModelCache<LoadedMerge>::Room& room)
      -> absl::StatusOr<std::shared_ptr<LoadedMerge>> {
    const std::shared_ptr<LoadedAdapter> loaded = adapters_.Find(VersionKey(model));
    const int64_t fetching = loaded == nullptr ? FetchBytes(*model.version) : 0;
    DW_RETURN_IF_ERROR(room(fetching));
    trainer::PeftAdapter fetched;
    if (loaded == nullptr) {
      DW_ASSIGN_OR_RETURN(fetched, Fetch(*model.version, *base, cancelled));
    }
    const trainer::PeftAdapter& peft = loaded == nullptr ? fetched : loaded->peft;
    const auto values = static_cast<int64_t>(fetched.values.size() * sizeof(float));
    auto merge = std::make_shared<LoadedMerge>();
    merge->version = model.version->name();
    merge->bytes = MergedBytes(peft, *base);
    DW_RETURN_IF_ERROR(room(merge->bytes + values - fetching));
    DW_ASSIGN_OR_RETURN(merge->weights, trainer::MergedWeights::Create(base->weights().tensors(),
                                                                       peft.targets, peft.values));
    DW_RETURN_IF_ERROR(room(-values));
    merge->base = std::move(base);
    return merge;
  };
  return merges_.Get(VersionKey(model), model.version->name(), cancelled, load);
}

std::vector<v1::LoadedModel> ModelLoader::List(const std::string& tenant) const {
  std::vector<v1::LoadedModel> models;
  bases_.ForEach([&](const LoadedBase& base, int64_t bytes) {
    for (const auto& [name, requests] : base.RequestCounts()) {
      if (TenantOf(name) != tenant) continue;
      models.push_back(Entry(name, v1::ModelSelector::MODE_UNSPECIFIED, base, bytes, requests));
    }
  });
  adapters_.ForEach([&](const LoadedAdapter& adapter, int64_t bytes) {
    if (TenantOf(adapter.version) != tenant) return;
    models.push_back(Entry(adapter.version, v1::ModelSelector::UNMERGED, *adapter.base, bytes,
                           adapter.requests));
  });
  merges_.ForEach([&](const LoadedMerge& merge, int64_t bytes) {
    if (TenantOf(merge.version) != tenant) return;
    models.push_back(
        Entry(merge.version, v1::ModelSelector::MERGED, *merge.base, bytes, merge.requests));
  });
  std::sort(models.begin(), models.end(),
            [](const auto& a, const auto& b) { return KeyOf(a) < KeyOf(b); });
  std::vector<v1::LoadedModel> merged;
  for (v1::LoadedModel& model : models) {
    if (merged.empty() || KeyOf(merged.back()) != KeyOf(model)) {
      merged.push_back(std::move(model));
      continue;
    }
    merged.back().set_memory_bytes(merged.back().memory_bytes() + model.memory_bytes());
    merged.back().set_request_count(merged.back().request_count() + model.request_count());
  }
  return merged;
}

}  // namespace deltaworks::services
