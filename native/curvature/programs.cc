#include "curvature/programs.h"

#include "autodiff/jvp.h"
#include "autodiff/transpose.h"
#include "base/error.h"
#include "curvature/risk_graph.h"

namespace eigenscope {

namespace {

Shape rowsOf(const Shape& shape, int64_t rows) {
  Shape out = shape;
  out[0] = rows;
  return out;
}

// The block of directions seen at the split: [K, rows, ...] to [K, rows, ...], by the loss.
Id outputSide(RiskGraph& risk, OperatorKind kind, Id zdot, int64_t k, int64_t draws) {
  Graph& g = risk.g;
  if (kind == OperatorKind::Ggn || kind == OperatorKind::FisherType2) {
    Jvp curvature(g, k);
    curvature.seed(risk.loss.split, zdot);
    return curvature(risk.zbar);
  }
  // Per sample: s (s . zdot), over all of the sample's outputs.
  const Shape full = g.shape(zdot);
  const int64_t rows = full[1], size = count(full) / (k * rows);
  Id z = g.reshape(zdot, {k, rows, size});
  Id image;
  if (kind == OperatorKind::FisherEmpirical) {
    Id s = g.reshape(risk.zbar, {rows, size});
    Id along = g.dot(s, z, "bf,Kbf->Kb");
    image = g.mul(g.reshape(along, {k, rows, 1}), s);
  } else {
    Id s = g.reshape(risk.loss.draws, {draws, rows, size});
    Id along = g.dot(s, z, "mbf,Kbf->Kbm");
    image = g.scale(g.dot(along, s, "Kbm,mbf->Kbf"), 1.0 / static_cast<double>(draws));
  }
  return g.reshape(image, full);
}

}  // namespace

void refuseMissing(const LossGraph& loss, OperatorKind kind) {
  const bool fisher = kind == OperatorKind::FisherType2 || kind == OperatorKind::FisherMc;
  const bool ggn = fisher || kind == OperatorKind::Ggn;
  std::string why;
  if (ggn) why = loss.noGgn;
  if (fisher && why.empty()) why = loss.noLikelihood;
  if (kind == OperatorKind::FisherEmpirical) why = loss.noSamples;
  if (!why.empty()) throw Error(ErrorKind::Option, why);
}

Network buildNetwork(const Problem& problem, int64_t rows, bool fold) {
  Network network;
  std::vector<onnx::InputBinding> bindings;
  int64_t slot = 0;
  // A map's order is the order of the slots (see Engine::load).
  for (const auto& [name, array] : problem.inputs) {
    Type type = onnx::graphType(array.type());
    for (const auto& input : problem.model->inputs)
      if (input.name == name) type = onnx::graphType(input.type);
    bindings.push_back({name, slot++, rowsOf(array.shape(), rows), type});
  }
  const std::string output =
      problem.output.empty() ? problem.model->outputs.at(0).name : problem.output;
  network.lowered =
      onnx::lower(*problem.model, problem.parameters, network.graph, bindings, output, fold);
  return network;
}

ProductGraph buildRisk(const Problem& problem, const TargetPlan& targets, const Rows& rows,
                       bool gradient) {
  Network network = buildNetwork(problem, rows.rows);
  ProductGraph product;
  Graph& g = network.graph;
  RiskGraph risk(g, problem, network.lowered, targets, rows, std::nullopt);
  product.outputs.push_back(g.collect(risk.loss.total));
  if (gradient) {
    std::vector<int64_t> all(problem.parameters.size());
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i);
    for (Id grad : vjp(g, risk.loss.split, risk.zbar, parameterNodes(g, problem, all)))
      product.outputs.push_back(grad);
  }
  product.split = risk.loss.where;
  product.warnings = network.lowered.warnings;
  for (auto& warning : risk.loss.warnings) product.warnings.push_back(warning);
  product.graph = std::move(network.graph);
  return product;
}

