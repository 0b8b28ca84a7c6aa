// What every eigensolver does when the operator, the options or the caller get in the way.
#include <doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "spectra.h"

using namespace eigenscope;
using namespace eigenscope::spectra;

namespace {

const EigshMethod kMethods[] = {EigshMethod::Lanczos, EigshMethod::Subspace, EigshMethod::Krylov,
                                EigshMethod::Nystrom, EigshMethod::Lobpcg};
const Precision kPrecisions[] = {Precision::F32, Precision::F64};

std::vector<double> decaying(int64_t dim) {
  std::vector<double> values(dim);
  for (int64_t i = 0; i < dim; ++i) values[i] = 5.0 / ((1 + i) * std::sqrt(1.0 + i));
  return values;
}

}  // namespace

TEST_CASE("options out of range are refused with the range") {
  const auto op = diagonalOperator(decaying(50), Precision::F64);
  EigshOptions options;
  for (int64_t k : {int64_t{0}, int64_t{-1}, int64_t{51}}) {
    options.k = k;
    const std::string message = messageOf(*op, options, ErrorKind::Option);
    CHECK(mentions(message, "from 1 to 50"));
    CHECK(mentions(message, "got " + std::to_string(k)));
  }
  options.k = 4;
  for (double tol : {-1.0, 1.0, std::nan("")}) {
    options.tol = tol;
    CHECK(mentions(messageOf(*op, options, ErrorKind::Option), "tol"));
  }
  options.tol = 0;
  options.blockSize = 51;
  CHECK(mentions(messageOf(*op, options, ErrorKind::Option), "blockSize"));
  options.blockSize = 0;
  options.oversample = -1;
  CHECK(mentions(messageOf(*op, options, ErrorKind::Option), "oversample"));
  options.oversample = 10;
  options.maxProducts = 7;
  CHECK(mentions(messageOf(*op, options, ErrorKind::Option), "at least 8"));
  options.maxProducts = 0;
  options.basisSize = 5;
  CHECK(mentions(messageOf(*op, options, ErrorKind::Option), "basisSize"));
  options.basisSize = 0;
  options.which = Which::SA;
  options.method = EigshMethod::Subspace;
  CHECK(mentions(messageOf(*op, options, ErrorKind::Option), "lanczos or krylov"));
  options.method = EigshMethod::Nystrom;
  CHECK(mentions(messageOf(*op, options, ErrorKind::Option), "lanczos or krylov"));
}

TEST_CASE("NaN or infinity from the operator ends in an error that names the product") {
  for (EigshMethod method : kMethods)
    for (Precision precision : kPrecisions)
      for (double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
        SpectrumOperator whole(decaying(400), precision);
        whole.spoil = [bad](int64_t product, int64_t i, double y) {
          return product == 17 && i == 30 ? bad : y;
        };
        std::vector<int64_t> coordinates;
        for (int64_t i = 10; i < 400; ++i) coordinates.push_back(i);
        const auto op =
            restrictOperator(OperatorPtr(OperatorPtr{}, &whole), std::move(coordinates));
        EigshOptions options;
        options.k = 5;
        options.method = method;
        const std::string message = messageOf(*op, options, ErrorKind::DataMismatch);
        CHECK(mentions(message, "NaN or infinity in product 17"));
        CHECK(mentions(message, "coordinate 20 (parameter index 30)"));
      }
}

TEST_CASE("products whose squares leave the range of double are refused, by every method") {
  for (double factor : {1e-199, 1e199}) {
    std::vector<double> values;
    for (int i = 1; i <= 60; ++i) values.push_back(factor * i);
    for (EigshMethod method : {EigshMethod::Lanczos, EigshMethod::Krylov, EigshMethod::Subspace,
                               EigshMethod::Nystrom, EigshMethod::Lobpcg}) {
      SpectrumOperator op(values, Precision::F64);
      EigshOptions options;
      options.k = 3;
      options.method = method;
      options.which = method == EigshMethod::Lobpcg ? Which::LA : Which::LM;
      CHECK_THROWS_WITH_AS(solve(op, options), doctest::Contains("whose square is beyond float64"),
                           Error);
    }
  }
}

TEST_CASE("a tolerance below the operator's noise ends early and says so") {
  for (EigshMethod method : kMethods)
    for (Precision precision : kPrecisions) {
      const bool single = precision == Precision::F32;
      SpectrumOperator op(decaying(1000), precision);
      op.noise = single ? 1e-6 : 1e-13;
      EigshOptions options;
      options.k = 5;
      options.method = method;
      options.tol = single ? 1e-8 : 1e-15;
      options.maxProducts = 100000;
      const EigshResult r = solve(op, options);
      CAPTURE(r.method);
      CAPTURE(r.reason);
      CHECK_FALSE(r.converged);
      CHECK(mentions(r.reason, "below the noise of the operator"));
      CHECK(mentions(r.reason, "float64") == single);
      CHECK(r.products < 600);
      // What can be had is had.
      checkValues(r, expectedValues(decaying(1000), 5, Which::LM), 20 * op.noise);
      options.tol = 20 * op.noise;
      CHECK(solve(op, options).converged);
    }
}

TEST_CASE("running out of products gives what there is, unconverged, with the reason") {
  std::vector<double> values(3000);
  for (int64_t i = 0; i < 3000; ++i) values[i] = std::cos(3e-3 * i) + 1.5;
  for (EigshMethod method : kMethods) {
    SpectrumOperator op(values, Precision::F64);
    EigshOptions options;
    options.k = 4;
    options.method = method;
    options.maxProducts = 60;
    const EigshResult r = solve(op, options);
    CAPTURE(r.method);
    CAPTURE(r.reason);
    CHECK_FALSE(r.converged);
    CHECK(r.products <= 60);
    CHECK(r.products == op.calls);
    CHECK(mentions(r.reason, "60 products (maxProducts) were not enough"));
    REQUIRE(r.values.size() == 4);
    for (double residual : r.residuals) CHECK(residual > r.tol * r.scale);
  }
}

