#pragma once

#include <optional>
#include <vector>

#include "curvature/loss.h"
#include "curvature/problem.h"
#include "ir/graph.h"

namespace eigenscope {

// A network's graph with its loss: what every curvature program begins with.
struct RiskGraph {
  Graph& g;
  LossGraph loss;
  Id zbar = kNone;  // the gradient of the total by the split (a Barrier)

  RiskGraph(Graph& graph, const Problem& problem, const onnx::Lowered& lowered,
            const TargetPlan& targets, const Rows& rows, const std::optional<DrawOptions>& draws);

  // S u for a block u of [K, shape of the split], where S S^T is the second derivative of the total
  // by the split, of the size of the split. Exists where the Gauss-Newton matrix does (loss.noGgn
  // is empty) and the loss is convex in the split.
  Id factor(Id u);
};

// Nodes of the parameters at these positions.
std::vector<Id> parameterNodes(Graph& g, const Problem& problem,
                               const std::vector<int64_t>& tensors);

}  // namespace eigenscope
