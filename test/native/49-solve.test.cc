// Linear systems against closed forms and dense solutions: every method, precision and kind of
// spectrum.
#include "spectral/solve.h"

#include <doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "spectra.h"

using namespace eigenscope;
using namespace eigenscope::spectra;

namespace {

struct Solved {
  SolveResult result;
  std::vector<double> x;  // K x dim
};

std::vector<double> gaussian(int64_t dim, int64_t count, uint64_t seed) {
  std::vector<double> b(dim * count);
  fillGaussian(b.data(), dim, count, seed, 0);
  return b;
}

std::vector<std::byte> stored(const std::vector<double>& values, Precision precision) {
  std::vector<std::byte> bytes(values.size() * bytesOf(precision));
  if (precision == Precision::F32) {
    const std::vector<float> narrow(values.begin(), values.end());
    std::memcpy(bytes.data(), narrow.data(), bytes.size());
  } else {
    std::memcpy(bytes.data(), values.data(), bytes.size());
  }
  return bytes;
}

Solved solveWith(const OperatorPtr& op, const SolveOptions& options, const std::vector<double>& b,
                 const std::vector<double>* start = nullptr) {
  Task task;
  LinearSolver solver(op, options);
  const auto rhs = stored(b, op->precision());
  std::vector<std::byte> from;
  if (start) from = stored(*start, op->precision());
  Solved solved;
  const int64_t count = b.size() / op->dim();
  solved.result = solver.solve(rhs.data(), start ? from.data() : nullptr, count, task);
  solved.x.resize(b.size());
  if (op->precision() == Precision::F32) {
    const float* x = reinterpret_cast<const float*>(solved.result.solution.data());
    std::copy(x, x + b.size(), solved.x.begin());
  } else {
    std::memcpy(solved.x.data(), solved.result.solution.data(), b.size() * sizeof(double));
  }
  return solved;
}

// ||b - (A + damping I) x|| / ||b|| of each column, in float64.
std::vector<double> trueResiduals(const std::vector<double>& matrix, double damping,
                                  const std::vector<double>& b, const std::vector<double>& x,
                                  int64_t dim) {
  std::vector<double> residuals;
  for (std::size_t k = 0; k < b.size() / dim; ++k) {
    std::vector<double> r(b.begin() + k * dim, b.begin() + (k + 1) * dim);
    gemv('N', dim, dim, -1.0, matrix.data(), dim, x.data() + k * dim, 1.0, r.data());
    for (int64_t i = 0; i < dim; ++i) r[i] -= damping * x[k * dim + i];
    residuals.push_back(norm2(dim, r.data()) / norm2(dim, b.data() + k * dim));
  }
  return residuals;
}

std::vector<double> graded(int64_t dim, double decades) {
  std::vector<double> values(dim);
  for (int64_t i = 0; i < dim; ++i) values[i] = std::pow(10.0, -decades * double(i) / (dim - 1));
  return values;
}

double distance(const std::vector<double>& x, const std::vector<double>& y) {
  double squares = 0, whole = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    squares += (x[i] - y[i]) * (x[i] - y[i]);
    whole += y[i] * y[i];
  }
  return std::sqrt(squares / whole);
}

// For a diagonal operator.
std::vector<double> exact(const std::vector<double>& values, double damping,
                          const std::vector<double>& b) {
  std::vector<double> x(b.size());
  for (std::size_t i = 0; i < b.size(); ++i) x[i] = b[i] / (values[i % values.size()] + damping);
  return x;
}

constexpr SolveMethod kAll[] = {SolveMethod::Cg, SolveMethod::Minres, SolveMethod::Lsmr,
                                SolveMethod::Neumann};
const char* const kNames[] = {"cg", "minres", "lsmr", "neumann"};
constexpr Precision kPrecisions[] = {Precision::F32, Precision::F64};

SolveOptions optionsOf(SolveMethod method, double damping = 0, double tol = 0) {
  SolveOptions options;
  options.method = method;
  options.damping = damping;
  options.tol = tol;
  return options;
}

}  // namespace

