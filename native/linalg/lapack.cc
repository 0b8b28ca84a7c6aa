#include "linalg/lapack.h"

#include <algorithm>

#include "linalg/fortran.h"

extern "C" {
void dsyevd_(const char*, const char*, const int*, double*, const int*, double*, double*,
             const int*, int*, const int*, int*, std::size_t, std::size_t);
void dpotrf_(const char*, const int*, double*, const int*, int*, std::size_t);
void dgeqrf_(const int*, const int*, double*, const int*, double*, double*, const int*, int*);
void dgeqp3_(const int*, const int*, double*, const int*, int*, double*, double*, const int*, int*);
void dorgqr_(const int*, const int*, const int*, double*, const int*, const double*, double*,
             const int*, int*);
void dgesdd_(const char*, const int*, const int*, double*, const int*, double*, double*, const int*,
             double*, const int*, double*, const int*, int*, int*, std::size_t);
}

namespace eigenscope {

namespace {

void check(const char* routine, int info) {
  if (info == 0) return;
  throw Error(ErrorKind::Internal,
              std::string("LAPACK ") + routine +
                  (info < 0 ? " refused its argument number " + std::to_string(-info)
                            : " did not converge, info = " + std::to_string(info)));
}

std::vector<double> syevd(char job, int64_t n, double* a, int64_t lda) {
  std::vector<double> values(n);
  if (n == 0) return values;
  const int size = blasInt(n), la = blasInt(lda), query = -1;
  int info = 0, integers = 0;
  double doubles = 0;
  dsyevd_(&job, "U", &size, a, &la, values.data(), &doubles, &query, &integers, &query, &info, 1,
          1);
  check("dsyevd", info);
  const int lwork = static_cast<int>(doubles), liwork = integers;
  std::vector<double> work(lwork);
  std::vector<int> iwork(liwork);
  dsyevd_(&job, "U", &size, a, &la, values.data(), work.data(), &lwork, iwork.data(), &liwork,
          &info, 1, 1);
  check("dsyevd", info);
  return values;
}

// Householder QR in place; returns the scalars of the reflectors.
std::vector<double> geqrf(int64_t m, int64_t n, double* a, int64_t lda) {
  const int rows = blasInt(m), cols = blasInt(n), la = blasInt(lda), query = -1;
  std::vector<double> tau(std::max<int64_t>(1, std::min(m, n)));
  double need = 0;
  int info = 0;
  dgeqrf_(&rows, &cols, a, &la, tau.data(), &need, &query, &info);
  check("dgeqrf", info);
  const int lwork = static_cast<int>(need);
  std::vector<double> work(lwork);
  dgeqrf_(&rows, &cols, a, &la, tau.data(), work.data(), &lwork, &info);
  check("dgeqrf", info);
  return tau;
}

std::vector<double> gesdd(char job, int64_t m, int64_t n, double* a, int64_t lda, double* u,
                          double* vt) {
  const int64_t thin = std::min(m, n);
  std::vector<double> values(thin);
  if (thin == 0) return values;
  const int rows = blasInt(m), cols = blasInt(n), la = blasInt(lda), lvt = blasInt(thin);
  const int query = -1;
  std::vector<int> iwork(8 * thin);
  double need = 0;
  int info = 0;
  dgesdd_(&job, &rows, &cols, a, &la, values.data(), u, &rows, vt, &lvt, &need, &query,
          iwork.data(), &info, 1);
  check("dgesdd", info);
  const int lwork = static_cast<int>(need);
  std::vector<double> work(lwork);
  dgesdd_(&job, &rows, &cols, a, &la, values.data(), u, &rows, vt, &lvt, work.data(), &lwork,
          iwork.data(), &info, 1);
  check("dgesdd", info);
  return values;
}

}  // namespace

std::vector<double> symmetricEigen(int64_t n, double* a, int64_t lda) {
  return syevd('V', n, a, lda);
}

std::vector<double> symmetricEigenvalues(int64_t n, double* a, int64_t lda) {
  return syevd('N', n, a, lda);
}

int64_t cholesky(int64_t n, double* a, int64_t lda) {
  const int size = blasInt(n), la = blasInt(lda);
  int info = 0;
  dpotrf_("U", &size, a, &la, &info, 1);
  if (info < 0) check("dpotrf", info);
  return info;
}

void qrTriangle(int64_t m, int64_t n, double* a, int64_t lda, double* r, int64_t ldr) {
  geqrf(m, n, a, lda);
  for (int64_t j = 0; j < n; ++j)
    for (int64_t i = 0; i < n; ++i) r[j * ldr + i] = i <= j ? a[j * lda + i] : 0.0;
}

std::vector<int64_t> qrPivoted(int64_t n, double* a, int64_t lda) {
  const int size = blasInt(n), la = blasInt(lda), query = -1;
  std::vector<int> pivots(n, 0);
  std::vector<double> tau(std::max<int64_t>(1, n));
  double need = 0;
  int info = 0;
  dgeqp3_(&size, &size, a, &la, pivots.data(), tau.data(), &need, &query, &info);
  check("dgeqp3", info);
  const int lwork = static_cast<int>(need);
  std::vector<double> work(lwork);
  dgeqp3_(&size, &size, a, &la, pivots.data(), tau.data(), work.data(), &lwork, &info);
  check("dgeqp3", info);
  std::vector<int64_t> permutation(n);
  for (int64_t j = 0; j < n; ++j) permutation[j] = pivots[j] - 1;
  return permutation;
}

void qrOrthonormal(int64_t m, int64_t n, double* a, int64_t lda) {
  const std::vector<double> tau = geqrf(m, n, a, lda);
  const int rows = blasInt(m), cols = blasInt(n), la = blasInt(lda), query = -1;
  double need = 0;
  int info = 0;
  dorgqr_(&rows, &cols, &cols, a, &la, tau.data(), &need, &query, &info);
  check("dorgqr", info);
  const int lwork = static_cast<int>(need);
  std::vector<double> work(lwork);
  dorgqr_(&rows, &cols, &cols, a, &la, tau.data(), work.data(), &lwork, &info);
  check("dorgqr", info);
}

SmallSvd svd(int64_t m, int64_t n, double* a, int64_t lda) {
  const int64_t thin = std::min(m, n);
  SmallSvd result{std::vector<double>(m * thin), {}, std::vector<double>(thin * n)};
  result.values = gesdd('S', m, n, a, lda, result.u.data(), result.vt.data());
  return result;
}

std::vector<double> singularValues(int64_t m, int64_t n, double* a, int64_t lda) {
  double none = 0;
  return gesdd('N', m, n, a, lda, &none, &none);
}

}  // namespace eigenscope
