#include <algorithm>

#include "onnx/lower_index.h"
#include "onnx/table.h"

// GridSample reads images and volumes between their pixels, at places that may be computed, such as
// those of AffineGrid; Col2Im adds up patches.
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

// A corner of the cell that a place lies in: where its pixel is stored, and its share.
struct Corner {
  Value flat, inside, weight;
};

// x [batch, channels, spatial axes], places [batch, as many axes, a coordinate for each of them,
// the last axis first].
Results gridSample(Call& c) {
  const Shape image = c.shape(0), grid = c.shape(1);
  const auto axes = static_cast<int64_t>(image.size()) - 2;
  if (axes < 1 || grid.size() != image.size() || grid[0] != image[0] || grid.back() != axes)
    c.mismatch("the grid " + show(grid) + " does not fit the image " + show(image));
  Axes channelsLast = {0}, back = {0, axes + 1};
  int64_t pixelCount = image[0];
  for (int64_t d = 0; d < axes; ++d) {
    channelsLast.push_back(d + 2);
    back.push_back(d + 1);
    pixelCount *= image[d + 2];
  }
  channelsLast.push_back(1);
  const Value rows = c.b.reshape(c.b.transpose(c.in(0), channelsLast), {pixelCount, image[1]});

  Shape counting(axes + 1, 1);
  counting[0] = image[0];
  std::vector<Corner> corners = {{countingAlong(0, counting), {}, {}}};
  for (int64_t d = 0; d < axes; ++d) {
    const int64_t length = image[d + 2];
    const Value place = c.b.squeeze(c.b.sliceAxis(c.in(1), axes + 1, axes - 1 - d, 1), {axes + 1});
    const std::vector<Neighbour> along = neighbours(c, pixels(c, place, length), length);
    std::vector<Corner> finer;
    for (const Corner& corner : corners)
      for (const Neighbour& next : along)
        finer.push_back({c.b.add(c.b.scale(corner.flat, static_cast<double>(length)), next.at),
                         d == 0 ? next.inside : c.b.binary(Op::And, corner.inside, next.inside),
                         d == 0 ? next.weight : c.b.mul(corner.weight, next.weight)});
    corners = std::move(finer);
  }
  Value sum;
  for (const Corner& corner : corners) {
    const Value weight = c.b.select(corner.inside, corner.weight, real(0));
    const Value term = c.b.mul(c.b.gather(rows, corner.flat, 0), c.b.unsqueeze(weight, {axes + 1}));
    sum = sum.empty() ? term : c.b.add(sum, term);
  }
  return {c.b.transpose(sum, back)};
}

// Where the centres of pixels lie in [-1, 1].
std::vector<double> centres(int64_t length, bool corners) {
  std::vector<double> at(length);
  const auto n = static_cast<double>(length);
  for (int64_t i = 0; i < length; ++i) {
    const auto k = static_cast<double>(i);
    at[i] = corners ? (length == 1 ? 0 : 2 * k / (n - 1) - 1) : (2 * k + 1) / n - 1;
  }
  return at;
}

// theta [batch, d, d + 1] of each place of an image [batch, channels, d axes]: its coordinates, the
// last axis first, and 1.
Results affineGrid(Call& c) {
  const Shape theta = c.shape(0), size = c.known(1);
  const auto axes = static_cast<int64_t>(size.size()) - 2;
  if (axes < 1 || theta.size() != 3 || theta[0] != size[0] || theta[1] != axes ||
      theta[2] != axes + 1)
    c.mismatch("matrices " + show(theta) + " do not fit a grid for images " + show(size));
  const Shape space(size.begin() + 2, size.end());
  constexpr int64_t kMost = int64_t{1} << 31;
  for (int64_t length : space)
    if (length < 0 || length > kMost) c.mismatch("sizes are out of range: " + show(size));
  const bool corners = c.integer("align_corners", 0) != 0;
  std::vector<Value> along;
  for (int64_t d = axes; d-- > 0;) {
    Shape alone(axes, 1);
    alone[d] = space[d];
    Shape full = space;
    full.push_back(1);
    alone.push_back(1);
    along.push_back(c.b.broadcast(
        Builder::known(tensorOf(centres(space[d], corners), alone, Type::Real)), full));
  }
  Shape ones = space;
  ones.push_back(1);
  along.push_back(c.b.broadcast(real(1), ones));
  const int64_t places = count(space);
  const Value points = c.b.reshape(c.b.concat(along, axes), {places, axes + 1});
  Shape shape = {theta[0]};
  shape.insert(shape.end(), space.begin(), space.end());
  shape.push_back(axes);
  return {c.b.reshape(c.b.dot(c.in(0), "nok", points, "pk", "npo"), shape)};
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
    {.name = "AffineGrid", .lower = affineGrid, .since = 20, .limits = "a constant size"},
    {.name = "Col2Im", .lower = col2Im, .since = 18, .limits = "constant shapes"},
    {.name = "GridSample",
     .grade = Grade::Piecewise,
     .lower = gridSample,
     .since = 16,
     .limits = "no cubic interpolation",
     .refuse = refuseGrid},
};

}  // namespace

std::span<const Operator> samplingOperators() { return kTable; }

}  // namespace eigenscope::onnx
