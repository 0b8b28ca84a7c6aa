// Lanczos from many probes, Chebyshev moments and products with functions: against dense
// eigendecompositions, independent of blocks and threads, defined on degenerate operators.
#include <doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "spectra.h"
#include "spectral/functions.h"
#include "spectral/kpm.h"
#include "spectral/quadrature.h"

using namespace eigenscope;
using namespace eigenscope::spectra;

namespace {

QuadratureResult quadrature(LinearOperator& op, const QuadratureOptions& options) {
  Task task;
  return lanczosQuadrature(op, options, task);
}

std::vector<double> spread(int64_t dim, double low, double high) {
  std::vector<double> values(dim);
  for (int64_t i = 0; i < dim; ++i) values[i] = low + (high - low) * i / (dim - 1);
  return values;
}

bool same(const QuadratureResult& a, const QuadratureResult& b) {
  bool equal = a.rules.size() == b.rules.size();
  for (std::size_t k = 0; equal && k < a.rules.size(); ++k)
    equal = a.rules[k].nodes == b.rules[k].nodes && a.rules[k].weights == b.rules[k].weights &&
            a.rules[k].t.offDiagonal == b.rules[k].t.offDiagonal;
  return equal;
}

}  // namespace

TEST_CASE("moments of a Gauss rule are those of the probe up to degree 2 m - 1") {
  const int64_t dim = 90, steps = 7;
  const std::vector<double> matrix = randomSymmetric(dim, 3);
  const auto op = denseOperator(matrix, dim, Precision::F64);
  for (ProbeType type : {ProbeType::Rademacher, ProbeType::Gaussian}) {
    QuadratureOptions options;
    options.probes = 3;
    options.steps = steps;
    options.type = type;
    const QuadratureResult result = quadrature(*op, options);
    REQUIRE(result.rules.size() == 3);
    CHECK(result.products == 3 * steps);
    for (int64_t k = 0; k < 3; ++k) {
      std::vector<double> v(dim), power, next(dim);
      fillProbes(v.data(), dim, 1, type, 0, k, {});
      const double length = norm2(dim, v.data());
      for (double& x : v) x /= length;
      power = v;
      for (int64_t degree = 0; degree <= 2 * steps - 1; ++degree) {
        double sum = 0;
        for (int64_t j = 0; j < steps; ++j)
          sum += result.rules[k].weights[j] * std::pow(result.rules[k].nodes[j], degree);
        CHECK(std::abs(sum - dot(dim, v.data(), power.data())) < 1e-11 * std::pow(2.0, degree));
        gemv('N', dim, dim, 1.0, matrix.data(), dim, power.data(), 0.0, next.data());
        power = next;
      }
    }
  }
}

TEST_CASE("threads and blocks change no bit") {
  // Long enough to be cut into strips.
  const int64_t dim = 20000;
  for (Precision precision : {Precision::F32, Precision::F64}) {
    SpectrumOperator op(spread(dim, -1, 3), precision);
    QuadratureOptions options;
    options.probes = 5;
    options.steps = 9;
    options.blockSize = 5;
    const QuadratureResult first = quadrature(op, options);
    for (int threads : {1, 2, 7})
      for (int64_t block : {1, 2, 5, 16}) {
        options.threads = threads;
        options.blockSize = block;
        CHECK(same(quadrature(op, options), first));
      }
    MomentOptions moments;
    moments.probes = 3;
    moments.steps = 9;
    Task task;
    const MomentResult alone = chebyshevMoments(op, moments, task);
    moments.threads = 3;
    moments.blockSize = 2;
    CHECK(chebyshevMoments(op, moments, task).moments == alone.moments);
  }
}

TEST_CASE("probes are keyed by parameter, and differ by seed and number") {
  std::vector<double> whole(64), part(32);
  std::vector<int64_t> index(32);
  for (int64_t i = 0; i < 32; ++i) index[i] = 2 * i;
  fillProbes(whole.data(), 64, 1, ProbeType::Gaussian, 4, 2, {});
  fillProbes(part.data(), 32, 1, ProbeType::Gaussian, 4, 2, index);
  for (int64_t i = 0; i < 32; ++i) CHECK(part[i] == whole[2 * i]);
  SpectrumOperator op(spread(50, 0, 1), Precision::F64);
  QuadratureOptions options;
  options.probes = 2;
  options.steps = 5;
  options.type = ProbeType::Gaussian;
  const QuadratureResult a = quadrature(op, options);
  CHECK(a.rules[0].nodes != a.rules[1].nodes);
  options.seed = 1;
  CHECK(quadrature(op, options).rules[0].nodes != a.rules[0].nodes);
}

TEST_CASE("no copies: as many nodes as distinct eigenvalues, however many steps") {
  std::vector<double> values(200, 0.0);
  for (int64_t i = 0; i < 10; ++i) values[i] = std::pow(10.0, -i);
  for (Precision precision : {Precision::F64, Precision::F32}) {
    const auto op = operatorWithSpectrum(values, precision);
    QuadratureOptions options;
    options.steps = 100;
    for (const ProbeRule& rule : quadrature(*op, options).rules) {
      int64_t top = 0;
      for (double node : rule.nodes) top += node > 0.5;
      CHECK(top == 1);
      if (precision == Precision::F64) CHECK(rule.t.exact);
      double sum = 0;
      for (double weight : rule.weights) sum += weight;
      CHECK(sum == doctest::Approx(1).epsilon(1e-6));
    }
  }
  SpectrumOperator zero(std::vector<double>(30, 0.0), Precision::F64);
  const QuadratureResult none = quadrature(zero, {});
  for (const ProbeRule& rule : none.rules) {
    CHECK(rule.nodes == std::vector<double>{0.0});
    CHECK(rule.weights == std::vector<double>{1.0});
  }
  CHECK(none.products == 8);
}

