#include "run/kernels/movement.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/error.h"
#include "run/kernels/simd.h"

namespace eigenscope {
namespace {

std::vector<int64_t> rowMajor(const Shape& shape) {
  std::vector<int64_t> strides(shape.size());
  int64_t stride = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= shape[i];
  }
  return strides;
}

int64_t product(const Shape& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

constexpr size_t kMaxAxes = 12;

// Orders axes by their stride in the result and joins those that run on in both tensors.
void normalise(CopyPlan& plan) {
  std::vector<CopyPlan::Axis> kept;
  for (const auto& axis : plan.axes)
    if (axis.size != 1) kept.push_back(axis);
  std::stable_sort(kept.begin(), kept.end(),
                   [](const auto& p, const auto& q) { return p.to > q.to; });
  std::vector<CopyPlan::Axis> merged;
  for (const auto& axis : kept) {
    if (!merged.empty() && merged.back().to == axis.to * axis.size &&
        merged.back().from == axis.from * axis.size) {
      merged.back() = {merged.back().size * axis.size, axis.from, axis.to};
    } else {
      merged.push_back(axis);
    }
  }
  if (merged.size() > kMaxAxes)
    throw Error(ErrorKind::Internal, "a copy over more than 12 independent axes");
  plan.axes = std::move(merged);
}

bool empty(const CopyPlan& plan) {
  return std::any_of(plan.axes.begin(), plan.axes.end(), [](const auto& a) { return a.size == 0; });
}

struct Assign {
  template <class T>
  static void one(T& to, const T& from) {
    to = from;
  }
};
struct Accumulate {
  template <class T>
  static void one(T& to, const T& from) {
    to += from;
  }
};

// body(from offset, to offset) for every index of the first `count` axes.
template <class Body>
inline void forEach(const CopyPlan::Axis* axes, size_t count, Body body) {
  int64_t index[kMaxAxes] = {};
  int64_t from = 0, to = 0;
  for (;;) {
    body(from, to);
    size_t i = count;
    for (;;) {
      if (i == 0) return;
      --i;
      from += axes[i].from;
      to += axes[i].to;
      if (++index[i] < axes[i].size) break;
      from -= axes[i].from * axes[i].size;
      to -= axes[i].to * axes[i].size;
      index[i] = 0;
    }
  }
}

template <class How, class T>
inline void copyRow(const T* from, int64_t fromStride, T* to, int64_t toStride, int64_t n) {
  if (toStride == 1) {
    if (fromStride == 1) {
      if constexpr (std::is_same_v<How, Assign>) {
        if (n >= 32) {
          std::memcpy(to, from, n * sizeof(T));
          return;
        }
      }
      for (int64_t i = 0; i < n; ++i) How::one(to[i], from[i]);
    } else if (fromStride == 0) {
      const T value = *from;
      for (int64_t i = 0; i < n; ++i) How::one(to[i], value);
    } else {
      for (int64_t i = 0; i < n; ++i) How::one(to[i], from[i * fromStride]);
    }
  } else {
    for (int64_t i = 0; i < n; ++i) How::one(to[i * toStride], from[i * fromStride]);
  }
}

// from [c][r] with r fastest -> to [r][c] with c fastest; strides of the slow axes given.
template <class How, class T>
void transpose(const T* from, int64_t fromC, T* to, int64_t toR, int64_t rows, int64_t columns) {
  constexpr int64_t kTile = 16;
  T tile[kTile * kTile];
  for (int64_t r0 = 0; r0 < rows; r0 += kTile) {
    const int64_t nr = std::min(kTile, rows - r0);
    for (int64_t c0 = 0; c0 < columns; c0 += kTile) {
      const int64_t nc = std::min(kTile, columns - c0);
      if (nr == kTile && nc == kTile) {
        for (int64_t c = 0; c < kTile; ++c) {
          const T* source = from + (c0 + c) * fromC + r0;
          for (int64_t r = 0; r < kTile; ++r) tile[r * kTile + c] = source[r];
        }
        for (int64_t r = 0; r < kTile; ++r) {
          T* target = to + (r0 + r) * toR + c0;
          for (int64_t c = 0; c < kTile; ++c) How::one(target[c], tile[r * kTile + c]);
        }
      } else {
        for (int64_t r = 0; r < nr; ++r)
          for (int64_t c = 0; c < nc; ++c)
            How::one(to[(r0 + r) * toR + c0 + c], from[(c0 + c) * fromC + r0 + r]);
      }
    }
  }
}

template <class How, class T>
void run(const CopyPlan& plan, const T* x, T* out) {
  if (empty(plan)) return;
  x += plan.fromOffset;
  out += plan.toOffset;
  const size_t rank = plan.axes.size();
  if (rank == 0) {
    How::one(*out, *x);
    return;
  }
  const auto& last = plan.axes.back();
  if (last.to == 1 && last.from > 1 && last.size >= 4) {
    for (size_t i = 0; i + 1 < rank; ++i) {
      if (plan.axes[i].from != 1 || plan.axes[i].size < 4) continue;
      CopyPlan::Axis outer[kMaxAxes];
      size_t count = 0;
      for (size_t j = 0; j + 1 < rank; ++j)
        if (j != i) outer[count++] = plan.axes[j];
      const auto& fast = plan.axes[i];
      forEach(outer, count, [&](int64_t from, int64_t to) {
        transpose<How>(x + from, last.from, out + to, fast.to, fast.size, last.size);
      });
      return;
    }
  }
  forEach(plan.axes.data(), rank - 1, [&](int64_t from, int64_t to) {
    copyRow<How>(x + from, last.from, out + to, last.to, last.size);
  });
}

// Whether all are in [0, n): as unsigned numbers, negative ones are large.
EIGENSCOPE_SIMD bool within(const int32_t* index, int64_t m, uint32_t n) {
  uint32_t most = 0;
  for (int64_t i = 0; i < m; ++i) most = std::max(most, static_cast<uint32_t>(index[i]));
  return m == 0 || most < n;
}

void checkIndices(const int32_t* index, int64_t m, int64_t n) {
  const auto limit = static_cast<uint32_t>(std::min<int64_t>(n, int64_t{1} << 31));
  if (within(index, m, limit)) return;
  const auto* wrong = std::find_if(index, index + m, [&](int32_t i) { return i < 0 || i >= n; });
  throw Error(ErrorKind::DataMismatch, "expected indices from 0 to " + std::to_string(n - 1) +
                                           ", but index " + std::to_string(wrong - index) + " is " +
                                           std::to_string(*wrong));
}

template <class T>
EIGENSCOPE_INLINE void pickElements(const T* x, const int32_t* index, int64_t m, T* out) {
  for (int64_t i = 0; i < m; ++i) out[i] = x[index[i]];
}
EIGENSCOPE_SIMD void pick(const float* x, const int32_t* index, int64_t m, float* out) {
  pickElements(x, index, m, out);
}
EIGENSCOPE_SIMD void pick(const double* x, const int32_t* index, int64_t m, double* out) {
  pickElements(x, index, m, out);
}
template <class T>
void pick(const T* x, const int32_t* index, int64_t m, T* out) {
  pickElements(x, index, m, out);
}

}  // namespace

CopyPlan planPermute(const Shape& shape, const std::vector<int64_t>& perm) {
  const auto from = rowMajor(shape);
  Shape result;
  for (int64_t axis : perm) result.push_back(shape[axis]);
  const auto to = rowMajor(result);
  CopyPlan plan;
  for (size_t i = 0; i < perm.size(); ++i) plan.axes.push_back({result[i], from[perm[i]], to[i]});
  plan.toElements = product(result);
  normalise(plan);
  return plan;
}

CopyPlan planSlice(const Shape& full, const std::vector<int64_t>& start,
                   const std::vector<int64_t>& step, const Shape& sizes) {
  const auto from = rowMajor(full), to = rowMajor(sizes);
  CopyPlan plan;
  for (size_t i = 0; i < full.size(); ++i) {
    plan.axes.push_back({sizes[i], from[i] * step[i], to[i]});
    plan.fromOffset += from[i] * start[i];
  }
  plan.toElements = product(sizes);
  normalise(plan);
  return plan;
}

CopyPlan planUnslice(const Shape& full, const std::vector<int64_t>& start,
                     const std::vector<int64_t>& step, const Shape& sizes) {
  const auto to = rowMajor(full), from = rowMajor(sizes);
  CopyPlan plan;
  for (size_t i = 0; i < full.size(); ++i) {
    plan.axes.push_back({sizes[i], from[i], to[i] * step[i]});
    plan.toOffset += to[i] * start[i];
  }
  plan.toElements = product(full);
  plan.fill = product(sizes) != plan.toElements;
  normalise(plan);
  return plan;
}

CopyPlan planBroadcast(const Shape& from, const Shape& to) {
  const auto fromStrides = rowMajor(from), toStrides = rowMajor(to);
  const size_t lead = to.size() - from.size();
  CopyPlan plan;
  for (size_t i = 0; i < to.size(); ++i) {
    const bool repeats = i < lead || from[i - lead] == 1;
    plan.axes.push_back({to[i], repeats ? 0 : fromStrides[i - lead], toStrides[i]});
  }
  plan.toElements = product(to);
  normalise(plan);
  return plan;
}

template <class T>
void runCopy(const CopyPlan& plan, const T* x, T* out) {
  if (plan.fill) std::fill_n(out, plan.toElements, T{});
  run<Assign>(plan, x, out);
}

template <class T>
void runCopyAdd(const CopyPlan& plan, const T* x, T* out) {
  run<Accumulate>(plan, x, out);
}

template <class T>
void concat(std::span<const T* const> parts, std::span<const int64_t> inner, int64_t outer,
            T* out) {
  int64_t width = 0;
  for (int64_t n : inner) width += n;
  int64_t offset = 0;
  for (size_t p = 0; p < parts.size(); ++p) {
    for (int64_t i = 0; i < outer; ++i)
      copyRow<Assign>(parts[p] + i * inner[p], 1, out + i * width + offset, 1, inner[p]);
    offset += inner[p];
  }
}

template <class T>
void gatherRows(const T* x, const int32_t* index, int64_t pre, int64_t n, int64_t m, int64_t post,
                T* out) {
  checkIndices(index, m, n);
  for (int64_t p = 0; p < pre; ++p, x += n * post, out += m * post) {
    if (post == 1) {
      pick(x, index, m, out);
    } else {
      for (int64_t i = 0; i < m; ++i)
        copyRow<Assign>(x + index[i] * post, 1, out + i * post, 1, post);
    }
  }
}

template <class T>
void scatterAddRows(const T* y, const int32_t* index, int64_t pre, int64_t n, int64_t m,
                    int64_t post, T* out, bool accumulate) {
  checkIndices(index, m, n);
  if (!accumulate) std::fill_n(out, pre * n * post, T{});
  for (int64_t p = 0; p < pre; ++p, y += m * post, out += n * post) {
    if (post == 1) {
      for (int64_t i = 0; i < m; ++i) out[index[i]] += y[i];
    } else {
      for (int64_t i = 0; i < m; ++i)
        copyRow<Accumulate>(y + i * post, 1, out + index[i] * post, 1, post);
    }
  }
}

#define EIGENSCOPE_MOVEMENT(T)                                                               \
  template void runCopy<T>(const CopyPlan&, const T*, T*);                                   \
  template void concat<T>(std::span<const T* const>, std::span<const int64_t>, int64_t, T*); \
  template void gatherRows<T>(const T*, const int32_t*, int64_t, int64_t, int64_t, int64_t, T*);
EIGENSCOPE_MOVEMENT(float)
EIGENSCOPE_MOVEMENT(double)
EIGENSCOPE_MOVEMENT(int32_t)
EIGENSCOPE_MOVEMENT(uint8_t)
#undef EIGENSCOPE_MOVEMENT

#define EIGENSCOPE_ADDING(T)                                                                    \
  template void runCopyAdd<T>(const CopyPlan&, const T*, T*);                                   \
  template void scatterAddRows<T>(const T*, const int32_t*, int64_t, int64_t, int64_t, int64_t, \
                                  T*, bool);
EIGENSCOPE_ADDING(float)
EIGENSCOPE_ADDING(double)
#undef EIGENSCOPE_ADDING

}  // namespace eigenscope
