// The inverse as an operator: in solvers, compositions, blocks, and when it fails.
#include "spectral/inverse.h"

#include <doctest.h>

#include <cmath>
#include <string>
#include <thread>
#include <vector>

#include "spectra.h"

using namespace eigenscope;
using namespace eigenscope::spectra;

namespace {

std::vector<double> spread(int64_t dim) {
  std::vector<double> values(dim);
  for (int64_t i = 0; i < dim; ++i) values[i] = 0.5 + 3.0 * double(i) / double(dim);
  return values;
}

SolveOptions tight(SolveMethod method, Precision precision = Precision::F64) {
  SolveOptions options;
  options.method = method;
  options.tol = precision == Precision::F32 ? 1e-5 : 1e-12;
  return options;
}

}  // namespace

TEST_CASE("eigenvalues of the inverse are those of the operator, inverted") {
  const int64_t dim = 90;
  const std::vector<double> values = spread(dim);
  for (Precision precision : {Precision::F32, Precision::F64})
    for (double scale : {1e-12, 1.0, 1e12}) {
      std::vector<double> scaled = values;
      for (double& x : scaled) x *= scale;
      const double damping = 0.2 * scale;
      SolveOptions inner = tight(SolveMethod::Cg, precision);
      inner.damping = damping;
      const auto op = inverseOperator(operatorWithSpectrum(scaled, precision, 4), inner);
      EigshOptions options;
      options.k = 5;
      options.which = Which::LA;
      options.tol = precision == Precision::F32 ? 1e-4 : 1e-9;
      const EigshResult r = solve(*op, options);
      CAPTURE(scale);
      CAPTURE(r.reason);
      CHECK(r.converged);
      for (int64_t i = 0; i < 5; ++i)
        CHECK(r.values[i] == doctest::Approx(1 / (scaled[i] + damping))
                                 .epsilon(precision == Precision::F32 ? 1e-4 : 1e-9));
    }
}

TEST_CASE("the nearest eigenvalues to a shift, by the inverse of an indefinite operator") {
  std::vector<double> values(120);
  for (int64_t i = 0; i < 120; ++i) values[i] = -1 + 0.02 * double(i) + 0.003;
  const double sigma = 0.4;
  const auto op = operatorWithSpectrum(values, Precision::F64, 9);
  const auto inverse = inverseOperator(shiftOperator(op, -sigma), tight(SolveMethod::Minres));
  EigshOptions options;
  options.k = 4;
  options.tol = 1e-8;
  const EigshResult r = solve(*inverse, options);
  CHECK(r.converged);
  std::vector<double> found;
  for (double value : r.values) found.push_back(sigma + 1 / value);
  std::sort(found.begin(), found.end());
  const std::vector<double> wanted = {0.383, 0.403, 0.423, 0.363};
  std::vector<double> sorted = wanted;
  std::sort(sorted.begin(), sorted.end());
  for (int64_t i = 0; i < 4; ++i) CHECK(found[i] == doctest::Approx(sorted[i]).epsilon(1e-8));
}

TEST_CASE("restrictions keep their index, and inverses compose") {
  const std::vector<double> values = spread(30);
  const auto part = restrictOperator(diagonalOperator(values, Precision::F64), {3, 7, 11, 20});
  const auto inverse = inverseOperator(part, tight(SolveMethod::Lsmr));
  CHECK(inverse->dim() == 4);
  REQUIRE(inverse->index().size() == 4);
  CHECK(inverse->index()[2] == 11);
  const auto sum = addOperators({scaleOperator(inverse, 2), part});
  const std::vector<double> x = {1, 1, 1, 1};
  std::vector<double> y(4);
  Task task;
  sum->apply(x.data(), y.data(), 1, task);
  const int64_t at[] = {3, 7, 11, 20};
  for (int64_t i = 0; i < 4; ++i)
    CHECK(y[i] == doctest::Approx(2 / values[at[i]] + values[at[i]]).epsilon(1e-11));
}

TEST_CASE("what the inverse prepares is prepared once, whichever thread comes first") {
  std::vector<double> values(80);
  for (int64_t i = 0; i < 80; ++i) values[i] = std::exp(-0.3 * double(i));
  SpectrumOperator whole(values, Precision::F64);
  SolveOptions options = tight(SolveMethod::Cg);
  options.tol = 1e-8;
  options.damping = 1e-3;
  options.nystromRank = 25;
  const auto inverse = inverseOperator(OperatorPtr(OperatorPtr{}, &whole), options);
  std::vector<double> x(80), y(80), again(80);
  fillGaussian(x.data(), 80, 1, 3, 0);
  Task task;
  inverse->apply(x.data(), y.data(), 1, task);
  const int64_t first = whole.calls;
  inverse->apply(x.data(), again.data(), 1, task);
  CHECK(whole.calls - first == first - 25);
  CHECK(y == again);
  for (int64_t i = 0; i < 80; ++i)
    CHECK(std::abs(y[i] - x[i] / (values[i] + 1e-3)) <= 1e-8 * 1e3 * 10);

  const auto shared = inverseOperator(diagonalOperator(values, Precision::F64), options);
  std::vector<std::vector<double>> results(4, std::vector<double>(80));
  std::vector<std::thread> threads;
  for (auto& result : results)
    threads.emplace_back([&] {
      Task own;
      shared->apply(x.data(), result.data(), 1, own);
    });
  for (std::thread& thread : threads) thread.join();
  for (const auto& result : results) CHECK(result == results[0]);
}

TEST_CASE("a product that does not converge is an error or, where that is wanted, what there is") {
  std::vector<double> values(100);
  for (int64_t i = 0; i < 100; ++i) values[i] = std::pow(10.0, -0.08 * double(i));
  const auto op = diagonalOperator(values, Precision::F64);
  SolveOptions options = tight(SolveMethod::Cg);
  options.maxProducts = 30;
  const std::vector<double> x(100, 1.0);
  std::vector<double> y(100);
  Task task;
  int64_t reports = 0;
  task.report = [&](const Progress&) { ++reports; };
  try {
    inverseOperator(op, options)->apply(x.data(), y.data(), 1, task);
    FAIL("no error was thrown");
  } catch (const Error& error) {
    CHECK(error.kind == ErrorKind::NotConverged);
    const std::string message = error.what();
    CHECK(message.find("a product of the inverse did not converge") != std::string::npos);
  }
  inverseOperator(op, options, true)->apply(x.data(), y.data(), 1, task);
  for (double entry : y) CHECK(std::isfinite(entry));
  // Its own products are not the caller's progress, and the caller keeps hearing of others.
  CHECK(reports == 0);
  CHECK(bool(task.report));
  task.cancelled = true;
  CHECK_THROWS_AS(inverseOperator(op, options)->apply(x.data(), y.data(), 1, task), Error);
}
