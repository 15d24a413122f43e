#include "trainer/backend/cuda/adapter_plan.h"

#include <algorithm>

#include "glog/logging.h"
#include "trainer/backend/philox.h"

namespace deltaworks::trainer::cuda {
namespace {

int64_t Filled(int64_t rank) {
  return (rank + kColumnMultiple - 1) / kColumnMultiple * kColumnMultiple;
}

SegmentRows RowsOf(const Segment& segment) {
  const DropoutKey& key = segment.dropout;
  SegmentRows rows = {};
  rows.row_begin = static_cast<int32_t>(segment.row_begin);
  rows.row_end = static_cast<int32_t>(segment.row_end);
  if (key.p > 0) {
    rows.threshold = DropoutThreshold(key.p);
    rows.keep_scale = 1.0f / (1.0f - key.p);
    rows.seed_low = static_cast<uint32_t>(key.seed);
    rows.seed_high = static_cast<uint32_t>(key.seed >> 32);
    rows.step = key.step;
    rows.site = key.site;
    rows.token = key.token;
  }
  return rows;
}

void AppendColumns(int32_t slice, int64_t rank, std::vector<Column>* columns) {
  for (int64_t r = 0; r < Filled(rank); ++r) {
    columns->push_back(r < rank ? Column{slice, static_cast<int32_t>(r)} : Column{-1, 0});
  }
}

void Append(const Segment& segment, bool has_columns, AdapterPart* part) {
  SegmentRows rows = RowsOf(segment);
  rows.slice_begin = static_cast<int32_t>(part->slices.size());
  int64_t hidden_column = 0;
  for (size_t i = 0; i < segment.adapters.size(); ++i) {
    const LoraPair* pair = segment.adapters[i];
    if (pair == nullptr) continue;
    const auto slice = static_cast<int32_t>(part->slices.size());
    part->slices.push_back({.a = pair->a.data,
                            .b = pair->b.data,
                            .scale = pair->scale,
                            .rank = static_cast<int32_t>(pair->rank()),
                            .hidden_column = static_cast<int32_t>(hidden_column),
                            .group_column = static_cast<int32_t>(part->group_width()),
                            .linear_column = static_cast<int32_t>(part->linear_width(i)),
                            .linear = static_cast<int32_t>(i)});
    hidden_column += pair->rank();
    if (!has_columns) continue;
    AppendColumns(slice, pair->rank(), &part->group_columns);
    AppendColumns(slice, pair->rank(), &part->linear_columns[i]);
  }
  rows.slice_end = static_cast<int32_t>(part->slices.size());
  part->dropout = part->dropout || rows.threshold > 0;
  part->segments.push_back(rows);
}

bool HasSlices(const Segment& segment) {
  return segment.row_begin < segment.row_end && segment.hidden_width() > 0;
}

bool Fits(const Segment& segment, const AdapterPart& part, int64_t width_max) {
  for (size_t i = 0; i < segment.adapters.size(); ++i) {
    const int64_t rank = segment.adapters[i] == nullptr ? 0 : segment.adapters[i]->rank();
    if (part.linear_width(i) + Filled(rank) > width_max) return false;
  }
  return true;
}

}  // namespace

int64_t AdapterPart::linear_width_max() const {
  int64_t width = 0;
  for (size_t i = 0; i < linear_columns.size(); ++i) width = std::max(width, linear_width(i));
  return width;
}

std::vector<AdapterPart> PlanAdapters(absl::Span<const Segment> segments, int64_t linears,
                                      int64_t rows, int64_t width_max) {
  std::vector<AdapterPart> parts;
  const auto begin_part = [&](int64_t row) {
    parts.emplace_back();
    parts.back().rows.begin = row;
    parts.back().linear_columns.resize(linears);
  };
  begin_part(0);
  for (const Segment& segment : segments) {
    CHECK_EQ(static_cast<int64_t>(segment.adapters.size()), linears);
    if (!HasSlices(segment)) continue;
    if (!parts.back().segments.empty() && !Fits(segment, parts.back(), width_max)) {
      parts.back().rows.rows = segment.row_begin - parts.back().rows.begin;
      begin_part(segment.row_begin);
    }
    Append(segment, /*has_columns=*/true, &parts.back());
  }
  parts.back().rows.rows = rows - parts.back().rows.begin;
  return parts;
}

AdapterPart PlanRows(absl::Span<const Segment> segments, int64_t linears, int64_t rows) {
  AdapterPart part;
  part.rows.rows = rows;
  part.linear_columns.resize(linears);
  for (const Segment& segment : segments) {
    CHECK_EQ(static_cast<int64_t>(segment.adapters.size()), linears);
    if (HasSlices(segment)) Append(segment, /*has_columns=*/false, &part);
  }
  return part;
}

}  // namespace deltaworks::trainer::cuda
