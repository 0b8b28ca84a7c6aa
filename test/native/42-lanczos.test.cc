// Thick-restart Lanczos against dense solves, and a defined outcome for every degenerate operator.
#include <doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "spectra.h"

using namespace eigenscope;
using namespace eigenscope::spectra;

namespace {

const Precision kPrecisions[] = {Precision::F32, Precision::F64};
const Which kEnds[] = {Which::LM, Which::LA, Which::SA, Which::BE};

double slackOf(Precision precision) { return precision == Precision::F32 ? 2e-5 : 1e-10; }

}  // namespace

TEST_CASE("Lanczos agrees with a dense solve for every end and both precisions") {
  const int64_t dim = 180;
  for (uint64_t seed = 0; seed < 3; ++seed) {
    const std::vector<double> matrix = randomSymmetric(dim, seed);
    const std::vector<double> all = denseSpectrum(matrix, dim);
    for (Precision precision : kPrecisions)
      for (Which which : kEnds)
        for (int64_t k : {1, 5, 12}) {
          const auto op = denseOperator(matrix, dim, precision);
          EigshOptions options;
          options.k = k;
          options.which = which;
          options.maxProducts = 4000;
          const EigshResult r = solve(*op, options);
          CAPTURE(std::string(nameOf(which)));
          CAPTURE(k);
          CAPTURE(r.reason);
          CHECK(r.converged);
          checkPairs(*op, r, options);
          checkValues(r, expectedValues(all, k, which), slackOf(precision));
        }
  }
}

TEST_CASE("random spectra, sizes, ends, methods and block sizes: every pair is found") {
  Choice choose(42);
  for (int round = 0; round < 150; ++round) {
    const int64_t dim = choose.integer(2, 160), k = choose.integer(1, std::min<int64_t>(dim, 12));
    std::vector<double> values(dim);
    const int shape = static_cast<int>(choose.integer(0, 3));
    for (int64_t i = 0; i < dim; ++i) {
      const double u = choose.uniform();
      if (shape == 0) values[i] = u - 0.3;                        // a bulk on both sides of zero
      if (shape == 1) values[i] = std::pow(10.0, -8 * u);         // graded
      if (shape == 2) values[i] = std::floor(6 * u) - 2;          // few values, many copies
      if (shape == 3) values[i] = i < 4 ? 3 - 2.0 * i : 0.1 * u;  // outliers of both signs
    }
    const double factor = std::pow(10.0, 20 * choose.uniform() - 10);
    for (double& x : values) x *= factor;
    EigshOptions options;
    options.k = k;
    options.which = kEnds[choose.integer(0, 3)];
    options.blockSize = std::min(dim, choose.integer(1, 5));
    options.method = choose.uniform() < 0.7 ? EigshMethod::Lanczos : EigshMethod::Krylov;
    options.seed = round;
    const auto op = operatorWithSpectrum(values, Precision::F64, round);
    const EigshResult r = solve(*op, options);
    CAPTURE(round);
    CAPTURE(shape);
    CAPTURE(dim);
    CAPTURE(k);
    CAPTURE(std::string(nameOf(options.which)));
    CAPTURE(r.method);
    CAPTURE(r.reason);
    CHECK(r.converged);
    CHECK(r.warnings.empty());
    checkPairs(*op, r, options);
    checkMagnitudes(r, expectedValues(values, k, options.which), 1e-9, options.which);
  }
}

TEST_CASE("a spiked 2000 x 2000 matrix: outliers of both signs over a random bulk") {
  const int64_t dim = 2000;
  const std::vector<double> spikes = {10, -8, 5, -3, 2.5};
  for (Precision precision : kPrecisions) {
    const auto op = spikedOperator(dim, spikes, 1.0, precision);
    EigshOptions options;
    options.k = 5;
    const EigshResult r = solve(*op, options);
    CHECK(r.converged);
    CHECK(r.products < 100);
    checkPairs(*op, r, options);
    // An outlier s over a semicircle of radius 1 (variance 1/4) lies at s + 1 / (4 s).
    for (std::size_t i = 0; i < spikes.size(); ++i)
      CHECK(r.values[i] == doctest::Approx(spikes[i] + 0.25 / spikes[i]).epsilon(0.02));
  }
}

TEST_CASE("all copies of repeated eigenvalues are found with single vectors") {
  const int64_t dim = 300;
  std::vector<double> values(dim);
  for (int64_t i = 0; i < dim; ++i)
    values[i] = i < 5 ? 5.0 : i < 8 ? -4.0 : i < 10 ? 3.0 : 1.0 * (i - 10) / dim;
  for (Precision precision : kPrecisions)
    for (Which which : kEnds)
      for (int64_t k : {3, 5, 8, 10}) {
        EigshOptions options;
        options.k = k;
        options.which = which;
        options.maxProducts = 5000;
        const auto op = operatorWithSpectrum(values, precision);
        const EigshResult r = solve(*op, options);
        CAPTURE(k);
        CAPTURE(std::string(nameOf(which)));
        CHECK(r.converged);
        checkPairs(*op, r, options);
        checkValues(r, expectedValues(values, k, which), slackOf(precision));
      }
}