TEST_CASE("an operator that is not symmetric gives a warning") {
  const int64_t dim = 200;
  std::vector<double> matrix(dim * dim);
  fillGaussian(matrix.data(), dim, dim, 5, 0);
  for (Precision precision : kPrecisions)
    for (EigshMethod method : {EigshMethod::Lanczos, EigshMethod::Krylov, EigshMethod::Subspace}) {
      EigshOptions options;
      options.k = 4;
      options.method = method;
      options.maxProducts = 300;
      const EigshResult wrong = solve(*denseOperator(matrix, dim, precision), options);
      REQUIRE(wrong.warnings.size() >= 1);
      CHECK(mentions(wrong.warnings.back(), "does not look symmetric"));
      const EigshResult right = solve(*operatorWithSpectrum(decaying(dim), precision), options);
      CHECK(right.warnings.empty());
    }
  EigshOptions options;
  options.k = 5;
  const EigshResult small = solve(
      *denseOperator({1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7}, 5,
                     Precision::F64),
      options);
  CHECK(small.method == "dense");
  REQUIRE(small.warnings.size() == 1);
}

TEST_CASE("a cancelled task stops between products") {
  for (EigshMethod method : kMethods) {
    SpectrumOperator op(decaying(800), Precision::F32);
    Task task;
    op.onProduct = [&](int64_t product) {
      if (product == 20) task.cancelled = true;
    };
    EigshOptions options;
    options.k = 5;
    options.method = method;
    ErrorKind kind = ErrorKind::Internal;
    try {
      eigsh(op, options, task);
    } catch (const Error& error) {
      kind = error.kind;
    }
    CHECK(kind == ErrorKind::Abort);
    CHECK(op.calls <= 20 + 15);
  }
}

TEST_CASE("progress counts every product and ends at the result") {
  for (EigshMethod method : kMethods) {
    SpectrumOperator op(decaying(800), Precision::F64);
    Task task;
    std::vector<Progress> seen;
    task.report = [&](const Progress& progress) { seen.push_back(progress); };
    EigshOptions options;
    options.k = 5;
    options.method = method;
    const EigshResult r = eigsh(op, options, task);
    REQUIRE(seen.size() > 3);
    for (std::size_t i = 1; i < seen.size(); ++i) CHECK(seen[i].products >= seen[i - 1].products);
    CHECK(seen.back().products == r.products);
    CHECK(r.products == op.calls);
    double worst = 0;
    for (double x : r.residuals) worst = std::max(worst, x);
    CHECK(seen.back().residual == doctest::Approx(worst / r.scale));
  }
}

TEST_CASE("results depend on the seed alone, to the bit, whatever the threads") {
  for (EigshMethod method : kMethods)
    for (Precision precision : kPrecisions) {
      SpectrumOperator op(decaying(20011), precision);
      EigshOptions options;
      options.k = 3;
      options.oversample = 3;
      options.tol = 1e-5;
      options.method = method;
      const EigshResult first = solve(op, options);
      CHECK(first.converged);
      for (int threads : {1, 3}) {
        options.threads = threads;
        const EigshResult again = solve(op, options);
        CHECK(again.values == first.values);
        CHECK(again.vectors == first.vectors);
        CHECK(again.residuals == first.residuals);
        CHECK(again.products == first.products);
      }
      options.seed = 1;
      const EigshResult other = solve(op, options);
      CHECK(other.vectors != first.vectors);
      checkValues(other, first.values, 1e-5);
    }
}

TEST_CASE("the start of a restricted solve is the restriction of the start of the whole") {
  const int64_t dim = 600;
  std::vector<int64_t> coordinates;
  for (int64_t i = 5; i < dim; i += 2) coordinates.push_back(i);
  const auto firstVector = [](SpectrumOperator& op, LinearOperator& solved) {
    EigshOptions options;
    options.k = 2;
    solve(solved, options);
    return op.firstInput;
  };
  SpectrumOperator whole(decaying(dim), Precision::F64), part(decaying(dim), Precision::F64);
  const std::vector<double> a = firstVector(whole, whole);
  const auto restricted = restrictOperator(OperatorPtr(OperatorPtr{}, &part), coordinates);
  const std::vector<double> b = firstVector(part, *restricted);
  const double ratio = b[coordinates[0]] / a[coordinates[0]];
  CHECK(ratio > 1);  // unit vectors both
  for (int64_t i : coordinates) CHECK(b[i] == doctest::Approx(ratio * a[i]).epsilon(1e-12));
}

TEST_CASE("the basis shrinks to the memory given, down to a limit that is an error") {
  SpectrumOperator op(decaying(5000), Precision::F32);
  EigshOptions options;
  options.k = 10;
  const EigshResult free = solve(op, options);
  options.memoryBudget = 5000 * 4 * 22;
  const EigshResult tight = solve(op, options);
  CHECK(tight.converged);
  CHECK(tight.restarts > free.restarts);
  checkValues(tight, free.values, 1e-6);
  options.memoryBudget = 5000 * 4 * 12;
  const std::string message = messageOf(op, options, ErrorKind::MemoryBudget);
  CHECK(mentions(message, "needs at least"));
}
