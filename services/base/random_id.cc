#include "services/base/random_id.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace deltaworks::services {
namespace {

// Null: the system.
std::function<uint64_t()>& SourceOfThread() {
  static thread_local std::function<uint64_t()> source;
  return source;
}

}  // namespace

void SetRandomBitsOfThread(std::function<uint64_t()> source) {
  SourceOfThread() = std::move(source);
}

std::string RandomBytes(size_t count) {
  std::string bytes(count, '\0');
  if (const std::function<uint64_t()>& source = SourceOfThread(); source != nullptr) {
    for (size_t i = 0; i < count; i += sizeof(uint64_t)) {
      const uint64_t bits = source();
      std::memcpy(&bytes[i], &bits, std::min(sizeof(bits), count - i));
    }
    return bytes;
  }
  size_t filled = 0;
  while (filled < count) {
    const ssize_t got = getrandom(&bytes[filled], count - filled, 0);
    if (got < 0 && errno == EINTR) continue;
    PCHECK(got > 0) << "getrandom";
    filled += static_cast<size_t>(got);
  }
  return bytes;
}

std::string RandomHexId() { return absl::BytesToHexString(RandomBytes(16)); }

std::string RandomResourceId(absl::string_view prefix) {
  // 32 letters without those that look alike: 5 bits each, no modulo bias.
  static constexpr char kAlphabet[] = "abcdefghijkmnpqrstuvwxyz23456789";
  static_assert(sizeof(kAlphabet) == 33);
  std::string id(prefix);
  for (const char byte : RandomBytes(16)) id += kAlphabet[static_cast<unsigned char>(byte) % 32];
  return id;
}

}  // namespace deltaworks::services