TEST_CASE("copies are found at both ends from the smallest basis") {
  const int64_t dim = 113;
  std::vector<double> values(dim);
  for (int64_t i = 0; i < dim; ++i) values[i] = i < 37 ? 1 + i % 3 : 0;
  for (int64_t block : {1, 4})
    for (uint64_t seed = 0; seed < 5; ++seed) {
      EigshOptions options;
      options.k = 10;
      options.which = Which::BE;
      options.blockSize = block;
      options.basisSize = 10 + std::max<int64_t>(6, 3 * block);
      options.seed = seed;
      const auto op = diagonalOperator(values, Precision::F64);
      const EigshResult r = solve(*op, options);
      CHECK(r.converged);
      checkPairs(*op, r, options);
      checkValues(r, {3, 3, 3, 3, 3, 0, 0, 0, 0, 0}, 1e-9);
    }
}

TEST_CASE("the identity, a cluster and pairs of opposite sign") {
  const int64_t dim = 400;
  for (Precision precision : kPrecisions) {
    EigshOptions options;
    options.k = 6;
    std::vector<double> values(dim, 2.5);
    const EigshResult same = solve(*diagonalOperator(values, precision), options);
    CHECK(same.converged);
    CHECK(same.products < 30);
    checkValues(same, std::vector<double>(6, 2.5), 1e-7);

    // Closer to one another than tol: their space is found, whichever basis of it.
    for (int64_t i = 0; i < dim; ++i) values[i] = i < 6 ? 7 + 1e-10 * i : 1.0 * i / dim;
    const auto cluster = operatorWithSpectrum(values, precision);
    const EigshResult near = solve(*cluster, options);
    CHECK(near.converged);
    checkPairs(*cluster, near, options);
    checkValues(near, std::vector<double>(6, 7.0), slackOf(precision));

    for (int64_t i = 0; i < dim; ++i) values[i] = (i % 2 ? -1 : 1) * std::pow(0.8, double(i / 2));
    const auto pairs = operatorWithSpectrum(values, precision);
    const EigshResult signs = solve(*pairs, options);
    CHECK(signs.converged);
    checkPairs(*pairs, signs, options);
    double sum = 0;
    for (int64_t i = 0; i < 6; ++i) {
      CHECK(std::abs(signs.values[i]) ==
            doctest::Approx(std::pow(0.8, double(i / 2))).epsilon(slackOf(precision)));
      sum += signs.values[i];
    }
    CHECK(std::abs(sum) < 10 * slackOf(precision));
  }
}

TEST_CASE("exact low rank and the zero operator") {
  const int64_t dim = 500;
  for (Precision precision : kPrecisions)
    for (int64_t block : {1, 3})
      for (Which which : kEnds) {
        std::vector<double> values(dim, 0.0);
        EigshOptions options;
        options.k = 7;
        options.which = which;
        options.blockSize = block;
        const EigshResult zero = solve(*diagonalOperator(values, precision), options);
        CHECK(zero.converged);
        CHECK(zero.products < 60);
        CHECK(zero.scale == 0);
        for (int64_t i = 0; i < 7; ++i) CHECK((zero.values[i] == 0 && zero.residuals[i] == 0));

        values[3] = 4, values[100] = -3, values[101] = 2, values[499] = 2;
        const auto op = operatorWithSpectrum(values, precision);
        const EigshResult r = solve(*op, options);
        CAPTURE(std::string(nameOf(which)));
        CHECK(r.converged);
        CHECK(r.products < 150);
        checkPairs(*op, r, options);
        checkValues(r, expectedValues(values, 7, which),
                    precision == Precision::F32 ? 1e-6 : 1e-13);
      }
}

TEST_CASE("a spectrum over 16 orders of magnitude") {
  const int64_t dim = 257;
  std::vector<double> values(dim);
  for (int64_t i = 0; i < dim; ++i) values[i] = std::pow(10.0, -16.0 * i / (dim - 1));
  for (Precision precision : kPrecisions) {
    const auto op = operatorWithSpectrum(values, precision);
    EigshOptions options;
    options.k = 20;
    const EigshResult r = solve(*op, options);
    CHECK(r.converged);
    checkPairs(*op, r, options);
    checkValues(r, expectedValues(values, 20, Which::LM), slackOf(precision));
  }
}