ProductGraph buildProduct(const Problem& problem, const TargetPlan& targets,
                          const OperatorOptions& options, const Rows& rows, int64_t k) {
  Network network = buildNetwork(problem, rows.rows);
  Graph& g = network.graph;
  const OperatorKind kind = options.kind;
  std::optional<DrawOptions> draws;
  if (kind == OperatorKind::FisherMc) draws = DrawOptions{options.draws, options.seed};
  RiskGraph risk(g, problem, network.lowered, targets, rows, draws);
  refuseMissing(risk.loss, kind);

  const std::vector<Id> parameters = parameterNodes(g, problem, options.tensors);
  // J^T alone is linear in its cotangent: any will do whose value the graph does not know, as it
  // may know that of zbar.
  const bool pullsBack = kind != OperatorKind::Hessian && kind != OperatorKind::Functional;
  const Id cotangent = pullsBack ? g.unary(Op::Barrier, risk.loss.split) : risk.zbar;
  const std::vector<Id> gradient = vjp(g, risk.loss.split, cotangent, parameters);

  Jvp alongDirections(g, k);
  for (size_t i = 0; i < parameters.size(); ++i) {
    Shape shape = g.shape(parameters[i]);
    shape.insert(shape.begin(), k);
    alongDirections.seed(parameters[i], g.tangent(static_cast<int64_t>(i), shape));
  }

  ProductGraph product;
  auto collect = [&](Jvp& tangent) {
    for (Id grad : gradient) product.outputs.push_back(grad == kNone ? kNone : tangent(grad));
  };
  switch (kind) {
    case OperatorKind::Hessian: collect(alongDirections); break;
    case OperatorKind::Functional:
      // With the cotangent of the output frozen, what is left is the curvature of the network.
      alongDirections.seed(risk.zbar, kNone);
      collect(alongDirections);
      break;
    default: {
      // Only the cotangent of the output moves: J^T (output side) J.
      Id zdot = alongDirections(risk.loss.split);
      Jvp pullBack(g, k);
      pullBack.seed(cotangent,
                    zdot == kNone ? kNone : outputSide(risk, kind, zdot, k, options.draws));
      collect(pullBack);
    }
  }
  product.split = risk.loss.where;
  product.warnings = network.lowered.warnings;
  for (auto& warning : risk.loss.warnings) product.warnings.push_back(warning);
  product.graph = std::move(network.graph);
  return product;
}

namespace {

// A network with its loss, and what is common to the parts of the Gauss-Newton product.
struct Parts {
  Network network;
  RiskGraph risk;
  std::vector<Id> parameters;

  Parts(const Problem& problem, const TargetPlan& targets, const OperatorOptions& options,
        const Rows& rows, const std::optional<DrawOptions>& draws)
      : network(buildNetwork(problem, rows.rows)),
        risk(network.graph, problem, network.lowered, targets, rows, draws),
        parameters(parameterNodes(network.graph, problem, options.tensors)) {}

  // J^T of a block of cotangents [k, rows, split].
  std::vector<Id> pullBack(Id block, int64_t k) {
    Graph& g = network.graph;
    const Id cotangent = g.unary(Op::Barrier, risk.loss.split);
    Jvp tangent(g, k);
    tangent.seed(cotangent, block);
    std::vector<Id> outputs;
    for (Id grad : vjp(g, risk.loss.split, cotangent, parameters))
      outputs.push_back(grad == kNone ? kNone : tangent(grad));
    return outputs;
  }

  ProductGraph finish(std::vector<Id> outputs) {
    ProductGraph product;
    product.outputs = std::move(outputs);
    product.split = risk.loss.where;
    product.warnings = network.lowered.warnings;
    for (auto& warning : risk.loss.warnings) product.warnings.push_back(warning);
    product.graph = std::move(network.graph);
    return product;
  }
};

OperatorKind operatorOf(RowKind kind) {
  switch (kind) {
    case RowKind::Mc: return OperatorKind::FisherMc;
    case RowKind::Empirical: return OperatorKind::FisherEmpirical;
    default: return OperatorKind::Ggn;
  }
}

}  // namespace

