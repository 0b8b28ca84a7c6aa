#include "11-lower.h"
#include "spectra.h"
#include "spectral/structured.h"

// Blocks and what is made of them, against the dense matrix.
namespace eigenscope::spectra {

namespace {

using onnx::test::contains;

std::vector<double> gram(int64_t n, uint64_t seed) {
  std::vector<double> values(n);
  for (int64_t i = 0; i < n; ++i) values[i] = 0.5 + static_cast<double>(i * i);
  return matrixWithSpectrum(values, seed);
}

std::vector<double> kronecker(int64_t m, const std::vector<double>& b, int64_t n,
                              const std::vector<double>& a) {
  std::vector<double> k(m * n * m * n);
  for (int64_t o = 0; o < m; ++o)
    for (int64_t i = 0; i < n; ++i)
      for (int64_t p = 0; p < m; ++p)
        for (int64_t j = 0; j < n; ++j)
          k[(o * n + i) * m * n + p * n + j] = b[o * m + p] * a[i * n + j];
  return k;
}

std::vector<double> denseOf(const Block& block) {
  const int64_t n = block.size();
  std::vector<double> matrix(n * n), unit(n);
  for (int64_t j = 0; j < n; ++j) {
    unit.assign(n, 0.0);
    unit[j] = 1;
    block.apply(unit.data(), matrix.data() + j * n);
  }
  return matrix;
}

void checkMatrix(const std::vector<double>& got, const std::vector<double>& wanted,
                 double tolerance = 1e-12) {
  REQUIRE(got.size() == wanted.size());
  double scale = 0;
  for (double x : wanted) scale = std::max(scale, std::abs(x));
  for (size_t i = 0; i < got.size(); ++i)
    CHECK(got[i] == doctest::Approx(wanted[i]).epsilon(tolerance).scale(scale));
}

std::vector<double> times(const std::vector<double>& a, const std::vector<double>& b, int64_t n) {
  std::vector<double> c(n * n);
  gemm('N', 'N', n, n, n, 1.0, a.data(), n, b.data(), n, 0.0, c.data(), n);
  return c;
}

std::vector<double> identity(int64_t n, double value = 1) {
  std::vector<double> matrix(n * n, 0.0);
  for (int64_t i = 0; i < n; ++i) matrix[i * n + i] = value;
  return matrix;
}

void checkBlock(const Block& block, const std::vector<double>& matrix) {
  const int64_t n = block.size();
  checkMatrix(denseOf(block), matrix);
  double trace = 0, squares = 0;
  for (int64_t i = 0; i < n; ++i) trace += matrix[i * n + i];
  for (double x : matrix) squares += x * x;
  CHECK(block.trace() == doctest::Approx(trace));
  CHECK(block.squares() == doctest::Approx(squares));
  std::vector<double> values = block.eigenvalues();
  std::sort(values.begin(), values.end());
  checkMatrix(values, denseSpectrum(matrix, n));
  // Inverse of the damped block.
  std::vector<double> damped = matrix;
  for (int64_t i = 0; i < n; ++i) damped[i * n + i] += 0.3;
  const auto inverse = block.inverse(0.3, Damping::Exact, "block");
  checkMatrix(times(denseOf(*inverse), damped, n), identity(n), 1e-11);
}

}  // namespace

TEST_CASE("structured: every kind of block against its dense matrix") {
  const auto b = gram(3, 1), a = gram(4, 2);
  SUBCASE("kronecker") { checkBlock(*kroneckerBlock(3, 4, b, a, true), kronecker(3, b, 4, a)); }
  SUBCASE("one row") { checkBlock(*kroneckerBlock(1, 4, {2.0}, a, true), kronecker(1, {2}, 4, a)); }
  SUBCASE("one column") {
    checkBlock(*kroneckerBlock(3, 1, b, {2.0}, true), kronecker(3, b, 1, {2}));
  }
  SUBCASE("dense") { checkBlock(*denseBlock(4, a, false), a); }
  SUBCASE("diagonal") { checkBlock(*diagonalBlock({1, 5, 2}), {1, 0, 0, 0, 5, 0, 0, 0, 2}); }
  SUBCASE("identity") { checkBlock(*scaledIdentityBlock(5, 2.5), identity(5, 2.5)); }
  SUBCASE("eigenvalues of its own in the bases of a Kronecker product") {
    auto left = std::make_shared<std::vector<double>>(b);
    auto right = std::make_shared<std::vector<double>>(a);
    symmetricEigen(3, left->data(), 3);
    symmetricEigen(4, right->data(), 4);
    const std::vector<double> values = {5, 1, 0.25, 3, 8, 2, 7, 1, 1, 4, 6, 9};
    // (L x R) diag(values) (L x R)^T.
    std::vector<double> dense(144, 0.0);
    for (int64_t k = 0; k < 12; ++k)
      for (int64_t i = 0; i < 12; ++i)
        for (int64_t j = 0; j < 12; ++j)
          dense[i * 12 + j] += values[k] * (*left)[k / 4 * 3 + i / 4] *
                               (*right)[k % 4 * 4 + i % 4] * (*left)[k / 4 * 3 + j / 4] *
                               (*right)[k % 4 * 4 + j % 4];
    checkBlock(*eigenBlock(3, 4, left, right, values), dense);
  }
}

TEST_CASE("structured: the heuristic damping shares the damping out between the factors") {
  const auto b = gram(3, 1), a = gram(4, 2);
  double meanA = 0, meanB = 0;
  for (int64_t i = 0; i < 4; ++i) meanA += a[i * 5] / 4;
  for (int64_t i = 0; i < 3; ++i) meanB += b[i * 4] / 3;
  const double damping = 0.7, p = std::sqrt(meanA / meanB), root = std::sqrt(damping);
  std::vector<double> dampedA = a, dampedB = b;
  for (int64_t i = 0; i < 4; ++i) dampedA[i * 5] += root * p;
  for (int64_t i = 0; i < 3; ++i) dampedB[i * 4] += root / p;
  const auto inverse =
      kroneckerBlock(3, 4, b, a, true)->inverse(damping, Damping::Heuristic, "block");
  checkMatrix(times(denseOf(*inverse), kronecker(3, dampedB, 4, dampedA), 12), identity(12), 1e-11);
  const std::string refusal = messageOf(
      ErrorKind::Option, [&] { inverse->inverse(damping, Damping::Heuristic, "fc.weight"); });
  CHECK(contains(refusal, "fc.weight"));
}

TEST_CASE("structured: rounding below zero in a Gram matrix is no negative eigenvalue") {
  // Rank 1, with an entry off by rounding.
  const std::vector<double> a = {1, 1, 1, 1 - 1e-15};
  for (double value : kroneckerBlock(1, 2, {1.0}, a, true)->eigenvalues()) CHECK(value >= 0);
  const std::string refusal = messageOf(ErrorKind::Option, [&] {
    kroneckerBlock(1, 2, {1.0}, a, true)->inverse(0, Damping::Exact, "fc.weight");
  });
  CHECK(contains(refusal, "fc.weight"));
  CHECK(contains(refusal, "larger damping"));
}

TEST_CASE("structured: an operator of blocks on scattered coordinates") {
  const auto b = gram(2, 3), a = gram(3, 4);
  auto make = [&](int threads) {
    std::vector<StructuredOperator::Entry> entries;
    entries.push_back({"w", {8, 2, 0, 5, 1, 7}, kroneckerBlock(2, 3, b, a, true)});
    entries.push_back({"d", {4, 3, 6}, diagonalBlock({1, 2, 3})});
    return StructuredOperator(std::move(entries), 9, Precision::F64, {}, threads);
  };
  StructuredOperator op = make(1), threaded = make(3);
  Task task;
  std::vector<double> x(27), y(27), z(27);
  fillGaussian(x.data(), 9, 3, 5, 0);
  op.apply(x.data(), y.data(), 3, task);
  threaded.apply(x.data(), z.data(), 3, task);
  CHECK(y == z);
  CHECK(y[4] == x[4]);
  CHECK(y[9 + 6] == 3 * x[9 + 6]);
  const int64_t order[] = {8, 2, 0, 5, 1, 7};
  const std::vector<double> k = kronecker(2, b, 3, a);
  for (int64_t i = 0; i < 6; ++i) {
    double sum = 0;
    for (int64_t j = 0; j < 6; ++j) sum += k[i * 6 + j] * x[18 + order[j]];
    CHECK(y[18 + order[i]] == doctest::Approx(sum));
  }
  double logDet = std::log(6);
  for (double value : denseSpectrum(k, 6)) logDet += std::log(value);
  const auto determinant = op.determinant(0, task);
  CHECK(determinant.sign == 1);
  CHECK(determinant.logAbs == doctest::Approx(logDet));
  CHECK(op.trace() == doctest::Approx(6 + kroneckerBlock(2, 3, b, a, true)->trace()));
  const auto inverse = op.inverse(0.1, Damping::Exact, task);
  for (int64_t i = 0; i < 27; ++i) y[i] += 0.1 * x[i];
  inverse->apply(y.data(), z.data(), 3, task);
  checkMatrix(z, x, 1e-11);

  Task cancelled;
  cancelled.cancelled = true;
  messageOf(ErrorKind::Abort, [&] { op.eigenvalues(cancelled); });
}

TEST_CASE("structured: signs, zeros and scales of determinants") {
  Task task;
  auto of = [](const std::vector<double>& values) {
    std::vector<int64_t> all(values.size());
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i);
    std::vector<StructuredOperator::Entry> entries = {{"d", all, diagonalBlock(values)}};
    return StructuredOperator(entries, static_cast<int64_t>(values.size()), Precision::F64, {}, 1);
  };
  CHECK(of({-2, 3}).determinant(0, task).sign == -1);
  CHECK(of({-2, -3}).determinant(0, task).sign == 1);
  CHECK(of({-2, 3}).determinant(5, task).logAbs == doctest::Approx(std::log(24)));
  CHECK(of({0, 3}).determinant(0, task).sign == 0);
  CHECK(std::isinf(of({0, 3}).determinant(0, task).logAbs));
  for (double c : {1e-12, 1e12})
    CHECK(of({2 * c, 3 * c}).determinant(0, task).logAbs ==
          doctest::Approx(std::log(6) + 2 * std::log(c)));
}

TEST_CASE("structured: blocks that overlap or leave something out are refused") {
  auto make = [](std::vector<int64_t> first, std::vector<int64_t> second) {
    std::vector<StructuredOperator::Entry> entries;
    for (auto* one : {&first, &second})
      entries.push_back({"block", *one, diagonalBlock(std::vector<double>(one->size(), 1.0))});
    StructuredOperator(std::move(entries), 4, Precision::F64, {}, 1);
  };
  CHECK(contains(messageOf(ErrorKind::Option, [&] { make({0, 1}, {1, 2}); }), "coordinate 1"));
  CHECK(contains(messageOf(ErrorKind::Option, [&] { make({0, 1}, {2}); }), "leave 1 of 4"));
  CHECK(contains(messageOf(ErrorKind::Option, [&] { make({0, 1}, {2, 4}); }), "coordinate 4"));
}

}  // namespace eigenscope::spectra
