#include <algorithm>

#include "run/kernels/im2col.h"
#include "run/kernels/simd.h"

// Depthwise convolutions: vectors run along the channels, which the weights are transposed to.
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

template <class T>
EIGENSCOPE_INLINE void multiplyAdd(const T* p, const T* q, T* sum, int64_t n) {
  for (int64_t c = 0; c < n; ++c) sum[c] += p[c] * q[c];
}

template <class T, class Tap>
EIGENSCOPE_INLINE void forEachTap(const ConvShape& s, int64_t oh, int64_t ow, Tap tap) {
  const Window& w = s.window;
  const int64_t h0 = oh * w.stride[0] - w.pad[0], w0 = ow * w.stride[1] - w.pad[1];
  const Range rows = inside(h0, w.dilation[0], w.kernel[0], s.H);
  const Range columns = inside(w0, w.dilation[1], w.kernel[1], s.W);
  for (int64_t i = rows.low; i < rows.high; ++i)
    for (int64_t j = columns.low; j < columns.high; ++j)
      tap((i * w.kernel[1] + j) * s.C,
          ((h0 + i * w.dilation[0]) * s.W + w0 + j * w.dilation[1]) * s.C);
}

template <class T>
EIGENSCOPE_INLINE void loops(const ConvShape& s, ConvForm form, const T* a, const T* b, T* out,
                             bool accumulate, T* scratch) {
  const int64_t taps = s.window.kernel[0] * s.window.kernel[1], image = s.H * s.W * s.C;
  T* turned = scratch;  // [taps, C]
  if (form == ConvForm::Weight) {
    std::fill_n(turned, taps * s.C, T{});
  } else {
    for (int64_t t = 0; t < taps; ++t)
      for (int64_t c = 0; c < s.C; ++c) turned[t * s.C + c] = b[c * taps + t];
    if (!accumulate)
      std::fill_n(out, form == ConvForm::Forward ? s.B * s.OH * s.OW * s.C : s.B * image, T{});
  }
  T* line = scratch + taps * s.C;  // weight sums of one output line, so that rounding grows slowly
  for (int64_t n = 0; n < s.B; ++n)
    for (int64_t oh = 0; oh < s.OH; ++oh) {
      if (form == ConvForm::Weight) std::fill_n(line, taps * s.C, T{});
      for (int64_t ow = 0; ow < s.OW; ++ow) {
        const int64_t y = ((n * s.OH + oh) * s.OW + ow) * s.C;
        forEachTap<T>(s, oh, ow, [&](int64_t tap, int64_t x) {
          switch (form) {
            case ConvForm::Forward:
              multiplyAdd(a + n * image + x, turned + tap, out + y, s.C);
              break;
            case ConvForm::Input: multiplyAdd(a + y, turned + tap, out + n * image + x, s.C); break;
            case ConvForm::Weight: multiplyAdd(a + n * image + x, b + y, line + tap, s.C); break;
          }
        });
      }
      if (form == ConvForm::Weight)
        for (int64_t i = 0; i < taps * s.C; ++i) turned[i] += line[i];
    }
  if (form == ConvForm::Weight)
    for (int64_t t = 0; t < taps; ++t)
      for (int64_t c = 0; c < s.C; ++c) {
        T& to = out[c * taps + t];
        to = (accumulate ? to : T{}) + turned[t * s.C + c];
      }
}

EIGENSCOPE_SIMD void run(const ConvShape& s, ConvForm form, const float* a, const float* b,
                         float* out, bool accumulate, float* scratch) {
  loops(s, form, a, b, out, accumulate, scratch);
}
EIGENSCOPE_SIMD void run(const ConvShape& s, ConvForm form, const double* a, const double* b,
                         double* out, bool accumulate, double* scratch) {
  loops(s, form, a, b, out, accumulate, scratch);
}

}  // namespace

int64_t depthwiseScratch(const ConvShape& s) {
  return 2 * s.C * s.window.kernel[0] * s.window.kernel[1];
}

template <class T>
void depthwise(const ConvShape& shape, ConvForm form, const T* a, const T* b, T* out,
               bool accumulate, T* scratch) {
  run(shape, form, a, b, out, accumulate, scratch);
}

template void depthwise<float>(const ConvShape&, ConvForm, const float*, const float*, float*, bool,
                               float*);
template void depthwise<double>(const ConvShape&, ConvForm, const double*, const double*, double*,
                                bool, double*);

}  // namespace eigenscope
