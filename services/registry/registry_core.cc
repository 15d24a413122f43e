#include "services/registry/registry_core.h"

#include <prometheus/counter.h>
#include <prometheus/histogram.h>

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "scheduler/proto_time.h"
#include "services/base/json_escape.h"
#include "services/base/log.h"
#include "services/base/page_token.h"
#include "services/base/request_log.h"
#include "services/base/resource_names.h"
#include "services/registry/core_internal.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr char kRpc[] = "CreateVersion";
// A page of versions ends here; a message of 4 MiB always has room for the last one.
constexpr int64_t kPageBytes = int64_t{2} << 20;

v1::Adapter ToAdapter(const std::string& tenant, const AdapterRow& row) {
  v1::Adapter adapter;
  adapter.set_name(AdapterId{tenant, row.adapter}.Name());
  adapter.set_base_source_digest(row.base_source_digest);
  adapter.set_latest_version(row.latest_version);
  adapter.set_version_count(row.version_count);
  *adapter.mutable_create_time() = scheduler::ToProto(row.create_time);
  *adapter.mutable_update_time() = scheduler::ToProto(row.update_time);
  return adapter;
}

// The number at the end of a version's name.
int64_t NumberOf(const v1::AdapterVersion& version) {
  int64_t number = 0;
  CHECK(absl::SimpleAtoi(version.name().substr(version.name().rfind('/') + 1), &number));
  return number;
}

absl::Status CheckSameKey(const AdapterId& id, const v1::CreateVersionRequest& request,
                          const v1::AdapterVersion& made) {
  const v1::AdapterVersion& asked = request.adapter_version();
  const std::string subject = absl::StrCat(SourceKey(asked.source()), " is ", made.name());
  if (made.manifest_digest() != asked.manifest_digest()) {
    return absl::AlreadyExistsError(absl::StrCat(subject, ": manifest_digest is ",
                                                 asked.manifest_digest(), ", want ",
                                                 made.manifest_digest(), ", the one it has"));
  }
  if (made.name() == id.VersionName(NumberOf(made))) return absl::OkStatus();
  return absl::AlreadyExistsError(
      absl::StrCat(subject, ": parent is ", request.parent(), ", want the adapter it belongs to"));
}

}  // namespace

absl::Status DatabaseError(const absl::Status& status) {
  if (!absl::IsFailedPrecondition(status) && !absl::IsInternal(status)) return status;
  return absl::UnavailableError(absl::StrCat("registry database: ", status.message()));
}

RegistryCore::RegistryCore(std::unique_ptr<RegistryTables> tables, StoreClient& store,
                           const Clock& clock, RegistryMetrics& metrics, Options options)
    : store_(store),
      clock_(clock),
      metrics_(metrics),
      options_(std::move(options)),
      reader_(store, metrics),
      checker_(store, metrics, options_.adapter_bytes_max),
      tables_(std::move(tables)) {}

absl::StatusOr<Transaction> RegistryCore::Begin() {
  if (broken_) {
    return absl::UnavailableError(
        "registry database: the outcome of a commit is unknown, want a restart of the registry");
  }
  auto transaction = Transaction::Begin(tables_->database());
  if (!transaction.ok()) return DatabaseError(transaction.status());
  return transaction;
}

absl::Status RegistryCore::Commit(Transaction& transaction) {
  const absl::Status status = transaction.Commit();
  if (absl::IsInternal(status) && !broken_) {
    broken_ = true;
    LogError("the outcome of a commit is unknown", {{"error", status}});
    if (options_.broken) options_.broken(status);
  }
  return DatabaseError(status);
}

// ---- CreateVersion ----

absl::StatusOr<v1::AdapterVersion> RegistryCore::CreateVersion(
    const Caller& caller, const v1::CreateVersionRequest& request) {
  DW_ASSIGN_OR_RETURN(const AdapterId id, ParseAdapterParent(caller, request.parent()));
  // Lineage is what the scheduler says of a job; a tenant could say anything.
  if (!caller.all_tenants()) {
    return absl::PermissionDeniedError("the token given is a tenant's, want one of the platform");
  }
  DW_RETURN_IF_ERROR(CheckCreateVersionRequest(request));
  DW_ASSIGN_OR_RETURN(std::optional<v1::AdapterVersion> made, FindMade(id, request));
  if (made.has_value()) return *std::move(made);

  MutexLock creating(&creation_);
  // Another call may have made it while this one waited.
  DW_ASSIGN_OR_RETURN(made, FindMade(id, request));
  if (made.has_value()) return *std::move(made);
  DW_ASSIGN_OR_RETURN(v1::AdapterVersion version, Check(id, request));
  DW_RETURN_IF_ERROR(GiveName(id, version));
  const bool ready = version.state() == v1::AdapterVersion::READY;
  if (ready) DW_RETURN_IF_ERROR(Pin(version));
  DW_RETURN_IF_ERROR(Insert(id, request, version));
  (ready ? metrics_.versions_ready : metrics_.versions_rejected).Increment();
  LogInfo(ready ? "version ready" : "version rejected", {{"name", version.name()},
                                                         {"job", version.source().job()},
                                                         {"digest", version.manifest_digest()},
                                                         {"request_id", request.request_id()},
                                                         {"error", version.failure().message()}});
  return version;
}

