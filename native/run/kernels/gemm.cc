#include "run/kernels/gemm.h"

#include <algorithm>
#include <cstddef>

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

}  // namespace

template <class T>
void gemm(int64_t m, int64_t n, int64_t k, const T* a, int64_t aRow, int64_t aCol, const T* b,
          int64_t bRow, int64_t bCol, T* c, int64_t ldc, bool accumulate) {
  const bool ta = aCol != 1, tb = bCol != 1;
  // BLAS wants a leading dimension of at least the row length even where there is one row.
  const int64_t lda = ta ? std::max(aCol, m) : std::max(aRow, k);
  const int64_t ldb = tb ? std::max(bCol, k) : std::max(bRow, n);
  blas(ta ? 'T' : 'N', tb ? 'T' : 'N', static_cast<int>(m), static_cast<int>(n),
       static_cast<int>(k), a, static_cast<int>(lda), b, static_cast<int>(ldb),
       T(accumulate ? 1 : 0), c, static_cast<int>(std::max(ldc, n)));
}

template void gemm<float>(int64_t, int64_t, int64_t, const float*, int64_t, int64_t, const float*,
                          int64_t, int64_t, float*, int64_t, bool);
template void gemm<double>(int64_t, int64_t, int64_t, const double*, int64_t, int64_t,
                           const double*, int64_t, int64_t, double*, int64_t, bool);

}  // namespace eigenscope
