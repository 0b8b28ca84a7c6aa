#include "run/kernels/reduce.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "run/kernels/simd.h"

namespace eigenscope {
namespace {

constexpr size_t kMaxAxes = 12;
constexpr int64_t kColumns = 256;  // at once
constexpr int64_t kBlock = 64;     // terms added one after the other
constexpr int kLevels = 4;         // 64^4 terms and more; the last level takes what comes

// NaN wins, and stays: nothing is larger than it.
template <class T>
EIGENSCOPE_INLINE T larger(T best, T x) {
  return (x > best) | (x != x) ? x : best;
}

// A sum kept as partial sums of 1, 64, 64^2, ... terms, so that errors grow with the logarithm.
template <class V>
struct Cascade {
  V level[kLevels] = {};
  int64_t count[kLevels] = {};

  EIGENSCOPE_INLINE void add(const V& value) {
    level[0] += value;
    if (++count[0] == kBlock) carry();
  }
  EIGENSCOPE_INLINE void carry() {
    for (int i = 0; i + 1 < kLevels && count[i] == kBlock; ++i) {
      level[i + 1] += level[i];
      ++count[i + 1];
      level[i] = V{};
      count[i] = 0;
    }
  }
  EIGENSCOPE_INLINE V sum() const { return ((level[0] + level[1]) + level[2]) + level[3]; }
};

// One after the other through the reduced axes of a plan.
struct Odometer {
  const ReducePlan::Axis* axes;
  size_t count;
  int64_t index[kMaxAxes] = {};
  int64_t from = 0, to = 0;

