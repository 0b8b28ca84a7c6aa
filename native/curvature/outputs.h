#pragma once

#include <memory>

#include "curvature/problem.h"

namespace eigenscope {

// The network's output at many places: compiled once. As evaluateForward otherwise.
class OutputEvaluator {
 public:
  OutputEvaluator(std::shared_ptr<const Problem> problem, const RunOptions& options);
  ~OutputEvaluator();

  // For all samples, at the parameters + direction, as in RiskEvaluator; a null direction is none.
  Forward at(const double* direction, Task& task);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace eigenscope
