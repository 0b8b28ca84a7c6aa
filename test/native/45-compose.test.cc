// Sums, multiples, shifts, restrictions and projections of operators.
#include <doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "spectra.h"

using namespace eigenscope;
using namespace eigenscope::spectra;

namespace {

// The matrix of an operator, from products with blocks of unit vectors.
std::vector<double> matrixOf(LinearOperator& op) {
  const int64_t dim = op.dim();
  const bool single = op.precision() == Precision::F32;
  std::vector<double> matrix(dim * dim), x(dim * dim, 0.0);
  for (int64_t i = 0; i < dim; ++i) x[i * dim + i] = 1;
  Task task;
  if (single) {
    std::vector<float> in(x.begin(), x.end()), out(dim * dim);
    op.apply(in.data(), out.data(), dim, task);
    std::copy(out.begin(), out.end(), matrix.begin());
  } else {
    op.apply(x.data(), matrix.data(), dim, task);
  }
  return matrix;
}

void checkMatrix(LinearOperator& op, const std::vector<double>& expected) {
  const std::vector<double> matrix = matrixOf(op);
  REQUIRE(matrix.size() == expected.size());
  const double rounding = op.precision() == Precision::F32 ? 1e-6 : 1e-14;
  for (std::size_t i = 0; i < expected.size(); ++i)
    CHECK(std::abs(matrix[i] - expected[i]) <= rounding * (1 + std::abs(expected[i])));
}

bool refuses(const std::function<void()>& make, const std::string& part) {
  try {
    make();
  } catch (const Error& error) {
    return error.kind == ErrorKind::Option &&
           std::string(error.what()).find(part) != std::string::npos;
  }
  return false;
}

}  // namespace

TEST_CASE("composed operators have the composed matrices") {
  const int64_t dim = 9;
  const std::vector<double> a = randomSymmetric(dim, 1), b = randomSymmetric(dim, 2);
  for (Precision precision : {Precision::F32, Precision::F64}) {
    const auto opA = denseOperator(a, dim, precision), opB = denseOperator(b, dim, precision);
    std::vector<double> expected(dim * dim);
    for (int64_t i = 0; i < dim * dim; ++i) expected[i] = a[i] + 2.5 * b[i] + a[i];
    for (int64_t i = 0; i < dim; ++i) expected[i * dim + i] -= 0.75;
    checkMatrix(*shiftOperator(addOperators({opA, scaleOperator(opB, 2.5), opA}), -0.75), expected);

    const std::vector<int64_t> picked = {1, 4, 5, 8};
    std::vector<double> minor(16);
    for (int64_t i = 0; i < 4; ++i)
      for (int64_t j = 0; j < 4; ++j) minor[i * 4 + j] = a[picked[i] * dim + picked[j]];
    const auto restricted = restrictOperator(opA, picked);
    CHECK(restricted->dim() == 4);
    checkMatrix(*restricted, minor);

    const std::vector<uint8_t> mask = {0, 1, 0, 0, 1, 1, 0, 0, 1};
    CHECK(coordinatesOf(mask) == picked);
    std::vector<double> masked(dim * dim);
    for (int64_t i = 0; i < dim; ++i)
      for (int64_t j = 0; j < dim; ++j)
        masked[i * dim + j] = mask[i] && mask[j] ? a[i * dim + j] : 0.0;
    const auto projected = projectOperator(opA, mask);
    CHECK(projected->dim() == dim);
    CHECK(projected->precision() == precision);
    checkMatrix(*projected, masked);
  }
}

TEST_CASE("restrictions of restrictions name the parameters of the whole") {
  const auto op = diagonalOperator({0, 10, 20, 30, 40, 50, 60}, Precision::F64);
  CHECK(op->index().empty());
  const auto once = restrictOperator(op, {1, 3, 4, 6});
  const auto twice = restrictOperator(once, {3, 0, 2});
  const std::vector<int64_t> expected = {6, 1, 4};
  CHECK(std::vector<int64_t>(twice->index().begin(), twice->index().end()) == expected);
  const auto composed = shiftOperator(scaleOperator(twice, 2), 1);
  CHECK(std::vector<int64_t>(composed->index().begin(), composed->index().end()) == expected);
  checkMatrix(*composed, {121, 0, 0, 0, 21, 0, 0, 0, 81});
}

TEST_CASE("parts that do not fit are refused with what came and what was expected") {
  const auto a = diagonalOperator({1, 2, 3}, Precision::F64);
  const auto other = diagonalOperator({1, 2}, Precision::F64);
  const auto single = diagonalOperator({1, 2, 3}, Precision::F32);
  const auto wide = diagonalOperator({1, 2, 3, 4}, Precision::F64);
  CHECK(refuses([&] { addOperators({}); }, "at least one"));
  CHECK(refuses([&] { addOperators({a, other}); }, "dimension 2"));
  CHECK(refuses([&] { addOperators({a, single}); }, "float32"));
  CHECK(refuses(
      [&] {
        addOperators({restrictOperator(wide, {0, 1, 2}), restrictOperator(wide, {0, 1, 3})});
      },
      "other parameters"));
  CHECK(refuses([&] { addOperators({a, nullptr}); }, "got none"));
  CHECK(refuses([&] { scaleOperator(a, std::nan("")); }, "finite"));
  CHECK(refuses([&] { shiftOperator(a, INFINITY); }, "finite"));
  CHECK(refuses([&] { restrictOperator(a, {}); }, "at least one"));
  CHECK(refuses([&] { restrictOperator(a, {0, 3}); }, "from 0 to 2, got 3"));
  CHECK(refuses([&] { restrictOperator(a, {0, -1}); }, "got -1"));
  CHECK(refuses([&] { restrictOperator(a, {2, 2}); }, "got 2 twice"));
  CHECK(refuses([&] { projectOperator(a, {1, 0}); }, "3 entries"));
  CHECK(refuses([&] { denseOperator({1, 2}, 2, Precision::F64); }, "4 entries"));
}

TEST_CASE("spectra of composed operators") {
  const std::vector<double> values = {9, 7, 5, -4, 2, 1, 0.5, 0.25};
  const auto op = operatorWithSpectrum(values, Precision::F64);
  EigshOptions options;
  options.k = 2;
  options.which = Which::SA;
  CHECK(solve(*shiftOperator(op, 4), options).values[0] == doctest::Approx(0).scale(10));
  options.which = Which::LA;
  CHECK(solve(*scaleOperator(op, -0.5), options).values[0] == doctest::Approx(2));
  // Cauchy interlacing of a principal minor.
  const EigshResult minor = solve(*restrictOperator(op, {0, 1, 2, 4, 5, 6, 7}), options);
  CHECK(minor.values[0] <= 9 + 1e-12);
  CHECK(minor.values[0] >= 7 - 1e-12);
  CHECK(minor.values[1] >= 5 - 1e-12);
}
