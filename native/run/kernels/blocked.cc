#include "run/kernels/blocked.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#include <algorithm>
#include <memory>
#include <new>

// GCC 12 warns about its own intrinsics (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

// After Goto and van de Geijn (2008): B is packed in blocks that stay in L2, A in panels of 8 rows
// that stay in L1, and a kernel keeps 8 rows by 3 vectors of C in registers.
namespace eigenscope {
namespace {

#define EIGENSCOPE_AVX512 __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")))
#define EIGENSCOPE_AVX512_INLINE EIGENSCOPE_AVX512 inline __attribute__((always_inline))

constexpr int64_t kRows = 8, kDepth = 192;

template <class T>
struct Simd;

template <>
struct Simd<float> {
  using Reg = __m512;
  static constexpr int64_t lanes = 16, block = 640;  // columns of a block of B
  EIGENSCOPE_AVX512_INLINE static Reg zero() { return _mm512_setzero_ps(); }
  EIGENSCOPE_AVX512_INLINE static Reg all(float x) { return _mm512_set1_ps(x); }
  EIGENSCOPE_AVX512_INLINE static Reg load(const float* p) { return _mm512_loadu_ps(p); }
  EIGENSCOPE_AVX512_INLINE static Reg load(const float* p, uint32_t mask) {
    return _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), p);
  }
  EIGENSCOPE_AVX512_INLINE static void store(float* p, Reg x, uint32_t mask) {
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>(mask), x);
  }
  EIGENSCOPE_AVX512_INLINE static void store(float* p, Reg x) { _mm512_storeu_ps(p, x); }
  EIGENSCOPE_AVX512_INLINE static Reg add(Reg x, Reg y) { return _mm512_add_ps(x, y); }
  EIGENSCOPE_AVX512_INLINE static Reg fma(Reg x, Reg y, Reg z) { return _mm512_fmadd_ps(x, y, z); }

  // to[8 columns][8 rows] from rows of 8
  EIGENSCOPE_AVX512_INLINE static void transpose(const float* from, int64_t ld, float* to,
                                                 int64_t ldTo) {
    __m256 r[8], s[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) r[i] = _mm256_loadu_ps(from + i * ld);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      s[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
      s[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      r[4 * i] = _mm256_shuffle_ps(s[4 * i], s[4 * i + 2], 0x44);
      r[4 * i + 1] = _mm256_shuffle_ps(s[4 * i], s[4 * i + 2], 0xee);
      r[4 * i + 2] = _mm256_shuffle_ps(s[4 * i + 1], s[4 * i + 3], 0x44);
      r[4 * i + 3] = _mm256_shuffle_ps(s[4 * i + 1], s[4 * i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      _mm256_storeu_ps(to + i * ldTo, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
      _mm256_storeu_ps(to + (i + 4) * ldTo, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
    }
  }
};

template <>
struct Simd<double> {
  using Reg = __m512d;
  static constexpr int64_t lanes = 8, block = 320;
  EIGENSCOPE_AVX512_INLINE static Reg zero() { return _mm512_setzero_pd(); }
  EIGENSCOPE_AVX512_INLINE static Reg all(double x) { return _mm512_set1_pd(x); }
  EIGENSCOPE_AVX512_INLINE static Reg load(const double* p) { return _mm512_loadu_pd(p); }
  EIGENSCOPE_AVX512_INLINE static Reg load(const double* p, uint32_t mask) {
    return _mm512_maskz_loadu_pd(static_cast<__mmask8>(mask), p);
  }
  EIGENSCOPE_AVX512_INLINE static void store(double* p, Reg x, uint32_t mask) {
    _mm512_mask_storeu_pd(p, static_cast<__mmask8>(mask), x);
  }
  EIGENSCOPE_AVX512_INLINE static void store(double* p, Reg x) { _mm512_storeu_pd(p, x); }
  EIGENSCOPE_AVX512_INLINE static Reg add(Reg x, Reg y) { return _mm512_add_pd(x, y); }
  EIGENSCOPE_AVX512_INLINE static Reg fma(Reg x, Reg y, Reg z) { return _mm512_fmadd_pd(x, y, z); }

  EIGENSCOPE_AVX512_INLINE static void transpose(const double* from, int64_t ld, double* to,
                                                 int64_t ldTo) {
    __m512d r[8], s[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) r[i] = _mm512_loadu_pd(from + i * ld);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      s[2 * i] = _mm512_unpacklo_pd(r[2 * i], r[2 * i + 1]);
      s[2 * i + 1] = _mm512_unpackhi_pd(r[2 * i], r[2 * i + 1]);
    }
    // Pairs of 128-bit quarters: 0x88 takes the even ones, 0xdd the odd ones.
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      r[h] = _mm512_shuffle_f64x2(s[h], s[h + 2], 0x88);
      r[h + 2] = _mm512_shuffle_f64x2(s[h], s[h + 2], 0xdd);
      r[h + 4] = _mm512_shuffle_f64x2(s[h + 4], s[h + 6], 0x88);
      r[h + 6] = _mm512_shuffle_f64x2(s[h + 4], s[h + 6], 0xdd);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      _mm512_storeu_pd(to + i * ldTo, _mm512_shuffle_f64x2(r[i], r[i + 4], 0x88));
      _mm512_storeu_pd(to + (i + 4) * ldTo, _mm512_shuffle_f64x2(r[i], r[i + 4], 0xdd));
    }
  }
};

// C tile of `Rows` rows and `Vectors` vectors; masks are those of the last vector.
template <class T, int Rows, int Vectors, bool Packed>
EIGENSCOPE_AVX512 void tile(int64_t k, const T* a, int64_t aRow, int64_t aCol, const T* b,
                            int64_t ldb, uint32_t bMask, T* c, int64_t ldc, uint32_t cMask,
                            bool accumulate) {
  using S = Simd<T>;
  typename S::Reg sum[Rows][Vectors];
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 3
    for (int v = 0; v < Vectors; ++v) sum[i][v] = S::zero();
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 3
    for (int v = 0; v < Vectors; ++v) __builtin_prefetch(c + i * ldc + v * S::lanes, 1);
  for (int64_t p = 0; p < k; ++p) {
    typename S::Reg row[Vectors];
#pragma GCC unroll 3
    for (int v = 0; v + 1 < Vectors; ++v) row[v] = S::load(b + v * S::lanes);
    row[Vectors - 1] = S::load(b + (Vectors - 1) * S::lanes, bMask);
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) {
      const typename S::Reg x = S::all(Packed ? a[i] : a[i * aRow]);
#pragma GCC unroll 3
      for (int v = 0; v < Vectors; ++v) sum[i][v] = S::fma(x, row[v], sum[i][v]);
    }
    a += Packed ? kRows : aCol;
    b += ldb;
  }
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) {
    T* to = c + i * ldc;
#pragma GCC unroll 3
    for (int v = 0; v + 1 < Vectors; ++v) {
      T* at = to + v * S::lanes;
      S::store(at, accumulate ? S::add(S::load(at), sum[i][v]) : sum[i][v]);
    }
    T* at = to + (Vectors - 1) * S::lanes;
    const auto last = sum[i][Vectors - 1];
    S::store(at, accumulate ? S::add(S::load(at, cMask), last) : last, cMask);
  }
}

