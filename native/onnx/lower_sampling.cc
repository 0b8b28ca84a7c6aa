#include <algorithm>

#include "onnx/lower_index.h"
#include "onnx/table.h"

// GridSample reads images between their pixels, at places that may be computed; Col2Im adds up
// patches.
namespace eigenscope::onnx {

namespace {

Value real(double value) { return Builder::number(value); }

Value between(Call& c, const Value& x, double low, double high) {
  return c.b.min(c.b.max(x, real(low)), real(high));
}

// Places beyond [low, high] fold back like a mirrored image.
Value reflected(Call& c, const Value& x, double low, double high) {
  if (high <= low) return c.b.scale(x, 0);
  const double span = high - low;
  const Value away = c.b.abs(c.b.shift(x, -low));
  const Value turns = c.b.unary(Op::Floor, c.b.scale(away, 1 / span));
  const Value rest = c.b.sub(away, c.b.scale(turns, span));
  const Value pairs = c.b.scale(c.b.unary(Op::Floor, c.b.scale(turns, 0.5)), 2);
  const Value even = c.b.binary(Op::Equal, turns, pairs);
  const Value back = c.b.select(even, rest, c.b.sub(real(span), rest));
  return c.b.shift(back, low);
}

// One axis of the places, from [-1, 1] to pixels: -1 and 1 are the centres of the outermost pixels
// or their outer borders.
Value pixels(Call& c, const Value& place, int64_t length) {
  const bool corners = c.integer("align_corners", 0) != 0;
  const auto n = static_cast<double>(length);
  Value x = corners ? c.b.scale(c.b.shift(place, 1), (n - 1) / 2)
                    : c.b.shift(c.b.scale(c.b.shift(place, 1), n / 2), -0.5);
  const std::string padding = c.text("padding_mode", "zeros");
  if (padding == "reflection")
    x = corners ? reflected(c, x, 0, n - 1) : reflected(c, x, -0.5, n - 0.5);
  return padding == "zeros" ? x : between(c, x, 0, n - 1);
}

// To the nearest whole number, and to the even one of two.
Value nearest(Call& c, const Value& x) {
  const Value up = c.b.unary(Op::Floor, c.b.shift(x, 0.5));
  const Value tie = c.b.binary(Op::Equal, c.b.shift(x, 0.5), up);
  const Value pairs = c.b.scale(c.b.unary(Op::Floor, c.b.scale(up, 0.5)), 2);
  const Value odd = c.b.unary(Op::Not, c.b.binary(Op::Equal, up, pairs));
  return c.b.select(c.b.binary(Op::And, tie, odd), c.b.shift(up, -1), up);
}

// A pixel that takes part along one axis: its number, its share, and whether it is in the image.
struct Neighbour {
  Value at, weight, inside;
};

std::vector<Neighbour> neighbours(Call& c, const Value& x, int64_t length) {
  const auto last = static_cast<double>(length - 1);
  auto one = [&](const Value& at, const Value& weight) {
    const Value inside = c.b.binary(Op::And, c.b.binary(Op::LessEqual, real(0), at),
                                    c.b.binary(Op::LessEqual, at, real(last)));
    return Neighbour{c.b.cast(between(c, at, 0, last), Type::Int), weight, inside};
  };
  if (c.text("mode", "linear") == "nearest") return {one(nearest(c, x), real(1))};
  const Value low = c.b.unary(Op::Floor, x), part = c.b.sub(x, low);
  return {one(low, c.b.sub(real(1), part)), one(c.b.shift(low, 1), part)};
}

Results gridSample(Call& c) {
  const Shape image = c.shape(0), grid = c.shape(1);
  if (image.size() != 4) c.unsupported("volumes; only images [batch, channels, H, W] are taken");
  if (grid.size() != 4 || grid[0] != image[0] || grid[3] != 2)
    c.mismatch("the grid " + show(grid) + " does not fit the image " + show(image));
  const int64_t channels = image[1], h = image[2], w = image[3];
  const Value rows =
      c.b.reshape(c.b.transpose(c.in(0), {0, 2, 3, 1}), {image[0] * h * w, channels});
  auto axis = [&](int64_t which, int64_t length) {
    const Value place = c.b.squeeze(c.b.sliceAxis(c.in(1), 3, which, 1), {3});
    return neighbours(c, pixels(c, place, length), length);
  };
  const std::vector<Neighbour> across = axis(0, w), down = axis(1, h);
  const Value sample = countingAlong(0, {image[0], 1, 1});
  Value sum;
  for (const Neighbour& y : down)
    for (const Neighbour& x : across) {
      const Value row = c.b.add(c.b.scale(sample, static_cast<double>(h)), y.at);
      const Value flat = c.b.add(c.b.scale(row, static_cast<double>(w)), x.at);
      const Value inside = c.b.binary(Op::And, y.inside, x.inside);
      const Value weight = c.b.select(inside, c.b.mul(y.weight, x.weight), real(0));
      const Value term = c.b.mul(c.b.gather(rows, flat, 0), c.b.unsqueeze(weight, {3}));
      sum = sum.empty() ? term : c.b.add(sum, term);
    }
  return {c.b.transpose(sum, {0, 3, 1, 2})};
}

std::string refuseGrid(const NodeDef& node) {
  auto mode = node.attributes.find("mode");
  if (mode == node.attributes.end() || mode->second.strings.empty()) return "";
  const std::string& name = mode->second.strings[0];
  const bool taken = name == "linear" || name == "bilinear" || name == "nearest";
  return taken ? "" : "attribute mode = " + name + " is not supported";
}

// x [batch, channels * window, places]: each patch is added where it was cut out; what lay on the
// padding goes into one more element, which is dropped.
Results col2Im(Call& c) {
  const Shape x = c.shape(0), image = c.known(1), kernel = c.known(2);
  const auto axes = static_cast<int64_t>(image.size());
  const Axes dilations = c.ints("dilations", Axes(axes, 1)),
             strides = c.ints("strides", Axes(axes, 1));
  const Axes pads = c.ints("pads", Axes(2 * axes, 0));
  const int64_t window = count(kernel), pixelCount = count(image);
  constexpr int64_t kMost = int64_t{1} << 31;
  bool fits = x.size() == 3 && kernel.size() == image.size() && dilations.size() == image.size() &&
              strides.size() == image.size() && pads.size() == 2 * image.size() && window > 0 &&
              pixelCount > 0 && pixelCount < kMost && x[1] % window == 0;
  Shape places(axes);
  for (int64_t d = 0; fits && d < axes; ++d) {
    fits = strides[d] > 0 && dilations[d] > 0 && kernel[d] > 0 && image[d] > 0;
    const int64_t room = image[d] + pads[d] + pads[axes + d] - dilations[d] * (kernel[d] - 1) - 1;
    fits = fits && room >= 0;
    if (fits) places[d] = room / strides[d] + 1;
  }
  if (!fits || count(places) != x[2])
    c.mismatch("columns " + show(x) + " do not fit images " + show(image) + " of patches " +
               show(kernel));
  std::vector<double> target;
  for (int64_t k = 0; k < window; ++k)
    for (int64_t p = 0; p < x[2]; ++p) {
      int64_t flat = 0, stride = 1, kRest = k, pRest = p;
      for (int64_t d = axes; d-- > 0;) {
        const int64_t at =
            pRest % places[d] * strides[d] - pads[d] + kRest % kernel[d] * dilations[d];
        if (at < 0 || at >= image[d]) flat = pixelCount;
        if (flat != pixelCount) flat += at * stride;
        stride *= image[d];
        pRest /= places[d];
        kRest /= kernel[d];
      }
      target.push_back(static_cast<double>(flat));
    }
  const int64_t channels = x[1] / window, n = static_cast<int64_t>(target.size());
  const Id columns = c.b.plain(c.b.reshape(c.in(0), {x[0], channels, n}));
  const Id index = c.b.plain(Builder::known(tensorOf(target, {n}, Type::Int)));
  const Value sums = c.b.wrap(c.b.graph.scatterAdd(columns, index, 2, pixelCount + 1));
  Shape shape = {x[0], channels};
  shape.insert(shape.end(), image.begin(), image.end());
  return {c.b.reshape(c.b.sliceAxis(sums, 2, 0, pixelCount), shape)};
}

const Operator kTable[] = {
    {.name = "Col2Im", .lower = col2Im, .since = 18, .limits = "constant shapes"},
    {.name = "GridSample",
     .grade = Grade::Piecewise,
     .lower = gridSample,
     .since = 16,
     .limits = "images (rank 4), linear and nearest",
     .refuse = refuseGrid},
};

}  // namespace

std::span<const Operator> samplingOperators() { return kTable; }

}  // namespace eigenscope::onnx