absl::StatusOr<std::optional<v1::AdapterVersion>> RegistryCore::FindMade(
    const AdapterId& id, const v1::CreateVersionRequest& request) {
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(Transaction transaction, Begin());
  DW_ASSIGN_OR_RETURN(const auto before,
                      FindRequest(tables_->database(), id.tenant, kRpc, request));
  DW_ASSIGN_OR_RETURN(std::optional<v1::AdapterVersion> made,
                      tables_->FindVersionOfSource(SourceKey(request.adapter_version().source())));
  if (!made.has_value()) return std::nullopt;
  if (absl::Status status = CheckSameKey(id, request, *made); !status.ok()) {
    metrics_.source_conflicts.Increment();
    LogError("another manifest for the same source",
             {{"name", made->name()}, {"job", made->source().job()}, {"error", status}});
    return status;
  }
  if (!before.has_value()) {
    absl::Status status =
        RecordRequest(tables_->database(), id.tenant, kRpc, request, made->name(), clock_.Now());
    if (!status.ok()) return DatabaseError(status);
    DW_RETURN_IF_ERROR(Commit(transaction));
  }
  metrics_.versions_repeated.Increment();
  return made;
}

absl::StatusOr<v1::AdapterVersion> RegistryCore::Check(const AdapterId& id,
                                                       const v1::CreateVersionRequest& request) {
  {
    // Before any pin, so that Reconcile() knows where to look for one without a row.
    MutexLock lock(&mutex_);
    DW_ASSIGN_OR_RETURN(Transaction transaction, Begin());
    absl::Status status = tables_->RememberTenant(id.tenant);
    if (!status.ok()) return DatabaseError(status);
    DW_RETURN_IF_ERROR(Commit(transaction));
  }
  const absl::Duration begin = clock_.Monotonic();
  absl::StatusOr<v1::AdapterVersion> version = checker_.Check(id.tenant, request.adapter_version());
  metrics_.check_seconds.Observe(absl::ToDoubleSeconds(clock_.Monotonic() - begin));
  if (absl::IsFailedPrecondition(version.status())) {
    metrics_.versions_missing_blobs.Increment();
    LogWarning("version lacks blobs",
               {{"job", request.adapter_version().source().job()}, {"error", version.status()}});
  }
  return version;
}

absl::Status RegistryCore::GiveName(const AdapterId& id, v1::AdapterVersion& version) {
  MutexLock lock(&mutex_);
  const absl::StatusOr<std::optional<AdapterRow>> row = tables_->FindAdapter(id);
  if (!row.ok()) return DatabaseError(row.status());
  version.set_name(id.VersionName((row->has_value() ? (*row)->version_count : 0) + 1));
  *version.mutable_create_time() = scheduler::ToProto(clock_.Now());
  if (version.state() != v1::AdapterVersion::READY || !row->has_value()) return absl::OkStatus();
  const std::string& base = (*row)->base_source_digest;
  if (base.empty() || base == version.base_source_digest()) return absl::OkStatus();
  Reject("VERSION_REFUSED", v1::Failure::USER, "adapter_version.base_source_digest",
         absl::StrCat("base_source_digest is ", version.base_source_digest(), ", want ", base,
                      ", that of the versions of ", id.Name(), " before: use another adapter"),
         version);
  return absl::OkStatus();
}

absl::Status RegistryCore::Pin(const v1::AdapterVersion& version) {
  v1::CreatePinRequest request;
  request.mutable_pin()->set_owner(version.name());
  request.mutable_pin()->set_digest(version.manifest_digest());
  const absl::Status status = store_.CreatePin(request).status();
  if (!absl::IsNotFound(status)) return FromStore(status);
  // A blob went between check and pin; the check of the repeated call tells which.
  return absl::UnavailableError(
      absl::StrCat("store: cannot pin ", version.manifest_digest(), ": ", status.message()));
}

absl::Status RegistryCore::Insert(const AdapterId& id, const v1::CreateVersionRequest& request,
                                  const v1::AdapterVersion& version) {
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(Transaction transaction, Begin());
  absl::Status status =
      tables_->InsertVersion(id, SourceKey(version.source()), version, clock_.Now());
  if (status.ok()) {
    status =
        RecordRequest(tables_->database(), id.tenant, kRpc, request, version.name(), clock_.Now());
  }
  if (!status.ok()) return DatabaseError(status);
  return Commit(transaction);
}

