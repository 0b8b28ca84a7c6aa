#include <algorithm>
#include <limits>
#include <numeric>

#include "onnx/lower_window.h"

// Pooling, channels last in memory.
namespace eigenscope::onnx {

namespace {

// Elements of the window at each output position along one axis that lie on the input, or on the
// padding too.
std::vector<double> taps(const Windows& w, int d, bool withPadding) {
  std::vector<double> counts;
  for (int64_t o = 0; o < w.out[d]; ++o) {
    double n = 0;
    for (int64_t k = 0; k < w.kernel[d]; ++k) {
      const int64_t at = o * w.stride[d] - w.padBefore[d] + k * w.dilation[d];
      n += withPadding ? at < w.in[d] + w.padAfter[d] : at >= 0 && at < w.in[d];
    }
    counts.push_back(n);
  }
  return counts;
}

Results maxPool(Call& c) {
  Windows w = windowsOf(c, c.shape(0), {});
  slide(c, w, c.integer("ceil_mode", 0) != 0);
  for (int d = 0; d < 3; ++d) {
    const std::vector<double> counts = taps(w, d, false);
    if (std::count(counts.begin(), counts.end(), 0.0)) c.mismatch("a window lies on padding alone");
  }
  // The place of the maximum is data; taking it from there is linear.
  Graph& graph = c.b.graph;
  const Id y = slideOverDepth(
      graph, channelsLast(c, c.in(0)), w,
      [&](Id x, int64_t) {
        const Id at = graph.windowArgmax(x, w.plane(), w.out[1], w.out[2]);
        return graph.gather(graph.reshape(x, {count(graph.shape(x))}), at, 0);
      },
      [&](Id a, Id b) { return graph.max(a, b); }, -std::numeric_limits<double>::infinity());
  return {fromChannelsLast(c, y, w.spatial)};
}

// The sums of x in the windows.
Id windowSums(Call& c, const Value& x, const Windows& w) {
  Graph& graph = c.b.graph;
  return slideOverDepth(
      graph, channelsLast(c, x), w,
      [&](Id planes, int64_t) { return graph.windowSum(planes, w.plane(), w.out[1], w.out[2]); },
      [&](Id a, Id b) { return graph.add(a, b); }, 0);
}

Results averagePool(Call& c) {
  Windows w = windowsOf(c, c.shape(0), {});
  slide(c, w, c.integer("ceil_mode", 0) != 0);
  const bool withPadding = c.integer("count_include_pad", 0) != 0;
  const std::vector<double> depths = taps(w, 0, withPadding), rows = taps(w, 1, withPadding),
                            columns = taps(w, 2, withPadding);
  std::vector<double> shares;
  for (double depth : depths)
    for (double row : rows)
      for (double column : columns) {
        if (depth * row * column == 0) c.mismatch("a window lies on padding alone");
        shares.push_back(1 / (depth * row * column));
      }
  if (std::adjacent_find(shares.begin(), shares.end(), std::not_equal_to<>()) == shares.end())
    shares.resize(1);
  Graph& graph = c.b.graph;
  const Id sums = windowSums(c, c.in(0), w);
  const Shape shape = shares.size() == 1 ? Shape{}
                      : w.spatial == 3   ? Shape{w.out[0], w.out[1], w.out[2], 1}
                                         : Shape{w.out[1], w.out[2], 1};
  const Id share = graph.constant(std::make_shared<const std::vector<double>>(shares), shape);
  return {fromChannelsLast(c, graph.mul(sums, share), w.spatial)};
}

// The root of the sum of powers in each window; padding adds nothing.
Results lpPool(Call& c) {
  Windows w = windowsOf(c, c.shape(0), {});
  slide(c, w, c.integer("ceil_mode", 0) != 0);
  const double p = static_cast<double>(c.integer("p", 2));
  const Value powers = p == 2 ? c.b.mul(c.in(0), c.in(0)) : c.b.pow(c.b.abs(c.in(0)), p);
  return {c.b.pow(fromChannelsLast(c, windowSums(c, powers, w), w.spatial), 1 / p)};
}

Axes spatialAxes(Call& c) {
  if (c.rank(0) < 3) c.mismatch("expected [batch, channels, ...], got " + show(c.shape(0)));
  Axes axes(c.rank(0) - 2);
  std::iota(axes.begin(), axes.end(), 2);
  return axes;
}

Results globalAveragePool(Call& c) { return {c.b.mean(c.in(0), spatialAxes(c))}; }

Results globalMaxPool(Call& c) { return {c.b.max(c.in(0), spatialAxes(c))}; }

Results globalLpPool(Call& c) {
  const double p = static_cast<double>(c.integer("p", 2));
  const Value powers = c.b.pow(c.b.abs(c.in(0)), p);
  return {c.b.pow(c.b.sum(powers, spatialAxes(c)), 1 / p)};
}

// The window of LRN slides over the channels: a band of ones contracts them.
Results lrn(Call& c) {
  const Shape shape = c.shape(0);
  if (shape.size() < 2) c.mismatch("expected [batch, channels, ...], got " + show(shape));
  const int64_t size = c.integer("size", 1), n = shape[1];
  const double alpha = c.number("alpha", 1e-4), beta = c.number("beta", 0.75);
  std::vector<double> band(n * n);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j)
      band[i * n + j] = j >= i - (size - 1) / 2 && j <= i + size / 2 ? 1 : 0;
  const Value& x = c.in(0);
  std::string labels, out;
  for (int64_t i = 0; i < c.rank(0); ++i) labels += static_cast<char>('a' + i);
  // Channels last, as the neighbouring convolutions have it.
  Axes back = identity(c.rank(0));
  back.erase(back.begin() + 1);
  back.push_back(1);
  for (int64_t axis : back) out += axis == 1 ? 'z' : labels[axis];
  const Value sums =
      c.b.dot(c.b.mul(x, x), labels, Builder::known(tensorOf(band, {n, n}, Type::Real)), "zb", out);
  Axes forth = identity(c.rank(0));
  for (int64_t i = 0; i < c.rank(0); ++i) forth[back[i]] = i;
  const Value base =
      c.b.shift(c.b.scale(c.b.transpose(sums, forth), alpha / static_cast<double>(size)),
                c.number("bias", 1));
  return {c.b.mul(x, c.b.pow(base, -beta))};
}

const Operator kTable[] = {
    {.name = "AveragePool",
     .lower = averagePool,
     .limits = "one to three spatial axes",
     .refuse = refuseHyperVolumes},
    {.name = "GlobalAveragePool", .lower = globalAveragePool, .since = kFirstOpset},
    {.name = "GlobalLpPool", .grade = Grade::Piecewise, .lower = globalLpPool},
    {.name = "GlobalMaxPool",
     .grade = Grade::Piecewise,
     .lower = globalMaxPool,
     .since = kFirstOpset},
    {.name = "LRN", .lower = lrn},
    {.name = "LpPool",
     .grade = Grade::Piecewise,
     .lower = lpPool,
     .limits = "one to three spatial axes",
     .refuse = refuseHyperVolumes},
    {.name = "MaxPool",
     .grade = Grade::Piecewise,
     .lower = maxPool,
     .limits = "one to three spatial axes, no indices as second output",
     .refuse = refuseHyperVolumes},
};

}  // namespace

std::span<const Operator> poolOperators() { return kTable; }

}  // namespace eigenscope::onnx
