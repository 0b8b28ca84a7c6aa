#include "run/kernels/im2col.h"

#include <algorithm>
#include <cstring>

#include "run/kernels/gemm.h"
#include "run/kernels/simd.h"

namespace eigenscope {
namespace {

constexpr int64_t kTileBytes = 256 * 1024;

int64_t patchSize(const ConvShape& s) {
  return s.window.kernel[0] * s.window.kernel[1] * (s.C / s.window.groups);
}

// Without padding and with unit strides a 1x1 kernel's patches are x itself.
bool isPointwise(const ConvShape& s) {
  const Window& w = s.window;
  return w.kernel[0] == 1 && w.kernel[1] == 1 && w.stride[0] == 1 && w.stride[1] == 1 &&
         w.pad[0] == 0 && w.pad[1] == 0 && s.OH == s.H && s.OW == s.W;
}

int64_t tileRows(const ConvShape& s, size_t elementSize) {
  const int64_t bytes = patchSize(s) * static_cast<int64_t>(elementSize);
  const int64_t rows = std::max<int64_t>(32, kTileBytes / std::max<int64_t>(1, bytes));
  return std::min(rows / 16 * 16, s.B * s.OH * s.OW);
}

template <class T>
EIGENSCOPE_INLINE void copy(const T* from, T* to, int64_t n) {
  if (n >= 32)
    std::memcpy(to, from, n * sizeof(T));
  else
    for (int64_t i = 0; i < n; ++i) to[i] = from[i];
}
template <class T>
EIGENSCOPE_INLINE void zero(T* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = T{};
}
template <class T>
EIGENSCOPE_INLINE void add(const T* from, T* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] += from[i];
}

// visit(x offset or -1 for padding, elements) for each contiguous run of patch `position`, in patch
// order.
template <class Visit>
EIGENSCOPE_INLINE void forEachRun(const ConvShape& s, int64_t group, int64_t b, int64_t oh,
                                  int64_t ow, Visit visit) {
  const Window& w = s.window;
  const int64_t channels = s.C / w.groups;
  const int64_t w0 = ow * w.stride[1] - w.pad[1];
  const bool joined = w.dilation[1] == 1 && w.groups == 1;
  for (int64_t i = 0; i < w.kernel[0]; ++i) {
    const int64_t ih = oh * w.stride[0] - w.pad[0] + i * w.dilation[0];
    if (ih < 0 || ih >= s.H) {
      visit(-1, w.kernel[1] * channels);
      continue;
    }
    const int64_t line = (b * s.H + ih) * s.W;
    if (joined) {
      const int64_t low = std::clamp<int64_t>(-w0, 0, w.kernel[1]);
      const int64_t high = std::clamp<int64_t>(s.W - w0, low, w.kernel[1]);
      if (low > 0) visit(-1, low * channels);
      if (high > low) visit((line + w0 + low) * s.C, (high - low) * channels);
      if (high < w.kernel[1]) visit(-1, (w.kernel[1] - high) * channels);
    } else {
      for (int64_t j = 0; j < w.kernel[1]; ++j) {
        const int64_t iw = w0 + j * w.dilation[1];
        visit(iw < 0 || iw >= s.W ? -1 : (line + iw) * s.C + group * channels, channels);
      }
    }
  }
}

template <class T, class Row>
EIGENSCOPE_INLINE void forEachRow(const ConvShape& s, int64_t first, int64_t rows, T* columns,
                                  Row row) {
  const int64_t patch = patchSize(s);
  int64_t ow = first % s.OW, oh = first / s.OW % s.OH, b = first / (s.OW * s.OH);
  for (int64_t r = 0; r < rows; ++r, columns += patch) {
    row(b, oh, ow, columns);
    if (++ow == s.OW) {
      ow = 0;
      if (++oh == s.OH) oh = 0, ++b;
    }
  }
}

template <class T>
EIGENSCOPE_INLINE void gatherRows(const ConvShape& s, int64_t group, const T* x, int64_t first,
                                  int64_t rows, T* columns) {
  forEachRow(s, first, rows, columns, [&](int64_t b, int64_t oh, int64_t ow, T* to) {
    forEachRun(s, group, b, oh, ow, [&](int64_t offset, int64_t n) {
      if (offset < 0)
        zero(to, n);
      else
        copy(x + offset, to, n);
      to += n;
    });
  });
}

template <class T>
EIGENSCOPE_INLINE void scatterRows(const ConvShape& s, int64_t group, const T* columns,
                                   int64_t first, int64_t rows, T* x) {
  forEachRow(s, first, rows, columns, [&](int64_t b, int64_t oh, int64_t ow, const T* from) {
    forEachRun(s, group, b, oh, ow, [&](int64_t offset, int64_t n) {
      if (offset >= 0) add(from, x + offset, n);
      from += n;
    });
  });
}

// With one channel patches consist of short runs; then the column matrix is stored transposed,
// [patch, positions], whose rows follow the lines of x.
bool isPlanar(const ConvShape& s) { return s.C == 1 && s.OW >= 8; }

// visit(offset in the row, positions, x offset or -1 for padding) for each run of row (i, j, c) of
// the transposed matrix; x advances by stride * C from one position to the next.
template <class Visit>
EIGENSCOPE_INLINE void forEachLine(const ConvShape& s, int64_t i, int64_t j, int64_t c,
                                   int64_t first, int64_t rows, Visit visit) {
  const Window& w = s.window;
  const int64_t w0 = j * w.dilation[1] - w.pad[1], stride = w.stride[1];
  const int64_t low = w0 >= 0 ? 0 : (-w0 + stride - 1) / stride;
  const int64_t high = w0 >= s.W ? 0 : (s.W - 1 - w0) / stride + 1;
  int64_t ow = first % s.OW, oh = first / s.OW % s.OH, b = first / (s.OW * s.OH);
  for (int64_t done = 0; done < rows;) {
    const int64_t end = std::min(s.OW, ow + rows - done);
    const int64_t ih = oh * w.stride[0] - w.pad[0] + i * w.dilation[0];
    if (ih < 0 || ih >= s.H) {
      visit(done, end - ow, -1);
    } else {
      const int64_t from = std::clamp(low, ow, end), to = std::clamp(high, from, end);
      if (from > ow) visit(done, from - ow, -1);
      if (to > from)
        visit(done + from - ow, to - from, ((b * s.H + ih) * s.W + from * stride + w0) * s.C + c);
      if (end > to) visit(done + to - ow, end - to, -1);
    }
    done += end - ow;
    ow = 0;
    if (++oh == s.OH) oh = 0, ++b;
  }
}

template <class T, class Row>
EIGENSCOPE_INLINE void forEachPlane(const ConvShape& s, Row row) {
  int64_t index = 0;
  for (int64_t i = 0; i < s.window.kernel[0]; ++i)
    for (int64_t j = 0; j < s.window.kernel[1]; ++j)
      for (int64_t c = 0; c < s.C; ++c) row(i, j, c, index++);
}

template <class T>
EIGENSCOPE_INLINE void gatherPlanes(const ConvShape& s, const T* x, int64_t first, int64_t rows,
                                    T* planes) {
  const int64_t step = s.window.stride[1] * s.C;
  forEachPlane<T>(s, [&](int64_t i, int64_t j, int64_t c, int64_t index) {
    T* plane = planes + index * rows;
    forEachLine(s, i, j, c, first, rows, [&](int64_t at, int64_t n, int64_t offset) {
      if (offset < 0)
        zero(plane + at, n);
      else if (step == 1)
        copy(x + offset, plane + at, n);
      else
        for (int64_t k = 0; k < n; ++k) plane[at + k] = x[offset + k * step];
    });
  });
}

template <class T>
EIGENSCOPE_INLINE void scatterPlanes(const ConvShape& s, const T* planes, int64_t first,
                                     int64_t rows, T* x) {
  const int64_t step = s.window.stride[1] * s.C;
  forEachPlane<T>(s, [&](int64_t i, int64_t j, int64_t c, int64_t index) {
    const T* plane = planes + index * rows;
    forEachLine(s, i, j, c, first, rows, [&](int64_t at, int64_t n, int64_t offset) {
      if (offset < 0) return;
      if (step == 1)
        add(plane + at, x + offset, n);
      else
        for (int64_t k = 0; k < n; ++k) x[offset + k * step] += plane[at + k];
    });
  });
}

// y[position, o] (+)= t[o, position]
template <class T>
EIGENSCOPE_INLINE void turnPlanes(const T* t, int64_t rows, int64_t outputs, T* y,
                                  bool accumulate) {
  for (int64_t r = 0; r < rows; ++r, y += outputs)
    for (int64_t o = 0; o < outputs; ++o)
      y[o] = accumulate ? y[o] + t[o * rows + r] : t[o * rows + r];
}

#define EIGENSCOPE_PATCHES(T)                                                                      \
  EIGENSCOPE_SIMD void gather(const ConvShape& s, int64_t group, const T* x, int64_t first,        \
                              int64_t rows, T* columns) {                                          \
    if (isPlanar(s))                                                                               \
      gatherPlanes(s, x, first, rows, columns);                                                    \
    else                                                                                           \
      gatherRows(s, group, x, first, rows, columns);                                               \
  }                                                                                                \
  EIGENSCOPE_SIMD void scatter(const ConvShape& s, int64_t group, const T* columns, int64_t first, \
                               int64_t rows, T* x) {                                               \
    if (isPlanar(s))                                                                               \
      scatterPlanes(s, columns, first, rows, x);                                                   \
    else                                                                                           \
      scatterRows(s, group, columns, first, rows, x);                                              \
  }                                                                                                \
  EIGENSCOPE_SIMD void turn(const T* t, int64_t rows, int64_t outputs, T* y, bool accumulate) {    \
    turnPlanes(t, rows, outputs, y, accumulate);                                                   \
  }
EIGENSCOPE_PATCHES(float)
EIGENSCOPE_PATCHES(double)
#undef EIGENSCOPE_PATCHES

// Rows of the result shorter than a vector are computed transposed first.
bool turnsResult(const ConvShape& s, ConvForm form, size_t elementSize) {
  return form == ConvForm::Forward && isPlanar(s) && !isPointwise(s) &&
         s.O * static_cast<int64_t>(elementSize) < 64;
}

}  // namespace

