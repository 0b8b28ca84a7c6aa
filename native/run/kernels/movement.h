#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "ir/graph.h"

namespace eigenscope {

// One strided copy serves permute, slice, unslice and broadcast. Axes are merged and ordered so
// that the last one is the fastest; a plan whose fastest axes differ between source and result is
// done as blocked transpositions.
struct CopyPlan {
  struct Axis {
    int64_t size, from, to;  // strides in elements; from = 0 repeats
  };
  std::vector<Axis> axes;
  int64_t fromOffset = 0, toOffset = 0;
  int64_t toElements = 0;  // of the result
  bool fill = false;       // the copy does not cover the result: zeros elsewhere
};

CopyPlan planPermute(const Shape& shape, const std::vector<int64_t>& perm);
CopyPlan planSlice(const Shape& full, const std::vector<int64_t>& start,
                   const std::vector<int64_t>& step, const Shape& sizes);
// The transpose of planSlice with the same arguments: `sizes` is the shape of the source.
CopyPlan planUnslice(const Shape& full, const std::vector<int64_t>& start,
                     const std::vector<int64_t>& step, const Shape& sizes);
CopyPlan planBroadcast(const Shape& from, const Shape& to);  // NumPy rules

// Types: float, double, int32_t, uint8_t. out = copy, or out += copy (float and double; a plan with
// `fill` then leaves the rest of out alone).
template <class T>
void runCopy(const CopyPlan& plan, const T* x, T* out);
template <class T>
void runCopyAdd(const CopyPlan& plan, const T* x, T* out);

// parts[i] is [outer, inner[i]]; out is [outer, sum of inner].
template <class T>
void concat(std::span<const T* const> parts, std::span<const int64_t> inner, int64_t outer, T* out);

// x [pre, n, post], index [m] -> out [pre, m, post]. An index outside of [0, n) throws Error
// (DataMismatch) that names it; nothing outside of x is read.
template <class T>
void gatherRows(const T* x, const int32_t* index, int64_t pre, int64_t n, int64_t m, int64_t post,
                T* out);
// y [pre, m, post] -> out [pre, n, post], zeros where no index points unless `accumulate`.
// Float and double. The order of the sums is that of the index.
template <class T>
void scatterAddRows(const T* y, const int32_t* index, int64_t pre, int64_t n, int64_t m,
                    int64_t post, T* out, bool accumulate);

}  // namespace eigenscope
