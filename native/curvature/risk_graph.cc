#include "curvature/risk_graph.h"

#include "autodiff/jvp.h"
#include "autodiff/transpose.h"

namespace eigenscope {

RiskGraph::RiskGraph(Graph& graph, const Problem& problem, const onnx::Lowered& lowered,
                     const TargetPlan& targets, const Rows& rows,
                     const std::optional<DrawOptions>& draws)
    : g(graph) {
  Id y = kNone;
  if (targets.kind != TargetKind::None) {
    Shape shape = targets.perSample;
    shape.insert(shape.begin(), rows.rows);
    y = g.input(static_cast<int64_t>(problem.inputs.size()), shape,
                targets.kind == TargetKind::Labels ? Type::Int : Type::Real);
  }
  loss = buildLoss(g, problem, lowered, y, rows, targets, draws);
  Id slope = vjp(g, loss.total, g.scalar(1), {loss.split})[0];
  if (slope == kNone) slope = g.zerosLike(loss.split);
  zbar = g.unary(Op::Barrier, g.broadcast(slope, g.shape(loss.split)));
}

Id RiskGraph::factor(Id u) {
  if (loss.factor) return loss.factor(g, u);
  // Every other loss is a sum over the elements of the split.
  Jvp curvature(g, 0);
  curvature.seed(loss.split, g.broadcast(g.scalar(1), g.shape(loss.split)));
  const Id second = curvature(zbar);
  return second == kNone ? g.zerosLike(u) : g.mul(g.unary(Op::Sqrt, second), u);
}

std::vector<Id> parameterNodes(Graph& g, const Problem& problem,
                               const std::vector<int64_t>& tensors) {
  std::vector<Id> nodes;
  for (int64_t i : tensors) nodes.push_back(g.param(i, problem.parameters[i].value.shape()));
  return nodes;
}

}  // namespace eigenscope
