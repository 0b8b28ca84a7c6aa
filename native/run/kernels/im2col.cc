#include "run/kernels/im2col.h"

#include <algorithm>
#include <cstring>

#include "run/kernels/gemm.h"

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
inline void copy(const T* from, T* to, int64_t n) {
  if (n >= 32)
    std::memcpy(to, from, n * sizeof(T));
  else
    for (int64_t i = 0; i < n; ++i) to[i] = from[i];
}
template <class T>
inline void zero(T* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = T{};
}
template <class T>
inline void add(const T* from, T* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] += from[i];
}

// visit(x offset or -1 for padding, elements) for each contiguous run of patch `position`, in patch
// order.
template <class Visit>
inline void forEachRun(const ConvShape& s, int64_t group, int64_t b, int64_t oh, int64_t ow,
                       Visit visit) {
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
inline void forEachRow(const ConvShape& s, int64_t first, int64_t rows, T* columns, Row row) {
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
void gather(const ConvShape& s, int64_t group, const T* x, int64_t first, int64_t rows,
            T* columns) {
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
void scatter(const ConvShape& s, int64_t group, const T* columns, int64_t first, int64_t rows,
             T* x) {
  forEachRow(s, first, rows, columns, [&](int64_t b, int64_t oh, int64_t ow, const T* from) {
    forEachRun(s, group, b, oh, ow, [&](int64_t offset, int64_t n) {
      if (offset >= 0) add(from, x + offset, n);
      from += n;
    });
  });
}

}  // namespace

int64_t im2colScratch(const ConvShape& shape, ConvForm, size_t elementSize) {
  return isPointwise(shape) ? 0 : tileRows(shape, elementSize) * patchSize(shape);
}

template <class T>
void im2col(const ConvShape& s, ConvForm form, const T* a, const T* b, T* out, bool accumulate,
            T* scratch) {
  const int64_t groups = s.window.groups, patch = patchSize(s);
  const int64_t channels = s.C / groups, outputs = s.O / groups;
  const int64_t positions = s.B * s.OH * s.OW;
  const bool direct = isPointwise(s);
  const int64_t tile = direct ? positions : tileRows(s, sizeof(T));
  if (form == ConvForm::Input && !accumulate && !direct)
    std::fill_n(out, s.B * s.H * s.W * s.C, T{});
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t first = 0; first < positions; first += tile) {
      const int64_t rows = std::min(tile, positions - first);
      T* columns = scratch;
      int64_t ld = patch;
      if (direct) {
        ld = s.C;
        columns = const_cast<T*>(form == ConvForm::Input ? out : a) + g * channels;
      } else if (form != ConvForm::Input) {
        gather(s, g, a, first, rows, columns);
      }
      const int64_t y = first * s.O + g * outputs, w = g * outputs * patch;
      switch (form) {
        case ConvForm::Forward:
          gemm(rows, outputs, patch, columns, ld, int64_t{1}, b + w, int64_t{1}, patch, out + y,
               s.O, accumulate);
          break;
        case ConvForm::Input:
          gemm(rows, patch, outputs, a + y, s.O, int64_t{1}, b + w, patch, int64_t{1}, columns, ld,
               direct && accumulate);
          if (!direct) scatter(s, g, columns, first, rows, out);
          break;
        case ConvForm::Weight:
          gemm(outputs, patch, rows, b + y, int64_t{1}, s.O, columns, ld, int64_t{1}, out + w,
               patch, accumulate || first > 0);
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
