// RegistryCore's aliases: setting, reading, deleting, and their history.

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/proto_time.h"
#include "services/base/page_token.h"
#include "services/base/request_log.h"
#include "services/base/resource_names.h"
#include "services/registry/core_internal.h"
#include "services/registry/registry_core.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr char kSet[] = "SetAlias";
constexpr char kDelete[] = "DeleteAlias";
constexpr char kEtagAbsent[] = "absent";
constexpr int64_t kCommentBytesMax = 1000;

std::string Etag(const AliasRow& row) { return absl::StrCat("change-", row.change); }

v1::Alias ToAlias(const AdapterId& id, const AliasRow& row) {
  v1::Alias alias;
  alias.set_name(id.AliasName(row.alias));
  alias.set_version(id.VersionName(row.number));
  alias.set_etag(Etag(row));
  *alias.mutable_update_time() = scheduler::ToProto(row.update_time);
  return alias;
}

absl::Status CheckEtag(const AliasId& id, const std::string& etag,
                       const std::optional<AliasRow>& now) {
  if (etag.empty()) return absl::OkStatus();
  if (etag == (now.has_value() ? Etag(*now) : kEtagAbsent)) return absl::OkStatus();
  return absl::AbortedError(absl::StrCat(
      id.Name(), ": etag is ", etag, ", want ", now.has_value() ? Etag(*now) : kEtagAbsent, ": it ",
      now.has_value() ? absl::StrCat("points at ", id.adapter.VersionName(now->number))
                      : std::string("does not exist"),
      " by now"));
}

}  // namespace

absl::StatusOr<v1::Alias> RegistryCore::SetAlias(const Caller& caller,
                                                 const v1::SetAliasRequest& request) {
  const v1::Alias& alias = request.alias();
  DW_ASSIGN_OR_RETURN(const AliasId id, ParseAliasName(caller, "alias.name", alias.name()));
  DW_RETURN_IF_ERROR(CheckNewAlias(id));
  DW_ASSIGN_OR_RETURN(const VersionId version,
                      ParseVersionName(caller, "alias.version", alias.version()));
  if (version.adapter.Name() != id.adapter.Name()) {
    return absl::InvalidArgumentError(absl::StrCat("alias.version is ", alias.version(),
                                                   ", want a version of ", id.adapter.Name()));
  }
  DW_RETURN_IF_ERROR(CheckText("comment", request.comment(), kCommentBytesMax));
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(Transaction transaction, Begin());
  DW_ASSIGN_OR_RETURN(const auto before,
                      FindRequest(tables_->database(), id.adapter.tenant, kSet, request));
  if (!before.has_value()) {
    DW_ASSIGN_OR_RETURN(v1::Alias answer, SetAliasInTransaction(id, version, request));
    DW_RETURN_IF_ERROR(Commit(transaction));
    return answer;
  }
  DW_ASSIGN_OR_RETURN(const auto now, tables_->FindAlias(id.adapter, id.alias));
  if (!now.has_value()) return NoSuchResource(id.Name());
  return ToAlias(id.adapter, *now);
}

absl::StatusOr<v1::Alias> RegistryCore::SetAliasInTransaction(const AliasId& id,
                                                              const VersionId& version,
                                                              const v1::SetAliasRequest& request) {
  DW_RETURN_IF_ERROR(CheckAdapterExists(id.adapter));
  DW_ASSIGN_OR_RETURN(const v1::AdapterVersion target, Resolve(version, request.alias().version()));
  if (target.state() != v1::AdapterVersion::READY) {
    return absl::FailedPreconditionError(
        absl::StrCat(target.name(), " is ", v1::AdapterVersion::State_Name(target.state()),
                     ", want READY: ", target.failure().message()));
  }
  DW_ASSIGN_OR_RETURN(std::optional<AliasRow> now, tables_->FindAlias(id.adapter, id.alias));
  DW_RETURN_IF_ERROR(CheckEtag(id, request.alias().etag(), now));
  if (!now.has_value()) {
    DW_ASSIGN_OR_RETURN(const int64_t count, tables_->CountAliases(id.adapter));
    if (count >= options_.aliases_max) {
      return absl::ResourceExhaustedError(absl::StrCat(
          id.adapter.Name(), " has ", count, " aliases, want at most ", options_.aliases_max));
    }
  }
  absl::Status status;
  if (!now.has_value() || now->number != version.number) {
    status = tables_->ChangeAlias(id.adapter, id.alias, now.has_value() ? now->number : 0,
                                  version.number, request.comment(), clock_.Now());
  }
  if (status.ok()) {
    status = RecordRequest(tables_->database(), id.adapter.tenant, kSet, request, id.Name(),
                           clock_.Now());
  }
  if (!status.ok()) return DatabaseError(status);
  DW_ASSIGN_OR_RETURN(now, tables_->FindAlias(id.adapter, id.alias));
  if (!now.has_value()) return absl::InternalError(absl::StrCat(id.Name(), ": row is absent"));
  return ToAlias(id.adapter, *now);
}

