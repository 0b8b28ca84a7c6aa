#pragma once

#include <vector>

#include "onnx/lower.h"

namespace eigenscope::onnx {

// Positions in a tensor of this shape, in row-major order, from those along each of its axes, which
// broadcast together. Negative ones count from the end; known ones beyond an axis are an error.
Value flatPositions(Call& c, const std::vector<Value>& along, const Shape& shape);

// 0, 1, 2, ... along one axis of this shape, with size 1 along the others.
Value countingAlong(int64_t axis, const Shape& shape);

// Where the indices of GatherElements and ScatterElements (`at`) point to in a tensor `from`.
Value elementPositions(Call& c, const Value& at, const Shape& from, int64_t axis);

// The same for GatherND and ScatterND: positions of rows [count of the indexed axes, ...].
struct RowPositions {
  Value flat;
  Shape indexed, rest;  // the axes that the indices count along, and those after them
};
RowPositions rowPositions(Call& c, const Value& indices, const Shape& from, int64_t batch);

}  // namespace eigenscope::onnx