int64_t im2colScratch(const ConvShape& shape, ConvForm form, size_t elementSize) {
  if (isPointwise(shape)) return 0;
  return tileRows(shape, elementSize) *
         (patchSize(shape) + (turnsResult(shape, form, elementSize) ? shape.O : 0));
}

template <class T>
void im2col(const ConvShape& s, ConvForm form, const T* a, const T* b, T* out, bool accumulate,
            T* scratch) {
  const int64_t groups = s.window.groups, patch = patchSize(s);
  const int64_t channels = s.C / groups, outputs = s.O / groups;
  const int64_t positions = s.B * s.OH * s.OW;
  const bool direct = isPointwise(s), planar = !direct && isPlanar(s);
  const int64_t tile = direct ? positions : tileRows(s, sizeof(T));
  if (form == ConvForm::Input && !accumulate && !direct)
    std::fill_n(out, s.B * s.H * s.W * s.C, T{});
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t first = 0; first < positions; first += tile) {
      const int64_t rows = std::min(tile, positions - first);
      T* columns = scratch;
      // Strides of the column matrix [rows, patch].
      int64_t row = planar ? 1 : patch;
      const int64_t column = planar ? rows : 1;
      if (direct) {
        row = s.C;
        columns = const_cast<T*>(form == ConvForm::Input ? out : a) + g * channels;
      } else if (form != ConvForm::Input) {
        gather(s, g, a, first, rows, columns);
      }
      const int64_t y = first * s.O + g * outputs, w = g * outputs * patch;
      switch (form) {
        case ConvForm::Forward:
          if (turnsResult(s, form, sizeof(T))) {
            T* turned = scratch + tile * patch;
            gemm(outputs, rows, patch, b, patch, int64_t{1}, columns, rows, int64_t{1}, turned,
                 rows, false);
            turn(turned, rows, outputs, out + y, accumulate);
          } else {
            gemm(rows, outputs, patch, columns, row, column, b + w, int64_t{1}, patch, out + y, s.O,
                 accumulate);
          }
          break;
        case ConvForm::Input:
          if (planar)
            gemm(patch, rows, outputs, b, int64_t{1}, patch, a + y, int64_t{1}, s.O, columns, rows,
                 false);
          else
            gemm(rows, patch, outputs, a + y, s.O, int64_t{1}, b + w, patch, int64_t{1}, columns,
                 row, direct && accumulate);
          if (!direct) scatter(s, g, columns, first, rows, out);
          break;
        case ConvForm::Weight:
          gemm(outputs, patch, rows, b + y, int64_t{1}, s.O, columns, row, column, out + w, patch,
               accumulate || first > 0);
          break;
      }
    }
  }
}

template void im2col<float>(const ConvShape&, ConvForm, const float*, const float*, float*, bool,
                            float*);
template void im2col<double>(const ConvShape&, ConvForm, const double*, const double*, double*,
                             bool, double*);

}  // namespace eigenscope
