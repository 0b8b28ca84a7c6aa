#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "curvature/engine.h"
#include "curvature/prepare.h"
#include "curvature/programs.h"

namespace eigenscope {

// A matrix R with `perSample` rows for each sample, by the samples' own gradients (see RowKind), of
// which an operator is the sum: scale * R^T R is the Gauss-Newton matrix and the type-2 Fisher
// (Ggn), or the mc or empirical Fisher. R is never stored: rows pass by.
class SampleRows {
 public:
  // Throws as makeOperator; Option where the loss has no such rows. With `factors`, a row holds
  // the two factors of each tensor whose rows are outer products, see outerTensors(), and nothing
  // of the other tensors.
  SampleRows(std::shared_ptr<const Problem> problem, const OperatorOptions& options, RowKind kind,
             bool factors = false);

  int64_t dim() const { return dim_; }
  int64_t samples() const { return problem_->samples; }
  int64_t perSample() const { return perSample_; }
  int64_t count() const { return samples() * perSample_; }
  double scale() const { return scale_; }
  RowKind kind() const { return kind_; }
  Precision precision() const { return options_.precision; }
  const std::vector<OuterTensor>& outerTensors() const { return outer_; }
  const Shape& splitShape() const { return split_; }  // of one sample; empty for Mc and Empirical
  const Problem& problem() const { return *problem_; }
  const OperatorOptions& options() const { return options_; }

  // Rows [first, first + count) of one sample, each of dim() numbers in the precision.
  struct Block {
    int64_t chunk;  // of samples; one thread has all blocks of a chunk, in order
    int64_t sample, first, count;
    const void* rows;
    template <class T>
    const T* as() const {
      return static_cast<const T*>(rows);
    }
  };
  using Visitor = std::function<void(const Block&)>;

  // Blocks of samples [first, last), on many threads. The visitor is called for every block once.
  void visit(int64_t first, int64_t last, int64_t chunk, const Visitor& visitor, Task& task);

  // The sum over all blocks of what `add` adds to `size` numbers, in an order that does not depend
  // on threads.
  using Adder = std::function<void(const Block&, double* sums)>;
  std::vector<double> sum(int64_t size, const Adder& add, Task& task);

  // Samples that sum() gives to one thread at a time.
  int64_t chunk() const;

  OperatorReport report() const { return engine_->report(); }

 private:
  std::shared_ptr<const Problem> problem_;
  OperatorOptions options_;
  RowKind kind_;
  Prepared prepared_;
  Shape split_;
  std::vector<OuterTensor> outer_;
  int64_t dim_ = 0, perSample_ = 0, width_ = 1;
  double scale_ = 1;
  std::unique_ptr<Engine> engine_;
};

// The kind of rows that an operator is made of; null where it is not a sum of outer products.
std::optional<RowKind> rowKindOf(OperatorKind kind);

}  // namespace eigenscope
