#include "onnx/lower_window.h"

#include <algorithm>

// Windows that slide over one, two or three axes. The primitives slide over planes; a window with a
// depth is one of planes for each of its positions along the depth.
namespace eigenscope::onnx {

Window Windows::plane() const {
  Window window;
  for (int d = 0; d < 2; ++d) {
    window.kernel[d] = kernel[d + 1];
    window.stride[d] = stride[d + 1];
    window.dilation[d] = dilation[d + 1];
    window.pad[d] = padBefore[d + 1];
  }
  window.groups = groups;
  return window;
}

std::string refuseHyperVolumes(const NodeDef& node) {
  for (const char* name : {"kernel_shape", "strides", "dilations"}) {
    auto at = node.attributes.find(name);
    if (at != node.attributes.end() && at->second.ints.size() > 3)
      return "only one to three spatial axes are supported";
  }
  return "";
}

Windows windowsOf(Call& c, const Shape& x, const Axes& kernel) {
  Windows w;
  if (c.b.type(c.in(0)) != Type::Real) c.unsupported("windows over integers");
  w.spatial = static_cast<int64_t>(x.size()) - 2;
  if (w.spatial > 3) c.unsupported("only one to three spatial axes are supported");
  if (w.spatial < 1)
    c.mismatch("expected [batch, channels, width], [batch, channels, height, width] or [batch, " +
               std::string("channels, depth, height, width], got ") + show(x));
  const auto n = static_cast<size_t>(w.spatial);
  const Axes stride = c.ints("strides", Axes(n, 1)), dilation = c.ints("dilations", Axes(n, 1));
  const Axes pads = c.ints("pads", Axes(2 * n, 0));
  const Axes shape = c.ints("kernel_shape", kernel);
  if (shape.size() != n || stride.size() != n || dilation.size() != n || pads.size() != 2 * n ||
      (!kernel.empty() && shape != kernel))
    c.mismatch("kernel_shape " + show(shape) + ", strides, dilations or pads do not fit " +
               show(x) + (kernel.empty() ? "" : " and a weight with window " + show(kernel)));
  constexpr int64_t kMost = int64_t{1} << 31;
  for (const Axes& each : {shape, stride, dilation, pads})
    for (int64_t value : each)
      if (value > kMost || value < 0)
        c.mismatch("kernel_shape, strides, dilations or pads are out of range: " + show(each));
  for (size_t i = 0; i < n; ++i) {
    const size_t d = 3 - n + i;
    w.kernel[d] = shape[i];
    w.stride[d] = stride[i];
    w.dilation[d] = dilation[i];
    w.padBefore[d] = pads[i];
    w.padAfter[d] = pads[n + i];
    w.in[d] = x[2 + i];
    if (shape[i] < 1 || stride[i] < 1 || dilation[i] < 1)
      c.mismatch("kernel_shape, strides and dilations must be positive");
  }
  return w;
}

void slide(Call& c, Windows& w, bool ceil) {
  const std::string rule = c.text("auto_pad", "NOTSET");
  for (int d = 0; d < 3; ++d) {
    const int64_t span = (w.kernel[d] - 1) * w.dilation[d] + 1;
    const int64_t stride = w.stride[d];
    int64_t &before = w.padBefore[d], &after = w.padAfter[d];
    if (rule == "VALID") before = after = 0;
    if (rule == "SAME_UPPER" || rule == "SAME_LOWER") {
      w.out[d] = (w.in[d] + stride - 1) / stride;
      const int64_t total = std::max<int64_t>(0, (w.out[d] - 1) * stride + span - w.in[d]);
      before = rule == "SAME_UPPER" ? total / 2 : total - total / 2;
      after = total - before;
      continue;
    }
    const int64_t room = w.in[d] + before + after - span;
    if (room < 0)
      c.mismatch("the window (" + std::to_string(span) + ") is larger than the padded input (" +
                 std::to_string(w.in[d] + before + after) + ") of " + show(c.shape(0)));
    w.out[d] = room / stride + 1;
    // A last window that hangs over the end counts if it starts inside the input or what is
    // before it.
    if (ceil && room % stride != 0 && w.out[d] * stride < w.in[d] + before) ++w.out[d];
  }
}

Id channelsLast(Call& c, const Value& x) {
  const Shape s = c.b.shape(x);
  if (s.size() == 5) return c.b.arranged(x, {0, 4, 1, 2, 3});
  if (s.size() == 4) return c.b.arranged(x, {0, 3, 1, 2});
  return c.b.graph.reshape(c.b.arranged(x, {0, 2, 1}), {s[0], 1, s[2], s[1]});
}

Value fromChannelsLast(Call& c, Id x, int64_t spatial) {
  const Shape s = c.b.graph.shape(x);
  if (spatial == 3) return c.b.wrap(x, {0, 4, 1, 2, 3});
  if (spatial == 2) return c.b.wrap(x, {0, 3, 1, 2});
  return c.b.wrap(c.b.graph.reshape(x, {s[0], s[2], s[3]}), {0, 2, 1});
}

namespace {

// Of the positions 0 .. n-1, those whose image a * stride + start lies in [0, length).
struct Range {
  int64_t first = 0, size = 0;
};
Range rangeWithin(int64_t n, int64_t stride, int64_t start, int64_t length) {
  const int64_t first = start >= 0 ? 0 : (-start + stride - 1) / stride;
  const int64_t end = length > start ? (length - start - 1) / stride + 1 : 0;
  return {first, std::max<int64_t>(0, std::min(n, end) - first)};
}

// Planes [first, first + size * step) of [B, D, H, W, C], as [B * size, H, W, C].
Id planesOf(Graph& graph, Id x, int64_t first, int64_t step, int64_t size) {
  Shape shape = graph.shape(x);
  shape[1] = size;
  const Id some = graph.slice(x, {0, first, 0, 0, 0}, {1, step, 1, 1, 1}, shape);
  return graph.reshape(some, {shape[0] * size, shape[2], shape[3], shape[4]});
}

// [B * planes, H, W, C] at depths first + i * step of [B, depth, H, W, C]; zeros elsewhere.
Id atDepths(Graph& graph, Id planes, int64_t batch, int64_t first, int64_t step, int64_t depth) {
  const Shape s = graph.shape(planes);
  const int64_t size = s[0] / batch;
  const Id y = graph.reshape(planes, {batch, size, s[1], s[2], s[3]});
  if (size == depth) return y;
  return graph.unslice(y, {0, first, 0, 0, 0}, {1, step, 1, 1, 1},
                       {batch, depth, s[1], s[2], s[3]});
}

// y at depths [first, first + size), `value` at the others.
Id outsideIs(Graph& graph, Id y, const Range& range, int64_t depth, double value) {
  if (value == 0 || range.size == depth) return y;
  auto inside = std::make_shared<std::vector<double>>(static_cast<size_t>(depth), 0.0);
  std::fill_n(inside->begin() + range.first, range.size, 1.0);
  const Id mask = graph.constant(inside, {depth, 1, 1, 1}, Type::Bool);
  return graph.select(mask, y, graph.scalar(value));
}

}  // namespace

Id slideOverDepth(Graph& graph, Id x, const Windows& w, const InPlane& inPlane, const Join& join,
                  double outside) {
  if (graph.rank(x) == 4) return inPlane(x, 0);
  const int64_t batch = graph.shape(x)[0];
  Id total = kNone;
  for (int64_t k = 0; k < w.kernel[0]; ++k) {
    const int64_t start = k * w.dilation[0] - w.padBefore[0];
    const Range range = rangeWithin(w.out[0], w.stride[0], start, w.in[0]);
    if (range.size == 0) continue;
    const int64_t first = start + range.first * w.stride[0];
    const Id planes = inPlane(planesOf(graph, x, first, w.stride[0], range.size), k);
    const Id y = outsideIs(graph, atDepths(graph, planes, batch, range.first, 1, w.out[0]), range,
                           w.out[0], outside);
    total = total == kNone ? y : join(total, y);
  }
  return total;
}

Id spreadOverDepth(Graph& graph, Id x, const Windows& w, const InPlane& inPlane) {
  if (graph.rank(x) == 4) return inPlane(x, 0);
  const int64_t batch = graph.shape(x)[0];
  Id total = kNone;
  for (int64_t k = 0; k < w.kernel[0]; ++k) {
    const int64_t start = k * w.dilation[0] - w.padBefore[0];
    const Range range = rangeWithin(w.in[0], w.stride[0], start, w.out[0]);
    if (range.size == 0) continue;
    const Id planes = inPlane(planesOf(graph, x, range.first, 1, range.size), k);
    const Id y =
        atDepths(graph, planes, batch, start + range.first * w.stride[0], w.stride[0], w.out[0]);
    total = total == kNone ? y : graph.add(total, y);
  }
  return total;
}

}  // namespace eigenscope::onnx
