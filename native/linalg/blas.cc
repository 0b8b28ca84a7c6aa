#include "linalg/blas.h"

#include "linalg/fortran.h"

extern "C" {
void openblas_set_num_threads(int count);
void dgemm_(const char*, const char*, const int*, const int*, const int*, const double*,
            const double*, const int*, const double*, const int*, const double*, double*,
            const int*, std::size_t, std::size_t);
void sgemm_(const char*, const char*, const int*, const int*, const int*, const float*,
            const float*, const int*, const float*, const int*, const float*, float*, const int*,
            std::size_t, std::size_t);
void dgemv_(const char*, const int*, const int*, const double*, const double*, const int*,
            const double*, const int*, const double*, double*, const int*, std::size_t);
void dsyrk_(const char*, const char*, const int*, const int*, const double*, const double*,
            const int*, const double*, double*, const int*, std::size_t, std::size_t);
void dtrsm_(const char*, const char*, const char*, const char*, const int*, const int*,
            const double*, const double*, const int*, double*, const int*, std::size_t, std::size_t,
            std::size_t, std::size_t);
double ddot_(const int*, const double*, const int*, const double*, const int*);
double dnrm2_(const int*, const double*, const int*);
}

namespace eigenscope {

void useSingleThreadedBlas() { openblas_set_num_threads(1); }

void gemm(char transA, char transB, int64_t m, int64_t n, int64_t k, double alpha, const double* a,
          int64_t lda, const double* b, int64_t ldb, double beta, double* c, int64_t ldc) {
  const int rows = blasInt(m), cols = blasInt(n), inner = blasInt(k);
  const int la = blasInt(lda), lb = blasInt(ldb), lc = blasInt(ldc);
  dgemm_(&transA, &transB, &rows, &cols, &inner, &alpha, a, &la, b, &lb, &beta, c, &lc, 1, 1);
}

void gemm(char transA, char transB, int64_t m, int64_t n, int64_t k, float alpha, const float* a,
          int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc) {
  const int rows = blasInt(m), cols = blasInt(n), inner = blasInt(k);
  const int la = blasInt(lda), lb = blasInt(ldb), lc = blasInt(ldc);
  sgemm_(&transA, &transB, &rows, &cols, &inner, &alpha, a, &la, b, &lb, &beta, c, &lc, 1, 1);
}

void gemv(char trans, int64_t m, int64_t n, double alpha, const double* a, int64_t lda,
          const double* x, double beta, double* y) {
  const int rows = blasInt(m), cols = blasInt(n), la = blasInt(lda), one = 1;
  dgemv_(&trans, &rows, &cols, &alpha, a, &la, x, &one, &beta, y, &one, 1);
}

void syrk(char trans, int64_t n, int64_t k, double alpha, const double* a, int64_t lda, double beta,
          double* c, int64_t ldc) {
  const int size = blasInt(n), inner = blasInt(k), la = blasInt(lda), lc = blasInt(ldc);
  dsyrk_("U", &trans, &size, &inner, &alpha, a, &la, &beta, c, &lc, 1, 1);
}

void trsm(char side, char uplo, char transA, char diag, int64_t m, int64_t n, double alpha,
          const double* a, int64_t lda, double* b, int64_t ldb) {
  const int rows = blasInt(m), cols = blasInt(n), la = blasInt(lda), lb = blasInt(ldb);
  dtrsm_(&side, &uplo, &transA, &diag, &rows, &cols, &alpha, a, &la, b, &lb, 1, 1, 1, 1);
}

double dot(int64_t n, const double* x, const double* y) {
  const int size = blasInt(n), one = 1;
  return ddot_(&size, x, &one, y, &one);
}

double norm2(int64_t n, const double* x) {
  const int size = blasInt(n), one = 1;
  return dnrm2_(&size, x, &one);
}

}  // namespace eigenscope
