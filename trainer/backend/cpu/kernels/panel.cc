// Products of rows with one panel: the right-hand side, at most kPanelColumns columns of it, copied
// so that a step of the inner loop reads it in its order. Compiled once for each instruction set.
//
// Every element of a result is one chain of multiply-adds in the order of the terms and, within a
// term, of depth. It depends on its row and its column only: not on the rows beside it, nor on how
// rows are cut into calls, nor on how the chain is (partial sums are f32, as in registers).
//
// Two layouts: f32 [depth][64], for f32 and, widened, for bf16 on machines that cannot multiply it;
// and pairs of bf16 [depth / 2][64][2], which vdpbf16ps multiplies and adds two by two, and AMX 32
// by 32: a step of its chain is the sum of 32 products, a term's last step being filled with zeros.

#include "trainer/backend/cpu/kernels/attention.h"
#include "trainer/backend/cpu/kernels/simd.h"
#include "trainer/backend/cpu/kernels/tiles.h"

namespace deltaworks::trainer::DW_ISA {
namespace {

// Rows times vectors of the sums that registers hold.
#if defined(__AVX512F__)
constexpr int kVectorsMax = 4;
constexpr int RowsFor(int vectors) { return vectors == 4 ? 6 : vectors == 3 ? 8 : 12; }
#elif defined(__AVX2__)
constexpr int kVectorsMax = 1;
constexpr int RowsFor(int) { return 6; }
#else
constexpr int kVectorsMax = 1;
constexpr int RowsFor(int) { return 2; }
#endif
constexpr int kRowsMax = 12;
static_assert(RowsFor(1) <= kRowsMax && RowsFor(kVectorsMax) <= kRowsMax);

// ---- Layouts ----

// One f32 at a step.
struct Wide {
  using Element = float;
  static constexpr int kStep = 1;
  static DW_INLINE F32 Left(const float* a) { return Broadcast(*a); }
  static DW_INLINE F32 Right(const float* b) { return Load(b); }
  static DW_INLINE F32 MultiplyAdd(F32 a, F32 b, F32 sum) { return Fma(a, b, sum); }
};

#if defined(__AVX512BF16__)
// Two bf16 at a step. The instruction takes denormal numbers for zero.
struct Pairs {
  using Element = Bf16;
  static constexpr int kStep = 2;
  static DW_INLINE __m512i Left(const Bf16* a) {
    int32_t pair;
    std::memcpy(&pair, a, sizeof(pair));
    return _mm512_set1_epi32(pair);
  }
  static DW_INLINE __m512i Right(const Bf16* b) { return _mm512_loadu_si512(b); }
  static DW_INLINE F32 MultiplyAdd(__m512i a, __m512i b, F32 sum) {
    sum.part[0] =
        _mm512_dpbf16_ps(sum.part[0], reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
    return sum;
  }
};
#endif

template <typename T>
struct LayoutOf {
  using Type = Wide;
};
#if defined(__AVX512BF16__)
template <>
struct LayoutOf<Bf16> {
  using Type = Pairs;
};
#endif

DW_INLINE float WideElement(float x) { return x; }
DW_INLINE float WideElement(Bf16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof(wide));
  return wide;
}

// ---- Packing ----

// panel[p][j] = b[p * row + j]; zero for the other j.
template <typename T>
DW_INLINE void PackRowsWide(const T* b, int64_t row, int64_t depth, int64_t columns, float* panel) {
  for (int64_t p = 0; p < depth; ++p) {
    float* const to = panel + p * kPanelColumns;
    for (int64_t j = columns / kLanes * kLanes; j < kPanelColumns; j += kLanes)
      Store(to + j, Zero());
    ForChunks(columns,
              [&](int64_t j, int64_t lanes) { Store(to + j, LoadChunk(b + p * row + j, lanes)); });
  }
}

DW_INLINE __m128 LoadFour(const float* p) { return _mm_loadu_ps(p); }
DW_INLINE __m128 LoadFour(const Bf16* p) {
  const __m128i four = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return _mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), four));
}