TEST_CASE("every method solves definite systems of any scale to the residual that it states") {
  const int64_t dim = 90, count = 5;
  std::vector<double> values(dim);
  for (int64_t i = 0; i < dim; ++i) values[i] = 0.2 + 2.0 * double(i) / double(dim - 1);
  const std::vector<double> matrix = matrixWithSpectrum(values, 3), b = gaussian(dim, count, 5);
  for (Precision precision : kPrecisions)
    for (SolveMethod method : kAll)
      for (double scale : {1e-12, 1.0, 1e12}) {
        const bool single = precision == Precision::F32;
        std::vector<double> scaled = matrix;
        for (double& x : scaled) x *= scale;
        const double damping = 0.1 * scale, tol = single ? 2e-5 : 1e-12;
        SolveOptions options = optionsOf(method, damping, tol);
        options.maxProducts = 4000;
        const Solved solved = solveWith(denseOperator(scaled, dim, precision), options, b);
        const SolveResult& result = solved.result;
        CAPTURE(std::string(kNames[int(method)]));
        CAPTURE(single);
        CAPTURE(scale);
        CAPTURE(result.reason);
        CHECK(result.converged);
        CHECK(result.reason.empty());
        CHECK(result.products <= 4000);
        const auto residuals = trueResiduals(scaled, damping, b, solved.x, dim);
        for (int64_t k = 0; k < count; ++k) {
          CHECK(result.residuals[k] <= tol);
          CHECK(std::abs(result.residuals[k] - residuals[k]) <= (single ? 5e-6 : 2e-14));
          CHECK(result.iterations[k] > 0);
        }
        const bool bounded = method == SolveMethod::Cg || method == SolveMethod::Neumann;
        CHECK(result.errorBounds.size() == (bounded ? count : 0));
      }
}

TEST_CASE("the solution is that of a dense solve, within the error bound") {
  const int64_t dim = 70;
  const std::vector<double> values = graded(dim, 16), b = gaussian(dim, 3, 8);
  const auto op = diagonalOperator(values, Precision::F64);
  for (double damping : {1e-2, 1e-6, 1e-9}) {
    const double tol = std::max(1e-10, 1e-15 / damping);
    const Solved solved = solveWith(op, optionsOf(SolveMethod::Cg, damping, tol), b);
    const std::vector<double> wanted = exact(values, damping, b);
    CAPTURE(damping);
    CAPTURE(solved.result.reason);
    CHECK(solved.result.converged);
    REQUIRE(solved.result.errorBounds.size() == 3);
    for (int64_t k = 0; k < 3; ++k) {
      double squares = 0;
      for (int64_t i = k * dim; i < (k + 1) * dim; ++i)
        squares += (solved.x[i] - wanted[i]) * (solved.x[i] - wanted[i]);
      const double rounding = 1e-15 / damping * norm2(dim, wanted.data() + k * dim);
      CHECK(std::sqrt(squares) <= solved.result.errorBounds[k] + rounding);
      CHECK(solved.result.errorBounds[k] <=
            tol / damping * norm2(dim, b.data() + k * dim) * (1 + 1e-12));
    }
  }
}

TEST_CASE("clusters of eigenvalues take an iteration each") {
  std::vector<double> values(60, 2.0);
  for (int64_t i = 0; i < 20; ++i) values[i] = 3;
  for (int64_t i = 20; i < 30; ++i) values[i] = 5;
  const std::vector<double> b = gaussian(60, 1, 1);
  for (SolveMethod method : {SolveMethod::Cg, SolveMethod::Minres, SolveMethod::Lsmr}) {
    const auto op = operatorWithSpectrum(values, Precision::F64);
    const Solved solved = solveWith(op, optionsOf(method, 0, 1e-12), b);
    CAPTURE(std::string(kNames[int(method)]));
    CHECK(solved.result.converged);
    CHECK(solved.result.iterations[0] == 3);
    CHECK(solved.result.products <= (method == SolveMethod::Lsmr ? 8 : 4));
  }
}

