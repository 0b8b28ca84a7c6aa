#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "linalg/basis.h"
#include "spectral/operator.h"

namespace eigenscope {

// An orthogonal map H of R^dim whose first columns span the given vectors: a product of Householder
// reflections I - W T W^T. Coordinates from `rank` on are those of the orthogonal complement.
class Reflections {
 public:
  // `vectors` is count x dim; directions within rounding of the others are left out.
  Reflections(const std::vector<double>& vectors, int64_t dim, int threads, const Task* task);

  int64_t dim() const { return dim_; }
  int64_t rank() const { return rank_; }
  // x becomes H x, or H^T x.
  void apply(double* x) const { reflect(x, false); }
  void applyTransposed(double* x) const { reflect(x, true); }

 private:
  void reflect(double* x, bool transposed) const;

  int64_t dim_, rank_ = 0;
  std::vector<double> w_;  // dim x rank
  std::vector<double> t_;  // rank x rank, upper triangular
};

// The compression of an operator to the orthogonal complement of some vectors, in coordinates of
// that complement: an operator of dimension dim - rank that has no trace of the vectors left, where
// P A P would have zeros for them.
class ComplementOperator : public LinearOperator {
 public:
  ComplementOperator(LinearOperator& op, std::shared_ptr<const Reflections> reflections)
      : op_(op), reflections_(std::move(reflections)) {}

  int64_t dim() const override { return op_.dim() - reflections_->rank(); }
  Precision precision() const override { return op_.precision(); }
  void apply(const void* x, void* y, int64_t count, Task& task) override;

 private:
  LinearOperator& op_;
  std::shared_ptr<const Reflections> reflections_;
  int64_t products_ = 0;  // for messages
};

}  // namespace eigenscope
