#include <algorithm>

#include "onnx/lower_window.h"

// Convolutions. Activations are channels last in memory; ONNX's order is only a view of that.
namespace eigenscope::onnx {

std::string refuseVolumes(const NodeDef& node) {
  for (const char* name : {"kernel_shape", "strides", "dilations"}) {
    auto at = node.attributes.find(name);
    if (at != node.attributes.end() && at->second.ints.size() > 2)
      return "only one or two spatial axes are supported";
  }
  return "";
}

Windows windowsOf(Call& c, const Shape& x, const Axes& kernel) {
  Windows w;
  if (c.b.type(c.in(0)) != Type::Real) c.unsupported("windows over integers");
  w.spatial = static_cast<int64_t>(x.size()) - 2;
  if (w.spatial > 2) c.unsupported("only one or two spatial axes are supported");
  if (w.spatial < 1)
    c.mismatch("expected [batch, channels, width] or [batch, channels, height, width], got " +
               show(x));
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
    const size_t d = 2 - n + i;
    w.window.kernel[d] = shape[i];
    w.window.stride[d] = stride[i];
    w.window.dilation[d] = dilation[i];
    w.window.pad[d] = pads[i];
    w.padAfter[d] = pads[n + i];
    w.in[d] = x[2 + i];
    if (shape[i] < 1 || stride[i] < 1 || dilation[i] < 1)
      c.mismatch("kernel_shape, strides and dilations must be positive");
  }
  return w;
}