template <class T>
using Tile = void (*)(int64_t, const T*, int64_t, int64_t, const T*, int64_t, uint32_t, T*, int64_t,
                      uint32_t, bool);

template <class T, bool Packed>
constexpr Tile<T> kTiles[3][kRows] = {
    {tile<T, 1, 1, Packed>, tile<T, 2, 1, Packed>, tile<T, 3, 1, Packed>, tile<T, 4, 1, Packed>,
     tile<T, 5, 1, Packed>, tile<T, 6, 1, Packed>, tile<T, 7, 1, Packed>, tile<T, 8, 1, Packed>},
    {tile<T, 1, 2, Packed>, tile<T, 2, 2, Packed>, tile<T, 3, 2, Packed>, tile<T, 4, 2, Packed>,
     tile<T, 5, 2, Packed>, tile<T, 6, 2, Packed>, tile<T, 7, 2, Packed>, tile<T, 8, 2, Packed>},
    {tile<T, 1, 3, Packed>, tile<T, 2, 3, Packed>, tile<T, 3, 3, Packed>, tile<T, 4, 3, Packed>,
     tile<T, 5, 3, Packed>, tile<T, 6, 3, Packed>, tile<T, 7, 3, Packed>, tile<T, 8, 3, Packed>}};

// to[p * ldTo + i] = from[i * ld + p] for `rows` rows and k columns.
template <class T>
EIGENSCOPE_AVX512 void turn(const T* from, int64_t ld, int64_t rows, int64_t k, T* to,
                            int64_t ldTo) {
  int64_t i = 0;
  for (; i + 8 <= rows; i += 8) {
    int64_t p = 0;
    for (; p + 8 <= k; p += 8) Simd<T>::transpose(from + i * ld + p, ld, to + p * ldTo + i, ldTo);
    for (; p < k; ++p)
      for (int64_t j = 0; j < 8; ++j) to[p * ldTo + i + j] = from[(i + j) * ld + p];
  }
  for (; i < rows; ++i)
    for (int64_t p = 0; p < k; ++p) to[p * ldTo + i] = from[i * ld + p];
}

