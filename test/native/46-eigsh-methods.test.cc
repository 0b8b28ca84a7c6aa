// Every eigensolver on spectra that are known to be hard: no pair missed, none twice, and the truth
// inside every interval.
#include <doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "spectra.h"

using namespace eigenscope;
using namespace eigenscope::spectra;

namespace {

const Precision kPrecisions[] = {Precision::F32, Precision::F64};

// The true values, sorted like the found ones, lie in the intervals one by one.
void checkIntervals(const EigshResult& r, std::vector<double> truth) {
  REQUIRE(r.intervals.size() == r.values.size());
  REQUIRE(truth.size() == r.values.size());
  std::vector<std::size_t> order(r.values.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return r.values[a] < r.values[b]; });
  std::sort(truth.begin(), truth.end());
  for (std::size_t i = 0; i < order.size(); ++i) {
    const EigenInterval& at = r.intervals[order[i]];
    CAPTURE(i);
    CAPTURE(int(at.kind));
    CAPTURE(r.residuals[order[i]]);
    CHECK(at.low <= truth[i]);
    CHECK(at.high >= truth[i]);
    CHECK(at.low <= r.values[order[i]]);
    CHECK(at.high >= r.values[order[i]]);
  }
}

struct Hard {
  const char* name;
  std::vector<double> values;
  bool semidefinite;
  int64_t k;
};

std::vector<Hard> hardSpectra() {
  const int64_t dim = 240;
  std::vector<Hard> all;
  std::vector<double> v(dim, 0.0);
  v[3] = 4, v[50] = 3, v[51] = 2, v[239] = 2;
  all.push_back({"low rank", v, true, 7});
  v[50] = -3;
  all.push_back({"low rank of both signs", v, false, 7});
  for (int64_t i = 0; i < dim; ++i) v[i] = i < 6 ? 7 + 1e-10 * double(i) : 0.5 * double(i) / dim;
  all.push_back({"a cluster", v, true, 6});
  for (int64_t i = 0; i < dim; ++i) v[i] = i < 4 ? 5 : i < 7 ? 3 : 0.4 * std::sin(double(i)) + 0.4;
  all.push_back({"copies", v, true, 7});
  for (int64_t i = 0; i < dim; ++i) v[i] = (i % 2 ? -1 : 1) * std::pow(0.8, double(i / 2));
  all.push_back({"pairs of both signs", v, false, 6});
  for (int64_t i = 0; i < dim; ++i) v[i] = std::pow(10.0, -16.0 * double(i) / (dim - 1));
  all.push_back({"16 orders", v, true, 10});
  for (int64_t i = 0; i < dim; ++i) v[i] = i < 5 ? 3.0 - 0.3 * double(i) : 1 + std::cos(double(i));
  all.push_back({"outliers close to a bulk", v, true, 5});
  return all;
}

// Spikes 5, 4 and 3 on a Wishart matrix of as many samples as dimensions, as in the documentation
// of curvlinops: X X^T / dim plus a sum of 3 spikes on random directions.
OperatorPtr spikedWishart(int64_t dim, Precision precision, std::vector<double>* matrix) {
  std::vector<double> x(dim * dim), a(dim * dim), q(dim * 3);
  fillGaussian(x.data(), dim, dim, 3, 0);
  syrk('N', dim, dim, 1.0 / double(dim), x.data(), dim, 0.0, a.data(), dim);
  fillGaussian(q.data(), dim, 3, 4, 0);
  qrOrthonormal(dim, 3, q.data(), dim);
  for (int64_t j = 0; j < dim; ++j)
    for (int64_t i = 0; i <= j; ++i) {
      double& entry = a[j * dim + i];
      for (int64_t s = 0; s < 3; ++s) entry += (5.0 - double(s)) * q[s * dim + i] * q[s * dim + j];
      a[i * dim + j] = entry;
    }
  if (matrix) *matrix = a;
  return denseOperator(std::move(a), dim, precision);
}

}  // namespace