TEST_CASE("minres and lsmr solve indefinite systems, and pairs of opposite eigenvalues") {
  const int64_t dim = 80;
  std::vector<double> values(dim);
  for (int64_t i = 0; i < dim; ++i) values[i] = (i % 2 ? -1 : 1) * (0.5 + double(i / 2) / dim);
  const std::vector<double> b = gaussian(dim, 2, 4);
  for (Precision precision : kPrecisions)
    for (SolveMethod method : {SolveMethod::Minres, SolveMethod::Lsmr}) {
      const bool single = precision == Precision::F32;
      const Solved solved = solveWith(diagonalOperator(values, precision),
                                      optionsOf(method, 0, single ? 1e-5 : 1e-11), b);
      CAPTURE(std::string(kNames[int(method)]));
      CAPTURE(single);
      CAPTURE(solved.result.reason);
      CHECK(solved.result.converged);
      CHECK(distance(solved.x, exact(values, 0, b)) <= (single ? 3e-5 : 3e-11));
    }
}

TEST_CASE("singular systems with a solution give the shortest, from 0") {
  const int64_t dim = 50;
  std::vector<double> values(dim), b = gaussian(dim, 1, 2), wanted(dim, 0.0);
  for (int64_t i = 0; i < dim; ++i) {
    values[i] = i < 20 ? 0.0 : 1.0 + i % 7;
    if (i < 20) b[i] = 0;
    if (i >= 20) wanted[i] = b[i] / values[i];
  }
  for (SolveMethod method : kAll) {
    const Solved solved =
        solveWith(diagonalOperator(values, Precision::F64), optionsOf(method, 0, 1e-11), b);
    CAPTURE(std::string(kNames[int(method)]));
    CAPTURE(solved.result.reason);
    CHECK(solved.result.converged);
    CHECK(distance(solved.x, wanted) <= 1e-10);
  }
}

TEST_CASE("systems without a solution: lsmr gives the shortest of least squares, others say so") {
  const int64_t dim = 60;
  for (bool indefinite : {false, true})
    for (Precision precision : kPrecisions) {
      const bool single = precision == Precision::F32;
      std::vector<double> values(dim), wanted(dim, 0.0);
      const std::vector<double> b = gaussian(dim, 1, 6);
      double outside = 0, whole = 0;
      for (int64_t i = 0; i < dim; ++i) {
        values[i] = i < 15 ? 0.0 : (indefinite && i % 2 ? -1.0 : 1.0) * (1 + 0.1 * double(i));
        whole += b[i] * b[i];
        if (i < 15)
          outside += b[i] * b[i];
        else
          wanted[i] = b[i] / values[i];
      }
      const double left = std::sqrt(outside / whole), tol = single ? 1e-5 : 1e-10;
      const auto op = diagonalOperator(values, precision);
      CAPTURE(indefinite);
      CAPTURE(single);
      const Solved squares = solveWith(op, optionsOf(SolveMethod::Lsmr, 0, tol), b);
      CAPTURE(squares.result.reason);
      CHECK(squares.result.converged);
      CHECK(squares.result.residuals[0] == doctest::Approx(left).epsilon(1e-5));
      CHECK(squares.result.optimality[0] <= tol);
      CHECK(distance(squares.x, wanted) <= 100 * tol);

      const Solved minres = solveWith(op, optionsOf(SolveMethod::Minres, 0, tol), b);
      CAPTURE(minres.result.reason);
      CHECK_FALSE(minres.result.converged);
      CHECK(minres.result.residuals[0] == doctest::Approx(left).epsilon(1e-3));
      CHECK(mentions(minres.result.reason, "lsmr"));
      CHECK(minres.result.products < 300);
      if (indefinite) continue;
      for (SolveMethod method : {SolveMethod::Cg, SolveMethod::Neumann}) {
        const Solved other = solveWith(op, optionsOf(method, 0, tol), b);
        CAPTURE(std::string(kNames[int(method)]));
        CAPTURE(other.result.reason);
        CAPTURE(other.result.products);
        CHECK_FALSE(other.result.converged);
        CHECK_FALSE(other.result.reason.empty());
        CHECK(other.result.residuals[0] >= left * 0.999);
      }
    }
}

