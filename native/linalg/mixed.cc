#include "linalg/mixed.h"

#include <cstring>

#include "run/kernels/simd.h"

namespace eigenscope {

namespace {

// 64 bytes on every machine, so that sums have one order everywhere.
typedef double Doubles __attribute__((vector_size(64)));
constexpr int64_t kLanes = 8;
constexpr int64_t kColumns = 4;  // that share one load of w

EIGENSCOPE_INLINE Doubles wide(const double* from) {
  Doubles v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
EIGENSCOPE_INLINE Doubles wide(const float* from) {
  typedef float Floats __attribute__((vector_size(32)));
  Floats v;
  std::memcpy(&v, from, sizeof v);
  return __builtin_convertvector(v, Doubles);
}

template <int64_t N, class T>
EIGENSCOPE_INLINE void dots(const T* v, int64_t ld, int64_t rows, const double* w, double* sums) {
  Doubles total[N] = {};
  int64_t i = 0;
  for (; i + kLanes <= rows; i += kLanes) {
    const Doubles x = wide(w + i);
    for (int64_t j = 0; j < N; ++j) total[j] += wide(v + j * ld + i) * x;
  }
  for (int64_t j = 0; j < N; ++j) {
    double sum = 0;
    for (int64_t l = 0; l < kLanes; ++l) sum += total[j][l];
    for (int64_t l = i; l < rows; ++l) sum += static_cast<double>(v[j * ld + l]) * w[l];
    sums[j] += sum;
  }
}

template <int64_t N, class T>
EIGENSCOPE_INLINE void subtract(const T* v, int64_t ld, int64_t rows, const double* factors,
                                double* w) {
  int64_t i = 0;
  for (; i + kLanes <= rows; i += kLanes) {
    Doubles x = wide(w + i);
    for (int64_t j = 0; j < N; ++j) x -= factors[j] * wide(v + j * ld + i);
    std::memcpy(w + i, &x, sizeof x);
  }
  for (; i < rows; ++i)
    for (int64_t j = 0; j < N; ++j) w[i] -= factors[j] * static_cast<double>(v[j * ld + i]);
}

template <class T>
EIGENSCOPE_INLINE void allDots(const T* v, int64_t ld, int64_t rows, int64_t count, const double* w,
                               double* sums) {
  int64_t j = 0;
  for (; j + kColumns <= count; j += kColumns) dots<kColumns>(v + j * ld, ld, rows, w, sums + j);
  for (; j < count; ++j) dots<1>(v + j * ld, ld, rows, w, sums + j);
}

template <class T>
EIGENSCOPE_INLINE void allSubtract(const T* v, int64_t ld, int64_t rows, int64_t count,
                                   const double* factors, double* w) {
  int64_t j = 0;
  for (; j + kColumns <= count; j += kColumns)
    subtract<kColumns>(v + j * ld, ld, rows, factors + j, w);
  for (; j < count; ++j) subtract<1>(v + j * ld, ld, rows, factors + j, w);
}

}  // namespace

EIGENSCOPE_SIMD void addDots(const float* v, int64_t ld, int64_t rows, int64_t count,
                             const double* w, double* sums) {
  allDots(v, ld, rows, count, w, sums);
}
EIGENSCOPE_SIMD void addDots(const double* v, int64_t ld, int64_t rows, int64_t count,
                             const double* w, double* sums) {
  allDots(v, ld, rows, count, w, sums);
}
EIGENSCOPE_SIMD void subtractColumns(const float* v, int64_t ld, int64_t rows, int64_t count,
                                     const double* factors, double* w) {
  allSubtract(v, ld, rows, count, factors, w);
}
EIGENSCOPE_SIMD void subtractColumns(const double* v, int64_t ld, int64_t rows, int64_t count,
                                     const double* factors, double* w) {
  allSubtract(v, ld, rows, count, factors, w);
}

}  // namespace eigenscope
