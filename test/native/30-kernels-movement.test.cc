// Permute, slice, unslice, broadcast, concat, gather and scatter against index arithmetic.
#include <doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "run/kernels/movement.h"

namespace {

using namespace eigenscope;

std::vector<int64_t> indexOf(int64_t flat, const Shape& shape) {
  std::vector<int64_t> index(shape.size());
  for (size_t i = shape.size(); i-- > 0;) {
    index[i] = flat % shape[i];
    flat /= shape[i];
  }
  return index;
}

int64_t flatten(const std::vector<int64_t>& index, const Shape& shape) {
  int64_t flat = 0;
  for (size_t i = 0; i < shape.size(); ++i) flat = flat * shape[i] + index[i];
  return flat;
}

template <class T>
std::vector<T> numbered(int64_t n) {
  std::vector<T> values(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) values[i] = static_cast<T>(i % 251 + 1);
  return values;
}

template <class T>
void checkPermute(const Shape& shape, const std::vector<int64_t>& perm) {
  const auto x = numbered<T>(count(shape));
  Shape result;
  for (int64_t axis : perm) result.push_back(shape[axis]);
  std::vector<T> out(x.size(), T(77)), expected(x.size());
  for (int64_t i = 0; i < count(result); ++i) {
    const auto index = indexOf(i, result);
    std::vector<int64_t> source(shape.size());
    for (size_t a = 0; a < perm.size(); ++a) source[perm[a]] = index[a];
    expected[i] = x[flatten(source, shape)];
  }
  const CopyPlan plan = planPermute(shape, perm);
  runCopy(plan, x.data(), out.data());
  CHECK(out == expected);
  if constexpr (std::is_floating_point_v<T>) {
    std::vector<T> sum(x.size(), T(5));
    runCopyAdd(plan, x.data(), sum.data());
    for (T& value : expected) value += 5;
    CHECK(sum == expected);
  }
}

TEST_CASE("permutations of random shapes in every type") {
  std::mt19937 generator(5);
  for (int round = 0; round < 200; ++round) {
    const int rank = static_cast<int>(generator() % 5);
    Shape shape;
    std::vector<int64_t> perm;
    for (int i = 0; i < rank; ++i) {
      shape.push_back(std::vector<int64_t>{1, 2, 3, 5, 8, 17, 33}[generator() % 7]);
      perm.push_back(i);
    }
    std::shuffle(perm.begin(), perm.end(), generator);
    checkPermute<float>(shape, perm);
    checkPermute<double>(shape, perm);
    checkPermute<int32_t>(shape, perm);
    checkPermute<uint8_t>(shape, perm);
  }
  checkPermute<float>({150, 70}, {1, 0});
  checkPermute<double>({3, 64, 48}, {2, 0, 1});
  checkPermute<float>({2, 0, 3}, {1, 2, 0});
}

TEST_CASE("slices with steps, backwards too, and their transposes") {
  std::mt19937 generator(6);
  for (int round = 0; round < 200; ++round) {
    const int rank = 1 + static_cast<int>(generator() % 4);
    Shape full, sizes;
    std::vector<int64_t> start, step;
    for (int i = 0; i < rank; ++i) {
      const int64_t n = 1 + static_cast<int64_t>(generator() % 9);
      int64_t by = 1 + static_cast<int64_t>(generator() % 3);
      const int64_t first = static_cast<int64_t>(generator() % static_cast<uint64_t>(n));
      const bool backwards = generator() % 3 == 0;
      const int64_t most = (backwards ? first : n - 1 - first) / by + 1;
      if (backwards) by = -by;
      full.push_back(n);
      start.push_back(first);
      step.push_back(by);
      sizes.push_back(1 + static_cast<int64_t>(generator() % static_cast<uint64_t>(most)));
    }
    const auto x = numbered<double>(count(full)), y = numbered<double>(count(sizes));
    std::vector<double> out(y.size()), expected(y.size());
    std::vector<double> back(x.size(), 9.0), expectedBack(x.size()), sum = x, expectedSum = x;
    for (int64_t i = 0; i < count(sizes); ++i) {
      auto index = indexOf(i, sizes);
      for (int a = 0; a < rank; ++a) index[a] = start[a] + index[a] * step[a];
      const int64_t at = flatten(index, full);
      expected[i] = x[at];
      expectedBack[at] = y[i];
      expectedSum[at] += y[i];
    }
    runCopy(planSlice(full, start, step, sizes), x.data(), out.data());
    CHECK(out == expected);
    const CopyPlan unslice = planUnslice(full, start, step, sizes);
    runCopy(unslice, y.data(), back.data());
    CHECK(back == expectedBack);
    runCopyAdd(unslice, y.data(), sum.data());
    CHECK(sum == expectedSum);
  }
}

TEST_CASE("broadcasts") {
  for (const auto& [from, to] : std::vector<std::pair<Shape, Shape>>{{{}, {3, 4}},
                                                                     {{4}, {3, 4}},
                                                                     {{3, 1}, {3, 4}},
                                                                     {{1, 5, 1}, {2, 3, 5, 7}},
                                                                     {{2, 1, 3, 1}, {2, 4, 3, 40}},
                                                                     {{3, 4}, {3, 4}},
                                                                     {{1}, {0}}}) {
    const auto x = numbered<float>(count(from));
    std::vector<float> out(static_cast<size_t>(count(to)), -1.0f), expected(out.size());
    for (int64_t i = 0; i < count(to); ++i) {
      auto index = indexOf(i, to);
      index.erase(index.begin(), index.begin() + static_cast<long>(to.size() - from.size()));
      for (size_t a = 0; a < from.size(); ++a)
        if (from[a] == 1) index[a] = 0;
      expected[i] = x[flatten(index, from)];
    }
    runCopy(planBroadcast(from, to), x.data(), out.data());
    CHECK(out == expected);
  }
}

TEST_CASE("concatenation") {
  const std::vector<int32_t> a{1, 2, 3, 4}, b{5, 6}, c{};
  const int32_t* parts[] = {a.data(), b.data(), c.data()};
  const int64_t inner[] = {2, 1, 0};
  std::vector<int32_t> out(6);
  concat<int32_t>(parts, inner, 2, out.data());
  CHECK(out == std::vector<int32_t>{1, 2, 5, 3, 4, 6});
}

TEST_CASE("gather and its transpose, with repeated indices") {
  for (int64_t post : {1, 3, 40}) {
    const int64_t pre = 2, n = 5, m = 7;
    const std::vector<int32_t> index{4, 0, 0, 3, 4, 1, 0};
    const auto x = numbered<double>(pre * n * post), y = numbered<double>(pre * m * post);
    std::vector<double> out(y.size()), back(x.size(), 3.0), sum(x.size(), 3.0), expected(x.size());
    gatherRows(x.data(), index.data(), pre, n, m, post, out.data());
    scatterAddRows(y.data(), index.data(), pre, n, m, post, back.data(), false);
    scatterAddRows(y.data(), index.data(), pre, n, m, post, sum.data(), true);
    for (int64_t p = 0; p < pre; ++p)
      for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < post; ++j) {
          CHECK(out[(p * m + i) * post + j] == x[(p * n + index[i]) * post + j]);
          expected[(p * n + index[i]) * post + j] += y[(p * m + i) * post + j];
        }
    CHECK(back == expected);
    for (double& value : expected) value += 3;
    CHECK(sum == expected);
  }
}

TEST_CASE("an index out of range is named and nothing is touched") {
  const std::vector<float> x(6);
  std::vector<float> out(6, 8.0f);
  for (int32_t wrong : {-1, 3, std::numeric_limits<int32_t>::min()}) {
    const std::vector<int32_t> index{0, 2, wrong};
    const std::string expected =
        "expected indices from 0 to 2, but index 2 is " + std::to_string(wrong);
    CHECK_THROWS_WITH_AS(gatherRows(x.data(), index.data(), 1, 3, 3, 2, out.data()),
                         expected.c_str(), Error);
    CHECK_THROWS_WITH_AS(scatterAddRows(x.data(), index.data(), 1, 3, 3, 2, out.data(), false),
                         expected.c_str(), Error);
    CHECK(out == std::vector<float>(6, 8.0f));
  }
}

}  // namespace
