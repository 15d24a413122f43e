// AMX tiles: eight registers of 16 rows of 64 bytes, numbered by template arguments.
//
// With DW_EMULATE_TILES the same operations work on memory, as Intel's Software Developer's Manual
// (volume 2, TDPBF16PS) writes them down, so that kernels on tiles are tested where there are none.

#ifndef DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_TILES_H_
#define DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_TILES_H_

#include "trainer/backend/cpu/kernels/simd.h"

#if defined(__AMX_BF16__) || defined(DW_EMULATE_TILES)
#define DW_TILES

namespace deltaworks::trainer::DW_ISA {

inline constexpr int64_t kTileRows = 16;
inline constexpr int64_t kTileBytes = 64;  // Of a row.
inline constexpr int64_t kTileDepth = kTileBytes / static_cast<int64_t>(sizeof(Bf16));

#if !defined(DW_EMULATE_TILES)

// While alive, this thread has all eight tiles at their full size.
class TileScope {
 public:
  DW_INLINE TileScope() {
    // Palette 1; 16-bit bytes of a row from byte 16 on, 8-bit rows from byte 48 on.
    alignas(64) uint8_t config[64] = {1};
    for (int tile = 0; tile < 8; ++tile) {
      config[16 + 2 * tile] = kTileBytes;
      config[48 + tile] = kTileRows;
    }
    asm volatile("ldtilecfg %0" : : "m"(config));
  }
  DW_INLINE ~TileScope() { asm volatile("tilerelease"); }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
};

template <int kTile>
DW_INLINE void ZeroTile() {
  asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
}
// Rows are `row_bytes` apart.
template <int kTile>
DW_INLINE void LoadTile(const void* from, int64_t row_bytes) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2"
               :
               : "r"(from), "r"(row_bytes), "i"(kTile)
               : "memory");
}
template <int kTile>
DW_INLINE void StoreTile(void* to, int64_t row_bytes) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(row_bytes), "i"(kTile) : "memory");
}
// kSum [16,16] f32 += kLeft [16,32] kRight [32,16], both bf16, kRight in pairs: row p has the
// elements (2 p, j) and (2 p + 1, j) beside each other.
template <int kSum, int kLeft, int kRight>
DW_INLINE void MultiplyTiles() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kLeft), "i"(kRight));
}

#else

struct EmulatedTile {
  alignas(64) char row[kTileRows][kTileBytes];
};
static thread_local EmulatedTile g_tiles[8];

class TileScope {
 public:
  TileScope() {}
  ~TileScope() { std::memset(g_tiles, 0xff, sizeof(g_tiles)); }
};

template <int kTile>
void ZeroTile() {
  std::memset(&g_tiles[kTile], 0, sizeof(EmulatedTile));
}
template <int kTile>
void LoadTile(const void* from, int64_t row_bytes) {
  for (int64_t i = 0; i < kTileRows; ++i)
    std::memcpy(g_tiles[kTile].row[i], static_cast<const char*>(from) + i * row_bytes, kTileBytes);
}
template <int kTile>
void StoreTile(void* to, int64_t row_bytes) {
  for (int64_t i = 0; i < kTileRows; ++i)
    std::memcpy(static_cast<char*>(to) + i * row_bytes, g_tiles[kTile].row[i], kTileBytes);
}

// The elements of even or of odd place, widened.
DW_INLINE F32 Halves(U32 pairs, bool odd) {
  const NativeU bits = odd ? pairs.part[0] & 0xffff0000u : pairs.part[0] << 16;
  F32 result;
  std::memcpy(&result.part[0], &bits, sizeof(bits));
  return result;
}

// In the order of depth, elements of even and of odd place in sums of their own, which are added to
// each other and then to the tile. Denormal numbers count as zero.
template <int kSum, int kLeft, int kRight>
__attribute__((noinline)) void MultiplyTiles() {
  static_assert(kParts == 1);
  const uint32_t mode = _mm_getcsr();
  _mm_setcsr(mode | 0x8040);
  for (int64_t i = 0; i < kTileRows; ++i) {
    F32 even = Zero(), odd = Zero();
    for (int64_t p = 0; p < kTileRows; ++p) {
      uint32_t left;
      std::memcpy(&left, &g_tiles[kLeft].row[i][4 * p], sizeof(left));
      U32 right;
      std::memcpy(&right, g_tiles[kRight].row[p], sizeof(right));
      even = Fma(Halves(BroadcastU(left), false), Halves(right, false), even);
      odd = Fma(Halves(BroadcastU(left), true), Halves(right, true), odd);
    }
    F32 sum;
    std::memcpy(&sum, g_tiles[kSum].row[i], sizeof(sum));
    sum = sum + (even + odd);
    std::memcpy(g_tiles[kSum].row[i], &sum, sizeof(sum));
  }
  _mm_setcsr(mode);
}

#endif

}  // namespace deltaworks::trainer::DW_ISA

#endif  // AMX, or without it.

#endif  // DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_TILES_H_
