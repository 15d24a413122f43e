#include "services/cli/local/port_owner.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <functional>
#include <sstream>

#include "absl/cleanup/cleanup.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "services/base/address.h"
#include "trainer/base/file.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr char kListening[] = "0A";  // TCP_LISTEN in /proc/net/tcp.
constexpr size_t kCommandBytesMax = 80;

void ForEachName(const std::string& folder, const std::function<void(const std::string&)>& visit) {
  DIR* const dir = opendir(folder.c_str());
  if (dir == nullptr) return;
  const auto closer = absl::MakeCleanup([dir] { closedir(dir); });
  while (const dirent* entry = readdir(dir)) visit(entry->d_name);
}

// Adds the inodes, as "socket:[123]", of sockets that listen on `port`. A line of the file is
//   sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode ...
void AddListeners(const std::string& file, int port, absl::flat_hash_set<std::string>* sockets) {
  std::ifstream lines(file);
  std::string line;
  std::getline(lines, line);
  while (std::getline(lines, line)) {
    const std::vector<std::string> fields = absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (fields.size() < 10 || fields[3] != kListening) continue;
    const std::pair<std::string, std::string> local = absl::StrSplit(fields[1], ':');
    int number = 0;
    if (absl::SimpleHexAtoi(local.second, &number) && number == port) {
      sockets->insert(absl::StrCat("socket:[", fields[9], "]"));
    }
  }
}

bool HasOneOf(const std::string& fd_folder, const absl::flat_hash_set<std::string>& sockets) {
  bool found = false;
  ForEachName(fd_folder, [&](const std::string& name) {
    char target[64];
    const ssize_t size =
        readlink(absl::StrCat(fd_folder, "/", name).c_str(), target, sizeof(target));
    if (size > 0) found |= sockets.contains(std::string(target, static_cast<size_t>(size)));
  });
  return found;
}

// Its program, without the folder, and its arguments.
std::string CommandOf(const std::string& process_folder) {
  std::ifstream file(process_folder + "/cmdline", std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  std::string command = text.str();
  const size_t slash = command.substr(0, command.find('\0')).rfind('/');
  if (slash != std::string::npos) command.erase(0, slash + 1);
  std::replace(command.begin(), command.end(), '\0', ' ');
  command = std::string(absl::StripAsciiWhitespace(command));
  if (command.size() > kCommandBytesMax) command = command.substr(0, kCommandBytesMax) + "...";
  return command;
}

// errno of listening there, 0 if it can be done.
int TryToListen(const HostPort& address) {
  sockaddr_in target = {};
  target.sin_family = AF_INET;
  target.sin_port = htons(static_cast<uint16_t>(address.port));
  if (inet_pton(AF_INET, address.host.c_str(), &target.sin_addr) != 1) return EADDRNOTAVAIL;
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno;
  const auto closer = absl::MakeCleanup([fd] { close(fd); });
  // As servers do: connections that ended a minute ago do not count.
  const int yes = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  if (bind(fd, reinterpret_cast<const sockaddr*>(&target), sizeof(target)) != 0) return errno;
  return listen(fd, 1) == 0 ? 0 : errno;
}

}  // namespace

std::optional<std::string> ListenerOfPort(int port) {
  absl::flat_hash_set<std::string> sockets;
  AddListeners("/proc/net/tcp", port, &sockets);
  AddListeners("/proc/net/tcp6", port, &sockets);
  std::optional<std::string> owner;
  if (sockets.empty()) return owner;
  ForEachName("/proc", [&](const std::string& name) {
    int pid = 0;
    if (owner.has_value() || !absl::SimpleAtoi(name, &pid)) return;
    const std::string folder = absl::StrCat("/proc/", name);
    if (HasOneOf(folder + "/fd", sockets)) {
      owner = absl::StrCat("process ", pid, " (", CommandOf(folder), ")");
    }
  });
  return owner;
}

absl::Status CheckPortIsFree(absl::string_view what, const std::string& address) {
  DW_ASSIGN_OR_RETURN(const HostPort parsed, ParseHostPort(what, address));
  if (parsed.port == 0) return absl::OkStatus();
  const int error = TryToListen(parsed);
  if (error == 0) return absl::OkStatus();
  if (error != EADDRINUSE) {
    return absl::FailedPreconditionError(
        absl::StrCat(what, " ", address, " cannot be listened on: ", strerror(error)));
  }
  const std::optional<std::string> owner = ListenerOfPort(parsed.port);
  return absl::FailedPreconditionError(absl::StrCat(
      what, " ", address, " is in use by ",
      owner.value_or(absl::StrCat(
          "a process that this user may not see (as root: ss -ltnp sport = ", parsed.port, ")")),
      "; stop it, or choose other ports with --port_base"));
}

}  // namespace deltaworks::services
