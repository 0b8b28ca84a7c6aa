// Whether the stated errors of trace, norm and diagonal are the true ones: 95 % intervals must hold
// the truth as often as they say.
#include <doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "spectra.h"
#include "spectral/diagonal.h"
#include "spectral/norms.h"
#include "spectral/trace.h"

using namespace eigenscope;
using namespace eigenscope::spectra;

namespace {

struct Case {
  const char* name;
  std::vector<double> values;
  bool semidefinite;
};

// Like a Hessian: outliers of both signs over a bulk; a power law; pairs of nearly +- lambda.
std::vector<Case> cases() {
  const int64_t dim = 100;
  Case spiked{"spiked", {30, 20, 15, 10, 8, 6, 5, 4, 3, -2}, false};
  Case power{"power law", {}, true}, pairs{"pairs", {}, false};
  while (static_cast<int64_t>(spiked.values.size()) < dim)
    spiked.values.push_back(0.3 * gaussianPair(3, 0, spiked.values.size())[0]);
  for (int64_t i = 1; i <= dim; ++i) power.values.push_back(std::pow(double(i), -1.5));
  for (int64_t i = 1; i <= dim / 2; ++i) {
    pairs.values.push_back(1.1 / double(i));
    pairs.values.push_back(-1.0 / double(i));
  }
  return {spiked, power, pairs};
}

struct Outcome {
  double covered = 0;
  double spread = 0;  // mean square error over the mean of the stated variance
  double rmse = 0, converged = 0, products = 0;
};

Outcome coverage(const Case& of, TraceOptions options, int runs) {
  const auto op = operatorWithSpectrum(of.values, Precision::F64);
  double truth = 0, squares = 0, stated = 0;
  for (double x : of.values) truth += x;
  Outcome outcome;
  Task task;
  for (int run = 0; run < runs; ++run) {
    options.seed = run;
    const SampledEstimate r = trace(*op, options, task);
    outcome.covered += double(r.low <= truth && truth <= r.high) / runs;
    outcome.converged += double(r.converged) / runs;
    outcome.products += double(r.products) / runs;
    squares += (r.value - truth) * (r.value - truth) / runs;
    stated += r.standardError * r.standardError / runs;
  }
  outcome.spread = squares / stated;
  outcome.rmse = std::sqrt(squares);
  return outcome;
}

}  // namespace

TEST_CASE("95 % intervals of the trace hold the truth in 92 to 98 % of 1000 runs") {
  for (const Case& of : cases())
    for (TraceMethod method : {TraceMethod::Hutchinson, TraceMethod::HutchPP, TraceMethod::XTrace,
                               TraceMethod::XNysTrace}) {
      if (method == TraceMethod::XNysTrace && !of.semidefinite) continue;
      const int64_t products = 45;
      TraceOptions options;
      options.method = method;
      options.stop.products = products;
      const Outcome outcome = coverage(of, options, 1000);
      CAPTURE(of.name);
      CAPTURE(nameOf(method));
      CAPTURE(products);
      CAPTURE(outcome.spread);
      CAPTURE(outcome.covered);
      CHECK(outcome.covered >= 0.92);
      CHECK(outcome.covered <= 0.98);
      // The stated variance is the true one, not a bound and not a part of it.
      CHECK(outcome.spread > 0.75);
      CHECK(outcome.spread < 1.2);
    }
}

TEST_CASE("stopping at a requested error keeps the coverage") {
  for (const Case& of : cases())
    for (TraceMethod method : {TraceMethod::Hutchinson, TraceMethod::HutchPP, TraceMethod::XTrace,
                               TraceMethod::XNysTrace}) {
      if (method == TraceMethod::XNysTrace && !of.semidefinite) continue;
      const double tol = method == TraceMethod::Hutchinson ? 0.1 : 0.01;
      TraceOptions options;
      options.method = method;
      options.stop.tol = tol;
      options.stop.maxProducts = 99;
      const Outcome outcome = coverage(of, options, 1000);
      CAPTURE(of.name);
      CAPTURE(nameOf(method));
      CAPTURE(tol);
      CAPTURE(outcome.covered);
      CHECK(outcome.covered >= 0.92);
      CHECK(outcome.covered <= 0.98);
    }
}

TEST_CASE("95 % intervals of the Frobenius norm hold the truth in 92 to 98 % of 1000 runs") {
  for (const Case& of : cases())
    for (NormMethod method : {NormMethod::Hutchinson, NormMethod::XTrace}) {
      const auto op = operatorWithSpectrum(of.values, Precision::F64);
      double truth = 0, covered = 0;
      for (double x : of.values) truth = std::hypot(truth, x);
      NormOptions options;
      options.method = method;
      options.stop.products = 60;
      Task task;
      for (int run = 0; run < 1000; ++run) {
        options.seed = run;
        const SampledEstimate r = evenNorm(*op, options, task);
        covered += double(r.low <= truth && truth <= r.high) / 1000;
      }
      CAPTURE(of.name);
      CAPTURE(static_cast<int>(method));
      CAPTURE(covered);
      CHECK(covered >= 0.92);
      CHECK(covered <= 0.98);
    }
}

TEST_CASE("errors of the diagonal are those of its entries") {
  for (const Case& of : cases())
    for (DiagonalMethod method : {DiagonalMethod::Hutchinson, DiagonalMethod::XDiag}) {
      const int64_t dim = of.values.size();
      const std::vector<double> matrix = matrixWithSpectrum(of.values, 1);
      const auto op = denseOperator(matrix, dim, Precision::F64);
      DiagonalOptions options;
      options.method = method;
      options.stop.products = 60;
      Task task;
      const int runs = 200;
      std::vector<double> mean(dim, 0.0);
      double squares = 0, stated = 0, covered = 0;
      for (int run = 0; run < runs; ++run) {
        options.seed = run;
        const DiagonalResult r = diagonal(*op, options, task);
        for (int64_t i = 0; i < dim; ++i) {
          const double error = r.values[i] - matrix[i * dim + i];
          mean[i] += error / runs;
          squares += error * error;
          stated += r.standardErrors[i] * r.standardErrors[i];
          covered += double(std::abs(error) <= 2 * r.standardErrors[i]) / double(runs * dim);
        }
      }
      CAPTURE(of.name);
      CAPTURE(nameOf(method));
      CAPTURE(covered);
      CAPTURE(squares / stated);
      CHECK(squares / stated > 0.7);
      CHECK(squares / stated < 1.3);
      CHECK(covered > 0.9);
      CHECK(covered < 0.98);
      // Unbiased, entry by entry.
      const double deviation = std::sqrt(squares / double(runs * dim));
      for (double x : mean) CHECK(std::abs(x) < 8 * deviation / std::sqrt(double(runs)));
    }
}