TEST_CASE("tikhonov is the ridge of least squares") {
  const int64_t dim = 40;
  std::vector<double> values = graded(dim, 8);
  for (int64_t i = 0; i < dim; i += 3) values[i] *= -1;
  const std::vector<double> b = gaussian(dim, 2, 3);
  for (double ridge : {1e-1, 1e-3}) {
    SolveOptions options = optionsOf(SolveMethod::Lsmr, 0, 1e-12);
    options.tikhonov = ridge;
    const Solved solved = solveWith(diagonalOperator(values, Precision::F64), options, b);
    std::vector<double> wanted(b.size());
    for (std::size_t i = 0; i < b.size(); ++i) {
      const double value = values[i % dim];
      wanted[i] = value * b[i] / (value * value + ridge * ridge);
    }
    CAPTURE(ridge);
    CAPTURE(solved.result.reason);
    CHECK(solved.result.converged);
    CHECK(distance(solved.x, wanted) <= 1e-12 / (ridge * ridge));
  }
}

TEST_CASE("many right-hand sides give what each gives alone, in fewer block products") {
  const int64_t dim = 64, count = 37;
  const std::vector<double> values = graded(dim, 3), b = gaussian(dim, count, 9);
  for (SolveMethod method : kAll) {
    SpectrumOperator whole(values, Precision::F64);
    const OperatorPtr op(OperatorPtr{}, &whole);
    SolveOptions options = optionsOf(method, 0.05, 1e-9);
    options.maxProducts = 100000;
    const Solved together = solveWith(op, options, b);
    CHECK(together.result.converged);
    CHECK(together.result.products == whole.calls);
    for (int64_t k = 0; k < count; k += 6) {
      const std::vector<double> one(b.begin() + k * dim, b.begin() + (k + 1) * dim);
      const Solved alone = solveWith(op, options, one);
      const std::vector<double> x(together.x.begin() + k * dim, together.x.begin() + (k + 1) * dim);
      CHECK(distance(x, alone.x) == 0);
      CHECK(together.result.residuals[k] == alone.result.residuals[0]);
      CHECK(together.result.iterations[k] == alone.result.iterations[0]);
    }
  }
}

TEST_CASE("a preconditioner leaves the solution and takes fewer products") {
  const int64_t dim = 300;
  const std::vector<double> values = graded(dim, 6), b = gaussian(dim, 2, 12);
  const auto op = diagonalOperator(values, Precision::F64);
  for (SolveMethod method : {SolveMethod::Cg, SolveMethod::Minres, SolveMethod::Lsmr}) {
    const double damping = method == SolveMethod::Lsmr ? 1e-3 : 1e-5;
    std::vector<double> near(dim);
    for (int64_t i = 0; i < dim; ++i) near[i] = (1 + 0.3 * std::sin(i)) / (values[i] + damping);
    const auto inverse = diagonalOperator(near, Precision::F64);
    SolveOptions options = optionsOf(method, damping, 1e-10);
    options.maxProducts = 30000;
    const Solved plain = solveWith(op, options, b);
    options.preconditioner = inverse;
    const Solved helped = solveWith(op, options, b);
    CAPTURE(std::string(kNames[int(method)]));
    CAPTURE(plain.result.products);
    CAPTURE(helped.result.products);
    CAPTURE(plain.result.reason);
    CAPTURE(helped.result.reason);
    CHECK(plain.result.converged);
    CHECK(helped.result.converged);
    CHECK(distance(helped.x, exact(values, damping, b)) <= 1e-4);
    CHECK(helped.result.products * 5 < plain.result.products);
    CHECK(helped.result.preconditionerProducts > 0);
  }
}

