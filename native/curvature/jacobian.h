#pragma once

#include <memory>
#include <vector>

#include "curvature/engine.h"
#include "curvature/prepare.h"
#include "curvature/programs.h"

namespace eigenscope {

// The Jacobian of the split, or of the output where there is no loss to move it, in the chosen
// tensors: a (samples * width) x dim matrix that is never formed. Vectors are contiguous, in the
// precision of the options.
class JacobianMaps {
 public:
  // Throws as makeOperator.
  JacobianMaps(std::shared_ptr<const Problem> problem, const OperatorOptions& options);
  ~JacobianMaps();

  int64_t dim() const { return dim_; }
  int64_t samples() const { return problem_->samples; }
  const Shape& splitShape() const { return split_; }  // of one sample
  int64_t rows() const { return samples() * count(split_); }

  // y[k] = J x[k]: x of count x dim, y of count x samples x split.
  void product(const void* x, void* y, int64_t count, Task& task);

  // y[k] = J^T u[k], or J^T S u[k] (kind Ggn, see RowKind).
  void transposed(RowKind kind, const void* u, void* y, int64_t count, Task& task);

 private:
  Engine& images();
  Engine& pullback(RowKind kind);

  std::shared_ptr<const Problem> problem_;
  OperatorOptions options_;
  Prepared prepared_;
  Shape split_;
  int64_t dim_ = 0;
  std::unique_ptr<Engine> images_, pullbacks_[2];
};

}  // namespace eigenscope
