#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>

// Hot functions are compiled once for each level of x86-64 and chosen when the program is loaded.
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__linux__)
#define EIGENSCOPE_SIMD \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define EIGENSCOPE_SIMD
#endif
// Vectors pass between inlined functions only, so the calling convention does not matter.
#pragma GCC diagnostic ignored "-Wpsabi"
#define EIGENSCOPE_INLINE inline __attribute__((always_inline))

namespace eigenscope::simd {

// 64 bytes, whatever the machine: narrower ones split it, so that sums have one order everywhere.
// For sums and products only: comparisons of such vectors become scalar code in GCC 12.
template <class T>
struct Pack {
  static constexpr int64_t kLanes = 64 / sizeof(T);
  typedef T Type __attribute__((vector_size(64)));
};
template <class T>
using Vector = typename Pack<T>::Type;
template <class T>
constexpr int64_t kLanes = Pack<T>::kLanes;

template <class T>
EIGENSCOPE_INLINE Vector<T> load(const T* from) {
  Vector<T> v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
template <class T>
EIGENSCOPE_INLINE void store(T* to, const Vector<T>& v) {
  std::memcpy(to, &v, sizeof v);
}
template <class T>
EIGENSCOPE_INLINE T total(const Vector<T>& v) {
  T lanes[kLanes<T>];
  std::memcpy(lanes, &v, sizeof v);
  for (int64_t half = kLanes<T> / 2; half > 0; half /= 2)
    for (int64_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

template <class T>
struct Exp;
template <>
struct Exp<float> {
  using Int = int32_t;
  static constexpr float low = -87.3f, high = 88.73f, magic = 12582912.0f;  // 1.5 * 2^23
  static constexpr float ln2High = 0.693359375f, ln2Low = -2.12194440e-4f;
  static constexpr int mantissa = 23;
  static constexpr float terms[] = {1.0f / 5040, 1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f};
};
template <>
struct Exp<double> {
  using Int = int64_t;
  static constexpr double low = -708.3, high = 709.78, magic = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double ln2High = 6.93145751953125e-1, ln2Low = 1.42860682030941723212e-6;
  static constexpr int mantissa = 52;
  static constexpr double terms[] = {
      1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320,
      1.0 / 5040,       1.0 / 720,       1.0 / 120,      1.0 / 24,      1.0 / 6,      0.5};
};

// exp to 2 ulp, without branches so that loops of it become vectors: x = n ln 2 + r with
// |r| <= ln 2 / 2, and the Taylor series of r. Below the smallest normal number it is 0; NaN stays.
template <class T>
EIGENSCOPE_INLINE T exp(T given) {
  using E = Exp<T>;
  using Int = typename E::Int;
  T x = given < E::low ? E::low : given;
  x = x > E::high ? E::high : x;
  const T shifted = x * T(1.44269504088896340736) + E::magic;
  const T n = shifted - E::magic;
  const T r = (x - n * E::ln2High) - n * E::ln2Low;
  T p = E::terms[0];
  for (size_t i = 1; i < sizeof E::terms / sizeof(T); ++i) p = p * r + E::terms[i];
  p = (p * r) * r + r + T(1);
  // 2^n in two factors, as n may be one over the largest exponent.
  const Int whole = std::bit_cast<Int>(shifted) - std::bit_cast<Int>(E::magic);
  const Int half = whole >> 1, rest = whole - half;
  constexpr Int bias = (Int(1) << (sizeof(T) * 8 - E::mantissa - 2)) - 1;
  T result = (p * std::bit_cast<T>((half + bias) << E::mantissa)) *
             std::bit_cast<T>((rest + bias) << E::mantissa);
  result = given < E::low ? T(0) : result;
  return given > E::high ? std::numeric_limits<T>::infinity() : result;
}

}  // namespace eigenscope::simd