TEST_CASE("the Nystrom preconditioner takes the head of a decaying spectrum away") {
  const int64_t dim = 400;
  std::vector<double> values(dim);
  for (int64_t i = 0; i < dim; ++i) values[i] = std::exp(-0.35 * double(i));
  const std::vector<double> b = gaussian(dim, 1, 21);
  for (Precision precision : kPrecisions)
    for (SolveMethod method : {SolveMethod::Cg, SolveMethod::Minres}) {
      const bool single = precision == Precision::F32;
      const double damping = single ? 1e-3 : 1e-6;
      const auto op = operatorWithSpectrum(values, precision, 5);
      SolveOptions options = optionsOf(method, damping, single ? 2e-3 : 1e-9);
      const Solved plain = solveWith(op, options, b);
      options.nystromRank = single ? 30 : 50;
      const Solved helped = solveWith(op, options, b);
      CAPTURE(std::string(kNames[int(method)]));
      CAPTURE(single);
      CAPTURE(plain.result.products);
      CAPTURE(helped.result.products);
      CAPTURE(helped.result.reason);
      CHECK(helped.result.converged);
      CHECK(helped.result.iterations[0] < 12);
      CHECK(helped.result.iterations[0] * 2 < plain.result.iterations[0]);
      CHECK(distance(helped.x, plain.x) <= (single ? 1e-1 : 1e-6));
    }
}

TEST_CASE("a start near the solution saves iterations, and the solution itself all of them") {
  const int64_t dim = 80;
  const std::vector<double> values = graded(dim, 4), b = gaussian(dim, 1, 2);
  const auto op = diagonalOperator(values, Precision::F64);
  for (SolveMethod method : kAll) {
    const SolveOptions options = optionsOf(method, 0.01, 1e-8);
    std::vector<double> start = exact(values, 0.01, b);
    const Solved there = solveWith(op, options, b, &start);
    CHECK(there.result.converged);
    CHECK(there.result.iterations[0] == 0);
    for (double& x : start) x *= 1 + 1e-6;
    const Solved near = solveWith(op, options, b, &start);
    const Solved far = solveWith(op, options, b);
    CHECK(near.result.converged);
    CHECK(near.result.iterations[0] < far.result.iterations[0]);
  }
}

TEST_CASE("dimension 1, zero right-hand sides and zero operators") {
  for (Precision precision : kPrecisions)
    for (SolveMethod method : kAll) {
      CAPTURE(std::string(kNames[int(method)]));
      const Solved one = solveWith(diagonalOperator({4.0}, precision), optionsOf(method), {2.0});
      CHECK(one.result.converged);
      CHECK(one.x[0] == doctest::Approx(0.5).epsilon(1e-4));
      const std::vector<double> b = {0, 0, 0, 1, 2, 3};
      const Solved zero = solveWith(diagonalOperator({1, 2, 3}, precision), optionsOf(method), b);
      CHECK(zero.result.converged);
      CHECK(zero.result.residuals[0] == 0);
      CHECK(zero.result.iterations[0] == 0);
      for (int64_t i = 0; i < 3; ++i) CHECK(zero.x[i] == 0);
      const auto nothing = diagonalOperator({0, 0, 0}, precision);
      const Solved damped = solveWith(nothing, optionsOf(method, 2.0), b);
      CHECK(damped.result.converged);
      for (int64_t i = 0; i < 6; ++i) CHECK(damped.x[i] == doctest::Approx(b[i] / 2));
      if (method == SolveMethod::Neumann) continue;
      const Solved hopeless = solveWith(nothing, optionsOf(method), b);
      CHECK(hopeless.result.converged == (method == SolveMethod::Lsmr));
      for (double x : hopeless.x) CHECK(x == 0);
    }
}