TEST_CASE(
    "hard spectra by every method: nothing missed, nothing twice, the truth in the intervals") {
  const EigshMethod methods[] = {EigshMethod::Lanczos, EigshMethod::Subspace, EigshMethod::Krylov,
                                 EigshMethod::Nystrom, EigshMethod::Lobpcg};
  for (const Hard& hard : hardSpectra())
    for (EigshMethod method : methods)
      for (Precision precision : kPrecisions)
        for (double factor : {1.0, 1e-12, 1e12}) {
          if (method == EigshMethod::Nystrom && !hard.semidefinite) continue;
          std::vector<double> values = hard.values;
          const auto base = operatorWithSpectrum(values, precision);
          for (double& x : values) x *= factor;
          const auto op = factor == 1 ? base : scaleOperator(base, factor);
          EigshOptions options;
          options.k = hard.k;
          options.method = method;
          options.maxProducts = 4000;
          const EigshResult r = solve(*op, options);
          CAPTURE(hard.name);
          CAPTURE(r.method);
          CAPTURE(factor);
          CAPTURE(precision == Precision::F32);
          CAPTURE(r.reason);
          // Subspace iteration may give up on slow decay, and says so.
          if (method != EigshMethod::Subspace && method != EigshMethod::Nystrom) CHECK(r.converged);
          checkPairs(*op, r, options);
          const std::vector<double> truth = expectedValues(values, hard.k, Which::LM);
          if (!r.converged) continue;
          checkMagnitudes(r, truth, precision == Precision::F32 ? 2e-5 : 1e-9, Which::LM);
          checkIntervals(r, truth);
        }
}

TEST_CASE("the quadratic bound ends where eigenvalues are not listed") {
  // Between the listed 4 and -4.5 lies all the rest, some of it close to 4.
  const std::vector<double> values = {5, 4, 3.999, 3.998, 1, 0, -1, -4.5, -6};
  std::vector<double> wide = values;
  for (int64_t i = 0; i < 300; ++i) wide.push_back(3.9 * std::sin(double(i)));
  for (const auto& [which, k] : {std::pair{Which::LM, 4}, {Which::BE, 4}, {Which::LA, 2}}) {
    SpectrumOperator op(wide, Precision::F64);
    EigshOptions options;
    options.k = k;
    options.which = which;
    options.tol = 1e-4;
    options.maxProducts = 5000;
    const EigshResult r = solve(op, options);
    CHECK(r.converged);
    checkIntervals(r, expectedValues(wide, k, which));
    for (std::size_t i = 0; i < r.values.size(); ++i) {
      CAPTURE(r.values[i]);
      if (std::abs(r.values[i] - 4) < 0.1) CHECK(r.intervals[i].kind == BoundKind::Residual);
      if (std::abs(r.values[i] - 5) < 0.1) CHECK(r.intervals[i].kind == BoundKind::Gap);
    }
  }
}

TEST_CASE("LOBPCG agrees with a dense solve for every end and both precisions") {
  const int64_t dim = 220;
  const std::vector<double> matrix = randomSymmetric(dim, 5);
  const std::vector<double> all = denseSpectrum(matrix, dim);
  for (Precision precision : kPrecisions)
    for (Which which : {Which::LM, Which::LA, Which::SA, Which::BE})
      for (int64_t k : {1, 4, 9}) {
        const auto op = denseOperator(matrix, dim, precision);
        EigshOptions options;
        options.k = k;
        options.which = which;
        options.method = EigshMethod::Lobpcg;
        options.maxProducts = 20000;
        options.memoryBudget = denseBytes(dim) - 1;  // no dense rescue
        const EigshResult r = solve(*op, options);
        CAPTURE(std::string(nameOf(which)));
        CAPTURE(k);
        CAPTURE(r.reason);
        CHECK(r.converged);
        CHECK(r.method == "lobpcg");
        checkPairs(*op, r, options);
        checkValues(r, expectedValues(all, k, which), precision == Precision::F32 ? 2e-5 : 1e-10);
        checkIntervals(r, expectedValues(all, k, which));
      }
}

TEST_CASE("a preconditioner near the inverse saves LOBPCG most of its products") {
  const int64_t dim = 3000;
  std::vector<double> values(dim), inverse(dim);
  for (int64_t i = 0; i < dim; ++i) {
    values[i] = 1 + double(i) * double(i);
    inverse[i] = 1 / (values[i] * (1 + 0.3 * std::sin(double(i))));
  }
  SpectrumOperator op(values, Precision::F64);
  EigshOptions options;
  options.k = 4;
  options.which = Which::SA;
  options.method = EigshMethod::Lobpcg;
  options.tol = 1e-12;
  options.maxProducts = 3000;
  const EigshResult plain = solve(op, options);
  options.preconditioner = std::make_shared<SpectrumOperator>(inverse, Precision::F64);
  const EigshResult helped = solve(op, options);
  CHECK(helped.converged);
  CHECK(helped.products < 400);
  CHECK(helped.products < plain.products / 2);
  for (int64_t i = 0; i < 4; ++i) CHECK(helped.values[i] == doctest::Approx(values[i]));
}

