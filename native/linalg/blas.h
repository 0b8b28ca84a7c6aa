#pragma once

#include <cstdint>

namespace eigenscope {

// Typed fronts of the BLAS. Matrices are column-major; `trans` is 'N' or 'T'; sizes are checked
// against the 32-bit integers of the library.

// One thread a call, for the whole process: parallelism lies above the BLAS.
void useSingleThreadedBlas();

// C = alpha op(A) op(B) + beta C, C of m x n, inner length k.
void gemm(char transA, char transB, int64_t m, int64_t n, int64_t k, double alpha, const double* a,
          int64_t lda, const double* b, int64_t ldb, double beta, double* c, int64_t ldc);
void gemm(char transA, char transB, int64_t m, int64_t n, int64_t k, float alpha, const float* a,
          int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc);

// y = alpha op(A) x + beta y, A of m x n.
void gemv(char trans, int64_t m, int64_t n, double alpha, const double* a, int64_t lda,
          const double* x, double beta, double* y);

// The upper triangle of C = alpha op(A) op(A)^T + beta C, C of n x n, inner length k.
void syrk(char trans, int64_t n, int64_t k, double alpha, const double* a, int64_t lda, double beta,
          double* c, int64_t ldc);

// B = op(A)^-1 B (side 'L') or B op(A)^-1 (side 'R') for a triangular A, B of m x n.
void trsm(char side, char uplo, char transA, char diag, int64_t m, int64_t n, double alpha,
          const double* a, int64_t lda, double* b, int64_t ldb);

double dot(int64_t n, const double* x, const double* y);

// Euclidean norm, safe against overflow and underflow of the squares.
double norm2(int64_t n, const double* x);

}  // namespace eigenscope
