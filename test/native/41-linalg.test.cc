#include <doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/philox.h"
#include "linalg/basis.h"
#include "linalg/blas.h"
#include "linalg/fortran.h"
#include "linalg/lapack.h"

using namespace eigenscope;

namespace {

std::vector<double> gaussian(int64_t rows, int64_t cols, uint64_t seed) {
  std::vector<double> a(rows * cols);
  fillGaussian(a.data(), rows, cols, seed, 0);
  return a;
}

// Largest entry of |Q^T Q - I| over the first `count` columns.
double orthogonalityDefect(const Basis& basis, int64_t count) {
  std::vector<double> gram(count * count);
  basis.innerProducts(0, count, basis, 0, count, gram.data());
  double worst = 0;
  for (int64_t j = 0; j < count; ++j)
    for (int64_t i = 0; i < count; ++i)
      worst = std::max(worst, std::abs(gram[j * count + i] - (i == j)));
  return worst;
}

}  // namespace

TEST_CASE("symmetric eigenproblem, singular values and Cholesky reproduce their matrix") {
  const int64_t n = 23;
  std::vector<double> b = gaussian(n, n, 1), a(n * n);
  gemm('T', 'N', n, n, n, 1.0, b.data(), n, b.data(), n, 0.0, a.data(), n);

  std::vector<double> vectors = a;
  const std::vector<double> values = symmetricEigen(n, vectors.data(), n);
  std::vector<double> image(n * n);
  gemm('N', 'N', n, n, n, 1.0, a.data(), n, vectors.data(), n, 0.0, image.data(), n);
  double worst = 0;
  for (int64_t j = 0; j < n; ++j)
    for (int64_t i = 0; i < n; ++i)
      worst = std::max(worst, std::abs(image[j * n + i] - values[j] * vectors[j * n + i]));
  CHECK(worst < 1e-13 * values.back() * n);
  CHECK(std::is_sorted(values.begin(), values.end()));

  std::vector<double> copy = b;
  const SmallSvd parts = svd(n, n, copy.data(), n);
  for (int64_t i = 0; i < n; ++i)
    CHECK(parts.values[i] * parts.values[i] ==
          doctest::Approx(values[n - 1 - i]).epsilon(1e-10).scale(values.back()));

  std::vector<double> factor = a;
  CHECK(cholesky(n, factor.data(), n) == 0);
  CHECK(factor[0] == doctest::Approx(std::sqrt(a[0])));
  factor = a;
  factor[0] = -1;
  CHECK(cholesky(n, factor.data(), n) == 1);
}

TEST_CASE("sizes beyond 32 bits become errors") {
  CHECK_THROWS_AS(blasInt(-1), Error);
  CHECK_THROWS_AS(blasInt(int64_t{1} << 31), Error);
}

TEST_CASE("blocks are orthonormalised to rounding, whatever the conditioning") {
  for (Precision precision : {Precision::F32, Precision::F64}) {
    CAPTURE(static_cast<int>(precision));
    const int64_t n = 5000, count = 12;
    std::vector<double> w = gaussian(n, count, 2);
    // Columns of very different length, nearly parallel.
    for (int64_t j = 1; j < count; ++j)
      for (int64_t i = 0; i < n; ++i)
        w[j * n + i] = std::pow(10.0, -double(j)) * (w[i] + 1e-3 * w[j * n + i]);
    Basis basis(n, count, precision);
    basis.store(0, count, w.data());
    std::vector<double> stored(n * count), r(count * count), q(n * count), back(n * count);
    basis.load(0, count, stored.data());
    const int64_t rank = orthonormalise(basis, 0, count, 0.0, r.data());
    REQUIRE(rank == count);
    CHECK(orthogonalityDefect(basis, count) < (precision == Precision::F32 ? 2e-7 : 3e-15));
    basis.load(0, count, q.data());
    gemm('N', 'N', n, count, count, 1.0, q.data(), n, r.data(), count, 0.0, back.data(), n);
    for (int64_t j = 0; j < count; ++j) {
      double error = 0;
      for (int64_t i = 0; i < n; ++i)
        error = std::max(error, std::abs(back[j * n + i] - stored[j * n + i]));
      const double length = norm2(n, stored.data() + j * n);
      CHECK(error < (precision == Precision::F32 ? 1e-6 : 1e-14) * length);
    }
  }
}

