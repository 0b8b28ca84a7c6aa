// Sums, maxima, softmax and pooling windows.
#include <doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "base/error.h"
#include "run/kernels/reduce.h"
#include "run/kernels/window.h"

namespace {

using namespace eigenscope;

constexpr double kInf = std::numeric_limits<double>::infinity();

template <class T>
std::vector<T> draw(int64_t n, uint32_t seed) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<double> uniform(-1, 1);
  std::vector<T> values(static_cast<size_t>(n));
  for (T& value : values) value = static_cast<T>(uniform(generator));
  return values;
}

int64_t kept(int64_t flat, const Shape& shape, const std::vector<bool>& gone) {
  int64_t to = 0, stride = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    const int64_t index = flat % shape[i];
    flat /= shape[i];
    if (gone[i]) continue;
    to += index * stride;
    stride *= shape[i];
  }
  return to;
}

template <class T>
void check(const Shape& shape, const std::vector<int64_t>& axes) {
  CAPTURE(show(shape));
  std::vector<bool> gone(shape.size());
  for (int64_t axis : axes) gone[axis] = true;
  const ReducePlan plan = planReduce(shape, axes);
  const auto x = draw<T>(count(shape), 1);
  const auto start = draw<T>(plan.outElements, 2);
  std::vector<long double> sum(start.size());
  std::vector<double> size(start.size());
  std::vector<T> most(start.size(), -std::numeric_limits<T>::infinity());
  for (size_t i = 0; i < x.size(); ++i) {
    const int64_t to = kept(static_cast<int64_t>(i), shape, gone);
    sum[to] += x[i];
    size[to] += 1;
    most[to] = std::max(most[to], x[i]);
  }
  std::vector<T> scratch(static_cast<size_t>(scratchBytes(plan, sizeof(T))) / sizeof(T) + 1);
  for (bool accumulate : {false, true}) {
    std::vector<T> out = start;
    runSum(plan, x.data(), out.data(), accumulate, scratch.data());
    double worst = 0;
    for (size_t i = 0; i < out.size(); ++i)
      worst = std::max(
          worst, static_cast<double>(std::abs(out[i] - sum[i] - (accumulate ? start[i] : 0))) /
                     (1 + std::sqrt(size[i])));
    CHECK(worst < 8 * std::numeric_limits<T>::epsilon());
  }
  std::vector<T> out(start.size(), T(NAN));
  runReduceMax(plan, x.data(), out.data(), scratch.data());
  CHECK(out == most);
}

TEST_CASE("sums and maxima over any axes") {
  std::mt19937 generator(3);
  for (int round = 0; round < 300; ++round) {
    Shape shape;
    std::vector<int64_t> axes;
    const int rank = static_cast<int>(generator() % 5);
    for (int i = 0; i < rank; ++i) {
      shape.push_back(std::vector<int64_t>{1, 2, 3, 6, 16, 37, 70}[generator() % 7]);
      if (generator() % 2) axes.push_back(i);
    }
    if (count(shape) > 300000) continue;
    check<float>(shape, axes);
    check<double>(shape, axes);
  }
  check<float>({70000, 6}, {0});
  check<float>({300, 600}, {0});
  check<float>({9, 100003}, {1});
  check<double>({4, 300, 5}, {0, 2});
}

TEST_CASE("a long f32 sum keeps its digits") {
  const int64_t n = 5'000'000;
  const std::vector<float> x(static_cast<size_t>(n), 0.1f);
  float out = 0;
  runSum<float>(planReduce({n}, {0}), x.data(), &out, false, nullptr);
  CHECK(std::abs(out / (0.1f * double(n)) - 1) < 1e-6);
  std::vector<float> columns(2);
  runSum<float>(planReduce({n / 2, 2}, {0}), x.data(), columns.data(), false, nullptr);
  CHECK(std::abs(columns[1] / (0.1f * double(n / 2)) - 1) < 1e-6);
}

TEST_CASE("sums and maxima of nothing, NaN and infinities") {
  std::vector<double> out(3, 7.0);
  runSum<double>(planReduce({3, 0}, {1}), nullptr, out.data(), false, nullptr);
  CHECK(out == std::vector<double>(3, 0.0));
  runReduceMax<double>(planReduce({3, 0}, {1}), nullptr, out.data(), nullptr);
  CHECK(out == std::vector<double>(3, -kInf));
  for (size_t n : {3, 40}) {
    for (size_t at = 0; at < n; ++at) {
      std::vector<float> x(n, -std::numeric_limits<float>::infinity());
      float most = 0;
      runReduceMax<float>(planReduce({static_cast<int64_t>(n)}, {0}), x.data(), &most, nullptr);
      CHECK(most == -std::numeric_limits<float>::infinity());
      x[at] = NAN;
      runReduceMax<float>(planReduce({static_cast<int64_t>(n)}, {0}), x.data(), &most, nullptr);
      CHECK(std::isnan(most));
      runReduceMax<float>(planReduce({static_cast<int64_t>(n), 1}, {0}), x.data(), &most, nullptr);
      CHECK(std::isnan(most));
    }
  }
}