TEST_CASE("a 2000 x 2000 spiked Wishart matrix: spikes and the edge of the bulk") {
  const int64_t dim = 2000;
  std::vector<double> matrix;
  const auto op = spikedWishart(dim, Precision::F64, &matrix);
  const std::vector<double> all = denseSpectrum(matrix, dim);
  const auto single = denseOperator(matrix, dim, Precision::F32);
  for (EigshMethod method : {EigshMethod::Lanczos, EigshMethod::Krylov, EigshMethod::Lobpcg})
    for (int64_t k : {3, 10})
      for (Precision precision : kPrecisions) {
        if (method != EigshMethod::Lanczos && (k == 10) == (precision == Precision::F64)) continue;
        EigshOptions options;
        options.k = k;
        options.method = method;
        options.memoryBudget = denseBytes(dim) - 1;
        options.maxProducts = 10000;
        LinearOperator& a = precision == Precision::F64 ? *op : *single;
        const EigshResult r = solve(a, options);
        CAPTURE(r.method);
        CAPTURE(k);
        CHECK(r.converged);
        checkValues(r, expectedValues(all, k, Which::LM),
                    precision == Precision::F64 ? 1e-10 : 1e-5);
        checkIntervals(r, expectedValues(all, k, Which::LM));
        if (method == EigshMethod::Lanczos) {
          CHECK(r.missed.probability < 0.1);
        } else {
          CHECK(std::isnan(r.missed.probability));
        }
      }
  // An outlier s of a spiked Wishart matrix of ratio 1 lies at s + 1 + 1/s or so.
  EigshOptions options;
  options.k = 3;
  const EigshResult r = solve(*op, options);
  for (int64_t i = 0; i < 3; ++i)
    CHECK(r.values[i] == doctest::Approx((5.0 - i) + 1 + 1 / (5.0 - i)).epsilon(0.05));
}

TEST_CASE("two sketches: one pass, exact at low rank of both signs, honest elsewhere") {
  const int64_t dim = 300;
  std::vector<double> values(dim, 0.0);
  values[0] = 4, values[7] = -3, values[8] = 2, values[9] = -2, values[200] = 1e-3;
  for (Precision precision : kPrecisions)
    for (double factor : {1e-12, 1.0, 1e12}) {
      std::vector<double> scaled = values;
      for (double& x : scaled) x *= factor;
      EigshOptions options;
      options.k = 7;
      options.method = EigshMethod::TwoSketch;
      const auto op = scaleOperator(operatorWithSpectrum(values, precision), factor);
      const EigshResult r = solve(*op, options);
      CHECK(r.converged);
      CHECK(r.products == 17 + 26 + 7);
      checkPairs(*op, r, options);
      checkMagnitudes(r, expectedValues(scaled, 7, Which::LM),
                      precision == Precision::F32 ? 1e-5 : 1e-11, Which::LM);
    }
  // A slow decay is out of reach of one pass.
  for (int64_t i = 0; i < dim; ++i) values[i] = (i % 2 ? -1 : 1) / (1.0 + double(i));
  EigshOptions options;
  options.k = 5;
  options.method = EigshMethod::TwoSketch;
  const EigshResult slow = solve(*operatorWithSpectrum(values, Precision::F64), options);
  CHECK_FALSE(slow.converged);
  CHECK(mentions(slow.reason, "use method lanczos or krylov"));
  // Its intervals hold eigenvalues all the same.
  for (std::size_t i = 0; i < 5; ++i) {
    double nearest = HUGE_VAL;
    for (double x : values) nearest = std::min(nearest, std::abs(x - slow.values[i]));
    CHECK(nearest <= slow.residuals[i]);
  }
  options.maxProducts = 12;
  CHECK(
      mentions(messageOf(*operatorWithSpectrum(values, Precision::F64), options, ErrorKind::Option),
               "maxProducts"));
}

