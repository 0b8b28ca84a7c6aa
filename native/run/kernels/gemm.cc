#include "run/kernels/gemm.h"

#include <algorithm>
#include <cstddef>
#include <type_traits>

#include "run/kernels/blocked.h"
#include "run/kernels/simd.h"
#include "run/onednn.h"

extern "C" {
void sgemm_(const char*, const char*, const int*, const int*, const int*, const float*,
            const float*, const int*, const float*, const int*, const float*, float*, const int*,
            std::size_t, std::size_t);
void dgemm_(const char*, const char*, const int*, const int*, const int*, const double*,
            const double*, const int*, const double*, const int*, const double*, double*,
            const int*, std::size_t, std::size_t);
}

namespace eigenscope {
namespace {

template <class T>
struct Matrices {
  int64_t m, n, k;
  const T* a;
  int64_t aRow, aCol;
  const T* b;
  int64_t bRow, bCol;
  T* c;
  int64_t ldc;
  bool accumulate;
};

// BLAS stores columns: it sees the transposes, so C^T = B^T A^T.
void blas(char ta, char tb, int m, int n, int k, const float* a, int lda, const float* b, int ldb,
          float beta, float* c, int ldc) {
  const float one = 1;
  sgemm_(&tb, &ta, &n, &m, &k, &one, b, &ldb, a, &lda, &beta, c, &ldc, 1, 1);
}
void blas(char ta, char tb, int m, int n, int k, const double* a, int lda, const double* b, int ldb,
          double beta, double* c, int ldc) {
  const double one = 1;
  dgemm_(&tb, &ta, &n, &m, &k, &one, b, &ldb, a, &lda, &beta, c, &ldc, 1, 1);
}

// ---- products that are no matrix products: few terms, or a side of 1 ----

template <class T>
EIGENSCOPE_INLINE T inner(const T* x, int64_t xStride, const T* y, int64_t yStride, int64_t n) {
  constexpr int64_t kLanes = simd::kLanes<T>;
  T sum{};
  int64_t i = 0;
  if (xStride == 1 && yStride == 1 && n >= kLanes) {
    simd::Vector<T> s0{}, s1{}, s2{}, s3{};
    for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
      s0 += simd::load(x + i) * simd::load(y + i);
      s1 += simd::load(x + i + kLanes) * simd::load(y + i + kLanes);
      s2 += simd::load(x + i + 2 * kLanes) * simd::load(y + i + 2 * kLanes);
      s3 += simd::load(x + i + 3 * kLanes) * simd::load(y + i + 3 * kLanes);
    }
    for (; i + kLanes <= n; i += kLanes) s0 += simd::load(x + i) * simd::load(y + i);
    sum = simd::total<T>((s0 + s1) + (s2 + s3));
  }
  for (; i < n; ++i) sum += x[i * xStride] * y[i * yStride];
  return sum;
}

// y[n] (+)= sum over k of x[k] rows[k]: four rows at a time, so that y is read and written less.
template <class T>
EIGENSCOPE_INLINE void combine(const T* x, int64_t xStride, const T* rows, int64_t ld, int64_t k,
                               int64_t n, T* y, bool accumulate) {
  int64_t i = 0;
  if (!accumulate) {
    for (int64_t j = 0; j < n; ++j) y[j] = x[0] * rows[j];
    i = 1;
  }
  for (; i + 4 <= k; i += 4) {
    const T x0 = x[i * xStride], x1 = x[(i + 1) * xStride], x2 = x[(i + 2) * xStride],
            x3 = x[(i + 3) * xStride];
    const T *r0 = rows + i * ld, *r1 = r0 + ld, *r2 = r1 + ld, *r3 = r2 + ld;
    for (int64_t j = 0; j < n; ++j) y[j] += (x0 * r0[j] + x1 * r1[j]) + (x2 * r2[j] + x3 * r3[j]);
  }
  for (; i < k; ++i) {
    const T value = x[i * xStride];
    const T* row = rows + i * ld;
    for (int64_t j = 0; j < n; ++j) y[j] += value * row[j];
  }
}

template <class T>
EIGENSCOPE_INLINE void thinProduct(const Matrices<T>& p) {
  if (p.n == 1 && p.aCol != 1 && p.m > 1) {  // columns of A combined, through a strip of C
    constexpr int64_t kStrip = 256;
    T strip[kStrip];
    for (int64_t i0 = 0; i0 < p.m; i0 += kStrip) {
      const int64_t rows = std::min(kStrip, p.m - i0);
      combine(p.b, p.bRow, p.a + i0, p.aCol, p.k, rows, strip, false);
      for (int64_t i = 0; i < rows; ++i) {
        T& to = p.c[(i0 + i) * p.ldc];
        to = p.accumulate ? to + strip[i] : strip[i];
      }
    }
    return;
  }
  for (int64_t i = 0; i < p.m; ++i) {
    const T* row = p.a + i * p.aRow;
    T* to = p.c + i * p.ldc;
    if (p.bCol == 1 && p.n > 1) {
      combine(row, p.aCol, p.b, p.bRow, p.k, p.n, to, p.accumulate);
    } else {
      for (int64_t j = 0; j < p.n; ++j) {
        const T value = inner(row, p.aCol, p.b + j * p.bCol, p.bRow, p.k);
        to[j] = p.accumulate ? to[j] + value : value;
      }
    }
  }
}

EIGENSCOPE_SIMD void thin(const Matrices<float>& p) { thinProduct(p); }
EIGENSCOPE_SIMD void thin(const Matrices<double>& p) { thinProduct(p); }

bool isThin(int64_t m, int64_t n, int64_t k) {
  return m == 1 || n == 1 || k == 1 || m * n * k <= 256;
}

enum class Library { OneDnn, Ours, Blas };

// Measured on Zen 4 and Sapphire Rapids, one thread (bench/native/kernels.cc). OpenBLAS has
// kernels without packing for up to about 100^3 products, but not for A B^T; ours packs, which
// few rows do not repay. Beyond, oneDNN is
// first in f32 (116 of 118 GFLOP/s on Zen 4, against our 107 and OpenBLAS's 100), save for
// products A B^T and narrow results, where ours is. In f64 ours leads OpenBLAS by 5 to 50 %.
template <class T>
Library choose(int64_t m, int64_t n, int64_t k, bool transB) {
  constexpr bool single = sizeof(T) == 4;
  const int64_t products = m * n * k;
  const bool small = products <= 1'000'000;
  if (!hasBlockedGemm())
    return single && !small && n >= 16 && onednn::available() ? Library::OneDnn : Library::Blas;
  if (transB && m < 10)
    return single && !small && onednn::available() ? Library::OneDnn : Library::Blas;
  if (small) return transB && n >= 16 ? Library::Ours : Library::Blas;
  if (!single || n <= 16 || !onednn::available()) return Library::Ours;
  return transB && m >= 16 && products < 500'000'000 ? Library::Ours : Library::OneDnn;
}

}  // namespace

