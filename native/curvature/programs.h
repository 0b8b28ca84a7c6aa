#pragma once

#include <string>
#include <vector>

#include "curvature/loss.h"
#include "curvature/problem.h"
#include "ir/graph.h"

namespace eigenscope {

// A graph for one micro-batch size, and what to compute of it.
struct ProductGraph {
  Graph graph;
  std::vector<Id> outputs;  // kNone: zero
  std::string split;        // where the Gauss-Newton split lies
  std::vector<std::string> warnings;
};

// The network alone. `output` is Local, [rows, ...].
struct Network {
  Graph graph;
  onnx::Lowered lowered;
};
Network buildNetwork(const Problem& problem, int64_t rows);

// outputs[0]: the loss without its denominator; then, if asked for, the gradient by each parameter.
ProductGraph buildRisk(const Problem& problem, const TargetPlan& targets, const Rows& rows,
                       bool gradient);

// outputs[i]: the product's part for tensor options.tensors[i], [directions, shape], without the
// denominator. Costs and derivation: docs/methods.md.
ProductGraph buildProduct(const Problem& problem, const TargetPlan& targets,
                          const OperatorOptions& options, const Rows& rows, int64_t directions);

// What the sums of buildProduct are multiplied with.
double productScale(const Problem& problem, const TargetPlan& targets, OperatorKind kind);

}  // namespace eigenscope