TEST_CASE("a tolerance below the noise ends early, unconverged, and says so") {
  const int64_t dim = 200;
  const std::vector<double> values = graded(dim, 3), b = gaussian(dim, 1, 7);
  for (SolveMethod method : kAll)
    for (Precision precision : kPrecisions) {
      const bool single = precision == Precision::F32;
      SpectrumOperator noisy(values, precision);
      noisy.noise = single ? 1e-6 : 1e-13;
      SolveOptions options = optionsOf(method, 0.02, single ? 1e-9 : 1e-15);
      options.maxProducts = 100000;
      const Solved solved = solveWith(OperatorPtr(OperatorPtr{}, &noisy), options, b);
      CAPTURE(std::string(kNames[int(method)]));
      CAPTURE(single);
      CAPTURE(solved.result.products);
      CAPTURE(solved.result.residuals[0]);
      CHECK_FALSE(solved.result.converged);
      CHECK(mentions(solved.result.reason, "below what the products can resolve"));
      CHECK((solved.result.reason.find("float64") != std::string::npos) == single);
      CHECK(solved.result.products < 3000);
      CHECK(solved.result.residuals[0] < 200 * noisy.noise);
    }
}

TEST_CASE("running out of products gives what there is, with its true residual") {
  const int64_t dim = 500, count = 20;
  const std::vector<double> values = graded(dim, 6), b = gaussian(dim, count, 3);
  for (SolveMethod method : kAll)
    for (int64_t limit : {1, 13, 60, 300}) {
      SpectrumOperator whole(values, Precision::F64);
      if (method == SolveMethod::Neumann && limit < 60) continue;
      SolveOptions options = optionsOf(method, 1e-6, 1e-10);
      options.maxProducts = limit;
      const Solved solved = solveWith(OperatorPtr(OperatorPtr{}, &whole), options, b);
      CAPTURE(std::string(kNames[int(method)]));
      CAPTURE(limit);
      CHECK_FALSE(solved.result.converged);
      CHECK(mentions(solved.result.reason, "maxProducts"));
      CHECK(whole.calls == solved.result.products);
      CHECK(solved.result.products <= limit);
      for (int64_t k = 0; k < count; ++k) {
        double squares = 0, size = 0;
        for (int64_t i = 0; i < dim; ++i) {
          const double r = b[k * dim + i] - (values[i] + 1e-6) * solved.x[k * dim + i];
          squares += r * r;
          size += b[k * dim + i] * b[k * dim + i];
        }
        CHECK(solved.result.residuals[k] == doctest::Approx(std::sqrt(squares / size)));
      }
    }
}

TEST_CASE("wrong uses get the right error") {
  const std::vector<double> indefinite = {3, 2, 1, -1, -2}, b = {1, 1, 1, 1, 1};
  const auto op = diagonalOperator(indefinite, Precision::F64);
  const auto solving = [&](const OperatorPtr& a, const SolveOptions& options) {
    return [&a, options, &b] { solveWith(a, options, b); };
  };
  const std::string curvature =
      messageOf(ErrorKind::Option, solving(op, optionsOf(SolveMethod::Cg)));
  CHECK(mentions(curvature, "cg needs a positive semi-definite operator"));
  CHECK(mentions(curvature, "minres, or damping above"));
  CHECK(mentions(messageOf(ErrorKind::Option, solving(op, optionsOf(SolveMethod::Neumann))),
                 "eigenvalue of at most -2; take method minres, or damping above 2"));
  const auto definite = diagonalOperator({5, 4, 3, 2, 1}, Precision::F64);
  SolveOptions options = optionsOf(SolveMethod::Neumann);
  options.scale = 2.4;
  CHECK(mentions(messageOf(ErrorKind::Option, solving(definite, options)),
                 "scale: expected more than half the largest eigenvalue"));
  CHECK(mentions(messageOf(ErrorKind::Option, solving(definite, optionsOf(SolveMethod::Cg, -1))),
                 "damping: expected a number from 0, got -1"));
  for (double tol : {-1.0, 1.0, std::nan("")})
    CHECK(mentions(
        messageOf(ErrorKind::Option, solving(definite, optionsOf(SolveMethod::Cg, 0, tol))),
        "tol: expected"));
  options = optionsOf(SolveMethod::Cg);
  options.scale = 1;
  CHECK(mentions(messageOf(ErrorKind::Option, solving(definite, options)), "method neumann"));
  options = optionsOf(SolveMethod::Cg);
  options.tikhonov = 1;
  CHECK(mentions(messageOf(ErrorKind::Option, solving(definite, options)), "method lsmr"));
  options = optionsOf(SolveMethod::Cg);
  options.nystromRank = 3;
  CHECK(mentions(messageOf(ErrorKind::Option, solving(definite, options)), "damping above 0"));
  options.damping = 1;
  options.nystromRank = 6;
  CHECK(mentions(messageOf(ErrorKind::Option, solving(definite, options)), "from 1 to 5"));
  options.nystromRank = 2;
  CHECK(mentions(messageOf(ErrorKind::Option, solving(op, options)), "positive semi-definite"));
  options = optionsOf(SolveMethod::Cg);
  for (SolveMethod method : {SolveMethod::Cg, SolveMethod::Minres}) {
    options.method = method;
    options.preconditioner = diagonalOperator({-1, -1, -1, -1, -1}, Precision::F64);
    CHECK(mentions(messageOf(ErrorKind::Option, solving(definite, options)),
                   "preconditioner: expected a symmetric positive definite operator"));
  }
  options.preconditioner = diagonalOperator({1, 1}, Precision::F64);
  CHECK(mentions(messageOf(ErrorKind::Option, solving(definite, options)),
                 "expected dimension 5, that of the operator, got 2"));
  options.preconditioner = diagonalOperator({1, 1, 1, 1, 1}, Precision::F32);
  CHECK(mentions(messageOf(ErrorKind::Option, solving(definite, options)), "expected float64"));
  options.method = SolveMethod::Neumann;
  CHECK(mentions(messageOf(ErrorKind::Option, solving(definite, options)), "no preconditioner"));
}