// ---- Reading ----

absl::Status RegistryCore::CheckAdapterExists(const AdapterId& id) {
  DW_ASSIGN_OR_RETURN(const auto row, tables_->FindAdapter(id));
  return row.has_value() ? absl::OkStatus() : NoSuchResource(id.Name());
}

absl::StatusOr<v1::AdapterVersion> RegistryCore::Resolve(const VersionId& id,
                                                         absl::string_view name) {
  int64_t number = id.number;
  if (!id.alias.empty()) {
    DW_ASSIGN_OR_RETURN(const auto alias, tables_->FindAlias(id.adapter, id.alias));
    if (alias.has_value()) number = alias->number;
  } else if (number == 0) {
    DW_ASSIGN_OR_RETURN(const auto adapter, tables_->FindAdapter(id.adapter));
    if (adapter.has_value()) number = adapter->latest_version;
  }
  DW_ASSIGN_OR_RETURN(auto version, tables_->FindVersion(id.adapter, number));
  if (!version.has_value()) return NoSuchResource(name);
  return *std::move(version);
}

absl::StatusOr<v1::AdapterVersion> RegistryCore::GetVersion(const Caller& caller,
                                                            const v1::GetVersionRequest& request) {
  DW_ASSIGN_OR_RETURN(const VersionId id, ParseVersionReference(caller, request.name()));
  MutexLock lock(&mutex_);
  return Resolve(id, request.name());
}

absl::StatusOr<v1::Adapter> RegistryCore::GetAdapter(const Caller& caller,
                                                     const v1::GetAdapterRequest& request) {
  DW_ASSIGN_OR_RETURN(const AdapterId id, ParseAdapterName(caller, "name", request.name()));
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(const auto row, tables_->FindAdapter(id));
  if (!row.has_value()) return NoSuchResource(request.name());
  return ToAdapter(id.tenant, *row);
}

absl::StatusOr<v1::ListAdaptersResponse> RegistryCore::ListAdapters(
    const Caller& caller, const v1::ListAdaptersRequest& request) {
  DW_ASSIGN_OR_RETURN(const auto ids, ParseName("parent", request.parent(), kTenantPattern));
  DW_RETURN_IF_ERROR(CheckTenantOfParent(caller, request.parent()));
  DW_ASSIGN_OR_RETURN(const Page page, Page::Of(request));
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(const auto rows, tables_->ListAdapters(ids[0], page.cursor, page.size + 1));
  v1::ListAdaptersResponse response;
  for (const AdapterRow& row : rows) {
    if (response.adapters_size() == page.size) {
      response.set_next_page_token(page.NextToken(rows[page.size - 1].adapter));
      break;
    }
    *response.add_adapters() = ToAdapter(ids[0], row);
  }
  return response;
}

absl::StatusOr<v1::ListVersionsResponse> RegistryCore::ListVersions(
    const Caller& caller, const v1::ListVersionsRequest& request) {
  DW_ASSIGN_OR_RETURN(const AdapterId id, ParseAdapterParent(caller, request.parent()));
  const bool ready_only = request.filter() == "state = READY";
  if (!ready_only && !request.filter().empty()) {
    return absl::InvalidArgumentError(absl::StrCat("filter is ", JsonQuote(request.filter()),
                                                   ", want \"state = READY\" or empty"));
  }
  DW_ASSIGN_OR_RETURN(const Page page, Page::Of(request));
  DW_ASSIGN_OR_RETURN(const int64_t below, NumberCursor(page));
  MutexLock lock(&mutex_);
  DW_RETURN_IF_ERROR(CheckAdapterExists(id));
  DW_ASSIGN_OR_RETURN(auto versions,
                      tables_->ListVersions(id, below, ready_only, page.size, kPageBytes));
  v1::ListVersionsResponse response;
  for (v1::AdapterVersion& version : versions) *response.add_versions() = std::move(version);
  if (response.versions_size() == 0) return response;
  const int64_t last = NumberOf(response.versions(response.versions_size() - 1));
  DW_ASSIGN_OR_RETURN(const auto more, tables_->ListVersions(id, last, ready_only, 1, 1));
  if (!more.empty()) response.set_next_page_token(page.NextToken(absl::StrCat(last)));
  return response;
}

absl::StatusOr<int64_t> NumberCursor(const Page& page) {
  int64_t number = INT64_MAX;
  if (page.cursor.empty() || absl::SimpleAtoi(page.cursor, &number)) return number;
  return absl::InvalidArgumentError(
      "page_token is not one of this server, want the next_page_token of the page before");
}

}  // namespace deltaworks::services
