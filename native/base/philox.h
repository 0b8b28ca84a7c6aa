#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <span>

namespace eigenscope {

// Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC
// 2011): a bijection of a 128-bit counter under a 64-bit key. It has no state, so a number depends
// on its coordinates alone and never on order, threads, tiles or restrictions.
using PhiloxWords = std::array<uint32_t, 4>;

inline PhiloxWords philox4x32(PhiloxWords counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

// Uses of randomness that share a seed must not share numbers.
enum class RandomStream : uint32_t {
  Gaussian = 1,
  Rademacher = 2,
  Uniform = 3,
  FisherDraw = 4,
  Order = 5,
  Dropout = 6,
};

// 128 random bits at the coordinates (seed, stream, column, position); column < 2^56.
inline PhiloxWords randomWords(uint64_t seed, RandomStream stream, uint64_t column,
                               uint64_t position) {
  return philox4x32({static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32),
                     static_cast<uint32_t>(column),
                     static_cast<uint32_t>(stream) << 24 ^ static_cast<uint32_t>(column >> 32)},
                    {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
}

// Uniform in the open interval (0, 1) with 53 bits, so that its logarithm is finite.
inline double uniformFromWords(uint32_t high, uint32_t low) {
  const uint64_t bits = (uint64_t{high} << 32 | low) >> 11;
  return (static_cast<double>(bits) + 0.5) * 0x1p-53;
}

inline double randomUniform(uint64_t seed, RandomStream stream, uint64_t column,
                            uint64_t position) {
  const PhiloxWords words = randomWords(seed, stream, column, position);
  return uniformFromWords(words[0], words[1]);
}

// The two standard normal numbers at positions 2 * pair and 2 * pair + 1 (Box and Muller).
inline std::array<double, 2> gaussianPair(uint64_t seed, uint64_t column, uint64_t pair) {
  const PhiloxWords words = randomWords(seed, RandomStream::Gaussian, column, pair);
  const double radius = std::sqrt(-2.0 * std::log(uniformFromWords(words[0], words[1])));
  const double angle = 6.283185307179586476925 * uniformFromWords(words[2], words[3]);
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

// Fills `count` vectors of length dim, one after the other. Entry i of vector j depends on
// (seed, firstColumn + j, index[i]) alone; an empty index means index[i] = i.
template <class T>
void fillGaussian(T* out, int64_t dim, int64_t count, uint64_t seed, uint64_t firstColumn,
                  std::span<const int64_t> index = {}) {
  for (int64_t j = 0; j < count; ++j) {
    int64_t cachedPair = -1;
    std::array<double, 2> values{};
    for (int64_t i = 0; i < dim; ++i) {
      const int64_t position = index.empty() ? i : index[i];
      if (position >> 1 != cachedPair) {
        cachedPair = position >> 1;
        values = gaussianPair(seed, firstColumn + j, cachedPair);
      }
      out[j * dim + i] = static_cast<T>(values[position & 1]);
    }
  }
}

// As fillGaussian, with entries +1 and -1 of equal probability.
template <class T>
void fillRademacher(T* out, int64_t dim, int64_t count, uint64_t seed, uint64_t firstColumn,
                    std::span<const int64_t> index = {}) {
  for (int64_t j = 0; j < count; ++j) {
    int64_t cachedGroup = -1;
    PhiloxWords words{};
    for (int64_t i = 0; i < dim; ++i) {
      const int64_t position = index.empty() ? i : index[i];
      if (position >> 7 != cachedGroup) {
        cachedGroup = position >> 7;
        words = randomWords(seed, RandomStream::Rademacher, firstColumn + j, cachedGroup);
      }
      const uint32_t bit = words[position >> 5 & 3] >> (position & 31) & 1;
      out[j * dim + i] = bit ? T{1} : T{-1};
    }
  }
}

}  // namespace eigenscope