TEST_CASE("the rank of a block is found and its dependent directions left out") {
  const int64_t n = 900, count = 6;
  std::vector<double> w = gaussian(n, count, 4), r(count * count);
  for (int64_t i = 0; i < n; ++i) {
    w[3 * n + i] = w[i] - 2 * w[n + i];
    w[5 * n + i] = 0;
  }
  Basis basis(n, count, Precision::F64);
  basis.store(0, count, w.data());
  CHECK(orthonormalise(basis, 0, count, 0.0, r.data()) == 4);
  CHECK(orthogonalityDefect(basis, 4) < 3e-15);
  std::vector<double> q(n * 4), back(n * count);
  basis.load(0, 4, q.data());
  gemm('N', 'N', n, count, 4, 1.0, q.data(), n, r.data(), count, 0.0, back.data(), n);
  double error = 0;
  for (int64_t i = 0; i < n * count; ++i) error = std::max(error, std::abs(back[i] - w[i]));
  CHECK(error < 1e-12);

  std::vector<double> zero(n * 2, 0.0);
  basis.store(0, 2, zero.data());
  CHECK(orthonormalise(basis, 0, 2, 0.0, nullptr) == 0);
  CHECK(orthonormalise(basis, 0, 1, 0.0, nullptr) == 0);
}

TEST_CASE("projection leaves no overlap even where almost nothing is left") {
  for (Precision precision : {Precision::F32, Precision::F64}) {
    const int64_t n = 20000, m = 9, b = 3;
    Basis basis(n, m, precision);
    std::vector<double> v = gaussian(n, m, 8);
    basis.store(0, m, v.data());
    REQUIRE(orthonormalise(basis, 0, m, 0.0, nullptr) == m);
    basis.load(0, m, v.data());
    std::vector<double> w = gaussian(n, b, 9), given, taken(m * b);
    for (int64_t j = 0; j < b; ++j)
      for (int64_t i = 0; i < n; ++i) w[j * n + i] = 1e-7 * w[j * n + i] + 1e3 * v[j * n + i];
    given = w;
    basis.project(w.data(), b, m, taken.data());
    for (int64_t j = 0; j < b; ++j)
      for (int64_t i = 0; i < m; ++i)
        CHECK(std::abs(dot(n, w.data() + j * n, v.data() + i * n)) <
              1e-7 * norm2(n, w.data() + j * n));
    gemm('N', 'N', n, b, m, 1.0, v.data(), n, taken.data(), m, 1.0, w.data(), n);
    double error = 0;
    for (int64_t i = 0; i < n * b; ++i) error = std::max(error, std::abs(w[i] - given[i]));
    CHECK(error < 1e-10);
  }
}

TEST_CASE("rotations of a float basis are computed in double") {
  const int64_t n = 3000, m = 7, keep = 3;
  Basis basis(n, m, Precision::F32);
  const std::vector<double> w = gaussian(n, m, 10), s = gaussian(m, keep, 11);
  basis.store(0, m, w.data());
  std::vector<double> stored(n * m), expected(n * keep), got(n * keep);
  basis.load(0, m, stored.data());
  gemm('N', 'N', n, keep, m, 1.0, stored.data(), n, s.data(), m, 0.0, expected.data(), n);
  basis.rotate(0, m, keep, s.data());
  basis.load(0, keep, got.data());
  bool rounded = true;
  for (int64_t i = 0; i < n * keep; ++i)
    rounded &= std::abs(got[i] - expected[i]) <= 6.1e-8 * std::abs(expected[i]);
  CHECK(rounded);
}

TEST_CASE("sweeps over a basis stop when their task is cancelled") {
  Task task;
  Basis basis(20000, 3, Precision::F32, 2, &task);
  const std::vector<double> v = gaussian(20000, 3, 12);
  basis.store(0, 3, v.data());
  CHECK(orthonormalise(basis, 0, 3, 0.0, nullptr) == 3);
  task.cancelled = true;
  std::vector<double> w = gaussian(20000, 1, 13), taken(3);
  CHECK_THROWS_AS(basis.project(w.data(), 1, 3, taken.data()), Error);
  std::vector<double> r(9);
  CHECK_THROWS_AS(basis.triangle(0, 3, r.data()), Error);
}
