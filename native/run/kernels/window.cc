#include "run/kernels/window.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "run/kernels/simd.h"

namespace eigenscope {
namespace {

// The window positions j with 0 <= base + j * dilation < size.
struct Range {
  int64_t low, high;
};
EIGENSCOPE_INLINE Range inside(int64_t base, int64_t dilation, int64_t kernel, int64_t size) {
  const int64_t low = base >= 0 ? 0 : (-base + dilation - 1) / dilation;
  const int64_t high = base >= size ? 0 : std::min(kernel, (size - 1 - base) / dilation + 1);
  return {low, std::max(low, high)};
}

// tap(offset of the first channel in x) for every x under window (n, oh, ow).
template <class Tap>
EIGENSCOPE_INLINE void forEachTap(const WindowShape& s, int64_t n, int64_t oh, int64_t ow,
                                  Tap tap) {
  const Window& w = s.window;
  const int64_t h0 = oh * w.stride[0] - w.pad[0], w0 = ow * w.stride[1] - w.pad[1];
  const Range rows = inside(h0, w.dilation[0], w.kernel[0], s.H);
  const Range columns = inside(w0, w.dilation[1], w.kernel[1], s.W);
  for (int64_t i = rows.low; i < rows.high; ++i)
    for (int64_t j = columns.low; j < columns.high; ++j)
      tap(((n * s.H + h0 + i * w.dilation[0]) * s.W + w0 + j * w.dilation[1]) * s.C);
}

template <class Body>
EIGENSCOPE_INLINE void forEachWindow(const WindowShape& s, Body body) {
  int64_t y = 0;
  for (int64_t n = 0; n < s.outer; ++n)
    for (int64_t oh = 0; oh < s.OH; ++oh)
      for (int64_t ow = 0; ow < s.OW; ++ow, y += s.C) body(n, oh, ow, y);
}

template <class T>
EIGENSCOPE_INLINE void sum(const WindowShape& s, const T* x, T* y, bool accumulate) {
  forEachWindow(s, [&](int64_t n, int64_t oh, int64_t ow, int64_t at) {
    T* to = y + at;
    if (!accumulate)
      for (int64_t c = 0; c < s.C; ++c) to[c] = T{};
    forEachTap(s, n, oh, ow, [&](int64_t offset) {
      const T* from = x + offset;
      for (int64_t c = 0; c < s.C; ++c) to[c] += from[c];
    });
  });
}

template <class T>
EIGENSCOPE_INLINE void spread(const WindowShape& s, const T* y, T* x, bool accumulate) {
  if (!accumulate) std::fill_n(x, s.outer * s.H * s.W * s.C, T{});
  forEachWindow(s, [&](int64_t n, int64_t oh, int64_t ow, int64_t at) {
    const T* from = y + at;
    forEachTap(s, n, oh, ow, [&](int64_t offset) {
      T* to = x + offset;
      for (int64_t c = 0; c < s.C; ++c) to[c] += from[c];
    });
  });
}

template <class T>
EIGENSCOPE_INLINE bool argmax(const WindowShape& s, const T* x, int32_t* index) {
  constexpr int64_t kBlock = 64;
  bool complete = true;
  forEachWindow(s, [&](int64_t n, int64_t oh, int64_t ow, int64_t at) {
    for (int64_t c0 = 0; c0 < s.C; c0 += kBlock) {
      const int64_t channels = std::min(kBlock, s.C - c0);
      T best[kBlock];
      int32_t where[kBlock];
      bool first = true;
      forEachTap(s, n, oh, ow, [&](int64_t offset) {
        const T* from = x + offset + c0;
        const auto base = static_cast<int32_t>(offset + c0);
        if (first) {
          first = false;
          for (int64_t c = 0; c < channels; ++c) {
            best[c] = from[c];
            where[c] = base + static_cast<int32_t>(c);
          }
        } else {
          for (int64_t c = 0; c < channels; ++c) {
            const bool better = (from[c] > best[c]) | ((from[c] != from[c]) & (best[c] == best[c]));
            best[c] = better ? from[c] : best[c];
            where[c] = better ? base + static_cast<int32_t>(c) : where[c];
          }
        }
      });
      if (first) complete = false;
      if (!first)
        for (int64_t c = 0; c < channels; ++c) index[at + c0 + c] = where[c];
    }
  });
  return complete;
}

#define EIGENSCOPE_WINDOW(T)                                                               \
  EIGENSCOPE_SIMD void sumOf(const WindowShape& s, const T* x, T* y, bool accumulate) {    \
    sum(s, x, y, accumulate);                                                              \
  }                                                                                        \
  EIGENSCOPE_SIMD void spreadOf(const WindowShape& s, const T* y, T* x, bool accumulate) { \
    spread(s, y, x, accumulate);                                                           \
  }                                                                                        \
  EIGENSCOPE_SIMD bool argmaxOf(const WindowShape& s, const T* x, int32_t* index) {        \
    return argmax(s, x, index);                                                            \
  }
EIGENSCOPE_WINDOW(float)
EIGENSCOPE_WINDOW(double)
#undef EIGENSCOPE_WINDOW

}  // namespace

template <class T>
void windowSum(const WindowShape& shape, const T* x, T* y, bool accumulate) {
  sumOf(shape, x, y, accumulate);
}

template <class T>
void windowSpread(const WindowShape& shape, const T* y, T* x, bool accumulate) {
  spreadOf(shape, y, x, accumulate);
}

template <class T>
void windowArgmax(const WindowShape& shape, const T* x, int32_t* index) {
  if (shape.outer * shape.H * shape.W * shape.C > std::numeric_limits<int32_t>::max())
    throw Error(ErrorKind::Internal, "a pooling input of more than 2^31 elements");
  if (!argmaxOf(shape, x, index))
    throw Error(ErrorKind::Internal, "a pooling window that lies in padding alone");
}

template void windowSum<float>(const WindowShape&, const float*, float*, bool);
template void windowSum<double>(const WindowShape&, const double*, double*, bool);
template void windowSpread<float>(const WindowShape&, const float*, float*, bool);
template void windowSpread<double>(const WindowShape&, const double*, double*, bool);
template void windowArgmax<float>(const WindowShape&, const float*, int32_t*);
template void windowArgmax<double>(const WindowShape&, const double*, int32_t*);

}  // namespace eigenscope
