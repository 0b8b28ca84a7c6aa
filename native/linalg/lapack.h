#pragma once

#include <cstdint>
#include <vector>

namespace eigenscope {

// Typed fronts of LAPACK for small dense problems, column-major, in double precision. Each throws
// Error (Internal) where the routine reports failure. None can be interrupted.

// Eigenvalues of the symmetric n x n matrix `a` (upper triangle read), ascending; `a` becomes the
// eigenvectors, one a column. dsyevd.
std::vector<double> symmetricEigen(int64_t n, double* a, int64_t lda);

// Eigenvalues alone, ascending; destroys `a`.
std::vector<double> symmetricEigenvalues(int64_t n, double* a, int64_t lda);

// Upper Cholesky factor in place, the strict lower triangle untouched. Returns 0, or the order of
// the first leading minor that is not positive.
int64_t cholesky(int64_t n, double* a, int64_t lda);

// The n x n upper triangular factor of a QR factorisation of the m x n matrix `a`, m >= n, with
// zeros below its diagonal; destroys `a`.
void qrTriangle(int64_t m, int64_t n, double* a, int64_t lda, double* r, int64_t ldr);

// QR with column pivoting of the n x n matrix `a`, which becomes R in its upper triangle.
// Returns the permutation: column j of the factored matrix is column p[j] of the given one.
std::vector<int64_t> qrPivoted(int64_t n, double* a, int64_t lda);

// The orthonormal factor of a QR factorisation, in place, m >= n.
void qrOrthonormal(int64_t m, int64_t n, double* a, int64_t lda);

struct SmallSvd {
  std::vector<double> u;       // m x min(m, n)
  std::vector<double> values;  // descending
  std::vector<double> vt;      // min(m, n) x n
};

// Thin singular value decomposition, a = U diag(values) Vt; destroys `a`. dgesdd.
SmallSvd svd(int64_t m, int64_t n, double* a, int64_t lda);

// Singular values alone, descending; destroys `a`.
std::vector<double> singularValues(int64_t m, int64_t n, double* a, int64_t lda);

}  // namespace eigenscope
