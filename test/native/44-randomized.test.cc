// Subspace iteration, block Krylov and Nystrom.
#include <doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "spectra.h"

using namespace eigenscope;
using namespace eigenscope::spectra;

namespace {

const Precision kPrecisions[] = {Precision::F32, Precision::F64};

std::vector<double> powerLaw(int64_t dim, double exponent) {
  std::vector<double> values(dim);
  for (int64_t i = 0; i < dim; ++i) values[i] = std::pow(1.0 + i, -exponent);
  return values;
}

void requireRefusal(LinearOperator& op, EigshOptions options) {
  options.method = EigshMethod::Nystrom;
  std::string message;
  try {
    solve(op, options);
  } catch (const Error& error) {
    CHECK(error.kind == ErrorKind::Option);
    message = error.what();
  }
  CAPTURE(message);
  CHECK(message.find("positive semi-definite") != std::string::npos);
  CHECK(message.find("use method lanczos or krylov") != std::string::npos);
}

}  // namespace

TEST_CASE("the randomized methods agree with the known spectrum") {
  const std::vector<double> positive = powerLaw(350, 1.5);
  std::vector<double> both = positive;
  for (std::size_t i = 1; i < both.size(); i += 3) both[i] = -both[i];
  for (Precision precision : kPrecisions)
    for (EigshMethod method : {EigshMethod::Subspace, EigshMethod::Krylov, EigshMethod::Nystrom}) {
      const auto& values = method == EigshMethod::Nystrom ? positive : both;
      const auto op = operatorWithSpectrum(values, precision);
      EigshOptions options;
      options.k = 8;
      options.method = method;
      options.maxProducts = 4000;
      const EigshResult r = solve(*op, options);
      CAPTURE(r.method);
      CAPTURE(r.reason);
      CHECK(r.converged);
      checkPairs(*op, r, options);
      checkValues(r, expectedValues(values, 8, Which::LM),
                  precision == Precision::F32 ? 1e-5 : 1e-9);
    }
}

TEST_CASE("block Krylov serves every end, with restarts when memory is short") {
  const int64_t dim = 500;
  std::vector<double> values(dim);
  for (int64_t i = 0; i < dim; ++i)
    values[i] = i < 12 ? (i % 2 ? -1 : 1) * (5 - 0.3 * i) : std::sin(double(i));
  for (Which which : {Which::LM, Which::LA, Which::SA, Which::BE}) {
    EigshOptions options;
    options.k = 5;
    options.which = which;
    options.method = EigshMethod::Krylov;
    const auto op = operatorWithSpectrum(values, Precision::F64);
    const EigshResult free = solve(*op, options);
    CHECK(free.converged);
    checkPairs(*op, free, options);
    checkValues(free, expectedValues(values, 5, which), 1e-10);
    options.blockSize = 6;
    options.basisSize = 24;
    const EigshResult tight = solve(*op, options);
    CHECK(tight.converged);
    CHECK(tight.restarts > 1);
    checkPairs(*op, tight, options);
    checkValues(tight, expectedValues(values, 5, which), 1e-10);
  }
}

TEST_CASE("zero, low rank and the whole space") {
  const int64_t dim = 120;
  for (Precision precision : kPrecisions)
    for (EigshMethod method : {EigshMethod::Subspace, EigshMethod::Krylov, EigshMethod::Nystrom}) {
      EigshOptions options;
      options.k = 5;
      options.method = method;
      std::vector<double> values(dim, 0.0);
      const EigshResult zero = solve(*diagonalOperator(values, precision), options);
      CAPTURE(zero.method);
      CHECK(zero.converged);
      for (int64_t i = 0; i < 5; ++i) CHECK((zero.values[i] == 0 && zero.residuals[i] == 0));

      values[7] = 3, values[8] = 2;
      const auto low = operatorWithSpectrum(values, precision);
      const EigshResult r = solve(*low, options);
      CHECK(r.converged);
      checkPairs(*low, r, options);
      checkValues(r, expectedValues(values, 5, Which::LM),
                  precision == Precision::F32 ? 1e-5 : 1e-11);

      for (int64_t k : {1, 4}) {
        options.k = k;
        const std::vector<double> few = {4.0, 3.0, 2.0, 1.0};
        const auto tiny = operatorWithSpectrum(few, precision);
        const EigshResult whole = solve(*tiny, options);
        CHECK(whole.converged);
        checkPairs(*tiny, whole, options);
        checkValues(whole, expectedValues(few, k, Which::LM),
                    precision == Precision::F32 ? 1e-5 : 1e-11);
      }
    }
}