// Columns [0, n) of k rows of B in panels of three vectors, the last one as narrow as may be.
template <class T>
EIGENSCOPE_AVX512 void packB(const T* b, int64_t bRow, int64_t bCol, int64_t k, int64_t n, T* to) {
  using S = Simd<T>;
  constexpr int64_t kPanel = 3 * S::lanes;
  for (int64_t j = 0; j < n; j += kPanel) {
    const int64_t width = std::min(kPanel, n - j);
    const int64_t stride = (width + S::lanes - 1) / S::lanes * S::lanes;
    if (bCol == 1) {
      const int64_t full = width / S::lanes;
      const uint32_t mask = (uint32_t{1} << (width % S::lanes)) - 1;
      const T* from = b + j;
      T* row = to;
      for (int64_t p = 0; p < k; ++p, from += bRow, row += stride) {
        for (int64_t v = 0; v < full; ++v)
          S::store(row + v * S::lanes, S::load(from + v * S::lanes));
        if (mask) S::store(row + full * S::lanes, S::load(from + full * S::lanes, mask));
      }
    } else {
      turn(b + j * bCol, bCol, width, k, to, stride);
      for (int64_t p = 0; width < stride && p < k; ++p)
        std::fill(to + p * stride + width, to + (p + 1) * stride, T{});
    }
    to += stride * k;
  }
}

template <class T>
EIGENSCOPE_AVX512 void packA(const T* a, int64_t aRow, int64_t aCol, int64_t rows, int64_t k,
                             T* to) {
  if (aCol == 1) {
    turn(a, aRow, rows, k, to, kRows);
    return;
  }
  if (rows == kRows) {
    for (int64_t p = 0; p < k; ++p)
      for (int64_t i = 0; i < kRows; ++i) to[p * kRows + i] = a[p * aCol + i];
    return;
  }
  for (int64_t p = 0; p < k; ++p)
    for (int64_t i = 0; i < rows; ++i) to[p * kRows + i] = a[p * aCol + i];
}

struct Free {
  void operator()(void* p) const { ::operator delete(p, std::align_val_t{64}); }
};

void* buffer() {
  thread_local std::unique_ptr<void, Free> held{
      ::operator new((640 * kDepth + 2 * kRows * kDepth) * sizeof(float), std::align_val_t{64})};
  return held.get();
}

}  // namespace

bool hasBlockedGemm() {
  static const bool able = __builtin_cpu_supports("avx512f") &&
                           __builtin_cpu_supports("avx512dq") &&
                           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  return able;
}

template <class T>
void blockedGemm(int64_t m, int64_t n, int64_t k, const T* a, int64_t aRow, int64_t aCol,
                 const T* b, int64_t bRow, int64_t bCol, T* c, int64_t ldc, bool accumulate) {
  using S = Simd<T>;
  constexpr int64_t kPanel = 3 * S::lanes;
  T* packed = static_cast<T*>(buffer());
  T* panelA = packed + S::block * kDepth;
  // Packing costs more than it saves where a panel is used once or twice.
  const bool plainA = n <= 2 * kPanel, plainB = bCol == 1 && m <= 2 * kRows;
  for (int64_t j0 = 0; j0 < n; j0 += S::block) {
    const int64_t columns = std::min(S::block, n - j0);
    for (int64_t p0 = 0; p0 < k; p0 += kDepth) {
      const int64_t depth = std::min(kDepth, k - p0);
      const T* blockB = b + p0 * bRow + j0 * bCol;
      if (!plainB) packB(blockB, bRow, bCol, depth, columns, packed);
      for (int64_t i = 0; i < m; i += kRows) {
        const int64_t rows = std::min(kRows, m - i);
        const T* rowsA = a + i * aRow + p0 * aCol;
        if (!plainA) packA(rowsA, aRow, aCol, rows, depth, panelA);
        const T* panelB = packed;
        for (int64_t j = 0; j < columns; j += kPanel) {
          const int64_t width = std::min(kPanel, columns - j);
          const int64_t vectors = (width + S::lanes - 1) / S::lanes, stride = vectors * S::lanes;
          const uint32_t full = (uint32_t{1} << S::lanes) - 1;
          const uint32_t mask = full >> (stride - width);
          (plainA ? kTiles<T, false> : kTiles<T, true>)[vectors - 1][rows - 1](
              depth, plainA ? rowsA : panelA, aRow, aCol, plainB ? blockB + j : panelB,
              plainB ? bRow : stride, plainB ? mask : full, c + i * ldc + j0 + j, ldc, mask,
              accumulate || p0 > 0);
          panelB += stride * depth;
        }
      }
    }
  }
}

}  // namespace eigenscope

#else

namespace eigenscope {
bool hasBlockedGemm() { return false; }
template <class T>
void blockedGemm(int64_t, int64_t, int64_t, const T*, int64_t, int64_t, const T*, int64_t, int64_t,
                 T*, int64_t, bool) {}
}  // namespace eigenscope

#endif

namespace eigenscope {
template void blockedGemm<float>(int64_t, int64_t, int64_t, const float*, int64_t, int64_t,
                                 const float*, int64_t, int64_t, float*, int64_t, bool);
template void blockedGemm<double>(int64_t, int64_t, int64_t, const double*, int64_t, int64_t,
                                  const double*, int64_t, int64_t, double*, int64_t, bool);
}  // namespace eigenscope