template <class T>
void gemm(int64_t m, int64_t n, int64_t k, const T* a, int64_t aRow, int64_t aCol, const T* b,
          int64_t bRow, int64_t bCol, T* c, int64_t ldc, bool accumulate) {
  if (isThin(m, n, k)) {
    thin(Matrices<T>{m, n, k, a, aRow, aCol, b, bRow, bCol, c, ldc, accumulate});
    return;
  }
  const bool ta = aCol != 1, tb = bCol != 1;
  const int64_t lda = ta ? aCol : aRow, ldb = tb ? bCol : bRow;
  const Library library = choose<T>(m, n, k, tb);
  if (library == Library::Ours) {
    blockedGemm(m, n, k, a, aRow, aCol, b, bRow, bCol, c, ldc, accumulate);
    return;
  }
  if constexpr (std::is_same_v<T, float>)
    if (library == Library::OneDnn &&
        onednn::sgemm(ta, tb, m, n, k, a, lda, b, ldb, accumulate, c, ldc))
      return;
  blas(ta ? 'T' : 'N', tb ? 'T' : 'N', static_cast<int>(m), static_cast<int>(n),
       static_cast<int>(k), a, static_cast<int>(lda), b, static_cast<int>(ldb),
       T(accumulate ? 1 : 0), c, static_cast<int>(ldc));
}

template void gemm<float>(int64_t, int64_t, int64_t, const float*, int64_t, int64_t, const float*,
                          int64_t, int64_t, float*, int64_t, bool);
template void gemm<double>(int64_t, int64_t, int64_t, const double*, int64_t, int64_t,
                           const double*, int64_t, int64_t, double*, int64_t, bool);

}  // namespace eigenscope