void slide(Call& c, Windows& w, bool ceil) {
  const std::string rule = c.text("auto_pad", "NOTSET");
  for (int d = 0; d < 2; ++d) {
    const int64_t span = (w.window.kernel[d] - 1) * w.window.dilation[d] + 1;
    const int64_t stride = w.window.stride[d];
    int64_t &before = w.window.pad[d], &after = w.padAfter[d];
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
  if (s.size() == 4) return c.b.arranged(x, {0, 3, 1, 2});
  return c.b.graph.reshape(c.b.arranged(x, {0, 2, 1}), {s[0], 1, s[2], s[1]});
}

Value fromChannelsLast(Call& c, Id x, int64_t spatial) {
  const Shape s = c.b.graph.shape(x);
  if (spatial == 2) return c.b.wrap(x, {0, 3, 1, 2});
  return c.b.wrap(c.b.graph.reshape(x, {s[0], s[2], s[3]}), {0, 2, 1});
}

namespace {

// [O, I, (kh,) kw] to [O, kh, kw, I]: weight-sized and independent of data, so done once a product.
Id kernelLast(Call& c, const Value& weight) {
  const Shape s = c.b.shape(weight);
  if (s.size() == 4) return c.b.graph.permute(c.b.plain(weight), {0, 2, 3, 1});
  return c.b.graph.reshape(c.b.graph.permute(c.b.plain(weight), {0, 2, 1}), {s[0], 1, s[2], s[1]});
}

Axes kernelOf(const Shape& weight) {
  return weight.size() > 2 ? Axes(weight.begin() + 2, weight.end()) : Axes{};
}

void checkBias(Call& c, int64_t channels) {
  if (c.has(2) && c.shape(2) != Shape{channels})
    c.mismatch("the bias has shape " + show(c.shape(2)) + " for " + std::to_string(channels) +
               " output channels");
}

using Convolution = Id (*)(Graph& graph, Id x, Id w, const Windows& windows);

// The convolution with its bias, which knows how to do the same with weights scaled by output
// channel. `perChannel` brings such a scale to the shape of the weight.
Value biased(Call& c, const Windows& windows, const Value& weight, Convolution convolution,
             const std::function<Value(const Value& weight, const Value& scale)>& scaled) {
  const Id x = channelsLast(c, c.in(0));
  auto apply = [x, windows, convolution](Call& call, const Value& w, const Value* bias) {
    Id y = convolution(call.b.graph, x, kernelLast(call, w), windows);
    if (bias) y = call.b.graph.add(y, call.b.plain(*bias));
    return fromChannelsLast(call, y, windows.spatial);
  };
  const bool hasBias = c.has(2);
  const Value bias = hasBias ? c.in(2) : Value{};
  Value y = apply(c, weight, hasBias ? &bias : nullptr);
  y.rescaled = [call = c, apply, weight, hasBias, bias, scaled](const Value& scale,
                                                                const Value& shift) mutable {
    const Value b = hasBias ? call.b.add(call.b.mul(bias, scale), shift) : shift;
    return apply(call, scaled(weight, scale), &b);
  };
  return y;
}

Results conv(Call& c) {
  const Shape x = c.shape(0), weight = c.shape(1);
  Windows w = windowsOf(c, x, kernelOf(weight));
  w.window.groups = c.integer("group", 1);
  if (weight.size() != x.size() || w.window.groups < 1 || x[1] != weight[1] * w.window.groups ||
      weight[0] % w.window.groups)
    c.mismatch("a weight " + show(weight) + " in " + std::to_string(w.window.groups) +
               " groups does not fit an input " + show(x));
  checkBias(c, weight[0]);
  slide(c, w);
  Builder& b = c.b;
  Shape perOutput(weight.size(), 1);
  perOutput[0] = weight[0];
  return {biased(
      c, w, c.in(1),
      [](Graph& graph, Id input, Id kernel, const Windows& windows) {
        return graph.conv(input, kernel, windows.window, windows.out[0], windows.out[1]);
      },
      [&b, perOutput](const Value& kernel, const Value& scale) {
        return b.mul(kernel, b.reshape(scale, perOutput));
      })};
}

// Sizes and pads of a transposed convolution, from pads, output_shape or auto_pad.
void unslide(Call& c, Windows& w) {
  const auto n = static_cast<size_t>(w.spatial);
  const Axes extra = c.ints("output_padding", Axes(n, 0));
  Axes target = c.ints("output_shape");
  if (target.size() > n) target.erase(target.begin(), target.end() - n);  // batch and channels
  if (extra.size() != n || (!target.empty() && target.size() != n))
    c.mismatch("output_padding or output_shape do not fit " + show(c.shape(0)));
  const std::string rule = c.text("auto_pad", "NOTSET");
  const bool same = rule == "SAME_UPPER" || rule == "SAME_LOWER";
  for (size_t i = 0; i < n; ++i) {
    const size_t d = 2 - n + i;
    const int64_t span = (w.window.kernel[d] - 1) * w.window.dilation[d] + 1;
    const int64_t full = (w.in[d] - 1) * w.window.stride[d] + extra[i] + span;
    if (rule == "VALID") w.window.pad[d] = w.padAfter[d] = 0;
    w.out[d] = full - w.window.pad[d] - w.padAfter[d];
    if (!target.empty() || same) {
      w.out[d] = target.empty() ? w.in[d] * w.window.stride[d] : target[i];
      const int64_t total = std::max<int64_t>(0, full - w.out[d]);
      w.window.pad[d] = rule == "SAME_UPPER" ? total / 2 : total - total / 2;
    }
    if (w.out[d] < 1) c.mismatch("the output would be empty for " + show(c.shape(0)));
  }
}

Results convTranspose(Call& c) {
  const Shape x = c.shape(0), weight = c.shape(1);
  Windows w = windowsOf(c, x, kernelOf(weight));
  const int64_t groups = w.window.groups = c.integer("group", 1);
  if (weight.size() != x.size() || groups < 1 || x[1] != weight[0] || x[1] % groups)
    c.mismatch("a weight " + show(weight) + " in " + std::to_string(groups) +
               " groups does not fit an input " + show(x));
  const int64_t each = weight[1];  // output channels of a group
  checkBias(c, each * groups);
  unslide(c, w);
  Builder& b = c.b;
  return {biased(
      c, w, c.in(1),
      [](Graph& graph, Id input, Id kernel, const Windows& windows) {
        return graph.convInput(input, kernel, windows.window, windows.out[0], windows.out[1]);
      },
      [&b, weight, groups, each](const Value& kernel, const Value& scale) {
        // Output channels are split between the group, which the first axis tells, and axis 1.
        Shape grouped = weight, factor(weight.size() + 1, 1);
        grouped[0] /= groups;
        grouped.insert(grouped.begin(), groups);
        factor[0] = groups;
        factor[2] = each;
        return b.reshape(b.mul(b.reshape(kernel, grouped), b.reshape(scale, factor)), weight);
      })};
}

const Operator kTable[] = {
    {.name = "Conv", .lower = conv, .limits = "one or two spatial axes", .refuse = refuseVolumes},
    {.name = "ConvTranspose",
     .lower = convTranspose,
     .limits = "one or two spatial axes",
     .refuse = refuseVolumes},
};

}  // namespace

std::span<const Operator> convOperators() { return kTable; }

}  // namespace eigenscope::onnx
