// MINRES on symmetric systems, indefinite and singular ones included.
#include "spectral/minres.h"

#include <doctest.h>

#include <cmath>
#include <vector>

#include "spectra.h"

using namespace eigenscope;
using namespace eigenscope::spectra;

namespace {

std::vector<double> gaussian(int64_t dim, uint64_t seed) {
  std::vector<double> b(dim);
  fillGaussian(b.data(), dim, 1, seed, 0);
  return b;
}

// ||b - (A - shift I) x|| / ||b|| in float64.
double residualOf(const std::vector<double>& matrix, double shift, const std::vector<double>& b,
                  const std::vector<double>& x) {
  const int64_t dim = b.size();
  std::vector<double> r = b;
  gemv('N', dim, dim, -1.0, matrix.data(), dim, x.data(), 1.0, r.data());
  for (int64_t i = 0; i < dim; ++i) r[i] += shift * x[i];
  return norm2(dim, r.data()) / norm2(dim, b.data());
}

}  // namespace

TEST_CASE("minres solves shifted indefinite systems to the residual that it states") {
  const int64_t dim = 120;
  std::vector<double> values(dim);
  for (int64_t i = 0; i < dim; ++i) values[i] = -3 + 8.0 * double(i) / double(dim - 1);
  const std::vector<double> matrix = matrixWithSpectrum(values, 3);
  const std::vector<double> b = gaussian(dim, 5);
  for (Precision precision : {Precision::F32, Precision::F64})
    for (double scale : {1e-12, 1.0, 1e12}) {
      const bool single = precision == Precision::F32;
      std::vector<double> scaled = matrix;
      for (double& x : scaled) x *= scale;
      const auto op = denseOperator(scaled, dim, precision);
      Task task;
      ProductCounter a(*op, task, 2000);
      std::vector<double> x(dim);
      const double shift = 0.51 * scale, tol = single ? 1e-5 : 1e-11;
      const MinresResult result = minres(a, shift, b.data(), x.data(), tol);
      CAPTURE(single);
      CAPTURE(scale);
      CAPTURE(a.products());
      CHECK(result.converged);
      CHECK(result.residual <= tol);
      CHECK(a.products() >= result.iterations);
      CHECK(a.products() <= result.iterations + 4);
      CHECK(std::abs(residualOf(scaled, shift, b, x) - result.residual) <= (single ? 5e-6 : 1e-14));
    }
}

TEST_CASE("minres takes an iteration for each distinct eigenvalue") {
  std::vector<double> values(60, 2.0);
  for (int64_t i = 0; i < 20; ++i) values[i] = -2;
  for (int64_t i = 20; i < 30; ++i) values[i] = 5;
  const auto op = operatorWithSpectrum(values, Precision::F64);
  Task task;
  ProductCounter a(*op, task, 100);
  const std::vector<double> b = gaussian(60, 1);
  std::vector<double> x(60);
  const MinresResult result = minres(a, 0, b.data(), x.data(), 1e-12);
  CHECK(result.converged);
  CHECK(result.iterations == 3);
}

TEST_CASE("minres says when there is no solution, and stays within the products allowed") {
  std::vector<double> values(50);
  for (int64_t i = 0; i < 50; ++i) values[i] = i < 10 ? 0.0 : i - 25.5;
  const auto op = diagonalOperator(values, Precision::F64);
  const std::vector<double> b = gaussian(50, 2);
  std::vector<double> x(50);
  double outside = 0, whole = 0;
  for (int64_t i = 0; i < 50; ++i) {
    whole += b[i] * b[i];
    if (i < 10) outside += b[i] * b[i];
  }
  Task task;
  ProductCounter a(*op, task, 1000);
  const MinresResult singular = minres(a, 0, b.data(), x.data(), 1e-10);
  CHECK_FALSE(singular.converged);
  CHECK(singular.residual == doctest::Approx(std::sqrt(outside / whole)));
  CHECK(a.products() < 100);
  ProductCounter few(*op, task, 12);
  const MinresResult stopped = minres(few, 0.3, b.data(), x.data(), 1e-10);
  CHECK_FALSE(stopped.converged);
  CHECK(few.products() <= 12);
  CHECK(few.products() >= 8);
  std::vector<double> zero(50, 0.0);
  const MinresResult nothing = minres(few, 0, zero.data(), x.data(), 1e-10);
  CHECK(nothing.converged);
  for (double entry : x) CHECK(entry == 0);
}
