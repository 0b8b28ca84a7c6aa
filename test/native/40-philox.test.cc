#include <doctest.h>

#include <cmath>
#include <vector>

#include "base/philox.h"

using namespace eigenscope;

TEST_CASE("Philox4x32-10 gives the published known-answer vectors") {
  struct Row {
    PhiloxWords counter;
    std::array<uint32_t, 2> key;
    PhiloxWords expected;
  };
  const Row rows[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (const Row& row : rows) CHECK(philox4x32(row.counter, row.key) == row.expected);
}

TEST_CASE_TEMPLATE("random blocks depend on seed, column and index alone", T, float, double) {
  const int64_t dim = 301, count = 4;
  std::vector<T> whole(dim * count), column(dim), again(dim * count);
  std::vector<int64_t> index;
  for (int64_t i = 7; i < dim; i += 3) index.push_back(i);
  index.push_back(2);  // not sorted on purpose
  std::vector<T> part(index.size());
  const auto check = [&](auto fill) {
    fill(whole.data(), dim, count, 5, 10, std::span<const int64_t>{});
    fill(again.data(), dim, count, 5, 10, std::span<const int64_t>{});
    CHECK(whole == again);
    for (int64_t j = 0; j < count; ++j) {
      fill(column.data(), dim, 1, 5, 10 + j, std::span<const int64_t>{});
      CHECK(std::equal(column.begin(), column.end(), whole.begin() + j * dim));
      fill(part.data(), int64_t(index.size()), 1, 5, 10 + j, std::span<const int64_t>(index));
      bool same = true;
      for (std::size_t i = 0; i < index.size(); ++i) same &= part[i] == whole[j * dim + index[i]];
      CHECK(same);
    }
    fill(again.data(), dim, count, 6, 10, std::span<const int64_t>{});
    CHECK(whole != again);
  };
  check([](auto... a) { fillGaussian(a...); });
  check([](auto... a) { fillRademacher(a...); });
}

TEST_CASE("Gaussian and Rademacher blocks have the moments of their laws") {
  const int64_t n = 400000;
  std::vector<double> x(n), y(n);
  fillGaussian(x.data(), n, 1, 3, 0);
  fillGaussian(y.data(), n, 1, 3, 1);
  double mean = 0, square = 0, fourth = 0, cross = 0, lag = 0;
  for (int64_t i = 0; i < n; ++i) {
    mean += x[i] / n;
    square += x[i] * x[i] / n;
    fourth += x[i] * x[i] * x[i] * x[i] / n;
    cross += x[i] * y[i] / n;
    lag += x[i] * x[(i + 1) % n] / n;
  }
  const double sigma = 1 / std::sqrt(double(n));  // five standard errors each
  CHECK(std::abs(mean) < 5 * sigma);
  CHECK(std::abs(square - 1) < 5 * std::sqrt(2.0) * sigma);
  CHECK(std::abs(fourth - 3) < 5 * std::sqrt(96.0) * sigma);
  CHECK(std::abs(cross) < 5 * sigma);
  CHECK(std::abs(lag) < 5 * sigma);

  fillRademacher(x.data(), n, 1, 3, 0);
  double sum = 0, neighbours = 0;
  bool signs = true;
  for (int64_t i = 0; i < n; ++i) {
    signs &= std::abs(x[i]) == 1;
    sum += x[i] / n;
    neighbours += x[i] * x[(i + 1) % n] / n;
  }
  CHECK(signs);
  CHECK(std::abs(sum) < 5 * sigma);
  CHECK(std::abs(neighbours) < 5 * sigma);
}