TEST_CASE("one dimension, two, and k up to the dimension") {
  for (Precision precision : kPrecisions) {
    EigshOptions options;
    options.k = 1;
    const EigshResult one = solve(*diagonalOperator({-3.0}, precision), options);
    CHECK(one.converged);
    CHECK(one.values[0] == -3);
    CHECK(one.residuals[0] == 0);

    const EigshResult two = solve(*diagonalOperator({1.0, -1.0}, precision), options);
    CHECK(two.converged);
    CHECK(std::abs(two.values[0]) == doctest::Approx(1));

    for (int64_t dim : {7, 40, 90}) {
      const std::vector<double> matrix = randomSymmetric(dim, dim);
      const std::vector<double> all = denseSpectrum(matrix, dim);
      for (int64_t k : {dim - 1, dim})
        for (Which which : kEnds) {
          options.k = k;
          options.which = which;
          const auto op = denseOperator(matrix, dim, precision);
          const EigshResult r = solve(*op, options);
          CHECK(r.converged);
          CHECK(r.method == "dense");
          CHECK(r.products == dim + k);
          checkPairs(*op, r, options);
          checkValues(r, expectedValues(all, k, which), slackOf(precision));
        }
      options.which = Which::LM;
    }
  }
}

TEST_CASE("where Lanczos would crawl, small problems are finished densely") {
  // The low end of a graded spectrum: neighbours differ by 1e-8 of the largest eigenvalue.
  const int64_t dim = 150;
  std::vector<double> values(dim);
  for (int64_t i = 0; i < dim; ++i) values[i] = std::pow(10.0, -8.0 * i / dim);
  const auto op = operatorWithSpectrum(values, Precision::F64);
  for (int64_t most : {0, 320}) {
    EigshOptions options;
    options.k = 4;
    options.which = Which::SA;
    options.maxProducts = most;
    const EigshResult r = solve(*op, options);
    CHECK(r.converged);
    CHECK(r.method == "dense");
    CHECK(r.restarts > 0);
    CHECK(r.products <= 2 * dim + 20);
    checkPairs(*op, r, options);
    checkValues(r, expectedValues(values, 4, Which::SA), 1e-13);
  }
}

TEST_CASE("the Krylov space may fill the whole space") {
  // Too few products for a dense solve, and a basis larger than the dimension.
  const int64_t dim = 12;
  const std::vector<double> matrix = randomSymmetric(dim, 3);
  EigshOptions options;
  options.k = 2;
  options.maxProducts = 13;
  for (Precision precision : kPrecisions) {
    const auto op = denseOperator(matrix, dim, precision);
    const EigshResult r = solve(*op, options);
    CHECK(r.method == "lanczos");
    CHECK(r.products <= 13);
    checkPairs(*op, r, options);
  }
}

TEST_CASE("scaling the operator scales the values and nothing else") {
  const int64_t dim = 300;
  std::vector<double> values(dim);
  for (int64_t i = 0; i < dim; ++i)
    values[i] = i < 12 ? (i % 3 ? 1 : -1) * 4.0 / (1 + i) : 0.1 * std::sin(double(i));
  for (EigshMethod method :
       {EigshMethod::Lanczos, EigshMethod::Krylov, EigshMethod::Subspace, EigshMethod::Nystrom})
    for (Precision precision : kPrecisions) {
      std::vector<double> spectrum = values;
      if (method == EigshMethod::Nystrom)
        for (double& x : spectrum) x = std::abs(x);
      const auto op = operatorWithSpectrum(spectrum, precision);
      EigshOptions options;
      options.k = 5;
      options.method = method;
      options.maxProducts = 3000;
      const EigshResult base = solve(*op, options);
      CHECK(base.converged);
      for (double factor : {1e-12, 1e-6, 3.0, 1e6, 1e12}) {
        CAPTURE(factor);
        const EigshResult r = solve(*scaleOperator(op, factor), options);
        CHECK(r.converged);
        CHECK(r.products == base.products);
        CHECK(r.restarts == base.restarts);
        for (int64_t i = 0; i < 5; ++i)
          CHECK(r.values[i] == doctest::Approx(factor * base.values[i])
                                   .epsilon(precision == Precision::F32 ? 1e-5 : 1e-10));
      }
    }
}

TEST_CASE("blocks give the same pairs as single vectors") {
  const int64_t dim = 400;
  std::vector<double> values(dim);
  for (int64_t i = 0; i < dim; ++i) values[i] = i < 3 ? 6.0 : 4.0 / (1 + i);
  for (Precision precision : kPrecisions)
    for (int64_t block : {1, 2, 5, 8}) {
      EigshOptions options;
      options.k = 6;
      options.blockSize = block;
      const auto op = operatorWithSpectrum(values, precision);
      const EigshResult r = solve(*op, options);
      CHECK(r.converged);
      checkPairs(*op, r, options);
      checkValues(r, expectedValues(values, 6, Which::LM), slackOf(precision));
    }
}
