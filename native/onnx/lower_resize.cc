#include <algorithm>
#include <cmath>

#include "onnx/table.h"

// Resize and Upsample: along each axis a constant linear map, as a few gathers with weights.
namespace eigenscope::onnx {

namespace {

// One axis: sizes, the scale, and the part of the input that tf_crop_and_resize takes.
struct Axis {
  int64_t from, to;
  double scale, start = 0, end = 1;
};

struct Options {
  std::string mode, coordinates, nearest;
  double cubic = -0.75, extrapolation = 0;
  bool excludeOutside = false, antialias = false;
};

// Where output i lies in the input.
double sourceOf(const Options& options, const Axis& axis, int64_t i) {
  const double length = axis.scale * static_cast<double>(axis.from);
  const double last = static_cast<double>(axis.from - 1), y = static_cast<double>(i);
  const std::string& how = options.coordinates;
  if (how == "align_corners") return axis.to == 1 ? 0 : y * last / (length - 1);
  if (how == "asymmetric") return y / axis.scale;
  if (how == "tf_half_pixel_for_nn") return (y + 0.5) / axis.scale;
  if (how == "pytorch_half_pixel" && axis.to == 1) return options.mode == "nearest" ? 0 : -0.5;
  if (how == "half_pixel_symmetric") {
    const double adjustment = static_cast<double>(axis.to) / length;
    const double offset = static_cast<double>(axis.from) / 2 * (1 - adjustment);
    return offset + (y + 0.5) / axis.scale - 0.5;
  }
  if (how == "tf_crop_and_resize") {
    const double span = axis.end - axis.start;
    const double inside = axis.to == 1 ? span * last / 2 : y * span * last / (length - 1);
    return inside + axis.start * last;
  }
  return (y + 0.5) / axis.scale - 0.5;
}

double nearestTo(const Options& options, const Axis& axis, double x) {
  if (options.nearest == "floor") return std::floor(x);
  if (options.nearest == "ceil") return std::ceil(x);
  if (options.nearest == "simple") return axis.scale < 1 ? std::ceil(x) : std::floor(x);
  if (options.nearest == "round_prefer_ceil") return std::floor(x + 0.5);
  return std::ceil(x - 0.5);
}

// The weight of input k for the output at x. Keys' kernel for cubic.
double weightOf(const Options& options, double distance) {
  const double d = std::fabs(distance), a = options.cubic;
  if (options.mode == "linear") return std::fmax(0, 1 - d);
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  if (d < 2) return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
  return 0;
}

// y[i] = sum over taps t of weights[t][i] x[index[t][i]].
struct Taps {
  std::vector<Axes> index;
  std::vector<std::vector<double>> weights;
  std::vector<bool> outside;  // outputs that the extrapolation value takes
};

// With antialias the kernel is as wide as what an output covers.
Taps tapsOf(const Options& options, const Axis& axis) {
  const double shrink = options.antialias ? std::fmin(axis.scale, 1) : 1;
  const double reach = (options.mode == "linear" ? 1 : 2) / shrink;
  const size_t taps = options.mode == "nearest" ? 1 : 2 * static_cast<size_t>(std::ceil(reach));
  Taps result{std::vector<Axes>(taps, Axes(axis.to)),
              std::vector<std::vector<double>>(taps, std::vector<double>(axis.to)),
              std::vector<bool>(axis.to, false)};
  const auto last = axis.from - 1;
  for (int64_t i = 0; i < axis.to; ++i) {
    const double x = sourceOf(options, axis, i);
    if (options.coordinates == "tf_crop_and_resize")
      result.outside[i] = x < 0 || x > static_cast<double>(last);
    const auto first = options.mode == "nearest" ? static_cast<int64_t>(nearestTo(options, axis, x))
                                                 : static_cast<int64_t>(std::floor(x)) -
                                                       static_cast<int64_t>(taps) / 2 + 1;
    double total = 0;
    for (size_t t = 0; t < taps; ++t) {
      const int64_t at = first + static_cast<int64_t>(t);
      const bool counts = !options.excludeOutside || (at >= 0 && at <= last);
      const double weight = taps == 1 ? 1
                            : counts  ? weightOf(options, shrink * (x - static_cast<double>(at)))
                                      : 0;
      result.index[t][i] = std::clamp<int64_t>(at, 0, last);
      result.weights[t][i] = weight;
      total += weight;
    }
    if ((options.excludeOutside || options.antialias) && total != 0)
      for (size_t t = 0; t < taps; ++t) result.weights[t][i] /= total;
  }
  return result;
}

// x repeated along an axis, element by element: moves without a gather.
Value repeated(Call& c, const Value& x, int64_t axis, int64_t times) {
  Shape split = c.b.shape(x), whole = split;
  split.insert(split.begin() + axis + 1, times);
  whole[axis] *= times;
  return c.b.reshape(c.b.broadcast(c.b.unsqueeze(x, {axis + 1}), split), whole);
}

// [to, from]
Value matrixOf(const Taps& taps, const Axis& axis) {
  std::vector<double> matrix(axis.to * axis.from);
  for (size_t t = 0; t < taps.index.size(); ++t)
    for (int64_t i = 0; i < axis.to; ++i)
      matrix[i * axis.from + taps.index[t][i]] += taps.weights[t][i];
  return Builder::known(tensorOf(matrix, {axis.to, axis.from}, Type::Real));
}

Value resized(Call& c, const Value& x, int64_t along, const Axis& axis, const Options& options) {
  const Taps taps = tapsOf(options, axis);
  const int64_t times = axis.to / axis.from;
  bool repeats = taps.index.size() == 1 && axis.to == times * axis.from;
  for (int64_t i = 0; repeats && i < axis.to; ++i) repeats = taps.index[0][i] == i / times;
  Shape column(c.b.rank(x), 1);
  column[along] = axis.to;
  Value y;
  if (repeats) {
    y = repeated(c, x, along, times);
  } else if (taps.index.size() > 4) {  // a product with the whole map costs less than many gathers
    std::string labels, out;
    for (int64_t i = 0; i < c.b.rank(x); ++i) {
      labels += static_cast<char>('a' + i);
      out += i == along ? 'z' : labels.back();
    }
    y = c.b.dot(x, labels, matrixOf(taps, axis), std::string("z") + labels[along], out);
  } else {
    for (size_t t = 0; t < taps.index.size(); ++t) {
      Value term = c.b.gather(x, Builder::known(intsOf(taps.index[t])), along);
      if (taps.index.size() > 1)
        term = c.b.mul(term, Builder::known(tensorOf(taps.weights[t], column, Type::Real)));
      y = t == 0 ? term : c.b.add(y, term);
    }
  }
  if (std::find(taps.outside.begin(), taps.outside.end(), true) != taps.outside.end()) {
    const std::vector<double> mask(taps.outside.begin(), taps.outside.end());
    y = c.b.select(Builder::known(tensorOf(mask, column, Type::Bool)),
                   Builder::number(options.extrapolation, c.b.type(y)), y);
  }
  return y;
}

// A known input that may also be there without elements.
std::vector<double> numbers(Call& c, size_t input) {
  if (!c.has(input)) return {};
  const Value& value = c.in(input);
  if (!value.known())
    c.unsupported("its input " + std::to_string(input) + " (\"" + c.node.in[input] +
                  "\") depends on data or parameters, where a constant is needed");
  std::vector<double> out;
  for (int64_t i = 0; i < value.host->size(); ++i) out.push_back(value.host->at(i));
  return out;
}

// The result's length for each resized axis, where only scales are given. In float32, as the
// scales are.
int64_t scaledLength(int64_t from, double scale) {
  return static_cast<int64_t>(std::floor(static_cast<float>(from) * static_cast<float>(scale)));
}

std::vector<Axis> axesOf(Call& c, const Shape& from, const Axes& axes, std::vector<double> scales,
                         std::vector<double> sizes) {
  const size_t n = axes.size();
  const std::vector<double>& given = sizes.empty() ? scales : sizes;
  if (given.size() != n)
    c.mismatch("expected scales or sizes for " + std::to_string(n) + " axes of " + show(from) +
               ", got " + std::to_string(given.size()));
  std::vector<Axis> out;
  for (size_t i = 0; i < n; ++i) {
    const int64_t length = from[axes[i]];
    double scale =
        sizes.empty() ? scales[i] : sizes[i] / static_cast<double>(std::max<int64_t>(length, 1));
    constexpr double kLongest = 1 << 24;
    if (!(scale > 0) || length <= 0 || scale * static_cast<double>(length) > kLongest)
      c.mismatch("axis " + std::to_string(axes[i]) + " of " + show(from) +
                 " cannot be resized by " + std::to_string(scale));
    int64_t to = sizes.empty() ? scaledLength(length, scale) : static_cast<int64_t>(sizes[i]);
    // A length of the batch that the file was exported for.
    if (!sizes.empty() && axes[i] == 0 && c.batch.active() && length == c.batch.bound &&
        to == c.batch.declared) {
      to = length;
      scale = 1;
    }
    out.push_back({.from = length, .to = to, .scale = scale});
  }
  const std::string policy = c.text("keep_aspect_ratio_policy", "stretch");
  if (sizes.empty() || policy == "stretch") return out;
  double shared = out[0].scale;
  for (const Axis& axis : out)
    shared = policy == "not_larger" ? std::min(shared, axis.scale) : std::max(shared, axis.scale);
  for (Axis& axis : out) {
    axis.scale = shared;
    axis.to = static_cast<int64_t>(shared * static_cast<double>(axis.from) + 0.5);
  }
  return out;
}

Results resizeBy(Call& c, const Options& options, const std::vector<Axis>& axes,
                 const Axes& places) {
  Value x = c.in(0);
  if (c.b.type(x) != Type::Real && options.mode != "nearest")
    c.unsupported("mode " + options.mode + " on integers");
  for (size_t i = 0; i < places.size(); ++i) {
    const Axis& axis = axes[i];
    if (axis.to == axis.from && std::fabs(axis.scale - 1) < 1e-9 && axis.start == 0 &&
        axis.end == 1)
      continue;
    if (axis.to == 0) c.mismatch("axis " + std::to_string(places[i]) + " would be empty");
    x = resized(c, x, places[i], axis, options);
  }
  return {x};
}

Results resize(Call& c) {
  const int64_t rank = c.rank(0);
  const bool old = c.opset < 11;
  Options options;
  options.mode = c.text("mode", "nearest");
  options.coordinates = old ? "asymmetric" : c.text("coordinate_transformation_mode", "half_pixel");
  options.nearest = old ? "simple" : c.text("nearest_mode", "round_prefer_floor");
  options.cubic = c.number("cubic_coeff_a", -0.75);
  options.extrapolation = c.number("extrapolation_value", 0);
  options.antialias = c.integer("antialias", 0) != 0 && options.mode != "nearest";
  options.excludeOutside = c.integer("exclude_outside", 0) != 0;
  Axes places = c.hasAttribute("axes") ? c.ints("axes") : identity(rank);
  for (int64_t& place : places) place = normalAxis(place, rank);
  std::vector<Axis> axes = axesOf(c, c.shape(0), places, numbers(c, old ? 1 : 2),
                                  old ? std::vector<double>{} : numbers(c, 3));
  if (options.coordinates == "tf_crop_and_resize") {
    const std::vector<double> roi = numbers(c, 1);
    if (roi.size() != 2 * axes.size())
      c.mismatch("tf_crop_and_resize needs two numbers of roi an axis, got " +
                 std::to_string(roi.size()) + " for " + std::to_string(axes.size()) + " axes");
    for (size_t i = 0; i < axes.size(); ++i) {
      axes[i].start = roi[i];
      axes[i].end = roi[axes.size() + i];
    }
  }
  return resizeBy(c, options, axes, places);
}

Results upsample(Call& c) {
  Options options;
  options.mode = c.text("mode", "nearest");
  options.coordinates = "asymmetric";
  options.nearest = "simple";
  const Axes places = identity(c.rank(0));
  auto stored = c.node.attributes.find("scales");  // before opset 9
  const bool old = stored != c.node.attributes.end();
  const std::vector<double> scales = old ? stored->second.floats : numbers(c, 1);
  return resizeBy(c, options, axesOf(c, c.shape(0), places, scales, {}), places);
}

std::string oneOf(const NodeDef& node, const char* attribute,
                  std::initializer_list<std::string_view> taken) {
  auto at = node.attributes.find(attribute);
  if (at == node.attributes.end() || at->second.strings.empty()) return "";
  const std::string& value = at->second.strings[0];
  if (std::find(taken.begin(), taken.end(), value) != taken.end()) return "";
  return std::string("attribute ") + attribute + " = " + value + " is not supported";
}

std::string refuseResize(const NodeDef& node) {
  for (const std::string& reason :
       {oneOf(node, "mode", {"nearest", "linear", "cubic"}),
        oneOf(node, "coordinate_transformation_mode",
              {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners",
               "asymmetric", "tf_half_pixel_for_nn", "tf_crop_and_resize"}),
        oneOf(node, "nearest_mode", {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"}),
        oneOf(node, "keep_aspect_ratio_policy", {"stretch", "not_larger", "not_smaller"})})
    if (!reason.empty()) return reason;
  return "";
}

const Operator kTable[] = {
    {.name = "Resize",
     .lower = resize,
     .since = 10,
     .limits = "constant roi, scales and sizes",
     .refuse = refuseResize},
    {.name = "Upsample",
     .lower = upsample,
     .until = 9,
     .limits = "constant scales",
     .refuse = refuseResize},
};

}  // namespace

std::span<const Operator> resizeOperators() { return kTable; }

}  // namespace eigenscope::onnx
