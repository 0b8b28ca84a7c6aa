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

// With few channels vectors run along the windows of a line as well, if none touches padding:
// element e of a line of results (window e / C, channel e % C) starts at x offset starts[e].
constexpr int64_t kLine = 512;

bool runsAlongLines(const WindowShape& s) {
  const Window& w = s.window;
  return s.C < 16 && s.OW > 1 && s.W * s.C <= kLine && w.pad[0] == 0 && w.pad[1] == 0 &&
         (s.OH - 1) * w.stride[0] + (w.kernel[0] - 1) * w.dilation[0] < s.H &&
         (s.OW - 1) * w.stride[1] + (w.kernel[1] - 1) * w.dilation[1] < s.W;
}

// line(offset in y, offset of the line's first x)
template <class Line>
EIGENSCOPE_INLINE void forEachLine(const WindowShape& s, int32_t* starts, Line line) {
  for (int64_t ow = 0; ow < s.OW; ++ow)
    for (int64_t c = 0; c < s.C; ++c)
      starts[ow * s.C + c] = static_cast<int32_t>(ow * s.window.stride[1] * s.C + c);
  for (int64_t n = 0; n < s.outer; ++n)
    for (int64_t oh = 0; oh < s.OH; ++oh)
      line((n * s.OH + oh) * s.OW * s.C, (n * s.H + oh * s.window.stride[0]) * s.W * s.C);
}

template <class T>
EIGENSCOPE_INLINE void sumLines(const WindowShape& s, const T* x, T* y, bool accumulate) {
  const Window& w = s.window;
  const int64_t width = s.OW * s.C;
  int32_t starts[kLine];
  T rows[kLine];  // the rows of the window added up first: they need no gathering
  const int64_t reach = ((s.OW - 1) * w.stride[1] + (w.kernel[1] - 1) * w.dilation[1] + 1) * s.C;
  forEachLine(s, starts, [&](int64_t at, int64_t first) {
    for (int64_t e = 0; e < reach; ++e) rows[e] = x[first + e];
    for (int64_t i = 1; i < w.kernel[0]; ++i) {
      const T* from = x + first + i * w.dilation[0] * s.W * s.C;
      for (int64_t e = 0; e < reach; ++e) rows[e] += from[e];
    }
    T* to = y + at;
    if (!accumulate)
      for (int64_t e = 0; e < width; ++e) to[e] = T{};
    for (int64_t j = 0; j < w.kernel[1]; ++j) {
      const T* from = rows + j * w.dilation[1] * s.C;
      for (int64_t e = 0; e < width; ++e) to[e] += from[starts[e]];
    }
  });
}

// Windows that do not overlap: every x has one source or none.
bool spreadsAlongLines(const WindowShape& s) {
  const Window& w = s.window;
  return runsAlongLines(s) && w.dilation[0] == 1 && w.dilation[1] == 1 &&
         w.kernel[0] <= w.stride[0] && w.kernel[1] <= w.stride[1];
}

template <class T>
EIGENSCOPE_INLINE void spreadLines(const WindowShape& s, const T* y, T* x, bool accumulate) {
  const Window& w = s.window;
  const int64_t width = s.OW * s.C, reach = s.W * s.C;
  int32_t sources[kLine];
  for (int64_t iw = 0; iw < s.W; ++iw)
    for (int64_t c = 0; c < s.C; ++c) {
      const int64_t ow = iw / w.stride[1];
      const bool inside = ow < s.OW && iw % w.stride[1] < w.kernel[1];
      sources[iw * s.C + c] = static_cast<int32_t>(inside ? ow * s.C + c : width);
    }
  T from[kLine + 1], line[kLine];
  if (!accumulate) std::fill_n(x, s.outer * s.H * reach, T{});
  for (int64_t n = 0; n < s.outer; ++n)
    for (int64_t oh = 0; oh < s.OH; ++oh, y += width) {
      for (int64_t e = 0; e < width; ++e) from[e] = y[e];
      from[width] = T{};
      for (int64_t e = 0; e < reach; ++e) line[e] = from[sources[e]];
      for (int64_t i = 0; i < w.kernel[0]; ++i) {
        T* to = x + (n * s.H + oh * w.stride[0] + i) * reach;
        for (int64_t e = 0; e < reach; ++e) to[e] += line[e];
      }
    }
}

template <class T>
EIGENSCOPE_INLINE void argmaxLines(const WindowShape& s, const T* x, int32_t* index) {
  const Window& w = s.window;
  const int64_t width = s.OW * s.C;
  int32_t starts[kLine];
  T best[kLine];
  forEachLine(s, starts, [&](int64_t at, int64_t first) {
    int32_t* where = index + at;
    for (int64_t e = 0; e < width; ++e) {
      best[e] = x[first + starts[e]];
      where[e] = static_cast<int32_t>(first) + starts[e];
    }
    for (int64_t i = 0; i < w.kernel[0]; ++i)
      for (int64_t j = i == 0; j < w.kernel[1]; ++j) {
        const int64_t tap = first + (i * w.dilation[0] * s.W + j * w.dilation[1]) * s.C;
        const T* from = x + tap;
        for (int64_t e = 0; e < width; ++e) {
          const T value = from[starts[e]];
          const bool better = (value > best[e]) | ((value != value) & (best[e] == best[e]));
          best[e] = better ? value : best[e];
          where[e] = better ? static_cast<int32_t>(tap) + starts[e] : where[e];
        }
      }
  });
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
    if (runsAlongLines(s))                                                                 \
      sumLines(s, x, y, accumulate);                                                       \
    else                                                                                   \
      sum(s, x, y, accumulate);                                                            \
  }                                                                                        \
  EIGENSCOPE_SIMD void spreadOf(const WindowShape& s, const T* y, T* x, bool accumulate) { \
    if (spreadsAlongLines(s))                                                              \
      spreadLines(s, y, x, accumulate);                                                    \
    else                                                                                   \
      spread(s, y, x, accumulate);                                                         \
  }                                                                                        \
  EIGENSCOPE_SIMD bool argmaxOf(const WindowShape& s, const T* x, int32_t* index) {        \
    if (!runsAlongLines(s)) return argmax(s, x, index);                                    \
    argmaxLines(s, x, index);                                                              \
    return true;                                                                           \
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