namespace {

// The rows of the first of the samples: [k, shape] for each tensor.
std::vector<Id> rowNodes(Parts& parts, RowKind kind, int64_t k) {
  RiskGraph& risk = parts.risk;
  Graph& g = risk.g;
  if (kind != RowKind::Jacobian) refuseMissing(risk.loss, operatorOf(kind));
  Shape one = g.shape(risk.loss.split);
  one.insert(one.begin(), k);
  Id block = kNone;
  if (kind == RowKind::Jacobian || kind == RowKind::Ggn) {
    Shape given = one;
    given[1] = 1;
    // Samples that pad the micro-batch have no part in it.
    const std::vector<int64_t> start(one.size(), 0), step(one.size(), 1);
    const Id u = g.unslice(g.tangent(0, given), start, step, one);
    block = kind == RowKind::Ggn ? risk.factor(u) : u;
  } else {
    block = g.reshape(kind == RowKind::Mc ? risk.loss.draws : risk.zbar, one);
  }
  return parts.pullBack(block, k);
}

std::optional<DrawOptions> drawsOf(const OperatorOptions& options, RowKind kind) {
  if (kind != RowKind::Mc) return std::nullopt;
  return DrawOptions{options.draws, options.seed};
}

// `node` [k, ...] as the outer product of two nodes, the second of which has the k rows.
struct OuterNode {
  Id left = kNone, right = kNone;
  OuterTensor::Layout layout = OuterTensor::Layout::Other;
};

// The labels of an operand of a Dot that have more than one element, without that of the rows.
std::string longLabels(std::string_view labels, const Shape& shape) {
  std::string found;
  for (size_t a = 0; a < labels.size(); ++a)
    if (labels[a] != 'K' && shape[a] != 1) found += labels[a];
  return found;
}

// left = kNone where it is none.
OuterNode outerNode(const Graph& g, Id node, int64_t k) {
  bool collected = false, permuted = false;
  while (g[node].op == Op::Reshape || g[node].op == Op::Permute || g[node].op == Op::Collect) {
    const bool permutes = g[node].op == Op::Permute;
    if (g.shape(node)[0] != k || (permutes && g[node].attr.ints[0] != 0)) return {};
    permuted = permuted || permutes;
    collected = collected || g[node].op == Op::Collect;
    node = g[node].in[0];
  }
  if (!collected || g[node].op != Op::Dot || g.shape(node)[0] != k) return {};
  const std::string_view labels = g[node].attr.labels;
  const size_t comma = labels.find(','), arrow = labels.find("->");
  const std::string_view result = labels.substr(arrow + 2);
  std::string_view left = labels.substr(0, comma),
                   right = labels.substr(comma + 1, arrow - comma - 1);
  Id leftNode = g[node].in[0], rightNode = g[node].in[1];
  if (left.find('K') != std::string_view::npos) {
    std::swap(left, right);
    std::swap(leftNode, rightNode);
  }
  if (result[0] != 'K' || left.find('K') != std::string_view::npos ||
      right.find('K') == std::string_view::npos)
    return {};
  const std::string ofLeft = longLabels(left, g.shape(leftNode));
  const std::string ofRight = longLabels(right, g.shape(rightNode));
  if (ofLeft.find_first_of(ofRight) != std::string::npos) return {};
  OuterNode outer{leftNode, rightNode, OuterTensor::Layout::Other};
  const std::string all = longLabels(result, g.shape(node));
  if (!permuted && all == ofLeft + ofRight) outer.layout = OuterTensor::Layout::LeftRight;
  if (!permuted && all == ofRight + ofLeft) outer.layout = OuterTensor::Layout::RightLeft;
  return outer;
}

}  // namespace

ProductGraph buildRows(const Problem& problem, const TargetPlan& targets,
                       const OperatorOptions& options, RowKind kind, const Rows& rows, int64_t k) {
  Parts parts(problem, targets, options, rows, drawsOf(options, kind));
  return parts.finish(rowNodes(parts, kind, k));
}