template <class T>
void checkSoftmax(int64_t rows, int64_t n, double scale, double shift) {
  auto x = draw<T>(rows * n, 4);
  for (T& value : x) value = static_cast<T>(value * scale + shift);
  std::vector<T> p(x.size()), l(static_cast<size_t>(rows)), inPlace = x;
  softmax(x.data(), rows, n, p.data());
  softmax(inPlace.data(), rows, n, inPlace.data());
  logSumExp(x.data(), rows, n, l.data());
  CHECK(p == inPlace);
  const double eps = std::numeric_limits<T>::epsilon();
  for (int64_t r = 0; r < rows; ++r) {
    double most = -kInf, sum = 0;
    for (int64_t j = 0; j < n; ++j) most = std::max<double>(most, x[r * n + j]);
    for (int64_t j = 0; j < n; ++j) sum += std::exp(x[r * n + j] - most);
    CHECK(std::abs(l[r] - (most + std::log(sum))) <= 4 * eps * (4 + std::abs(most)));
    for (int64_t j = 0; j < n; ++j) {
      const double expected = std::exp(x[r * n + j] - most) / sum;
      if (expected > std::numeric_limits<T>::min() * 4)
        CHECK(std::abs(p[r * n + j] / expected - 1) < eps * (12 + most - x[r * n + j]));
      else
        CHECK(p[r * n + j] <= std::numeric_limits<T>::min() * 4);
    }
  }
}

TEST_CASE("softmax and logSumExp, far from zero too") {
  for (double scale : {1.0, 30.0, 200.0, 2000.0})
    for (double shift : {0.0, 1000.0})
      for (int64_t n : {1, 3, 10, 16, 64, 100, 513}) {
        checkSoftmax<double>(7, n, scale, shift);
        checkSoftmax<float>(7, n, scale, shift);
      }
}

TEST_CASE("softmax and logSumExp of infinite entries") {
  const double x[] = {-kInf, 0, -kInf, -kInf, -kInf, -kInf};
  double p[6], l[2];
  softmax(x, 2, 3, p);
  logSumExp(x, 2, 3, l);
  CHECK(p[0] == 0);
  CHECK(p[1] == 1);
  CHECK(std::isnan(p[3]));
  CHECK(l[0] == 0);
  CHECK(l[1] == -kInf);
}

// ---- windows ----

WindowShape sized(int64_t outer, int64_t H, int64_t W, int64_t C, Window w, int64_t after) {
  const auto out = [&](int64_t size, int axis) {
    return (size + w.pad[axis] + after - (w.kernel[axis] - 1) * w.dilation[axis] - 1) /
               w.stride[axis] +
           1;
  };
  return {outer, H, W, C, out(H, 0), out(W, 1), w};
}

template <class Tap>
void forEachTap(const WindowShape& s, Tap tap) {
  const Window& w = s.window;
  for (int64_t n = 0; n < s.outer; ++n)
    for (int64_t oh = 0; oh < s.OH; ++oh)
      for (int64_t ow = 0; ow < s.OW; ++ow)
        for (int64_t i = 0; i < w.kernel[0]; ++i)
          for (int64_t j = 0; j < w.kernel[1]; ++j)
            for (int64_t c = 0; c < s.C; ++c) {
              const int64_t h = oh * w.stride[0] - w.pad[0] + i * w.dilation[0];
              const int64_t v = ow * w.stride[1] - w.pad[1] + j * w.dilation[1];
              if (h < 0 || h >= s.H || v < 0 || v >= s.W) continue;
              tap(((n * s.H + h) * s.W + v) * s.C + c, ((n * s.OH + oh) * s.OW + ow) * s.C + c);
            }
}