TEST_CASE("a series whose divergence only the residuals show is refused") {
  // The estimate of the largest eigenvalue does not see one of a thousand.
  std::vector<double> values(1000, 1.0);
  for (int64_t i = 0; i < 1000; ++i) values[i] = 0.5 + 0.5 * double(i) / 999;
  SpectrumOperator op(values, Precision::F64);
  op.spoil = [](int64_t product, int64_t i, double y) {
    return product > 14 && i == 500 ? 4 * y : y;
  };
  SolveOptions options = optionsOf(SolveMethod::Neumann);
  const std::string message = messageOf(ErrorKind::NotConverged, [&] {
    solveWith(OperatorPtr(OperatorPtr{}, &op), options, gaussian(1000, 1, 4));
  });
  CHECK(mentions(message, "the Neumann series diverges"));
}

TEST_CASE("NaN in products, right-hand sides and starts is an error; a cancelled call stops") {
  SpectrumOperator op({1, 2, 3, 4, 5, 6}, Precision::F64);
  const OperatorPtr whole(OperatorPtr{}, &op);
  const std::vector<double> b = {1, 1, 1, 1, 1, 1};
  for (SolveMethod method : kAll) {
    op.calls = 0;
    op.spoil = [](int64_t product, int64_t i, double y) {
      return product == 2 && i == 3 ? std::nan("") : y;
    };
    CHECK(mentions(
        messageOf(ErrorKind::DataMismatch, [&] { solveWith(whole, optionsOf(method), b); }),
        "NaN or infinity in product 2"));
    op.spoil = nullptr;
    std::vector<double> bad = b;
    bad[4] = std::numeric_limits<double>::infinity();
    CHECK(mentions(
        messageOf(ErrorKind::DataMismatch, [&] { solveWith(whole, optionsOf(method), bad); }),
        "right-hand side 0 has inf at coordinate 4"));
    CHECK(mentions(
        messageOf(ErrorKind::DataMismatch, [&] { solveWith(whole, optionsOf(method), b, &bad); }),
        "start 0 has inf"));
    Task task;
    task.cancelled = true;
    LinearSolver solver(whole, optionsOf(method));
    CHECK_THROWS_AS(solver.solve(b.data(), nullptr, 1, task), Error);
  }
}
