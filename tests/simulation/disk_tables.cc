#include "tests/simulation/disk_tables.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace deltaworks::simulation {
namespace {

using Fate = SimulatedDisk::Fate;

struct Header {
  int64_t size = 0;  // Of the changes, in bytes.
  int64_t number = 0;
  uint64_t checksum = 0;
};

uint64_t Checksum(int64_t number, absl::string_view bytes) {
  uint64_t hash = 0xCBF29CE484222325 ^ static_cast<uint64_t>(number);
  for (const char byte : bytes) {
    hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001B3;
  }
  return hash;
}

void AppendNumber(int64_t number, std::string& bytes) {
  bytes.append(reinterpret_cast<const char*>(&number), sizeof(number));
}

void AppendText(absl::string_view text, std::string& bytes) {
  AppendNumber(static_cast<int64_t>(text.size()), bytes);
  bytes.append(text.data(), text.size());
}

// Of bytes whose checksum is right.
int64_t TakeNumber(absl::string_view& bytes) {
  int64_t number = 0;
  CHECK_GE(bytes.size(), sizeof(number));
  std::memcpy(&number, bytes.data(), sizeof(number));
  bytes.remove_prefix(sizeof(number));
  return number;
}

std::string TakeText(absl::string_view& bytes) {
  const auto size = static_cast<size_t>(TakeNumber(bytes));
  CHECK_GE(bytes.size(), size);
  std::string text(bytes.substr(0, size));
  bytes.remove_prefix(size);
  return text;
}

std::string Encode(const DiskTables::Change& change) {
  std::string bytes;
  AppendNumber(change.table, bytes);
  AppendText(change.key, bytes);
  AppendNumber(change.row.has_value() ? static_cast<int64_t>(change.row->size()) : -1, bytes);
  if (!change.row.has_value()) return bytes;
  for (const std::string& field : *change.row) AppendText(field, bytes);
  return bytes;
}

DiskTables::Change TakeChange(absl::string_view& bytes) {
  DiskTables::Change change;
  change.table = static_cast<int>(TakeNumber(bytes));
  change.key = TakeText(bytes);
  const int64_t fields = TakeNumber(bytes);
  if (fields < 0) return change;
  change.row.emplace();
  for (int64_t i = 0; i < fields; ++i) change.row->push_back(TakeText(bytes));
  return change;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DiskTables>> DiskTables::Open(SimulatedDisk& disk,
                                                             const std::string& path, int tables) {
  DiskFile& file = disk.files()[path];
  // The sync of the last commit may have failed, or not have come.
  const Fate fate = disk.OnWrite();
  if (fate == Fate::kWritten || fate == Fate::kWrittenFails) file.Sync();
  if (fate != Fate::kWritten) return absl::InternalError(absl::StrCat(path, ": sync failed"));
  std::unique_ptr<DiskTables> opened(new DiskTables(disk, file, tables));
  while (opened->ReadNext()) {
  }
  return opened;
}

bool DiskTables::ReadNext() {
  absl::string_view rest = file_.bytes().substr(static_cast<size_t>(end_));
  Header header;
  if (rest.size() < sizeof(header)) return false;
  std::memcpy(&header, rest.data(), sizeof(header));
  rest.remove_prefix(sizeof(header));
  if (header.number != commits_ + 1 || header.size < 0 ||
      header.size > static_cast<int64_t>(rest.size())) {
    return false;
  }
  absl::string_view bytes = rest.substr(0, static_cast<size_t>(header.size));
  if (Checksum(header.number, bytes) != header.checksum) return false;
  std::vector<Change> changes;
  while (!bytes.empty()) changes.push_back(TakeChange(bytes));
  Apply(std::move(changes));
  ++commits_;
  end_ += static_cast<int64_t>(sizeof(header)) + header.size;
  return true;
}

void DiskTables::Apply(std::vector<Change> changes) {
  for (Change& change : changes) {
    Table& table = tables_[change.table];
    if (change.row.has_value()) {
      table.insert_or_assign(std::move(change.key), *std::move(change.row));
    } else {
      table.erase(change.key);
    }
  }
}

absl::Status DiskTables::Commit(std::vector<Change> changes) {
  if (changes.empty()) return absl::OkStatus();
  std::string bytes;
  std::vector<std::string> pieces(1);
  for (const Change& change : changes) {
    pieces.push_back(Encode(change));
    bytes += pieces.back();
  }
  const Header header = {static_cast<int64_t>(bytes.size()), commits_ + 1,
                         Checksum(commits_ + 1, bytes)};
  pieces.front().assign(reinterpret_cast<const char*>(&header), sizeof(header));
  int64_t end = end_;
  for (const std::string& piece : pieces) {
    const Fate fate = disk_.OnWrite();
    if (fate == Fate::kWritten || fate == Fate::kWrittenFails) file_.Write(end, piece);
    if (fate == Fate::kFull) return absl::ResourceExhaustedError("simulated: disk is full");
    if (fate != Fate::kWritten) return absl::InternalError("simulated: write failed");
    end += static_cast<int64_t>(piece.size());
  }
  const Fate fate = disk_.OnWrite();
  if (fate == Fate::kWritten || fate == Fate::kWrittenFails) file_.Sync();
  // All is written, so that also a full disk leaves open whether it will be read.
  if (fate != Fate::kWritten) return absl::InternalError("simulated: sync failed");
  Apply(std::move(changes));
  ++commits_;
  end_ = end;
  return absl::OkStatus();
}

}  // namespace deltaworks::simulation