template <class T>
void checkWindow(const WindowShape& s) {
  const int64_t nx = s.outer * s.H * s.W * s.C, ny = s.outer * s.OH * s.OW * s.C;
  // Few distinct values, so that ties are common.
  auto x = draw<T>(nx, 5);
  for (T& value : x) value = std::round(value * 3);
  const auto y = draw<T>(ny, 6);
  std::vector<double> sum(static_cast<size_t>(ny)), spread(static_cast<size_t>(nx));
  std::vector<int32_t> first(static_cast<size_t>(ny), -1), index(static_cast<size_t>(ny), -5);
  forEachTap(s, [&](int64_t xi, int64_t yi) {
    sum[yi] += x[xi];
    spread[xi] += y[yi];
    if (first[yi] < 0 || x[xi] > x[first[yi]]) first[yi] = static_cast<int32_t>(xi);
  });
  for (bool accumulate : {false, true}) {
    std::vector<T> a(static_cast<size_t>(ny), T(2)), b(static_cast<size_t>(nx), T(2));
    windowSum(s, x.data(), a.data(), accumulate);
    windowSpread(s, y.data(), b.data(), accumulate);
    double worst = 0;
    for (int64_t i = 0; i < ny; ++i)
      worst = std::max(worst, std::abs(a[i] - sum[i] - (accumulate ? 2 : 0)));
    for (int64_t i = 0; i < nx; ++i)
      worst = std::max(worst, std::abs(b[i] - spread[i] - (accumulate ? 2 : 0)));
    CHECK(worst < 100 * std::numeric_limits<T>::epsilon());
  }
  windowArgmax(s, x.data(), index.data());
  CHECK(index == first);
}

TEST_CASE("pooling windows of any kind") {
  std::mt19937 generator(8);
  const auto among = [&](int64_t low, int64_t high) {
    return low + static_cast<int64_t>(generator() % static_cast<uint64_t>(high - low + 1));
  };
  for (int done = 0; done < 150;) {
    Window w;
    for (int axis = 0; axis < 2; ++axis) {
      w.kernel[axis] = among(1, 4);
      w.stride[axis] = among(1, 3);
      w.dilation[axis] = among(1, 2);
      w.pad[axis] = w.dilation[axis] == 1 ? among(0, w.kernel[axis] - 1) : 0;
    }
    const int64_t channels[] = {1, 3, 6, 16, 17, 70, 130};
    const WindowShape s =
        sized(among(1, 3), among(1, 11), among(1, 11), channels[generator() % 7], w, 0);
    // A window wider than what is there may lie in padding alone.
    if (s.OH < 1 || s.OW < 1 || s.H < w.kernel[0] || s.W < w.kernel[1]) continue;
    checkWindow<float>(s);
    checkWindow<double>(s);
    ++done;
  }
}

TEST_CASE("windows side by side on few channels, as pooling layers have them") {
  for (int64_t channels : {1, 6, 15, 16})
    for (int64_t size : {8, 9, 28})
      for (int64_t kernel : {1, 2, 3})
        for (int64_t stride : {2, 3}) {
          checkWindow<float>(sized(2, size, size + 1, channels,
                                   {{kernel, kernel}, {stride, stride}, {1, 1}, {0, 0}, 1}, 0));
          checkWindow<double>(
              sized(2, size + 1, size, channels, {{kernel, 2}, {stride, 2}, {1, 1}, {0, 0}, 1}, 0));
        }
}

TEST_CASE("argmax of infinities and NaN stays inside the window") {
  const WindowShape s = sized(1, 3, 3, 2, {{3, 3}, {1, 1}, {1, 1}, {1, 1}, 1}, 1);
  std::vector<float> x(18, -std::numeric_limits<float>::infinity());
  std::vector<int32_t> index(18, -1);
  windowArgmax(s, x.data(), index.data());
  CHECK(index[0] == 0);
  CHECK(index[1] == 1);
  CHECK(index[16] == 8);  // window of the last position begins at (1, 1)
  x[4 * 2] = NAN;
  x[5 * 2] = NAN;
  windowArgmax(s, x.data(), index.data());
  for (int i = 0; i < 9; ++i) CHECK(index[2 * i] == 8);
  for (int i = 0; i < 9; ++i) CHECK(index[2 * i + 1] % 2 == 1);
}

TEST_CASE("a window in padding alone is refused by argmax") {
  const WindowShape s{1, 1, 1, 1, 1, 3, {{1, 1}, {1, 1}, {1, 1}, {0, 1}, 1}};
  const double x = 4;
  int32_t index[3];
  CHECK_THROWS_AS(windowArgmax(s, &x, index), Error);
  double y[3];
  windowSum(s, &x, y, false);
  CHECK(y[0] == 0);
  CHECK(y[1] == 4);
}

}  // namespace
