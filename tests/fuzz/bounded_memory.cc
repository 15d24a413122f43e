#include "tests/fuzz/bounded_memory.h"

#include <cstdio>
#include <cstdlib>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define DW_COUNTS_MEMORY 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define DW_COUNTS_MEMORY 1
#endif

#ifdef DW_COUNTS_MEMORY
// g++ has these functions, but not the header that declares them.
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void*,
                                                                           size_t),
                                                         void (*on_free)(const volatile void*));
extern "C" size_t __sanitizer_get_allocated_size(const volatile void* memory);
#endif

namespace deltaworks::fuzz {

#ifdef DW_COUNTS_MEMORY
namespace {

int64_t live_bytes = 0;
int64_t limit_bytes = 0;  // 0: nothing is counted.

void OnMalloc(const volatile void*, size_t size) {
  if (limit_bytes == 0) return;
  live_bytes += static_cast<int64_t>(size);
  if (live_bytes <= limit_bytes) return;
  std::fprintf(stderr, "the parser holds %lld bytes, want at most %lld for this input\n",
               static_cast<long long>(live_bytes), static_cast<long long>(limit_bytes));
  limit_bytes = 0;
  std::abort();
}

// What was allocated before is freed at times, which makes the count a little too small.
void OnFree(const volatile void* memory) {
  if (limit_bytes == 0 || memory == nullptr) return;
  live_bytes -= static_cast<int64_t>(__sanitizer_get_allocated_size(memory));
}

}  // namespace

BoundedMemory::BoundedMemory(size_t input_bytes) {
  static const bool hooked = __sanitizer_install_malloc_and_free_hooks(OnMalloc, OnFree) != 0;
  if (!hooked) std::abort();
  live_bytes = 0;
  limit_bytes = kFixedBytes + kBytesPerByte * static_cast<int64_t>(input_bytes);
}

BoundedMemory::~BoundedMemory() { limit_bytes = 0; }

#else

BoundedMemory::BoundedMemory(size_t) {}
BoundedMemory::~BoundedMemory() = default;

#endif

}  // namespace deltaworks::fuzz
