#pragma once

#include <cstdint>

#include "ir/graph.h"

namespace eigenscope {

// Draws from the likelihood that a loss stands for, keyed by (seed, sample, draw, element), so that
// batch size, order and threads never change them. attr.ints = {kind, draws, seed}.
//   Categorical  p [B, ..., C]: one-hot of a class drawn with probabilities p along the last axis
//   Bernoulli    p [B, ...]: 1 with probability p, else 0
//   Normal       any [B, ...]: standard normal, the values of the operand are not used
// The result is [draws, shape of the operand].
//
// And masks of Dropout, keyed by (seed, node, sample, element). attr.ints = {kind, 1, seed, node},
// attr.number = ratio.
//   Dropout      any [B, ...]: see dropoutAt; the values of the operand are not used
// The result has the shape of the operand.
enum class DrawKind : int64_t { Categorical, Bernoulli, Normal, Dropout };

// 0 with probability `ratio`, otherwise 1 / (1 - ratio).
double dropoutAt(uint64_t seed, int64_t node, int64_t position, double ratio);

struct DrawPlan {
  DrawKind kind;
  int64_t draws, samples, perSample, classes;
  uint64_t seed;
  int64_t node;  // of Dropout, and the next
  double ratio;
};

DrawPlan planDraw(const Attr& attr, const Shape& in, const Shape& out);

// `begin` is the index of the first sample in the data set.
template <class T>
void runDraw(const DrawPlan& plan, int64_t begin, const T* p, T* out);

}  // namespace eigenscope