  bool next() {
    for (size_t i = count; i-- > 0;) {
      from += axes[i].from;
      to += axes[i].to;
      if (++index[i] < axes[i].size) return true;
      from -= axes[i].from * axes[i].size;
      to -= axes[i].to * axes[i].size;
      index[i] = 0;
    }
    return false;
  }
};

template <class T>
EIGENSCOPE_INLINE T sumRun(const T* x, int64_t n) {
  using V = simd::Vector<T>;
  constexpr int64_t kLanes = simd::kLanes<T>, kStep = 4 * kLanes;
  T result{};
  int64_t i = 0;
  V s0{}, s1{}, s2{}, s3{};
  if (n < 64 * kStep) {
    for (; i + kStep <= n; i += kStep) {
      s0 += simd::load(x + i);
      s1 += simd::load(x + i + kLanes);
      s2 += simd::load(x + i + 2 * kLanes);
      s3 += simd::load(x + i + 3 * kLanes);
    }
    for (; i + kLanes <= n; i += kLanes) s0 += simd::load(x + i);
    if (n >= kLanes) result = simd::total<T>((s0 + s1) + (s2 + s3));
  } else {
    Cascade<V> cascade;
    int64_t held = 0;
    for (; i + kStep <= n; i += kStep) {
      s0 += simd::load(x + i);
      s1 += simd::load(x + i + kLanes);
      s2 += simd::load(x + i + 2 * kLanes);
      s3 += simd::load(x + i + 3 * kLanes);
      if (++held == 16) {
        cascade.add((s0 + s1) + (s2 + s3));
        s0 = s1 = s2 = s3 = V{};
        held = 0;
      }
    }
    cascade.add((s0 + s1) + (s2 + s3));
    result = simd::total<T>(cascade.sum());
  }
  T tail{};
  for (; i < n; ++i) tail += x[i];
  return result + tail;
}

template <class T>
EIGENSCOPE_INLINE T maxRun(const T* x, int64_t n) {
  constexpr int64_t kLanes = 16;
  T best = x[0];
  int64_t i = 0;
  if (n >= kLanes) {
    T lanes[kLanes];
    for (int64_t j = 0; j < kLanes; ++j) lanes[j] = x[j];
    for (i = kLanes; i + kLanes <= n; i += kLanes)
      for (int64_t j = 0; j < kLanes; ++j) lanes[j] = larger(lanes[j], x[i + j]);
    for (int64_t half = kLanes / 2; half > 0; half /= 2)
      for (int64_t j = 0; j < half; ++j) lanes[j] = larger(lanes[j], lanes[j + half]);
    best = lanes[0];
  }
  for (; i < n; ++i) best = larger(best, x[i]);
  return best;
}

// Column sums of `rows` rows of n <= kColumns that lie as the reduced axes say.
template <class T>
EIGENSCOPE_INLINE void sumColumnsOf(Odometer rows, const T* x, int64_t n, T* sums) {
  T level[kLevels][kColumns];
  int64_t held[kLevels] = {};
  for (int l = 0; l < kLevels; ++l)
    for (int64_t j = 0; j < n; ++j) level[l][j] = T{};
  do {
    const T* row = x + rows.from;
    for (int64_t j = 0; j < n; ++j) level[0][j] += row[j];
    if (++held[0] == kBlock)
      for (int l = 0; l + 1 < kLevels && held[l] == kBlock; ++l) {
        for (int64_t j = 0; j < n; ++j) {
          level[l + 1][j] += level[l][j];
          level[l][j] = T{};
        }
        ++held[l + 1];
        held[l] = 0;
      }
  } while (rows.next());
  for (int64_t j = 0; j < n; ++j)
    sums[j] = ((level[0][j] + level[1][j]) + level[2][j]) + level[3][j];
}

EIGENSCOPE_SIMD void sumColumns(const Odometer& rows, const float* x, int64_t n, float* sums) {
  sumColumnsOf(rows, x, n, sums);
}
EIGENSCOPE_SIMD void sumColumns(const Odometer& rows, const double* x, int64_t n, double* sums) {
  sumColumnsOf(rows, x, n, sums);
}

template <class T>
EIGENSCOPE_INLINE void maxColumns(Odometer rows, const T* x, int64_t n, T* best) {
  for (int64_t j = 0; j < n; ++j) best[j] = x[j];
  while (rows.next()) {
    const T* row = x + rows.from;
    for (int64_t j = 0; j < n; ++j) best[j] = larger(best[j], row[j]);
  }
}

// Narrow rows that follow one another are taken many at a time as one long row.
template <class T>
EIGENSCOPE_INLINE void sumNarrow(const ReducePlan& plan, const T* x, int64_t n, T* sums) {
  const auto& inner = plan.reduced.back();
  const int64_t together = std::min(inner.size, kColumns / n);
  const int64_t wide = inner.size / together;
  ReducePlan::Axis axes[kMaxAxes];
  std::copy(plan.reduced.begin(), plan.reduced.end(), axes);
  axes[plan.reduced.size() - 1] = {wide, together * n, 0};
  T lanes[kColumns];
  sumColumns({axes, plan.reduced.size()}, x, together * n, lanes);
  for (int64_t width = together; width > 1; width = (width + 1) / 2) {
    const int64_t half = (width + 1) / 2;
    for (int64_t j = 0; j < (width - half) * n; ++j) lanes[j] += lanes[half * n + j];
  }
  for (int64_t j = 0; j < n; ++j) sums[j] = lanes[j];
  if (const int64_t rest = inner.size - wide * together; rest > 0) {
    axes[plan.reduced.size() - 1] = {rest, n, 0};
    sumColumns({axes, plan.reduced.size()}, x + wide * together * n, n, lanes);
    for (int64_t j = 0; j < n; ++j) sums[j] += lanes[j];
  }
}

// Whether the fastest axis is reduced; else it is the last kept one.
bool innerReduced(const ReducePlan& plan) {
  return !plan.reduced.empty() && plan.reduced.back().from == 1;
}

template <class T>
EIGENSCOPE_INLINE void sumAll(const ReducePlan& plan, const T* x, T* out, bool accumulate) {
  if (innerReduced(plan)) {
    const auto& inner = plan.reduced.back();
    Odometer kept{plan.kept.data(), plan.kept.size()};
    do {
      Odometer rows{plan.reduced.data(), plan.reduced.size() - 1};
      T value;
      if (rows.count == 0) {
        value = sumRun(x + kept.from, inner.size);
      } else {
        Cascade<T> cascade;
        do cascade.add(sumRun(x + kept.from + rows.from, inner.size));
        while (rows.next());
        value = cascade.sum();
      }
      T& to = out[kept.to];
      to = accumulate ? to + value : value;
    } while (kept.next());
    return;
  }
  const int64_t n = plan.kept.empty() ? 1 : plan.kept.back().size;
  const bool narrow = !plan.reduced.empty() && plan.reduced.back().from == n && n <= kColumns / 2;
  Odometer kept{plan.kept.data(), plan.kept.empty() ? 0 : plan.kept.size() - 1};
  do {
    for (int64_t j = 0; j < n; j += kColumns) {
      const int64_t columns = std::min(kColumns, n - j);
      T sums[kColumns];
      if (narrow)
        sumNarrow(plan, x + kept.from, n, sums);
      else
        sumColumns({plan.reduced.data(), plan.reduced.size()}, x + kept.from + j, columns, sums);
      T* to = out + kept.to + j;
      if (accumulate)
        for (int64_t c = 0; c < columns; ++c) to[c] += sums[c];
      else
        for (int64_t c = 0; c < columns; ++c) to[c] = sums[c];
    }
  } while (kept.next());
}

template <class T>
EIGENSCOPE_INLINE void maxAll(const ReducePlan& plan, const T* x, T* out) {
  if (innerReduced(plan)) {
    const auto& inner = plan.reduced.back();
    Odometer kept{plan.kept.data(), plan.kept.size()};
    do {
      Odometer rows{plan.reduced.data(), plan.reduced.size() - 1};
      T best = maxRun(x + kept.from, inner.size);
      while (rows.next()) best = larger(best, maxRun(x + kept.from + rows.from, inner.size));
      out[kept.to] = best;
    } while (kept.next());
    return;
  }
  const int64_t n = plan.kept.empty() ? 1 : plan.kept.back().size;
  Odometer kept{plan.kept.data(), plan.kept.empty() ? 0 : plan.kept.size() - 1};
  do {
    for (int64_t j = 0; j < n; j += kColumns)
      maxColumns({plan.reduced.data(), plan.reduced.size()}, x + kept.from + j,
                 std::min(kColumns, n - j), out + kept.to + j);
  } while (kept.next());
}

// values[i] = exp(x[i] - shift)
template <class T>
EIGENSCOPE_INLINE void exponentials(const T* x, T shift, int64_t n, T* values) {
  for (int64_t i = 0; i < n; ++i) values[i] = simd::exp(x[i] - shift);
}

template <class T>
EIGENSCOPE_INLINE void softmaxRows(const T* x, int64_t rows, int64_t n, T* out) {
  for (int64_t r = 0; r < rows; ++r, x += n, out += n) {
    exponentials(x, maxRun(x, n), n, out);
    const T scale = T(1) / sumRun(out, n);
    for (int64_t j = 0; j < n; ++j) out[j] *= scale;
  }
}

template <class T>
EIGENSCOPE_INLINE void logSumExpRows(const T* x, int64_t rows, int64_t n, T* out) {
  for (int64_t r = 0; r < rows; ++r, x += n) {
    const T most = maxRun(x, n);
    if (std::isinf(most)) {
      out[r] = most;
      continue;
    }
    Cascade<T> cascade;
    T values[kColumns];
    for (int64_t j = 0; j < n; j += kColumns) {
      const int64_t m = std::min(kColumns, n - j);
      exponentials(x + j, most, m, values);
      cascade.add(sumRun(values, m));
    }
    out[r] = most + std::log(cascade.sum());
  }
}

#define EIGENSCOPE_REDUCE(T)                                                                 \
  EIGENSCOPE_SIMD void sumOf(const ReducePlan& p, const T* x, T* out, bool accumulate) {     \
    sumAll(p, x, out, accumulate);                                                           \
  }                                                                                          \
  EIGENSCOPE_SIMD void maxOf(const ReducePlan& p, const T* x, T* out) { maxAll(p, x, out); } \
  EIGENSCOPE_SIMD void softmaxOf(const T* x, int64_t rows, int64_t n, T* out) {              \
    softmaxRows(x, rows, n, out);                                                            \
  }                                                                                          \
  EIGENSCOPE_SIMD void logSumExpOf(const T* x, int64_t rows, int64_t n, T* out) {            \
    logSumExpRows(x, rows, n, out);                                                          \
  }
EIGENSCOPE_REDUCE(float)
EIGENSCOPE_REDUCE(double)
#undef EIGENSCOPE_REDUCE

}  // namespace

ReducePlan planReduce(const Shape& shape, const std::vector<int64_t>& axes) {
  const int64_t rank = static_cast<int64_t>(shape.size());
  std::vector<bool> gone(shape.size());
  for (int64_t axis : axes) gone[axis < 0 ? axis + rank : axis] = true;
  ReducePlan plan;
  struct Run {
    int64_t size;
    bool gone;
  };
  std::vector<Run> runs;
  for (size_t i = 0; i < shape.size(); ++i) {
    plan.inElements *= shape[i];
    if (!gone[i]) plan.outElements *= shape[i];
    if (shape[i] == 1) continue;
    if (!runs.empty() && runs.back().gone == gone[i])
      runs.back().size *= shape[i];
    else
      runs.push_back({shape[i], gone[i]});
  }
  if (runs.size() > kMaxAxes)
    throw Error(ErrorKind::Internal, "a reduction over more than 12 alternating axes");
  int64_t from = 1, to = 1;
  for (size_t i = runs.size(); i-- > 0;) {
    auto& side = runs[i].gone ? plan.reduced : plan.kept;
    side.insert(side.begin(), {runs[i].size, from, runs[i].gone ? 0 : to});
    from *= runs[i].size;
    if (!runs[i].gone) to *= runs[i].size;
  }
  return plan;
}

int64_t scratchBytes(const ReducePlan&, size_t) { return 0; }

template <class T>
void runSum(const ReducePlan& plan, const T* x, T* out, bool accumulate, T*) {
  if (plan.outElements == 0) return;
  if (plan.inElements == 0) {
    if (!accumulate) std::fill_n(out, plan.outElements, T{});
    return;
  }
  sumOf(plan, x, out, accumulate);
}

template <class T>
void runReduceMax(const ReducePlan& plan, const T* x, T* out, T*) {
  if (plan.outElements == 0) return;
  if (plan.inElements == 0) {
    std::fill_n(out, plan.outElements, -std::numeric_limits<T>::infinity());
    return;
  }
  maxOf(plan, x, out);
}

template <class T>
void softmax(const T* x, int64_t rows, int64_t n, T* out) {
  if (n > 0) softmaxOf(x, rows, n, out);
}

template <class T>
void logSumExp(const T* x, int64_t rows, int64_t n, T* out) {
  if (n > 0)
    logSumExpOf(x, rows, n, out);
  else
    std::fill_n(out, rows, -std::numeric_limits<T>::infinity());
}

#define EIGENSCOPE_REDUCE(T)                                          \
  template void runSum<T>(const ReducePlan&, const T*, T*, bool, T*); \
  template void runReduceMax<T>(const ReducePlan&, const T*, T*, T*); \
  template void softmax<T>(const T*, int64_t, int64_t, T*);           \
  template void logSumExp<T>(const T*, int64_t, int64_t, T*);
EIGENSCOPE_REDUCE(float)
EIGENSCOPE_REDUCE(double)
#undef EIGENSCOPE_REDUCE

}  // namespace eigenscope
