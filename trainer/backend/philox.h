// Philox4x32-10 (Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3"): random words
// as a pure function of a key and a counter. Nothing is stored, so nothing must be saved: dropout
// masks, shuffles and initial values depend on the job's seed and on where they are used, never on
// who else computes or in which order.

#ifndef DELTAWORKS_TRAINER_BACKEND_PHILOX_H_
#define DELTAWORKS_TRAINER_BACKEND_PHILOX_H_

#include <array>
#include <cmath>
#include <cstdint>

namespace deltaworks::trainer {

using PhiloxWords = std::array<uint32_t, 4>;

inline PhiloxWords Philox4x32(uint64_t key, PhiloxWords counter) {
  uint32_t key0 = static_cast<uint32_t>(key);
  uint32_t key1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {
        static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key0, static_cast<uint32_t>(product1),
        static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key1, static_cast<uint32_t>(product0)};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return counter;
}

// Dropout keeps feature f of token t iff its word is at least this threshold.
inline uint32_t DropoutThreshold(float p) {
  return static_cast<uint32_t>(std::llround(static_cast<double>(p) * 4294967296.0));
}

// Second counter words other than a dropout site (layer << 8 | input, layers below 2^16).
inline constexpr uint32_t kInitializationSite = 0xff000000;
inline constexpr uint32_t kShuffleSite = 0xff000001;
inline constexpr uint32_t kSamplingSite = 0xff000002;
inline constexpr uint32_t kBootstrapSite = 0xff000003;

// The words of features 4 * quad .. 4 * quad + 3 of a token: key = job seed, counter = {step, site,
// token number within the step, quad}.
inline PhiloxWords DropoutWords(uint64_t seed, uint32_t step, uint32_t site, uint32_t token,
                                uint32_t quad) {
  return Philox4x32(seed, {step, site, token, quad});
}

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_PHILOX_H_
