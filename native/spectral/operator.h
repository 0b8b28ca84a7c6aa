#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/precision.h"
#include "base/task.h"

namespace eigenscope {

// A real linear map of R^dim; every operator of the curvature layer is symmetric.
// A solver knows only these four.
class LinearOperator {
 public:
  virtual ~LinearOperator() = default;

  virtual int64_t dim() const = 0;

  // The type of the numbers that `apply` takes and returns.
  virtual Precision precision() const = 0;

  // Y = A X for `count` vectors. Vector k is the contiguous run x[k * dim] .. x[(k + 1) * dim - 1]
  // of float or double; x and y do not overlap. May block; throws Error (Abort when task is
  // cancelled).
  virtual void apply(const void* x, void* y, int64_t count, Task& task) = 0;

  // Flat parameter index of each coordinate; empty means the identity. Random vectors are keyed by
  // it, so that a restriction sees the same numbers as the whole.
  virtual std::span<const int64_t> index() const { return {}; }
};

using OperatorPtr = std::shared_ptr<LinearOperator>;

}  // namespace eigenscope