ProductGraph buildOuterRows(const Problem& problem, const TargetPlan& targets,
                            const OperatorOptions& options, RowKind kind, const Rows& rows,
                            int64_t k, std::vector<OuterTensor>* found) {
  Parts parts(problem, targets, options, rows, drawsOf(options, kind));
  const Graph& g = parts.network.graph;
  const std::vector<Id> nodes = rowNodes(parts, kind, k);
  std::vector<Id> outputs;
  std::vector<int64_t> sizes;
  if (found) found->clear();
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i] == kNone) continue;
    const auto [left, right, layout] = outerNode(g, nodes[i], k);
    if (left == kNone || g[left].scope != Scope::Local || g[right].scope != Scope::Local) continue;
    const int64_t lefts = count(g.shape(left)), rights = count(g.shape(right)) / k;
    outputs.insert(outputs.end(), {left, right});
    sizes.insert(sizes.end(), {lefts, rights});
    if (found) found->push_back({static_cast<int64_t>(i), lefts, rights, layout});
  }
  ProductGraph product = parts.finish(std::move(outputs));
  product.sizes = std::move(sizes);
  return product;
}

ProductGraph buildImages(const Problem& problem, const TargetPlan& targets,
                         const OperatorOptions& options, const Rows& rows, int64_t k) {
  Parts parts(problem, targets, options, rows, std::nullopt);
  Graph& g = parts.network.graph;
  Jvp alongDirections(g, k);
  for (size_t i = 0; i < parts.parameters.size(); ++i) {
    Shape shape = g.shape(parts.parameters[i]);
    shape.insert(shape.begin(), k);
    alongDirections.seed(parts.parameters[i], g.tangent(static_cast<int64_t>(i), shape));
  }
  return parts.finish({alongDirections(parts.risk.loss.split)});
}

int64_t cotangentSlot(const Problem& problem) {
  return static_cast<int64_t>(problem.inputs.size()) + (problem.targets ? 1 : 0);
}

ProductGraph buildPullback(const Problem& problem, const TargetPlan& targets,
                           const OperatorOptions& options, RowKind kind, const Rows& rows,
                           int64_t k) {
  Parts parts(problem, targets, options, rows, std::nullopt);
  RiskGraph& risk = parts.risk;
  Graph& g = risk.g;
  if (kind != RowKind::Jacobian) refuseMissing(risk.loss, operatorOf(kind));
  // Samples come first in what is loaded, directions in what is computed.
  Shape shape = g.shape(risk.loss.split);
  std::vector<int64_t> perm = {1, 0};
  for (size_t a = 2; a <= shape.size(); ++a) perm.push_back(static_cast<int64_t>(a));
  shape.insert(shape.begin() + 1, k);
  Id u = g.permute(g.input(cotangentSlot(problem), shape, Type::Real), perm);
  if (rows.valid < rows.rows) {
    // Samples that pad the micro-batch have no part in it.
    Shape valid = g.shape(u);
    valid[1] = rows.valid;
    const std::vector<int64_t> start(valid.size(), 0), step(valid.size(), 1);
    u = g.unslice(g.slice(u, start, step, valid), start, step, g.shape(u));
  }
  return parts.finish(parts.pullBack(kind == RowKind::Ggn ? risk.factor(u) : u, k));
}

Shape splitShape(const Problem& problem, const TargetPlan& targets, int64_t rows) {
  Network network = buildNetwork(problem, rows);
  RiskGraph risk(network.graph, problem, network.lowered, targets, {rows, rows}, std::nullopt);
  Shape shape = network.graph.shape(risk.loss.split);
  if (shape.empty() || shape[0] != rows)
    throw Error(ErrorKind::Option,
                "the rows of single samples are not known: the network's output has no row for "
                "each sample, its shape is " +
                    show(shape));
  shape.erase(shape.begin());
  return shape;
}

double productScale(const Problem& problem, const TargetPlan& targets, OperatorKind kind) {
  const double d = targets.denominator;
  // (1/N) sum g_n g_n^T with g_n = (N/D) times the sample's share of the sum; for `sum` the factor
  // 1/N falls away.
  if (kind == OperatorKind::FisherEmpirical)
    return problem.loss.mean ? static_cast<double>(problem.samples) / (d * d) : 1;
  return 1 / d;
}

}  // namespace eigenscope