// panel[p][j] = b[j * row + p].
template <typename T>
DW_INLINE void PackTransposedWide(const T* b, int64_t row, int64_t depth, int64_t columns,
                                  float* panel) {
  int64_t j = 0;
  for (; j + 4 <= columns; j += 4) {
    int64_t p = 0;
    for (; p + 4 <= depth; p += 4) {
      __m128 rows[4];
      for (int i = 0; i < 4; ++i) rows[i] = LoadFour(b + (j + i) * row + p);
      _MM_TRANSPOSE4_PS(rows[0], rows[1], rows[2], rows[3]);
      for (int i = 0; i < 4; ++i) _mm_storeu_ps(panel + (p + i) * kPanelColumns + j, rows[i]);
    }
    for (; p < depth; ++p) {
      for (int i = 0; i < 4; ++i)
        panel[p * kPanelColumns + j + i] = WideElement(b[(j + i) * row + p]);
    }
  }
  for (; j < kPanelColumns; ++j) {
    for (int64_t p = 0; p < depth; ++p) {
      panel[p * kPanelColumns + j] = j < columns ? WideElement(b[j * row + p]) : 0;
    }
  }
}

#if defined(__AVX512BF16__)
// The first n of 32 elements, n <= 0 none; the others are zero.
DW_INLINE __m512i LoadBf16(const Bf16* p, int64_t n) {
  if (n >= 32) return _mm512_loadu_si512(p);
  if (n <= 0) return _mm512_setzero_si512();
  return _mm512_maskz_loadu_epi16((__mmask32{1} << n) - 1, p);
}

