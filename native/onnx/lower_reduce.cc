#include <algorithm>
#include <cmath>
#include <limits>

#include "onnx/table.h"

// Reductions over axes. Axes are an attribute in old opsets and an input in new ones.
namespace eigenscope::onnx {

namespace {

using Reduction = Value (*)(Call& c, const Value& x, const Axes& axes);

template <Reduction reduction>
Results reduce(Call& c) {
  const auto given = c.setting("axes", 1);
  Axes axes = given ? normalAxes(*given, c.rank(0)) : Axes{};
  if (axes.empty()) {
    if (c.integer("noop_with_empty_axes", 0)) return {c.in(0)};
    axes = identity(c.rank(0));
  }
  const Value y = reduction(c, c.in(0), axes);
  return {c.integer("keepdims", 1) ? y : c.b.squeeze(y, axes)};
}

Value sum(Call& c, const Value& x, const Axes& axes) { return c.b.sum(x, axes); }
Value mean(Call& c, const Value& x, const Axes& axes) { return c.b.mean(x, axes); }
Value max(Call& c, const Value& x, const Axes& axes) { return c.b.max(x, axes); }
Value min(Call& c, const Value& x, const Axes& axes) { return c.b.neg(c.b.max(c.b.neg(x), axes)); }

Value square(Call& c, const Value& x, const Axes& axes) { return c.b.sum(c.b.mul(x, x), axes); }

Value l2(Call& c, const Value& x, const Axes& axes) {
  return c.b.unary(Op::Sqrt, square(c, x, axes));
}

Value l1(Call& c, const Value& x, const Axes& axes) { return c.b.sum(c.b.abs(x), axes); }

Value logSum(Call& c, const Value& x, const Axes& axes) {
  return c.b.unary(Op::Log, c.b.sum(x, axes));
}

// The reduced axes as one, last.
Value logSumExp(Call& c, const Value& x, const Axes& axes) {
  Axes perm;
  for (int64_t i = 0; i < c.b.rank(x); ++i)
    if (!std::binary_search(axes.begin(), axes.end(), i)) perm.push_back(i);
  const size_t kept = perm.size();
  perm.insert(perm.end(), axes.begin(), axes.end());
  const Value moved = c.b.transpose(x, perm);
  Shape rows = c.b.shape(moved);
  const int64_t n = count(Shape(rows.begin() + kept, rows.end()));
  rows.resize(kept);
  rows.push_back(n);
  const Value y = c.b.logSumExp(c.b.reshape(moved, rows), static_cast<int64_t>(kept));
  Shape to = c.b.shape(x);
  for (int64_t axis : axes) to[axis] = 1;
  return c.b.reshape(y, to);
}

// Halves the axis until one is left: no division, so zeros are no special case.
Value product(Call& c, const Value& x, const Axes& axes) {
  Value y = x;
  for (int64_t axis : axes) {
    int64_t n = c.b.shape(y)[axis];
    if (n == 0) c.unsupported("a product of no factors");
    while (n > 1) {
      const int64_t half = n / 2;
      Value next = c.b.mul(c.b.sliceAxis(y, axis, 0, half), c.b.sliceAxis(y, axis, half, half));
      if (n % 2) next = c.b.concat({next, c.b.sliceAxis(y, axis, n - 1, 1)}, axis);
      y = next;
      n = c.b.shape(y)[axis];
    }
  }
  return y;
}

constexpr Grade kPiecewise = Grade::Piecewise;

const Operator kTable[] = {
    {.name = "ReduceL1", .grade = kPiecewise, .lower = reduce<l1>},
    {.name = "ReduceL2", .lower = reduce<l2>},
    {.name = "ReduceLogSum", .lower = reduce<logSum>},
    {.name = "ReduceLogSumExp", .lower = reduce<logSumExp>},
    {.name = "ReduceMax", .grade = kPiecewise, .lower = reduce<max>},
    {.name = "ReduceMean", .lower = reduce<mean>},
    {.name = "ReduceMin", .grade = kPiecewise, .lower = reduce<min>},
    {.name = "ReduceProd", .lower = reduce<product>},
    {.name = "ReduceSum", .lower = reduce<sum>},
    {.name = "ReduceSumSquare", .lower = reduce<square>},
};

}  // namespace

std::span<const Operator> reduceOperators() { return kTable; }

}  // namespace eigenscope::onnx
