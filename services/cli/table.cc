#include "services/cli/table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "services/cli/format.h"

namespace deltaworks::services {
namespace {

const char* EscapeOf(Paint paint) {
  switch (paint) {
    case Paint::kNone:
      return "";
    case Paint::kBold:
      return "\x1b[1m";
    case Paint::kDim:
      return "\x1b[2m";
    case Paint::kGreen:
      return "\x1b[32m";
    case Paint::kYellow:
      return "\x1b[33m";
    case Paint::kRed:
      return "\x1b[31m";
    case Paint::kCyan:
      return "\x1b[36m";
  }
  return "";
}

// Bytes of the control character that `text`, UTF-8, begins with; 0 if it begins with none.
size_t ControlBytes(absl::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  if (byte(0) < 0x20 || byte(0) == 0x7f) return 1;
  // C1: a terminal may take U+009B for ESC [.
  const bool is_c1 = text.size() > 1 && byte(0) == 0xc2 && byte(1) >= 0x80 && byte(1) <= 0x9f;
  return is_c1 ? 2 : 0;
}

// `text` with `by` for each control character that is not in `kept`.
std::string ReplaceControls(absl::string_view text, char by, absl::string_view kept) {
  std::string safe;
  while (!text.empty()) {
    const size_t bytes = ControlBytes(text);
    safe += bytes == 0 || kept.find(text[0]) != kept.npos ? text[0] : by;
    text.remove_prefix(std::max<size_t>(bytes, 1));
  }
  return safe;
}

std::string OneLine(absl::string_view text) { return ReplaceControls(text, ' ', ""); }

std::string Spaces(int64_t count) {
  return std::string(static_cast<size_t>(std::max<int64_t>(count, 0)), ' ');
}

}  // namespace

std::string Painted(absl::string_view text, Paint paint, bool color) {
  if (!color || paint == Paint::kNone || text.empty()) return std::string(text);
  return absl::StrCat(EscapeOf(paint), text, "\x1b[0m");
}

std::string SafeText(absl::string_view text) { return ReplaceControls(text, '?', "\n\t"); }

Table::Table(std::vector<std::string> headers) : headers_(std::move(headers)) {
  for (std::string& header : headers_) {
    right_.push_back(header[0] == '>');
    if (right_.back()) header.erase(0, 1);
  }
}

void Table::AddRow(std::vector<Cell> row) {
  CHECK_EQ(row.size(), headers_.size());
  for (Cell& cell : row) cell.text = OneLine(cell.text);
  rows_.push_back(std::move(row));
}

void Table::Print(std::ostream& out, bool color) const {
  std::vector<int64_t> widths;
  for (size_t column = 0; column < headers_.size(); ++column) {
    widths.push_back(DisplayWidth(headers_[column]));
    for (const auto& row : rows_) {
      widths[column] = std::max(widths[column], DisplayWidth(row[column].text));
    }
  }
  const auto print = [&](const std::vector<Cell>& row) {
    std::string line;
    for (size_t column = 0; column < row.size(); ++column) {
      const std::string padding = Spaces(widths[column] - DisplayWidth(row[column].text));
      const std::string text = Painted(row[column].text, row[column].paint, color);
      const bool last = column + 1 == row.size();
      absl::StrAppend(&line, right_[column] ? padding + text : text,
                      right_[column] || last ? "" : padding, last ? "" : "  ");
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out << line << "\n";
  };
  std::vector<Cell> head;
  for (const std::string& header : headers_) head.emplace_back(header, Paint::kBold);
  print(head);
  for (const auto& row : rows_) print(row);
}

void FactSheet::Add(std::string label, Cell value) {
  value.text = OneLine(value.text);
  if (!value.text.empty()) facts_.emplace_back(std::move(label), std::move(value));
}

void FactSheet::Print(std::ostream& out, bool color) const {
  int64_t width = 0;
  for (const auto& [label, value] : facts_) width = std::max(width, DisplayWidth(label));
  for (const auto& [label, value] : facts_) {
    out << Painted(label, Paint::kDim, color) << Spaces(width - DisplayWidth(label) + 2)
        << Painted(value.text, value.paint, color) << "\n";
  }
}

}  // namespace deltaworks::services
