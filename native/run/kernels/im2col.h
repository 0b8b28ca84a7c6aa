#pragma once

#include <cstdint>

#include "run/kernels/conv.h"

namespace eigenscope {

// Convolutions as matrix products over patches: row (b, oh, ow) of the column matrix holds the
// kh x kw x C/groups inputs under the kernel, in the order of a row of w. The matrix is made in
// tiles that stay in L2, over all samples alike. One direction a call.
int64_t im2colScratch(const ConvShape& shape, ConvForm form, size_t elementSize);  // elements
template <class T>
void im2col(const ConvShape& shape, ConvForm form, const T* a, const T* b, T* out, bool accumulate,
            T* scratch);

// Direct loops along the channels where every group has one input and one output channel.
inline bool isDepthwise(const ConvShape& s) {
  return s.window.groups == s.C && s.O == s.C && s.C > 1;
}
int64_t depthwiseScratch(const ConvShape& shape);  // elements
template <class T>
void depthwise(const ConvShape& shape, ConvForm form, const T* a, const T* b, T* out,
               bool accumulate, T* scratch);

}  // namespace eigenscope