TEST_CASE("two moments a product: all agree with a dense eigendecomposition") {
  const int64_t dim = 70, steps = 20;
  const std::vector<double> matrix = randomSymmetric(dim, 9);
  std::vector<double> vectors = matrix;
  const std::vector<double> values = symmetricEigen(dim, vectors.data(), dim);
  const auto op = denseOperator(matrix, dim, Precision::F64);
  MomentOptions options;
  options.probes = 2;
  options.steps = steps;
  Task task;
  const MomentResult result = chebyshevMoments(*op, options, task);
  CHECK(result.products == 2 * steps + 20);
  CHECK(result.center - result.halfWidth <= values.front());
  CHECK(result.center + result.halfWidth >= values.back());
  for (int64_t k = 0; k < 2; ++k) {
    std::vector<double> v(dim);
    fillProbes(v.data(), dim, 1, ProbeType::Rademacher, 0, k, {});
    REQUIRE(result.moments[k].size() == 2 * steps + 1);
    for (int64_t n = 0; n <= 2 * steps; ++n) {
      double want = 0;
      for (int64_t i = 0; i < dim; ++i) {
        const double share = dot(dim, v.data(), vectors.data() + i * dim);
        want += share * share / dim *
                std::cos(n * std::acos((values[i] - result.center) / result.halfWidth));
      }
      CHECK(std::abs(result.moments[k][n] - want) < 1e-12);
    }
  }
}

TEST_CASE("an interval that is too small is seen and widened") {
  // One step knows the mean alone, and the residual of a probe that hardly sees the outlier.
  std::vector<double> values(5000, 0.0);
  for (int64_t i = 0; i < 5000; ++i) values[i] = 1e-3 * std::sin(double(i));
  values[17] = 1;
  SpectrumOperator op(values, Precision::F64);
  MomentOptions options;
  options.boundSteps = 1;
  options.steps = 40;
  Task task;
  const MomentResult result = chebyshevMoments(op, options, task);
  CHECK(result.center + result.halfWidth >= 1);
  REQUIRE(result.warnings.size() == 1);
  CHECK(result.warnings[0].find("widened") != std::string::npos);
  for (const auto& moments : result.moments)
    for (double mu : moments) CHECK(std::abs(mu) <= 1.001);
}

TEST_CASE("functions of an operator, products counted, bases orthonormal") {
  const int64_t dim = 60;
  const std::vector<double> values = spread(dim, 0.1, 2);
  SpectrumOperator op(values, Precision::F64);
  std::vector<double> v(3 * dim), y(3 * dim), bases(3 * 12 * dim);
  fillGaussian(v.data(), dim, 3, 5, 0);
  for (const std::string& name : matrixFunctionNames()) {
    FunctionOptions options;
    options.function = matrixFunction(name);
    Task task;
    const FunctionResult result =
        functionProduct(op, v.data(), y.data(), 3, options, nullptr, task);
    CAPTURE(name);
    for (int64_t k = 0; k < 3; ++k) CHECK(result.vectors[k].converged);
    for (int64_t i = 0; i < 3 * dim; ++i)
      CHECK(std::abs(y[i] - options.function->value(values[i % dim]) * v[i]) < 1e-7);
  }
  CHECK(matrixFunction("cosine") == nullptr);
  FunctionOptions options;
  options.steps = 12;
  Task task;
  const FunctionResult result =
      functionProduct(op, v.data(), y.data(), 3, options, bases.data(), task);
  CHECK(result.products == 36);
  for (int64_t k = 0; k < 3; ++k) {
    std::vector<double> gram(12 * 12);
    const double* basis = bases.data() + k * 12 * dim;
    gemm('T', 'N', 12, 12, dim, 1.0, basis, dim, basis, dim, 0.0, gram.data(), 12);
    for (int64_t i = 0; i < 144; ++i) CHECK(std::abs(gram[i] - (i % 13 == 0)) < 1e-14);
  }
}

TEST_CASE("refusals: NaN, memory, numbers out of range, cancellation") {
  SpectrumOperator op(spread(40, 0, 1), Precision::F64);
  QuadratureOptions options;
  options.memoryBudget = 1000;
  CHECK_THROWS_WITH_AS(quadrature(op, options), doctest::Contains("raise the memory limit"), Error);
  options.memoryBudget = 0;
  options.probes = 0;
  CHECK_THROWS_WITH_AS(quadrature(op, options), doctest::Contains("probes: expected at least 1"),
                       Error);
  options.probes = 4;
  op.spoil = [](int64_t product, int64_t i, double y) {
    return product == 6 && i == 2 ? std::nan("") : y;
  };
  CHECK_THROWS_WITH_AS(quadrature(op, options), doctest::Contains("coordinate 2"), Error);
  SpectrumOperator stopped(spread(40, 0, 1), Precision::F64);
  Task task;
  stopped.onProduct = [&](int64_t product) { task.cancelled = product >= 5; };
  CHECK_THROWS_WITH_AS(lanczosQuadrature(stopped, options, task), doctest::Contains("aborted"),
                       Error);
}

TEST_CASE("reports tell the share that is done") {
  SpectrumOperator op(spread(40, 0, 1), Precision::F64);
  QuadratureOptions options;
  options.probes = 4;
  options.steps = 10;
  std::vector<double> shares;
  Task task;
  task.report = [&](const Progress& progress) { shares.push_back(progress.fraction); };
  lanczosQuadrature(op, options, task);
  REQUIRE(shares.size() == 10);
  CHECK(shares.front() == doctest::Approx(0.1));
  CHECK(shares.back() == doctest::Approx(1));
}