// panel[p / 2][j][p % 2] = b[p * row + j]; zero for other j and behind an odd depth.
DW_INLINE void PackRowsPairs(const Bf16* b, int64_t row, int64_t depth, int64_t columns,
                             Bf16* panel) {
  alignas(64) static constexpr uint16_t kFirst[32] = {0,  32, 1,  33, 2,  34, 3,  35, 4,  36, 5,
                                                      37, 6,  38, 7,  39, 8,  40, 9,  41, 10, 42,
                                                      11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
  const __m512i first = _mm512_load_si512(kFirst);
  const __m512i second = _mm512_add_epi16(first, _mm512_set1_epi16(16));
  for (int64_t p = 0; p < depth; p += 2, panel += 2 * kPanelColumns) {
    for (int64_t j = 0; j < kPanelColumns; j += 32) {
      const __m512i even = LoadBf16(b + p * row + j, columns - j);
      const __m512i odd =
          p + 1 < depth ? LoadBf16(b + (p + 1) * row + j, columns - j) : _mm512_setzero_si512();
      _mm512_storeu_si512(panel + 2 * j, _mm512_permutex2var_epi16(even, first, odd));
      _mm512_storeu_si512(panel + 2 * j + 32, _mm512_permutex2var_epi16(even, second, odd));
    }
  }
}

// A 16 x 16 transpose of 32-bit elements.
DW_INLINE void Transpose(__m512i rows[16]) {
  __m512i t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    rows[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    rows[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    rows[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    rows[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
  // rows[4 i + c]: of rows 4 i .. 4 i + 3, columns c, 4 + c, 8 + c, 12 + c.
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const __m512i low = _mm512_shuffle_i32x4(rows[c], rows[4 + c], 0x88);
    const __m512i high = _mm512_shuffle_i32x4(rows[8 + c], rows[12 + c], 0x88);
    const __m512i low_odd = _mm512_shuffle_i32x4(rows[c], rows[4 + c], 0xdd);
    const __m512i high_odd = _mm512_shuffle_i32x4(rows[8 + c], rows[12 + c], 0xdd);
    t[c] = _mm512_shuffle_i32x4(low, high, 0x88);
    t[8 + c] = _mm512_shuffle_i32x4(low, high, 0xdd);
    t[4 + c] = _mm512_shuffle_i32x4(low_odd, high_odd, 0x88);
    t[12 + c] = _mm512_shuffle_i32x4(low_odd, high_odd, 0xdd);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) rows[i] = t[i];
}

// panel[p / 2][j][p % 2] = b[j * row + p]: pairs stay together.
DW_INLINE void PackTransposedPairs(const Bf16* b, int64_t row, int64_t depth, int64_t columns,
                                   Bf16* panel) {
  for (int64_t j = 0; j < kPanelColumns; j += 16) {
    for (int64_t p = 0; p < depth; p += 32) {
      __m512i rows[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) {
        rows[i] = LoadBf16(b + (j + i) * row + p, j + i < columns ? depth - p : 0);
      }
      Transpose(rows);
      const int64_t pairs = depth - p >= 32 ? 16 : (depth - p + 1) / 2;
      for (int64_t i = 0; i < pairs; ++i) {
        _mm512_storeu_si512(panel + (p + 2 * i) * kPanelColumns + 2 * j, rows[i]);
      }
    }
  }
}
#endif

template <typename T>
void PackRows(const void* b, int64_t row, int64_t depth, int64_t columns, void* panel) {
#if defined(__AVX512BF16__)
  if constexpr (sizeof(T) == sizeof(Bf16)) {
    PackRowsPairs(static_cast<const Bf16*>(b), row, depth, columns, static_cast<Bf16*>(panel));
    return;
  }
#endif
  PackRowsWide(static_cast<const T*>(b), row, depth, columns, static_cast<float*>(panel));
}

template <typename T>
void PackTransposed(const void* b, int64_t row, int64_t depth, int64_t columns, void* panel) {
#if defined(__AVX512BF16__)
  if constexpr (sizeof(T) == sizeof(Bf16)) {
    PackTransposedPairs(static_cast<const Bf16*>(b), row, depth, columns,
                        static_cast<Bf16*>(panel));
    return;
  }
#endif
  PackTransposedWide(static_cast<const T*>(b), row, depth, columns, static_cast<float*>(panel));
}

// ---- Products ----

// The first `lanes` of the sums that begin at (row, column).
DW_INLINE F32 InitialSum(const PanelProduct& q, int64_t row, int64_t column, int64_t lanes) {
  if (q.initial == nullptr) return Zero();
  const float* const from = q.initial + row * q.initial_row + column;
  return lanes >= kLanes ? Load(from) : LoadPartial(from, lanes);
}

template <typename T>
DW_INLINE void StoreSum(const PanelProduct& q, int64_t row, int64_t column, F32 sum,
                        int64_t lanes) {
  const int64_t at = row * q.out_row + column;
  if (q.sums != nullptr) {
    lanes >= kLanes ? Store(q.sums + at, sum) : StorePartial(q.sums + at, sum, lanes);
  } else {
    T* const to = static_cast<T*>(q.rounded) + at;
    lanes >= kLanes ? Store(to, sum) : StorePartial(to, sum, lanes);
  }
}

// A term as the inner loop reads it.
template <typename Layout>
struct Term {
  const typename Layout::Element* a;
  int64_t a_row;
  int64_t a_step;
  const typename Layout::Element* panel;
  int64_t steps;
};

template <typename T, typename Layout>
struct Block {
  const PanelProduct& q;
  const Term<Layout>* terms;
  int64_t row;
  int64_t column;

  template <int kRows, int kVectors>
  __attribute__((noinline)) void Compute() const {
    F32 sums[kRows][kVectors];
    const int64_t lanes = q.columns - column - (kVectors - 1) * kLanes;  // Of the last vector.
#pragma GCC unroll 12
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        sums[i][v] = InitialSum(q, row + i, column + v * kLanes, v + 1 < kVectors ? kLanes : lanes);
      }
    }
    for (int64_t t = 0; t < q.term_count; ++t) {
      const typename Layout::Element* a = terms[t].a;
      const int64_t a_row = terms[t].a_row, a_step = terms[t].a_step;
      const typename Layout::Element* b = terms[t].panel + column * Layout::kStep;
      for (int64_t s = 0; s < terms[t].steps; ++s) {
        decltype(Layout::Right(b)) vectors[kVectors];
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
          vectors[v] = Layout::Right(b + v * kLanes * Layout::kStep);
        }
#pragma GCC unroll 12
        for (int i = 0; i < kRows; ++i) {
          const auto left = Layout::Left(a + i * a_row);
#pragma GCC unroll 4
          for (int v = 0; v < kVectors; ++v) {
            sums[i][v] = Layout::MultiplyAdd(left, vectors[v], sums[i][v]);
          }
        }
        a += a_step;
        b += kPanelColumns * Layout::kStep;
      }
    }
#pragma GCC unroll 12
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        StoreSum<T>(q, row + i, column + v * kLanes, sums[i][v], v + 1 < kVectors ? kLanes : lanes);
      }
    }
  }

  template <int kRows, int kVectors>
  DW_INLINE void ComputeRows(int64_t rows) const {
    if constexpr (kRows > 0) {
      if (rows == kRows) {
        Compute<kRows, kVectors>();
      } else {
        ComputeRows<kRows - 1, kVectors>(rows);
      }
    }
  }

  template <int kVectors>
  DW_INLINE void ComputeVectors(int64_t rows, int64_t vectors) const {
    if constexpr (kVectors > 0) {
      if (vectors == kVectors) {
        ComputeRows<RowsFor(kVectors), kVectors>(rows);
      } else {
        ComputeVectors<kVectors - 1>(rows, vectors);
      }
    }
  }
};