absl::StatusOr<v1::Alias> RegistryCore::GetAlias(const Caller& caller,
                                                 const v1::GetAliasRequest& request) {
  DW_ASSIGN_OR_RETURN(const AliasId id, ParseAliasName(caller, "name", request.name()));
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(const auto row, tables_->FindAlias(id.adapter, id.alias));
  if (!row.has_value()) return NoSuchResource(request.name());
  return ToAlias(id.adapter, *row);
}

absl::StatusOr<v1::ListAliasesResponse> RegistryCore::ListAliases(
    const Caller& caller, const v1::ListAliasesRequest& request) {
  DW_ASSIGN_OR_RETURN(const AdapterId id, ParseAdapterParent(caller, request.parent()));
  DW_ASSIGN_OR_RETURN(const Page page, Page::Of(request));
  MutexLock lock(&mutex_);
  DW_RETURN_IF_ERROR(CheckAdapterExists(id));
  DW_ASSIGN_OR_RETURN(const auto rows, tables_->ListAliases(id, page.cursor, page.size + 1));
  v1::ListAliasesResponse response;
  for (const AliasRow& row : rows) {
    if (response.aliases_size() == page.size) {
      response.set_next_page_token(page.NextToken(rows[page.size - 1].alias));
      break;
    }
    *response.add_aliases() = ToAlias(id, row);
  }
  return response;
}

absl::Status RegistryCore::DeleteAlias(const Caller& caller,
                                       const v1::DeleteAliasRequest& request) {
  DW_ASSIGN_OR_RETURN(const AliasId id, ParseAliasName(caller, "name", request.name()));
  MutexLock lock(&mutex_);
  Database& database = tables_->database();
  DW_ASSIGN_OR_RETURN(Transaction transaction, Begin());
  DW_ASSIGN_OR_RETURN(const auto before,
                      FindRequest(database, id.adapter.tenant, kDelete, request));
  if (before.has_value()) return absl::OkStatus();
  DW_ASSIGN_OR_RETURN(const auto now, tables_->FindAlias(id.adapter, id.alias));
  if (!now.has_value()) return NoSuchResource(request.name());
  DW_RETURN_IF_ERROR(CheckEtag(id, request.etag(), now));
  absl::Status status =
      tables_->ChangeAlias(id.adapter, id.alias, now->number, /*new_number=*/0, "", clock_.Now());
  if (status.ok()) status = MarkResourceGone(database, id.Name());
  if (status.ok()) {
    status = RecordRequest(database, id.adapter.tenant, kDelete, request, "", clock_.Now());
  }
  if (!status.ok()) return DatabaseError(status);
  return Commit(transaction);
}

absl::StatusOr<v1::ListAliasHistoryResponse> RegistryCore::ListAliasHistory(
    const Caller& caller, const v1::ListAliasHistoryRequest& request) {
  DW_ASSIGN_OR_RETURN(const auto ids, ParseName("parent", request.parent(), kAliasPattern));
  DW_RETURN_IF_ERROR(CheckTenantOfParent(caller, request.parent()));
  const AliasId id = {{ids[0], ids[1]}, ids[2]};
  DW_ASSIGN_OR_RETURN(const Page page, Page::Of(request));
  DW_ASSIGN_OR_RETURN(const int64_t below, NumberCursor(page));
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(const auto rows,
                      tables_->ListAliasChanges(id.adapter, id.alias, below, page.size + 1));
  if (rows.empty() && page.cursor.empty()) return NoSuchResource(request.parent());
  v1::ListAliasHistoryResponse response;
  for (const AliasChangeRow& row : rows) {
    if (response.changes_size() == page.size) {
      response.set_next_page_token(page.NextToken(absl::StrCat(rows[page.size - 1].change)));
      break;
    }
    v1::AliasChange& change = *response.add_changes();
    *change.mutable_time() = scheduler::ToProto(row.time);
    if (row.old_number > 0) change.set_old_version(id.adapter.VersionName(row.old_number));
    if (row.new_number > 0) change.set_new_version(id.adapter.VersionName(row.new_number));
    change.set_comment(row.comment);
  }
  return response;
}

}  // namespace deltaworks::services
