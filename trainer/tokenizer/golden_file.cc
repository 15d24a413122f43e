#include "trainer/tokenizer/golden_file.h"

#include <cstdint>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "trainer/base/file.h"
#include "trainer/base/status_macros.h"
#include "trainer/tokenizer/utf8.h"

namespace deltaworks::trainer {
namespace {

constexpr int kSweepBlock = 1024;

std::string Fnv1a(absl::string_view bytes) {
  uint32_t value = 0x811C9DC5;
  for (const char byte : bytes) value = (value ^ static_cast<uint8_t>(byte)) * 0x01000193;
  return absl::StrFormat("%08x", value);
}

// Each id in four bytes, little-endian, then -1.
void AppendIds(const std::vector<int32_t>& ids, std::string* bytes) {
  const auto append = [bytes](int32_t id) {
    for (int shift = 0; shift < 32; shift += 8) {
      bytes->push_back(static_cast<char>((static_cast<uint32_t>(id) >> shift) & 0xFF));
    }
  };
  for (const int32_t id : ids) append(id);
  append(-1);
}

// The rows of a file without its first line, a comment.
absl::StatusOr<std::vector<std::string>> Rows(const std::string& path) {
  DW_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  std::vector<std::string> rows = absl::StrSplit(text, '\n');
  if (rows.size() < 2 || !absl::StartsWith(rows[0], "#") || !rows.back().empty()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": is no golden file"));
  }
  rows.pop_back();
  rows.erase(rows.begin());
  return rows;
}

struct GoldenLine {
  std::string ids_hash;
  std::string decoded_hash;
  std::string ids;
  std::string text;
};

absl::StatusOr<GoldenLine> ParseLine(const std::string& row) {
  const std::vector<std::string> fields = absl::StrSplit(row, '\t');
  GoldenLine line;
  if (fields.size() != 4 || !absl::CUnescape(fields[3], &line.text)) {
    return absl::InvalidArgumentError(absl::StrCat("no golden line: ", row));
  }
  line.ids_hash = fields[0];
  line.decoded_hash = fields[1];
  line.ids = fields[2];
  return line;
}

// The sentence about a difference, empty if there is none.
absl::StatusOr<std::string> Difference(const Tokenizer& tokenizer, const GoldenLine& line) {
  DW_ASSIGN_OR_RETURN(const auto ids, tokenizer.Encode(line.text, {.parse_special = true}));
  DW_ASSIGN_OR_RETURN(const auto plain, tokenizer.Encode(line.text, {.parse_special = false}));
  DW_ASSIGN_OR_RETURN(const auto framed,
                      tokenizer.Encode(line.text, {.parse_special = true, .add_special = true}));
  std::string bytes;
  for (const auto* list : {&ids, &plain, &framed}) AppendIds(*list, &bytes);
  const std::string shown = absl::StrJoin(ids, " ");
  if (Fnv1a(bytes) != line.ids_hash || (!line.ids.empty() && shown != line.ids)) {
    return absl::StrCat("\"", absl::CHexEscape(line.text), "\": got ids ", shown, "; spelled out ",
                        absl::StrJoin(plain, " "), "; framed ", absl::StrJoin(framed, " "),
                        "; want ", line.ids.empty() ? line.ids_hash : line.ids);
  }
  const std::string decoded = absl::StrCat(tokenizer.Decode(ids, false), absl::string_view("\0", 1),
                                           tokenizer.Decode(ids, true));
  if (Fnv1a(decoded) != line.decoded_hash) {
    return absl::StrCat("\"", absl::CHexEscape(line.text), "\": got back \"",
                        absl::CHexEscape(decoded), "\", want ", line.decoded_hash);
  }
  return std::string();
}

std::string SweepText(char32_t begin) {
  std::string text;
  for (char32_t c = begin; c < begin + kSweepBlock; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string x;
    AppendUtf8(c, &x);
    absl::StrAppend(&text, "a", x, "a", x, "1", x, " ", x, " ", x, "\u0334\u0323\n");
  }
  return text;
}

}  // namespace

absl::StatusOr<GoldenReport> CompareGolden(const Tokenizer& tokenizer, const std::string& path) {
  DW_ASSIGN_OR_RETURN(const std::vector<std::string> rows, Rows(path));
  GoldenReport report;
  for (const std::string& row : rows) {
    DW_ASSIGN_OR_RETURN(const GoldenLine line, ParseLine(row));
    DW_ASSIGN_OR_RETURN(const std::string difference, Difference(tokenizer, line));
    ++report.compared;
    if (!difference.empty()) {
      report.differences.push_back(absl::StrCat("line ", report.compared + 1, ": ", difference));
    }
  }
  return report;
}

absl::StatusOr<GoldenReport> CompareSweep(const Tokenizer& tokenizer, const std::string& path) {
  DW_ASSIGN_OR_RETURN(const std::vector<std::string> rows, Rows(path));
  GoldenReport report;
  for (const std::string& row : rows) {
    const char32_t begin = static_cast<char32_t>(report.compared++) * kSweepBlock;
    DW_ASSIGN_OR_RETURN(const auto ids,
                        tokenizer.Encode(SweepText(begin), {.parse_special = true}));
    std::string bytes;
    AppendIds(ids, &bytes);
    if (Fnv1a(bytes) != row) {
      report.differences.push_back(absl::StrFormat("U+%04X..U+%04X: ids differ",
                                                   static_cast<uint32_t>(begin),
                                                   static_cast<uint32_t>(begin) + kSweepBlock - 1));
    }
  }
  return report;
}

absl::StatusOr<std::vector<std::string>> GoldenTexts(const std::string& path) {
  DW_ASSIGN_OR_RETURN(const std::vector<std::string> rows, Rows(path));
  std::vector<std::string> texts;
  for (const std::string& row : rows) {
    DW_ASSIGN_OR_RETURN(GoldenLine line, ParseLine(row));
    texts.push_back(std::move(line.text));
  }
  return texts;
}

}  // namespace deltaworks::trainer
