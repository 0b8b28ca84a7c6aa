// Eigenvalues inside a spectrum, by shift-invert and by polynomial filters; MINRES; checkpoints.
#include <doctest.h>

#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "spectra.h"
#include "spectral/minres.h"

using namespace eigenscope;
using namespace eigenscope::spectra;

namespace {

const Precision kPrecisions[] = {Precision::F32, Precision::F64};

// Sorted by distance to sigma.
std::vector<double> nearestTo(std::vector<double> values, double sigma, int64_t k) {
  std::sort(values.begin(), values.end(),
            [&](double a, double b) { return std::abs(a - sigma) < std::abs(b - sigma); });
  values.resize(k);
  return values;
}

std::vector<double> between(std::vector<double> values, double low, double high) {
  std::vector<double> inside;
  for (double x : values)
    if (x >= low && x <= high) inside.push_back(x);
  std::sort(inside.begin(), inside.end());
  return inside;
}

// Two bulks with a gap that holds a few values, one of them twice.
std::vector<double> gapped(int64_t dim) {
  std::vector<double> values(dim);
  for (int64_t i = 0; i < dim; ++i)
    values[i] = (i % 2 ? 1.0 : -1.0) * (1 + std::abs(std::sin(double(i))));
  values[5] = 0.11, values[6] = -0.2, values[7] = 0.3, values[8] = 0.3, values[9] = -0.42;
  return values;
}

std::string temporary(const char* name) {
  return "/tmp/eigenscope-" + std::to_string(::getpid()) + "-" + name;
}

std::string contentOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("MINRES solves indefinite systems, and knows singular ones") {
  const int64_t dim = 200;
  const std::vector<double> matrix = randomSymmetric(dim, 3);
  std::vector<double> b(dim), x(dim), y(dim);
  fillGaussian(b.data(), dim, 1, 9, 0);
  Task task;
  for (double factor : {1e-12, 1.0, 1e12}) {
    const auto op = scaleOperator(denseOperator(matrix, dim, Precision::F64), factor);
    ProductCounter a(*op, task, 10000);
    const double shift = 0.13 * factor;
    const MinresResult r = minres(a, shift, b.data(), x.data(), dim, 1e-10, 2000);
    CHECK(r.converged);
    CHECK_FALSE(r.singular);
    CHECK(r.products == a.products());
    op->apply(x.data(), y.data(), 1, task);
    double square = 0;
    for (int64_t i = 0; i < dim; ++i) square += std::pow(b[i] - (y[i] - shift * x[i]), 2);
    CHECK(std::sqrt(square) <= 1e-8 * norm2(dim, b.data()));
    CHECK(r.norm <= 2.3 * factor);
    CHECK(r.norm >= 0.5 * factor);
  }
  // At an eigenvalue: the residual is its eigenvector, and x solves the rest.
  std::vector<double> values(dim);
  for (int64_t i = 0; i < dim; ++i) values[i] = double(i) - 20;
  SpectrumOperator op(values, Precision::F64);
  ProductCounter a(op, task, 10000);
  std::vector<double> residual;
  const MinresResult r = minres(a, 0, b.data(), x.data(), dim, 1e-10, 5000, &residual);
  CHECK(r.singular);
  CHECK_FALSE(r.converged);
  const double length = norm2(dim, residual.data());
  CHECK(std::abs(residual[20]) == doctest::Approx(length));
  for (int64_t i = 0; i < dim; ++i)
    if (i != 20) CHECK(x[i] == doctest::Approx(b[i] / values[i]).epsilon(1e-5));
  // Nothing to do, and too few products.
  std::fill(b.begin(), b.end(), 0.0);
  CHECK(minres(a, 1, b.data(), x.data(), dim, 1e-10, 10).converged);
  b[0] = b[3] = b[9] = 1;
  const MinresResult few = minres(a, 0.5, b.data(), x.data(), dim, 1e-10, 2);
  CHECK_FALSE(few.converged);
  CHECK(few.products == 2);
}

TEST_CASE("shift-invert finds the eigenvalues nearest to sigma, copies and sigma itself") {
  const int64_t dim = 2600;
  const std::vector<double> values = gapped(dim);
  for (Precision precision : kPrecisions)
    for (double sigma : {0.05, 0.11, 0.3, -0.25})
      for (double factor : {1e-12, 1.0, 1e12}) {
        SpectrumOperator whole(values, precision);
        const auto op = scaleOperator(OperatorPtr(OperatorPtr{}, &whole), factor);
        EigshOptions options;
        options.k = 3;
        options.method = EigshMethod::ShiftInvert;
        options.sigma = sigma * factor;
        const EigshResult r = solve(*op, options);
        CAPTURE(sigma);
        CAPTURE(factor);
        CAPTURE(r.reason);
        CHECK(r.converged);
        CHECK(r.method == "shift-invert");
        CHECK(r.products == whole.calls);
        const std::vector<double> expected = nearestTo(values, sigma, 3);
        REQUIRE(r.values.size() == 3);
        for (int64_t i = 0; i < 3; ++i) {
          CAPTURE(r.values[i]);
          CHECK(std::abs(std::abs(r.values[i] / factor - sigma) - std::abs(expected[i] - sigma)) <
                (precision == Precision::F32 ? 1e-4 : 1e-9));
          CHECK(r.residuals[i] <= r.tol * r.scale);
          CHECK(r.intervals[i].low <= r.values[i]);
        }
      }
}

TEST_CASE("small interior problems are solved densely") {
  const int64_t dim = 150;
  const std::vector<double> values = gapped(dim);
  for (Precision precision : kPrecisions) {
    const auto op = operatorWithSpectrum(values, precision);
    EigshOptions options;
    options.k = 4;
    options.method = EigshMethod::ShiftInvert;
    options.sigma = 0.06;
    const EigshResult near = solve(*op, options);
    CHECK(near.method == "dense");
    CHECK(near.missed.probability == 0);
    checkValues(near, nearestTo(values, 0.06, 4), precision == Precision::F32 ? 1e-6 : 1e-13);

    options.k = 40;
    options.method = EigshMethod::Filter;
    options.low = -0.5, options.high = 1.05;
    const EigshResult inside = solve(*op, options);
    CHECK(inside.method == "dense");
    CHECK(inside.count.exact);
    CHECK(inside.converged);
    checkValues(inside, between(values, -0.5, 1.05), precision == Precision::F32 ? 1e-6 : 1e-13);
    options.low = 5, options.high = 6;
    const EigshResult none = solve(*op, options);
    CHECK(none.values.empty());
    CHECK(none.converged);
    options.low = -3, options.high = 3;
    CHECK(mentions(messageOf(*op, options, ErrorKind::Option), "holds 150 eigenvalues"));
  }
}

TEST_CASE("a filter finds every eigenvalue in an interval, with a count") {
  const int64_t dim = 2500;
  std::vector<double> values = gapped(dim);
  for (int64_t i = 0; i < 7; ++i) values[20 + i] = 2.4 + 0.05 * double(i);
  const double intervals[][2] = {{-0.5, 0.5}, {2.3, 9.0}, {-0.15, 0.05}, {0.25, 0.9}};
  for (Precision precision : kPrecisions)
    for (const auto& interval : intervals)
      for (double factor : {1.0, 1e-12, 1e12}) {
        if (factor != 1 && interval[1] != 0.5) continue;
        SpectrumOperator whole(values, precision);
        const auto op = scaleOperator(OperatorPtr(OperatorPtr{}, &whole), factor);
        EigshOptions options;
        options.k = 12;
        options.method = EigshMethod::Filter;
        options.low = interval[0] * factor;
        options.high = interval[1] * factor;
        const EigshResult r = solve(*op, options);
        const std::vector<double> expected = between(values, interval[0], interval[1]);
        CAPTURE(interval[0]);
        CAPTURE(factor);
        CAPTURE(precision == Precision::F32);
        CAPTURE(r.reason);
        CAPTURE(r.products);
        CHECK(r.converged);
        CHECK(r.method == "filter");
        CHECK(r.products == whole.calls);
        REQUIRE(r.values.size() == expected.size());
        for (std::size_t i = 0; i < expected.size(); ++i) {
          CHECK(std::abs(r.values[i] / factor - expected[i]) <
                (precision == Precision::F32 ? 1e-4 : 1e-9));
          CHECK(r.intervals[i].low <= expected[i] * factor);
          CHECK(r.intervals[i].high >= expected[i] * factor);
        }
        CHECK_FALSE(r.count.exact);
        CHECK(r.count.probes == 6);
        CHECK(std::abs(r.count.estimate - double(expected.size())) <=
              3 * r.count.standardError + 2);
        CHECK(r.warnings.empty());
      }
  SpectrumOperator op(values, Precision::F64);
  EigshOptions options;
  options.k = 12;
  options.method = EigshMethod::Filter;
  options.low = 30, options.high = 40;
  const EigshResult none = solve(op, options);
  CHECK(none.values.empty());
  CHECK(none.converged);
  options.low = -30;
  CHECK(mentions(messageOf(op, options, ErrorKind::Option), "covers the whole spectrum"));
  options.low = -1.9, options.high = 1.5;
  CHECK(mentions(messageOf(op, options, ErrorKind::Option), "raise k or narrow the interval"));
  options.low = 0.1, options.high = 0.1 + 1e-9;
  CHECK(mentions(messageOf(op, options, ErrorKind::Option), "so narrow"));
}

TEST_CASE("wide intervals, open at an end of the spectrum or not") {
  // Outliers over a decaying bulk, as of a Hessian.
  const int64_t dim = 2300;
  std::vector<double> values = {10.03, 4.63, 3.75, 3.09, 2.10, 1.80, 1.74, 1.20, 0.95, 0.52, -0.9};
  while (int64_t(values.size()) < dim)
    values.push_back(0.4 * std::exp(-0.01 * double(values.size())) *
                     (values.size() % 3 == 0 ? -1 : 1));
  const double intervals[][2] = {{3, 20}, {0.5, 9}, {-5, -0.5}, {1.5, 4}, {4, 5}};
  SpectrumOperator op(values, Precision::F64);
  for (const auto& interval : intervals) {
    EigshOptions options;
    options.k = 20;
    options.method = EigshMethod::Filter;
    options.low = interval[0], options.high = interval[1];
    const EigshResult r = solve(op, options);
    CAPTURE(interval[0]);
    CHECK(r.converged);
    checkValues(r, between(values, interval[0], interval[1]), 1e-9);
    CHECK(std::abs(r.count.estimate - double(r.values.size())) <= 3 * r.count.standardError + 2);
  }
}

TEST_CASE("out of products inside the spectrum: what was found, unconverged, with the reason") {
  std::vector<double> values(2600);
  for (int64_t i = 0; i < 2600; ++i) values[i] = std::cos(1.2e-3 * double(i));
  SpectrumOperator op(values, Precision::F64);
  EigshOptions options;
  options.k = 3;
  options.method = EigshMethod::ShiftInvert;
  options.sigma = 0.1;
  options.maxProducts = 200;
  const EigshResult r = solve(op, options);
  CHECK_FALSE(r.converged);
  CHECK(mentions(r.reason, "200 products (maxProducts) were not enough"));
  CHECK(r.products <= 200);
}

TEST_CASE("a solve goes on from a checkpoint to the same pairs, and the products add up") {
  const int64_t dim = 1500;
  std::vector<double> values(dim);
  for (int64_t i = 0; i < dim; ++i)
    values[i] = i < 8 ? 3.0 - 0.05 * double(i) : 2.4 * std::exp(-0.003 * double(i));
  const std::string path = temporary("state");
  for (EigshMethod method :
       {EigshMethod::Lanczos, EigshMethod::Krylov, EigshMethod::Subspace, EigshMethod::Lobpcg})
    for (Precision precision : kPrecisions) {
      SpectrumOperator op(values, precision);
      EigshOptions options;
      options.k = 6;
      options.method = method;
      options.maxProducts = 20000;
      options.tol = 1e-5;
      options.memoryBudget = 20 << 20;
      const EigshResult whole = solve(op, options);
      CAPTURE(whole.method);
      CHECK(whole.converged);

      const int64_t before = op.calls;
      EigshOptions cut = options;
      cut.checkpoint = path;
      cut.maxProducts = whole.products / 2;
      const EigshResult part = solve(op, cut);
      CHECK_FALSE(part.converged);
      options.resume = path;
      options.checkpoint = path;
      const EigshResult rest = solve(op, options);
      const int64_t spent = op.calls - before;
      CHECK(rest.converged);
      checkValues(rest, whole.values, 1e-5);
      // Those of both runs, but for what the first did after its last restart.
      CHECK(rest.products > part.products);
      CHECK(rest.products <= spent);
      CHECK(rest.products >= spent - 90);
      CHECK(rest.products <= whole.products + 90);

      // Another solve, another operator, and damaged files are refused.
      EigshOptions other = options;
      other.k = 5;
      other.blockSize = whole.method == "lanczos" ? 0 : 16;
      CHECK(mentions(messageOf(op, other, ErrorKind::Option), "its k is 6, this one's 5"));
      other = options;
      other.seed = 1;
      CHECK(mentions(messageOf(op, other, ErrorKind::Option), "seed"));
      if (method != EigshMethod::Subspace) {
        other = options;
        other.which = Which::LA;
        CHECK(mentions(messageOf(op, other, ErrorKind::Option), "which"));
      }
      SpectrumOperator wide(values, precision == Precision::F32 ? Precision::F64 : Precision::F32);
      CHECK(mentions(messageOf(wide, options, ErrorKind::Option), "precision"));
      SpectrumOperator smaller(std::vector<double>(values.begin(), values.end() - 1), precision);
      CHECK(mentions(messageOf(smaller, options, ErrorKind::Option), "dimension is 1500"));
      if (method == EigshMethod::Lanczos || method == EigshMethod::Krylov) {
        std::vector<double> moved = values;
        for (double& x : moved) x = 2.5 - x;
        SpectrumOperator another(moved, precision);
        CHECK(mentions(messageOf(another, options, ErrorKind::Option), "another operator"));
      }
      other = options;
      other.maxProducts = part.products / 2;
      if (other.maxProducts > 30)
        CHECK(mentions(messageOf(op, other, ErrorKind::Option), "before the checkpoint"));
      std::string bytes = contentOf(path);
      bytes[bytes.size() / 2] ^= 1;
      std::ofstream(path, std::ios::binary) << bytes;
      CHECK(mentions(messageOf(op, options, ErrorKind::Option), "damaged"));
      std::ofstream(path, std::ios::binary) << "a file of some other kind, and long enough";
      CHECK(mentions(messageOf(op, options, ErrorKind::Option), "another kind"));
      std::remove(path.c_str());
      CHECK(mentions(messageOf(op, options, ErrorKind::Option), "cannot be read"));
    }
  SpectrumOperator op(values, Precision::F64);
  EigshOptions options;
  options.checkpoint = "/nowhere/at/all";
  CHECK(mentions(messageOf(op, options, ErrorKind::Option), "cannot be written"));
}

TEST_CASE("options that do not belong together are refused") {
  std::vector<double> values = gapped(300);
  const auto op = diagonalOperator(values, Precision::F64);
  EigshOptions options;
  options.method = EigshMethod::TwoSketch;
  options.which = Which::SA;
  CHECK(mentions(messageOf(*op, options, ErrorKind::Option), "which = LM; got SA"));
  options.method = EigshMethod::ShiftInvert;
  CHECK(mentions(messageOf(*op, options, ErrorKind::Option), "sigma takes the place of which"));
  options.which = Which::LM;
  options.sigma = std::nan("");
  CHECK(mentions(messageOf(*op, options, ErrorKind::Option), "sigma must be a finite number"));
  options.sigma = 0;
  options.checkpoint = temporary("none");
  CHECK(mentions(messageOf(*op, options, ErrorKind::Option), "checkpoints belong to methods"));
  options.checkpoint.clear();
  options.preconditioner = op;
  CHECK(mentions(messageOf(*op, options, ErrorKind::Option), "belongs to method lobpcg"));
  options.method = EigshMethod::Lobpcg;
  options.preconditioner = diagonalOperator({1, 2, 3}, Precision::F64);
  CHECK(mentions(messageOf(*op, options, ErrorKind::Option), "got dimension 3"));
  options = {};
  options.method = EigshMethod::Filter;
  options.low = 2, options.high = 1;
  CHECK(mentions(messageOf(*op, options, ErrorKind::Option), "the lower first"));
  options = {};
  options.start.assign(299, 1.0);
  CHECK(mentions(messageOf(*op, options, ErrorKind::Option), "start must hold vectors of 300"));
  options.start.assign(300, std::nan(""));
  CHECK(mentions(messageOf(*op, options, ErrorKind::Option), "not finite at coordinate 0"));
  options.start.assign(300, 0.0);  // no direction: as none
  CHECK(solve(*op, options).converged);
}

TEST_CASE("NaN from the operator ends interior and deflated solves too") {
  for (EigshMethod method : {EigshMethod::ShiftInvert, EigshMethod::Filter, EigshMethod::Lobpcg,
                             EigshMethod::TwoSketch, EigshMethod::Lanczos}) {
    SpectrumOperator op(gapped(2600), Precision::F64);
    op.spoil = [](int64_t product, int64_t i, double y) {
      return product == 21 && i == 30 ? std::nan("") : y;
    };
    EigshOptions options;
    options.k = 5;
    options.method = method;
    options.sigma = 0.05;
    options.low = -0.3, options.high = 0.3;
    if (method == EigshMethod::Lanczos) {
      options.deflate.assign(2600, 0.0);
      options.deflate[0] = 1;
    }
    const std::string message = messageOf(op, options, ErrorKind::DataMismatch);
    CHECK(mentions(message, "NaN or infinity in product 21"));
    CHECK(mentions(message, "coordinate 30"));
  }
}
