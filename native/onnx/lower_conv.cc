#include <algorithm>

#include "onnx/lower_window.h"

// Convolutions. Activations are channels last in memory; ONNX's order is only a view of that.
namespace eigenscope::onnx {

namespace {

// [O, I, (kh,) kw] to [O, kh, kw, I], and [O, I, kd, kh, kw] to [kd, O, kh, kw, I]: weight-sized
// and independent of data, so done once a product.
Id kernelLast(Call& c, const Value& weight) {
  const Shape s = c.b.shape(weight);
  if (s.size() == 5) return c.b.graph.permute(c.b.plain(weight), {2, 0, 3, 4, 1});
  if (s.size() == 4) return c.b.graph.permute(c.b.plain(weight), {0, 2, 3, 1});
  return c.b.graph.reshape(c.b.graph.permute(c.b.plain(weight), {0, 2, 1}), {s[0], 1, s[2], s[1]});
}

Axes kernelOf(const Shape& weight) {
  return weight.size() > 2 ? Axes(weight.begin() + 2, weight.end()) : Axes{};
}

// The kernel at one position of the window along the depth.
Id kernelAt(Graph& graph, Id kernel, int64_t position) {
  Shape shape = graph.shape(kernel);
  if (shape.size() == 4) return kernel;
  shape[0] = 1;
  const Id at = graph.slice(kernel, {position, 0, 0, 0, 0}, {1, 1, 1, 1, 1}, shape);
  return graph.reshape(at, {shape.begin() + 1, shape.end()});
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
  w.groups = c.integer("group", 1);
  if (weight.size() != x.size() || w.groups < 1 || x[1] != weight[1] * w.groups ||
      weight[0] % w.groups)
    c.mismatch("a weight " + show(weight) + " in " + std::to_string(w.groups) +
               " groups does not fit an input " + show(x));
  checkBias(c, weight[0]);
  slide(c, w);
  Builder& b = c.b;
  Shape perOutput(weight.size(), 1);
  perOutput[0] = weight[0];
  return {biased(
      c, w, c.in(1),
      [](Graph& graph, Id input, Id kernel, const Windows& windows) {
        return slideOverDepth(
            graph, input, windows,
            [&](Id planes, int64_t position) {
              return graph.conv(planes, kernelAt(graph, kernel, position), windows.plane(),
                                windows.out[1], windows.out[2]);
            },
            [&](Id a, Id b) { return graph.add(a, b); }, 0);
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
    const size_t d = 3 - n + i;
    const int64_t span = (w.kernel[d] - 1) * w.dilation[d] + 1;
    const int64_t full = (w.in[d] - 1) * w.stride[d] + extra[i] + span;
    if (rule == "VALID") w.padBefore[d] = w.padAfter[d] = 0;
    w.out[d] = full - w.padBefore[d] - w.padAfter[d];
    if (!target.empty() || same) {
      w.out[d] = target.empty() ? w.in[d] * w.stride[d] : target[i];
      const int64_t total = std::max<int64_t>(0, full - w.out[d]);
      w.padBefore[d] = rule == "SAME_UPPER" ? total / 2 : total - total / 2;
    }
    if (w.out[d] < 1) c.mismatch("the output would be empty for " + show(c.shape(0)));
  }
}

Results convTranspose(Call& c) {
  const Shape x = c.shape(0), weight = c.shape(1);
  Windows w = windowsOf(c, x, kernelOf(weight));
  const int64_t groups = w.groups = c.integer("group", 1);
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
        return spreadOverDepth(graph, input, windows, [&](Id planes, int64_t position) {
          return graph.convInput(planes, kernelAt(graph, kernel, position), windows.plane(),
                                 windows.out[1], windows.out[2]);
        });
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

// x [batch, channels, length], a kernel [channels, 1, width] for each of them, which sees what came
// before; what lies before the first is the state, or zeros. The last width - 1 are the next state.
Results causalConv(Call& c) {
  const Shape x = c.shape(0), kernel = c.shape(1);
  const bool fits = x.size() == 3 && kernel.size() == 3 && kernel[0] == x[1] && kernel[1] == 1;
  if (!fits || kernel[2] < 1)
    c.mismatch("kernels " + show(kernel) + " do not fit channels of " + show(x));
  const int64_t before = kernel[2] - 1, length = x[2];
  const Shape state = {x[0], x[1], before};
  if (c.has(3) && c.shape(3) != state)
    c.mismatch("expected a state " + show(state) + ", got " + show(c.shape(3)));
  const std::string activation = c.text("activation", "none");
  if (activation != "none" && activation != "silu" && activation != "swish")
    c.unsupported("attribute activation = " + activation);
  Value all = c.in(0);
  if (before > 0) {
    const Value past = c.has(3) ? c.in(3) : c.b.broadcast(Builder::number(0), state);
    all = c.b.concat({past, all}, 2);
  }
  Value y;
  for (int64_t k = 0; k <= before; ++k) {
    const Value weight = c.b.squeeze(c.b.sliceAxis(c.in(1), 2, k, 1), {1});
    const Value term = c.b.mul(c.b.sliceAxis(all, 2, k, length), weight);
    y = k == 0 ? term : c.b.add(y, term);
  }
  if (c.has(2)) y = c.b.add(y, c.b.unsqueeze(c.in(2), {1}));
  if (activation != "none") y = c.b.mul(y, c.b.unary(Op::Sigmoid, y));
  return {y, c.b.sliceAxis(all, 2, length, before)};
}

const Operator kTable[] = {
    {.name = "CausalConvWithState", .lower = causalConv, .since = 27, .outputs = 2},
    {.name = "Conv",
     .lower = conv,
     .limits = "one to three spatial axes",
     .refuse = refuseHyperVolumes},
    {.name = "ConvTranspose",
     .lower = convTranspose,
     .limits = "one to three spatial axes",
     .refuse = refuseHyperVolumes},
};

}  // namespace

std::span<const Operator> convOperators() { return kTable; }

}  // namespace eigenscope::onnx
