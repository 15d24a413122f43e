#include "scheduler/usage.h"

#include <algorithm>
#include <cmath>

namespace deltaworks::scheduler {
namespace {

constexpr int64_t kHourSeconds = 3600;
constexpr int64_t kDaySeconds = 24 * kHourSeconds;

void AddRow(int64_t index, const Usage::Amount& amount, int64_t kept, Usage::Rows* rows) {
  Usage::Amount& row = (*rows)[index];
  row.device_ms += amount.device_ms;
  row.tokens += amount.tokens;
  row.written_bytes += amount.written_bytes;
  rows->erase(rows->begin(), rows->upper_bound(rows->rbegin()->first - kept));
}

void Append(const Usage::Rows& rows,
            google::protobuf::RepeatedPtrField<TenantUsage::Row>* appended) {
  for (const auto& [index, amount] : rows) {
    TenantUsage::Row& row = *appended->Add();
    row.set_index(index);
    row.set_device_ms(amount.device_ms);
    row.set_tokens(amount.tokens);
    row.set_written_bytes(amount.written_bytes);
  }
}

void RestoreRows(const google::protobuf::RepeatedPtrField<TenantUsage::Row>& stored,
                 Usage::Rows* rows) {
  for (const TenantUsage::Row& row : stored) {
    (*rows)[row.index()] = {
        .device_ms = row.device_ms(), .tokens = row.tokens(), .written_bytes = row.written_bytes()};
  }
}

}  // namespace

void Usage::Add(absl::string_view tenant, const Amount& amount, absl::Time time) {
  Tenant& used = tenants_[std::string(tenant)];
  const int64_t seconds = absl::ToUnixSeconds(time);
  AddRow(seconds / kHourSeconds, amount, kHoursKept, &used.hours);
  AddRow(seconds / kDaySeconds, amount, kDaysKept, &used.days);
  used.decayed_hour = -1;
}

double Usage::Decayed(absl::string_view tenant, absl::Time now, absl::Duration half_life) const {
  const auto found = tenants_.find(tenant);
  if (found == tenants_.end()) return 0;
  const Tenant& used = found->second;
  const int64_t hour = absl::ToUnixSeconds(now) / kHourSeconds;
  if (used.decayed_hour == hour && used.decayed_half_life == half_life) {
    return used.decayed_seconds;
  }
  const double hours_half = std::max(1e-9, absl::ToDoubleHours(half_life));
  double seconds = 0;
  for (const auto& [index, amount] : used.hours) {
    const auto age = static_cast<double>(std::max<int64_t>(0, hour - index));
    seconds += static_cast<double>(amount.device_ms) / 1000 * std::exp2(-age / hours_half);
  }
  used.decayed_hour = hour;
  used.decayed_half_life = half_life;
  used.decayed_seconds = seconds;
  return seconds;
}

std::vector<std::string> Usage::Tenants() const {
  std::vector<std::string> tenants;
  for (const auto& [tenant, used] : tenants_) tenants.push_back(tenant);
  return tenants;
}

const Usage::Rows* Usage::Days(absl::string_view tenant) const {
  const auto found = tenants_.find(tenant);
  return found == tenants_.end() ? nullptr : &found->second.days;
}

TenantUsage Usage::Of(absl::string_view tenant) const {
  TenantUsage usage;
  usage.set_tenant(std::string(tenant));
  if (const auto found = tenants_.find(tenant); found != tenants_.end()) {
    Append(found->second.hours, usage.mutable_hours());
    Append(found->second.days, usage.mutable_days());
  }
  return usage;
}

void Usage::AppendTo(google::protobuf::RepeatedPtrField<TenantUsage>* usage) const {
  for (const auto& [tenant, used] : tenants_) *usage->Add() = Of(tenant);
}

void Usage::Restore(const TenantUsage& usage) {
  Tenant& used = tenants_[usage.tenant()];
  RestoreRows(usage.hours(), &used.hours);
  RestoreRows(usage.days(), &used.days);
}

}  // namespace deltaworks::scheduler
