#include "services/base/random_id.h"

#include <sys/random.h>

#include <cerrno>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace deltaworks::services {

std::string RandomBytes(size_t count) {
  std::string bytes(count, '\0');
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
