// Dropout masks (philox.h), 64 features of a token at a time: lane i of the four words belongs to
// features 4 * i .. 4 * i + 3.

#ifndef DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_DROPOUT_H_
#define DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_DROPOUT_H_

#include "trainer/backend/cpu/kernels/kernels.h"
#include "trainer/backend/cpu/kernels/simd.h"

namespace deltaworks::trainer::DW_ISA {

inline constexpr int kDropoutFeatures = 4 * kLanes;

DW_INLINE NativeU Products(NativeU a, NativeU b) {
#if defined(__AVX512F__)
  return reinterpret_cast<NativeU>(
      _mm512_mul_epu32(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX2__)
  return reinterpret_cast<NativeU>(
      _mm256_mul_epu32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#else
  return reinterpret_cast<NativeU>(
      _mm_mul_epu32(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
#endif
}

// From the 64-bit products of the even and of the odd lanes: the upper halves of all, the lower
// halves of all.
DW_INLINE NativeU EvenHighOddHigh(NativeU even, NativeU odd) {
#if defined(__AVX512F__)
  return reinterpret_cast<NativeU>(_mm512_mask_shuffle_epi32(
      reinterpret_cast<__m512i>(odd), 0x5555, reinterpret_cast<__m512i>(even), _MM_PERM_DDBB));
#elif defined(__AVX2__)
  const __m256i down = _mm256_shuffle_epi32(reinterpret_cast<__m256i>(even), 0xf5);
  return reinterpret_cast<NativeU>(_mm256_blend_epi32(down, reinterpret_cast<__m256i>(odd), 0xaa));
#else
  const __m128i upper = _mm_set_epi32(-1, 0, -1, 0);
  return reinterpret_cast<NativeU>(
      _mm_or_si128(_mm_srli_epi64(reinterpret_cast<__m128i>(even), 32),
                   _mm_and_si128(reinterpret_cast<__m128i>(odd), upper)));
#endif
}
DW_INLINE NativeU EvenLowOddLow(NativeU even, NativeU odd) {
#if defined(__AVX512F__)
  return reinterpret_cast<NativeU>(_mm512_mask_shuffle_epi32(
      reinterpret_cast<__m512i>(even), 0xaaaa, reinterpret_cast<__m512i>(odd), _MM_PERM_CCAA));
#elif defined(__AVX2__)
  const __m256i up = _mm256_shuffle_epi32(reinterpret_cast<__m256i>(odd), 0xa0);
  return reinterpret_cast<NativeU>(_mm256_blend_epi32(reinterpret_cast<__m256i>(even), up, 0xaa));
#else
  const __m128i upper = _mm_set_epi32(-1, 0, -1, 0);
  return reinterpret_cast<NativeU>(
      _mm_or_si128(_mm_andnot_si128(upper, reinterpret_cast<__m128i>(even)),
                   _mm_slli_epi64(reinterpret_cast<__m128i>(odd), 32)));
#endif
}

// The two halves of the 64-bit products of all lanes with a constant.
DW_INLINE void MultiplyWide(U32 a, uint32_t factor, U32* high, U32* low) {
  typedef uint64_t Native64 __attribute__((vector_size(kNative * 4)));
  DW_EACH_PART(const NativeU factors = NativeU{} + factor;
               const NativeU even = Products(a.part[i], factors);
               const NativeU odd = Products(
                   reinterpret_cast<NativeU>(reinterpret_cast<Native64>(a.part[i]) >> 32), factors);
               high->part[i] = EvenHighOddHigh(even, odd); low->part[i] = EvenLowOddLow(even, odd))
}

// words[j] lane i: the word of feature first_feature + 4 * i + j.
DW_INLINE void DropoutWords(const DropoutMask& mask, uint32_t token, int64_t first_feature,
                            U32 words[4]) {
  U32 c0 = BroadcastU(mask.step);
  U32 c1 = BroadcastU(mask.site);
  U32 c2 = BroadcastU(token);
  alignas(64) static constexpr uint32_t kIota[kLanes] = {0, 1, 2,  3,  4,  5,  6,  7,
                                                         8, 9, 10, 11, 12, 13, 14, 15};
  U32 c3;
  std::memcpy(&c3, kIota, sizeof(c3));
  DW_EACH_PART(c3.part[i] += static_cast<uint32_t>(first_feature / 4))
  uint32_t key0 = static_cast<uint32_t>(mask.seed);
  uint32_t key1 = static_cast<uint32_t>(mask.seed >> 32);
  for (int round = 0; round < 10; ++round) {
    U32 high0, low0, high1, low1;
    MultiplyWide(c0, 0xD2511F53u, &high0, &low0);
    MultiplyWide(c2, 0xCD9E8D57u, &high1, &low1);
    DW_EACH_PART(c0.part[i] = high1.part[i] ^ c1.part[i] ^ key0;
                 c2.part[i] = high0.part[i] ^ c3.part[i] ^ key1)
    c1 = low1;
    c3 = low0;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  words[0] = c0;
  words[1] = c1;
  words[2] = c2;
  words[3] = c3;
}

// Factors of 64 features in their order: kept_scale or 0.
DW_INLINE void DropoutFactors(const DropoutMask& mask, uint32_t token, int64_t first_feature,
                              float factors[kDropoutFeatures]) {
  U32 words[4];
  DropoutWords(mask, token, first_feature, words);
  float by_word[4][kLanes];
  for (int j = 0; j < 4; ++j) {
    F32 factor;
    DW_EACH_PART(factor.part[i] =
                     words[j].part[i] >= mask.threshold ? NativeF{} + mask.kept_scale : NativeF{})
    Store(by_word[j], factor);
  }
  for (int quad = 0; quad < kLanes; quad += 4) {
    __m128 rows[4];
    for (int j = 0; j < 4; ++j) rows[j] = _mm_loadu_ps(by_word[j] + quad);
    _MM_TRANSPOSE4_PS(rows[0], rows[1], rows[2], rows[3]);
    for (int j = 0; j < 4; ++j) _mm_storeu_ps(factors + 4 * (quad + j), rows[j]);
  }
}

// body(offset, n, factors) for chunks of up to 16 features.
template <typename Body>
DW_INLINE void ForMaskedChunks(const DropoutMask& mask, uint32_t token, int64_t feature, int64_t n,
                               Body body) {
  float factors[kDropoutFeatures];
  for (int64_t begin = 0; begin < n; begin += kDropoutFeatures) {
    DropoutFactors(mask, token, feature + begin, factors);
    const int64_t count = n - begin < kDropoutFeatures ? n - begin : kDropoutFeatures;
    ForChunks(count, [&](int64_t i, int64_t lanes) { body(begin + i, lanes, Load(factors + i)); });
  }
}

}  // namespace deltaworks::trainer::DW_ISA

#endif  // DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_DROPOUT_H_