// Rows [row, row + rows) of a term, as the layout wants them: where they are, or a copy.
template <typename T, typename Layout>
DW_INLINE Term<Layout> Stage(const PanelTerm& term, int64_t row, int64_t rows,
                             typename Layout::Element** scratch) {
  using Element = typename Layout::Element;
  Term<Layout> result;
  result.a_step = Layout::kStep;
  result.panel = static_cast<const Element*>(term.panel);
  result.steps = (term.depth + Layout::kStep - 1) / Layout::kStep;
  if (term.a_packed) {
    result.a = static_cast<const Element*>(term.a) + row * Layout::kStep;
    result.a_row = Layout::kStep;
    result.a_step = kPanelColumns * Layout::kStep;
    return result;
  }
  const T* const a = static_cast<const T*>(term.a) + row * term.a_row;
  if constexpr (sizeof(T) == sizeof(Element)) {
    if (term.depth % Layout::kStep == 0) {
      result.a = a;
      result.a_row = term.a_row;
      return result;
    }
  }
  Element* const copy = *scratch;
  result.a = copy;
  result.a_row = (term.depth + kLanes) / kLanes * kLanes;
  for (int64_t i = 0; i < rows; ++i) {
    // Behind an odd depth stands zero, never what happens to follow.
    for (int64_t p = 0; p < result.a_row; p += kLanes) {
      const int64_t left = term.depth - p;
      const F32 chunk =
          left <= 0 ? Zero() : LoadChunk(a + i * term.a_row + p, left < kLanes ? left : kLanes);
      Store(copy + i * result.a_row + p, chunk);
    }
  }
  *scratch += kRowsMax * result.a_row;
  return result;
}

template <typename T>
void Product(const PanelProduct& q, void* scratch) {
  using Layout = typename LayoutOf<T>::Type;
  const int64_t vectors = (q.columns + kLanes - 1) / kLanes;
  const int64_t block_rows =
      RowsFor(static_cast<int>(vectors < kVectorsMax ? vectors : kVectorsMax));
  for (int64_t row = 0; row < q.rows; row += block_rows) {
    const int64_t rows = q.rows - row < block_rows ? q.rows - row : block_rows;
    auto* staged = static_cast<typename Layout::Element*>(scratch);
    Term<Layout> terms[kPanelTermsMax];
    for (int64_t t = 0; t < q.term_count; ++t) {
      terms[t] = Stage<T, Layout>(q.terms[t], row, rows, &staged);
    }
    for (int64_t vector = 0; vector < vectors; vector += kVectorsMax) {
      const Block<T, Layout> block = {q, terms, row, vector * kLanes};
      block.template ComputeVectors<kVectorsMax>(
          rows, vectors - vector < kVectorsMax ? vectors - vector : kVectorsMax);
    }
  }
}

#if defined(DW_TILES)
// ---- Products on tiles ----

constexpr int64_t kBlockRows = 2 * kTileRows;
constexpr int64_t kTailPanel = kTileRows * kPanelColumns * 2;  // Elements.

// A term as tiles are loaded from it: whole steps, then one that is filled with zeros if there is a
// rest of depth.
struct TiledTerm {
  const Bf16* a;
  int64_t a_row;
  const Bf16* panel;
  int64_t steps;
  const Bf16* a_tail;
  int64_t a_tail_row;
  const Bf16* panel_tail;  // nullptr: no rest.
};

