// The linked BLAS and LAPACK work through the Fortran names, without a Fortran runtime.
#include <doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

extern "C" {
void dgemm_(const char*, const char*, const int*, const int*, const int*, const double*,
            const double*, const int*, const double*, const int*, const double*, double*,
            const int*, std::size_t, std::size_t);
void dsyevd_(const char*, const char*, const int*, double*, const int*, double*, double*,
             const int*, int*, const int*, int*, std::size_t, std::size_t);
void dgeqrf_(const int*, const int*, double*, const int*, double*, double*, const int*, int*);
void dorgqr_(const int*, const int*, const int*, double*, const int*, const double*, double*,
             const int*, int*);
void dgesdd_(const char*, const int*, const int*, double*, const int*, double*, double*, const int*,
             double*, const int*, double*, const int*, int*, int*, std::size_t);
}

namespace {

// Second differences: eigenvalues 2 - 2 cos(pi j / (n + 1)).
std::vector<double> second_difference(int n) {
  std::vector<double> a(static_cast<std::size_t>(n) * n, 0.0);
  for (int i = 0; i < n; ++i) {
    a[i * n + i] = 2;
    if (i > 0) a[i * n + i - 1] = a[(i - 1) * n + i] = -1;
  }
  return a;
}

TEST_CASE("dsyevd gives the known spectrum of the second-difference matrix") {
  const int n = 200;
  std::vector<double> a = second_difference(n), w(n);
  int lwork = -1, liwork = -1, info = 0, isize = 0;
  double size = 0;
  dsyevd_("V", "U", &n, a.data(), &n, w.data(), &size, &lwork, &isize, &liwork, &info, 1, 1);
  REQUIRE(info == 0);
  lwork = static_cast<int>(size), liwork = isize;
  std::vector<double> work(lwork);
  std::vector<int> iwork(liwork);
  dsyevd_("V", "U", &n, a.data(), &n, w.data(), work.data(), &lwork, iwork.data(), &liwork, &info,
          1, 1);
  REQUIRE(info == 0);
  double worst = 0;
  for (int j = 0; j < n; ++j)
    worst = std::max(worst, std::abs(w[j] - (2 - 2 * std::cos(M_PI * (j + 1) / (n + 1)))));
  CHECK(worst < 1e-13);
}

TEST_CASE("dgeqrf and dorgqr give an orthonormal basis") {
  const int m = 150, n = 40;
  std::vector<double> q(m * n), tau(n), work(64 * n);
  for (int i = 0; i < m * n; ++i) q[i] = std::sin(1.0 + 0.7 * i + 0.01 * i * i);
  int lwork = static_cast<int>(work.size()), info = 0;
  dgeqrf_(&m, &n, q.data(), &m, tau.data(), work.data(), &lwork, &info);
  REQUIRE(info == 0);
  dorgqr_(&m, &n, &n, q.data(), &m, tau.data(), work.data(), &lwork, &info);
  REQUIRE(info == 0);
  std::vector<double> gram(n * n);
  const double one = 1, zero = 0;
  dgemm_("T", "N", &n, &n, &m, &one, q.data(), &m, q.data(), &m, &zero, gram.data(), &n, 1, 1);
  double worst = 0;
  for (int j = 0; j < n; ++j)
    for (int i = 0; i < n; ++i)
      worst = std::max(worst, std::abs(gram[j * n + i] - (i == j ? 1 : 0)));
  CHECK(worst < 1e-13);
}

// dgesdd reaches the routines that build option strings with Fortran's concatenation.
TEST_CASE("dgesdd finds the singular values of a rank-one matrix") {
  const int m = 30, n = 20;
  std::vector<double> a(m * n), s(n), u(m * n), vt(n * n), work(20000);
  double row = 0, column = 0;
  for (int j = 0; j < n; ++j)
    for (int i = 0; i < m; ++i) a[j * m + i] = (i + 1.0) * (j - 7.0);
  for (int i = 0; i < m; ++i) column += (i + 1.0) * (i + 1.0);
  for (int j = 0; j < n; ++j) row += (j - 7.0) * (j - 7.0);
  std::vector<int> iwork(8 * n);
  int lwork = static_cast<int>(work.size()), info = 0;
  dgesdd_("S", &m, &n, a.data(), &m, s.data(), u.data(), &m, vt.data(), &n, work.data(), &lwork,
          iwork.data(), &info, 1);
  REQUIRE(info == 0);
  CHECK(s[0] == doctest::Approx(std::sqrt(row * column)).epsilon(1e-14));
  CHECK(s[1] < 1e-12 * s[0]);
}

}  // namespace