TEST_CASE("start vectors save products, by every method, and never change the result") {
  const int64_t dim = 2500;
  std::vector<double> values(dim);
  for (int64_t i = 0; i < dim; ++i)
    values[i] = i < 6 ? 3.0 - 0.25 * double(i) : std::exp(-0.002 * double(i));
  for (EigshMethod method : {EigshMethod::Lanczos, EigshMethod::Subspace, EigshMethod::Krylov,
                             EigshMethod::Nystrom, EigshMethod::Lobpcg}) {
    SpectrumOperator op(values, Precision::F64);
    EigshOptions options;
    options.k = 6;
    options.method = method;
    options.tol = 1e-7;
    options.maxProducts = 20000;
    const EigshResult cold = solve(op, options);
    // The same eigenvectors with an error of 1e-4 a coordinate.
    options.start.assign(6 * dim, 0.0);
    for (int64_t j = 0; j < 6; ++j)
      for (int64_t i = 0; i < dim; ++i)
        options.start[j * dim + i] = 1e-5 * gaussianPair(5, j, i)[0] + (i == j ? 42.0 : 0.0);
    const EigshResult warm = solve(op, options);
    CAPTURE(cold.method);
    CAPTURE(cold.products);
    CAPTURE(warm.products);
    CHECK(cold.converged);
    CHECK(warm.converged);
    CHECK(warm.products < cold.products);
    checkValues(warm, cold.values, 1e-9);
    // A start in the wrong place misleads nobody.
    for (int64_t j = 0; j < 6; ++j)
      for (int64_t i = 0; i < dim; ++i) options.start[j * dim + i] = i == 1000 + j;
    const EigshResult astray = solve(op, options);
    CHECK(astray.converged);
    checkValues(astray, cold.values, 1e-9);
    options.oversample = 0;  // no room for a start
    options.blockSize = method == EigshMethod::Lanczos ? 2 : 6;
    const EigshResult tight = solve(op, options);
    if (tight.converged) checkValues(tight, cold.values, 1e-9);
  }
}

TEST_CASE("deflated pairs do not come back, and the rest is orthogonal to them") {
  const int64_t dim = 400;
  std::vector<double> values(dim);
  for (int64_t i = 0; i < dim; ++i) values[i] = 8 * std::pow(0.9, double(i));
  for (Precision precision : kPrecisions)
    for (EigshMethod method : {EigshMethod::Lanczos, EigshMethod::Krylov, EigshMethod::Lobpcg})
      for (Which which : {Which::LM, Which::SA}) {
        const auto op = operatorWithSpectrum(values, precision);
        EigshOptions options;
        options.k = 4;
        options.which = which;
        options.method = method;
        const EigshResult first = solve(*op, options);
        EigshOptions more = options;
        more.deflate = vectorsOf(*op, first);
        const EigshResult second = solve(*op, more);
        CAPTURE(second.method);
        CHECK(second.converged);
        checkPairs(*op, second, options);
        std::vector<double> expected = expectedValues(values, 8, which);
        expected.erase(expected.begin(), expected.begin() + 4);
        if (which == Which::LM) {
          checkValues(second, expected, precision == Precision::F32 ? 2e-5 : 1e-8);
          CHECK(second.warnings.empty());
        }
        const std::vector<double> a = vectorsOf(*op, first), b = vectorsOf(*op, second);
        std::vector<double> gram(16);
        gemm('T', 'N', 4, 4, dim, 1.0, a.data(), dim, b.data(), dim, 0.0, gram.data(), 4);
        for (double x : gram) CHECK(std::abs(x) < (precision == Precision::F32 ? 1e-6 : 1e-14));
      }
  // Of a positive operator, P A P would have zeros where the vectors were: they are not found.
  std::vector<double> positive(dim);
  for (int64_t i = 0; i < dim; ++i) positive[i] = 1 + double(i);
  SpectrumOperator op(positive, Precision::F64);
  EigshOptions options;
  options.k = 2;
  options.which = Which::SA;
  options.deflate.assign(2 * dim, 0.0);
  options.deflate[0] = 3;        // the eigenvector of 1
  options.deflate[dim + 0] = 1;  // the same and that of 2
  options.deflate[dim + 1] = 1e-3;
  const EigshResult r = solve(op, options);
  CHECK(r.values[0] == doctest::Approx(3));
  CHECK(r.values[1] == doctest::Approx(4));
  CHECK(r.coupling < 1e-10);
  // Vectors that are none of its eigenvectors: a warning, and the pairs of P A P.
  for (int64_t i = 0; i < dim; ++i) options.deflate[i] = options.deflate[dim + i] = 1;
  const EigshResult mixed = solve(op, options);
  CHECK(mixed.converged);
  CHECK(mixed.coupling > 1);
  REQUIRE(mixed.warnings.size() == 1);
  CHECK(mentions(mixed.warnings[0], "no invariant subspace"));
  options.k = dim;
  CHECK(mentions(messageOf(op, options, ErrorKind::Option), "less the 1 that deflate takes"));
}