// left[j][p] = a[p * a_row + j], 64 rows; zero for j >= columns and for depth beyond the last, up
// to a whole step.
void PackLeft(const void* compute_a, int64_t a_row, int64_t depth, int64_t columns, void* packed) {
  const Bf16* const a = static_cast<const Bf16*>(compute_a);
  Bf16* const left = static_cast<Bf16*>(packed);
  const int64_t row = (depth + kTileDepth - 1) / kTileDepth * kTileDepth;
  const auto sixteen = [&](int64_t p, int64_t j) {  // Of row p, as 32-bit integers.
    const int64_t n = columns - j;
    if (p >= depth || n <= 0) return _mm512_setzero_si512();
    const __mmask16 mask = n >= 16 ? 0xffff : static_cast<__mmask16>((1 << n) - 1);
    return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, a + p * a_row + j));
  };
  for (int64_t p = 0; p < row; p += kTileDepth) {
    for (int64_t j = 0; j < kPanelColumns; j += 16) {
      __m512i rows[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) {
        rows[i] = _mm512_or_si512(sixteen(p + 2 * i, j),
                                  _mm512_slli_epi32(sixteen(p + 2 * i + 1, j), 16));
      }
      Transpose(rows);
      for (int i = 0; i < 16; ++i) _mm512_storeu_si512(left + (j + i) * row + p, rows[i]);
    }
  }
}

// One step for kRows x kColumns tiles of sums, which are tiles 0 to 3, two a row.
template <int kRows, int kColumns>
DW_INLINE void Step(const Bf16* a, int64_t a_row, const Bf16* panel) {
  constexpr int64_t kPanelBytes = kPanelColumns * 2 * sizeof(Bf16);
  const int64_t a_bytes = a_row * static_cast<int64_t>(sizeof(Bf16));
  LoadTile<4>(a, a_bytes);
  LoadTile<6>(panel, kPanelBytes);
  MultiplyTiles<0, 4, 6>();
  if constexpr (kColumns == 2) {
    LoadTile<7>(panel + kTileDepth, kPanelBytes);
    MultiplyTiles<1, 4, 7>();
  }
  if constexpr (kRows == 2) {
    LoadTile<5>(a + kTileRows * a_row, a_bytes);
    MultiplyTiles<2, 5, 6>();
    if constexpr (kColumns == 2) MultiplyTiles<3, 5, 7>();
  }
}

// Adds the terms to sums [kRows * 16, 64] from `column` on.
template <int kRows, int kColumns>
__attribute__((noinline)) void AddTiles(const TiledTerm* terms, int64_t count, int64_t column,
                                        float* sums) {
  constexpr int64_t kSumBytes = kPanelColumns * sizeof(float);
  float* const first = sums + column;
  float* const second = first + kTileRows * kPanelColumns;
  LoadTile<0>(first, kSumBytes);
  if constexpr (kColumns == 2) LoadTile<1>(first + kTileRows, kSumBytes);
  if constexpr (kRows == 2) LoadTile<2>(second, kSumBytes);
  if constexpr (kRows == 2 && kColumns == 2) LoadTile<3>(second + kTileRows, kSumBytes);
  for (int64_t t = 0; t < count; ++t) {
    const TiledTerm& term = terms[t];
    for (int64_t s = 0; s < term.steps; ++s) {
      Step<kRows, kColumns>(term.a + s * kTileDepth, term.a_row,
                            term.panel + s * kTailPanel + 2 * column);
    }
    if (term.panel_tail != nullptr) {
      Step<kRows, kColumns>(term.a_tail, term.a_tail_row, term.panel_tail + 2 * column);
    }
  }
  StoreTile<0>(first, kSumBytes);
  if constexpr (kColumns == 2) StoreTile<1>(first + kTileRows, kSumBytes);
  if constexpr (kRows == 2) StoreTile<2>(second, kSumBytes);
  if constexpr (kRows == 2 && kColumns == 2) StoreTile<3>(second + kTileRows, kSumBytes);
}

class TiledProduct {
 public:
  TiledProduct(const PanelProduct& q, void* scratch) : q_(q) {
    sums_ = static_cast<float*>(scratch);
    auto* next = reinterpret_cast<Bf16*>(sums_ + kBlockRows * kPanelColumns);
    for (int64_t t = 0; t < q.term_count; ++t) {
      const PanelTerm& term = q.terms[t];
      const int64_t steps = term.depth / kTileDepth, rest = term.depth % kTileDepth;
      terms_[t] = {};
      terms_[t].panel = static_cast<const Bf16*>(term.panel);
      terms_[t].steps = steps;
      if (rest == 0) continue;
      // The panel has no rows behind its depth, and what is there may be NaN.
      const int64_t elements = (rest + 1) / 2 * kPanelColumns * 2;
      std::memset(next, 0, kTailPanel * sizeof(Bf16));
      std::memcpy(next, terms_[t].panel + steps * kTailPanel, elements * sizeof(Bf16));
      terms_[t].panel_tail = next;
      next += kTailPanel;
    }
    staged_ = next;
  }

