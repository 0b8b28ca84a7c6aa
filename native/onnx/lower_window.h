#pragma once

#include <functional>
#include <string>

#include "onnx/table.h"

namespace eigenscope::onnx {

// The window attributes of a convolution or a pooling over one to three spatial axes, as depth, H
// and W: axes that ONNX does not see have length 1.
struct Windows {
  int64_t kernel[3] = {1, 1, 1}, stride[3] = {1, 1, 1}, dilation[3] = {1, 1, 1};
  int64_t padBefore[3] = {0, 0, 0}, padAfter[3] = {0, 0, 0};
  int64_t in[3] = {1, 1, 1}, out[3] = {1, 1, 1};
  int64_t spatial = 2;  // axes that ONNX sees
  int64_t groups = 1;

  // In a plane, of H and W.
  Window plane() const;
};

// Reads kernel_shape (or takes `kernel`), strides, dilations, pads and auto_pad for x [B, C, ...].
// Leaves `out` to the caller. Throws Error (DataMismatch) where ranks do not fit.
Windows windowsOf(Call& c, const Shape& x, const Axes& kernel);

// Sizes of a sliding window. Throws Error (DataMismatch) where the window is larger than the input.
void slide(Call& c, Windows& windows, bool ceil = false);

// Between ONNX's [B, C, ((D,) H,) W] and [B, (D,) H, W, C] in memory.
Id channelsLast(Call& c, const Value& x);
Value fromChannelsLast(Call& c, Id x, int64_t spatial);

// What slides over planes, slid over volumes too: `inPlane` is applied to the planes that each
// position of the window along the depth sees, [B * planes, H, W, C], and `join` puts the results
// of two positions together. Where a position sees padding it counts as `outside`.
using InPlane = std::function<Id(Id planes, int64_t position)>;
using Join = std::function<Id(Id a, Id b)>;
Id slideOverDepth(Graph& graph, Id x, const Windows& windows, const InPlane& inPlane,
                  const Join& join, double outside);

// The transpose for sums: each position's planes go to the depths that it reaches.
Id spreadOverDepth(Graph& graph, Id x, const Windows& windows, const InPlane& inPlane);

// Why a node with more than three spatial axes is refused; "" for the rest.
std::string refuseHyperVolumes(const NodeDef& node);

}  // namespace eigenscope::onnx
