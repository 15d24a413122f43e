// Table: rows in aligned columns for people; and Paint, colours that are there only on a terminal.
// Not thread-safe.

#ifndef DELTAWORKS_SERVICES_CLI_TABLE_H_
#define DELTAWORKS_SERVICES_CLI_TABLE_H_

#include <cstdint>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace deltaworks::services {

enum class Paint { kNone, kBold, kDim, kGreen, kYellow, kRed, kCyan };

// `text` with the escapes of `paint`, or as it is without `color`.
std::string Painted(absl::string_view text, Paint paint, bool color);

struct Cell {
  std::string text;
  Paint paint = Paint::kNone;

  Cell(std::string text, Paint paint = Paint::kNone)  // NOLINT: a text is a cell.
      : text(std::move(text)), paint(paint) {}
  Cell(const char* text) : text(text) {}  // NOLINT
};

class Table {
 public:
  // A header that begins with ">" names a column of numbers, aligned to the right.
  explicit Table(std::vector<std::string> headers);

  // As many cells as headers. Control characters become spaces: a name from afar must not move
  // the cursor.
  void AddRow(std::vector<Cell> row);

  // Header and rows, two spaces between columns, no spaces at line ends.
  void Print(std::ostream& out, bool color) const;

 private:
  std::vector<std::string> headers_;
  std::vector<bool> right_;
  std::vector<std::vector<Cell>> rows_;
};

// "label   value", one a line, values aligned; for one resource. Empty values are left out.
class FactSheet {
 public:
  void Add(std::string label, Cell value);
  void Print(std::ostream& out, bool color) const;

 private:
  std::vector<std::pair<std::string, Cell>> facts_;
};

// Control characters but newline and tab replaced, C1 (U+0080 to U+009F) too, so that text from a
// service cannot drive the terminal.
std::string SafeText(absl::string_view text);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_TABLE_H_