  void Run() {
    const TileScope tiles;
    for (int64_t row = 0; row < q_.rows; row += kBlockRows) {
      RunBlock(row, q_.rows - row < kBlockRows ? q_.rows - row : kBlockRows);
    }
  }

 private:
  void RunBlock(int64_t row, int64_t rows) {
    const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
    Bf16* next = staged_;
    for (int64_t t = 0; t < q_.term_count; ++t) StageLeft(q_.terms[t], row, rows, terms_[t], next);
    for (int64_t i = 0; i < tiles * kTileRows; ++i) {
      for (int64_t j = 0; j < q_.columns; j += kLanes) {
        Store(sums_ + i * kPanelColumns + j,
              i < rows ? InitialSum(q_, row + i, j, q_.columns - j) : Zero());
      }
    }
    for (int64_t j = 0; j < q_.columns; j += 2 * kTileRows) {
      const bool wide = q_.columns - j > kTileRows;
      const auto add = tiles == 2 ? (wide ? AddTiles<2, 2> : AddTiles<2, 1>)
                                  : (wide ? AddTiles<1, 2> : AddTiles<1, 1>);
      add(terms_, q_.term_count, j, sums_);
    }
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < q_.columns; j += kLanes) {
        StoreSum<Bf16>(q_, row + i, j, Load(sums_ + i * kPanelColumns + j), q_.columns - j);
      }
    }
  }

  // Whole tiles where they are; a copy if there are fewer rows than tiles have, and of a rest.
  static void StageLeft(const PanelTerm& term, int64_t row, int64_t rows, TiledTerm& tiled,
                        Bf16*& next) {
    const Bf16* const a = static_cast<const Bf16*>(term.a);
    const int64_t padded = (term.depth + kTileDepth - 1) / kTileDepth * kTileDepth;
    const int64_t whole = tiled.steps * kTileDepth;
    if (term.a_packed || rows % kTileRows != 0) {
      tiled.a = term.a_packed ? a + row * padded
                              : Copy(a + row * term.a_row, term.a_row, rows, term.depth, next);
      tiled.a_row = tiled.a_tail_row = padded;
      tiled.a_tail = tiled.a + whole;
      return;
    }
    tiled.a = a + row * term.a_row;
    tiled.a_row = term.a_row;
    if (tiled.panel_tail == nullptr) return;
    tiled.a_tail = Copy(tiled.a + whole, term.a_row, rows, term.depth - whole, next);
    tiled.a_tail_row = kTileDepth;
  }

  // [rows, depth] with zeros up to a whole step of depth and to whole tiles of rows.
  static const Bf16* Copy(const Bf16* a, int64_t a_row, int64_t rows, int64_t depth, Bf16*& next) {
    Bf16* const copy = next;
    const int64_t padded = (depth + kTileDepth - 1) / kTileDepth * kTileDepth;
    const int64_t all = (rows + kTileRows - 1) / kTileRows * kTileRows;
    for (int64_t i = 0; i < all; ++i) {
      for (int64_t p = 0; p < padded; p += kTileDepth) {
        _mm512_storeu_si512(copy + i * padded + p,
                            LoadBf16(a + i * a_row + p, i < rows ? depth - p : 0));
      }
    }
    next += all * padded;
    return copy;
  }

  const PanelProduct& q_;
  float* sums_;  // [32, 64].
  Bf16* staged_;
  TiledTerm terms_[kPanelTermsMax];
};

void Tiles(const PanelProduct& q, void* scratch) { TiledProduct(q, scratch).Run(); }
#endif

template <typename T>
void AddPanelsOf(KernelSet& set) {
  set.pack_panel_rows = PackRows<T>;
  set.pack_panel_transposed = PackTransposed<T>;
  set.pack_left = PackRows<T>;
  set.panel_product = Product<T>;
  set.block_rows = kRowsMax;
}

}  // namespace

void AddPanels(bool bf16, KernelSet& set) {
  bf16 ? AddPanelsOf<Bf16>(set) : AddPanelsOf<float>(set);
#if defined(DW_TILES)
  set.pack_left = PackLeft;
  set.panel_product = Tiles;
  set.block_rows = kBlockRows;
#endif
}

}  // namespace deltaworks::trainer::DW_ISA
