#pragma once

#include <cstdint>
#include <vector>

#include "ir/graph.h"

namespace eigenscope {

// Axes merged into runs that are kept and reduced by turns.
struct ReducePlan {
  struct Axis {
    int64_t size, from, to;  // strides in elements; to is unused on reduced axes
  };
  std::vector<Axis> kept, reduced;  // outermost first
  int64_t outElements = 1, inElements = 1;
};

ReducePlan planReduce(const Shape& shape, const std::vector<int64_t>& axes);

// Elements of scratch that runSum and runReduceMax want.
int64_t scratchBytes(const ReducePlan& plan, size_t elementSize);

// Sums in blocks of at most a few hundred terms, pairwise above, so that the rounding error grows
// with the logarithm of the count. The order depends on the shape only.
template <class T>
void runSum(const ReducePlan& plan, const T* x, T* out, bool accumulate, T* scratch);

// A NaN wins. Over no elements: -inf.
template <class T>
void runReduceMax(const ReducePlan& plan, const T* x, T* out, T* scratch);

// x [rows, n]. A row of -inf alone: softmax gives NaN, as PyTorch; logSumExp gives -inf.
template <class T>
void softmax(const T* x, int64_t rows, int64_t n, T* out);  // out may be x
template <class T>
void logSumExp(const T* x, int64_t rows, int64_t n, T* out);  // out [rows]

}  // namespace eigenscope
