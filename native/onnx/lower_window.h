#pragma once

#include "onnx/table.h"

namespace eigenscope::onnx {

// The window attributes of a convolution or a pooling over one or two spatial axes, as H and W: a
// single axis is W with H = 1.
struct Windows {
  Window window;
  int64_t in[2] = {1, 1}, out[2] = {1, 1}, padAfter[2] = {0, 0};
  int64_t spatial = 2;  // axes that ONNX sees
};

// Reads kernel_shape (or takes `kernel`), strides, dilations, pads and auto_pad for x [B, C, ...].
// Leaves `out` to the caller. Throws Error (DataMismatch) where ranks do not fit.
Windows windowsOf(Call& c, const Shape& x, const Axes& kernel);

// Sizes of a sliding window. Throws Error (DataMismatch) where the window is larger than the input.
void slide(Call& c, Windows& windows, bool ceil = false);

// Between ONNX's [B, C, (H,) W] and [B, H, W, C] in memory.
Id channelsLast(Call& c, const Value& x);
Value fromChannelsLast(Call& c, Id x, int64_t spatial);

// Why a node with more than two spatial axes is refused; "" for the rest.
std::string refuseVolumes(const NodeDef& node);

}  // namespace eigenscope::onnx