TEST_CASE("Nystrom values lie below the eigenvalues and meet the trace bound") {
  // E ||A - A_nys||_1 <= (1 + r / (l - r - 1)) sum_{j > r} lambda_j, for the whole approximation.
  const std::vector<double> values = powerLaw(100, 2);
  const auto op = operatorWithSpectrum(values, Precision::F64);
  double trace = 0, captured = 0;
  for (double x : values) trace += x;
  const int seeds = 40;
  for (int seed = 0; seed < seeds; ++seed) {
    EigshOptions options;
    options.k = 12;
    options.oversample = 0;
    options.method = EigshMethod::Nystrom;
    options.seed = seed;
    options.maxProducts = 24;  // one sketch, one measurement
    const EigshResult r = solve(*op, options);
    for (int64_t i = 0; i < 12; ++i) {
      CHECK(r.values[i] <= values[i] * (1 + 1e-9));
      captured += r.values[i] / seeds;
    }
  }
  double tail = 0;
  for (std::size_t i = 5; i < values.size(); ++i) tail += values[i];
  CHECK(trace - captured <= (1 + 5.0 / 6) * tail);
  CHECK(trace - captured > 0);
}

TEST_CASE("Nystrom refuses indefinite operators, whatever the sketch hit (O21)") {
  for (Precision precision : kPrecisions) {
    EigshOptions options;
    options.k = 1;
    requireRefusal(*diagonalOperator({1.0, -1.0}, precision), options);
    // A sketch of one vector: its core is positive for half of the seeds, and harmless to Cholesky.
    options.oversample = 0;
    int positive = 0;
    for (uint64_t seed = 0; seed < 40; ++seed) {
      options.seed = seed;
      double start[2];
      fillGaussian(start, 2, 1, seed, 0);
      positive += start[0] * start[0] > start[1] * start[1];
      requireRefusal(*diagonalOperator({1.0, -1.0}, precision), options);
    }
    CHECK(positive > 10);
    CHECK(positive < 30);

    options = {};
    options.k = 6;
    requireRefusal(*diagonalOperator(std::vector<double>(200, -1.0), precision), options);
    // Like a Hessian late in training: positive outliers, a bulk of both signs.
    std::vector<double> values(500);
    for (int64_t i = 0; i < 500; ++i)
      values[i] = i < 10 ? 10.0 / (1 + i) : (i % 2 ? -0.1 : 0.3) * std::exp(-0.01 * i);
    requireRefusal(*operatorWithSpectrum(values, precision), options);
    // A single negative eigenvalue among positive ones.
    for (int64_t i = 10; i < 500; ++i) values[i] = std::abs(values[i]);
    values[10] = -0.5;
    requireRefusal(*operatorWithSpectrum(values, precision), options);
  }
}

TEST_CASE("subspace iteration on a flat spectrum stops and names better methods") {
  std::vector<double> values(2000);
  for (int64_t i = 0; i < 2000; ++i) values[i] = 1 + 1e-4 * std::sin(double(i));
  SpectrumOperator op(values, Precision::F64);
  EigshOptions options;
  options.k = 5;
  options.method = EigshMethod::Subspace;
  options.maxProducts = 100000;
  const EigshResult r = solve(op, options);
  CHECK_FALSE(r.converged);
  CHECK(r.products < 1000);
  CHECK(r.reason.find("use method lanczos or krylov") != std::string::npos);
}
