#include "curvature/kfac_programs.h"

#include <algorithm>
#include <cmath>

#include "autodiff/jvp.h"
#include "autodiff/transpose.h"
#include "base/error.h"
#include "curvature/risk_graph.h"

namespace eigenscope {

namespace {

// Columns that go through the network side by side.
constexpr int64_t kWidth = 16, kWidthOfGradients = 4;

// A network with its loss and its layers, and what pulls columns back to the layers.
class Builder {
 public:
  Builder(const KfacPlan& plan, const Rows& rows)
      : plan_(plan),
        rows_(rows),
        network_(buildNetwork(plan.problem, rows.rows, false)),
        g_(network_.graph),
        risk_(g_, plan.problem, network_.lowered, plan.targets, rows, draws(plan.options)) {
    refuseMissing(risk_.loss, plan.options.kind);
    const Shape& split = g_.shape(risk_.loss.split);
    if (split.empty() || split[0] != rows.rows)
      throw Error(
          ErrorKind::Option,
          "kfac: the network's output has no row for each sample, its shape is " + show(split));
    std::vector<Shape> shapes;
    for (const auto& parameter : plan.problem.parameters) shapes.push_back(parameter.value.shape());
    Layers found = findLayers(g_, risk_.loss.split, shapes, plan.tensors, rows.rows);
    layers.layers = std::move(found.layers);
    layers.others = std::move(found.others);
    pair();
  }

  int64_t columns() const {
    switch (plan_.options.kind) {
      case OperatorKind::FisherMc: return plan_.options.draws;
      case OperatorKind::FisherEmpirical: return 1;
      default: return count(g_.shape(risk_.loss.split)) / rows_.rows;
    }
  }

  // Calls visit(block, rows of the derivatives [K, samples, positions, groups, out]) for each block
  // and some columns at a time.
  template <class Visit>
  void derivatives(const Columns& columns, int64_t width, Visit visit) {
    // J^T alone is linear in its cotangent: any will do whose value the graph does not know.
    const Id cotangent = g_.unary(Op::Barrier, risk_.loss.split);
    std::vector<Id> nodes;
    for (const LinearLayer& layer : layers.layers)
      if (std::find(nodes.begin(), nodes.end(), layer.output) == nodes.end())
        nodes.push_back(layer.output);
    const std::vector<Id> pulled = adjoints(g_, risk_.loss.split, cotangent, nodes);
    for (int64_t done = 0; done < columns.count; done += width) {
      const int64_t k = std::min(width, columns.count - done);
      Jvp along(g_, k);
      along.seed(cotangent, block(columns.first + done, k));
      for (size_t b = 0; b < layers.blocks.size(); ++b) {
        const LinearLayer& layer = layerOf(b);
        const auto at = std::find(nodes.begin(), nodes.end(), outputOf(b)) - nodes.begin();
        const Id adjoint = pulled[static_cast<size_t>(at)];
        const Id moved = adjoint == kNone ? kNone : along(adjoint);
        if (moved == kNone) continue;
        Shape full = g_.shape(outputOf(b));
        full.insert(full.begin(), k);
        visit(b, outputRows(g_, layer, g_.broadcast(moved, full), k, rows_.rows));
      }
    }
  }

  // Rows of the inputs [samples, positions, groups, in], zero for samples that only pad.
  Id inputs(size_t b) {
    const LinearLayer& layer = layerOf(b);
    Id a = layer.inputs.node;
    if (layers.blocks[b].bias >= 0) {
      Shape ones = g_.shape(a);
      ones.back() = 1;
      a = g_.concat({a, g_.broadcast(g_.scalar(1), ones)}, 3);
    }
    if (rows_.valid == rows_.rows) return a;
    requireSamples(layer);
    const Id counts = g_.binary(Op::Less, g_.iota(rows_.rows, Type::Int),
                                g_.scalar(static_cast<double>(rows_.valid), Type::Int));
    return g_.select(g_.reshape(counts, {rows_.rows, 1, 1, 1}), a, g_.scalar(0));
  }

  void requireSamples(const LinearLayer& layer) const {
    if (layer.samplesOf) return;
    const std::string& name = plan_.problem.parameters[static_cast<size_t>(layer.parameter)].name;
    throw Error(ErrorKind::UnsupportedOperator,
                "kfac: the rows of single samples are not known in the layer of " + name +
                    ", as reduce, eigenvalue correction and fixed batches need them; use "
                    "expand without correction and a dynamic batch axis, or leave the tensor out");
  }

  const LinearLayer& layerOf(size_t b) const {
    return layers.layers[static_cast<size_t>(layers.blocks[b].layer)];
  }

  ProductGraph finish(std::vector<Id> outputs) {
    ProductGraph product;
    product.outputs = std::move(outputs);
    product.split = risk_.loss.where;
    product.warnings = network_.lowered.warnings;
    for (auto& warning : risk_.loss.warnings) product.warnings.push_back(warning);
    product.graph = std::move(network_.graph);
    return product;
  }

  Graph& graph() { return g_; }

  KfacLayers layers;

 private:
  static std::optional<DrawOptions> draws(const KfacOptions& options) {
    if (options.kind != OperatorKind::FisherMc) return std::nullopt;
    return DrawOptions{options.draws, options.seed};
  }

  Id outputOf(size_t b) const { return layerOf(b).output; }

  // Blocks in the order of parameters; with `joint`, the bias that is added to a weight's outputs
  // goes with the weight.
  void pair() {
    const auto& all = layers.layers;
    std::vector<int64_t> biasOf(all.size(), -1);
    std::vector<bool> taken(all.size(), false);
    if (plan_.options.joint)
      for (size_t w = 0; w < all.size(); ++w)
        for (size_t b = 0; b < all.size() && !all[w].bias && biasOf[w] < 0; ++b) {
          const auto& operands = g_[all[b].output].in;
          if (!all[b].bias || taken[b] || all[w].groups != 1 || all[b].out != all[w].out ||
              all[b].coefficient != all[w].coefficient || all[b].outAxes != all[w].outAxes ||
              std::find(operands.begin(), operands.end(), all[w].output) == operands.end())
            continue;
          biasOf[w] = static_cast<int64_t>(b);
          taken[b] = true;
        }
    for (size_t l = 0; l < all.size(); ++l)
      if (!taken[l]) layers.blocks.push_back({static_cast<int64_t>(l), biasOf[l]});
  }

  // Columns [first, first + k) at the split, [k, rows, ...].
  Id block(int64_t first, int64_t k) {
    const Shape split = g_.shape(risk_.loss.split);
    Shape full = split;
    full.insert(full.begin(), k);
    const auto n = static_cast<double>(first);
    switch (plan_.options.kind) {
      case OperatorKind::FisherEmpirical: return g_.reshape(risk_.zbar, full);
      case OperatorKind::FisherMc: {
        std::vector<int64_t> start(full.size(), 0), step(full.size(), 1);
        start[0] = first;
        return g_.slice(risk_.loss.draws, start, step, full);
      }
      default: {
        // S times unit vectors, the same for every sample that counts.
        const int64_t size = count(split) / rows_.rows;
        const Id wanted = g_.binary(Op::Add, g_.iota(k, Type::Int), g_.scalar(n, Type::Int));
        const Id hit = g_.binary(Op::Equal, g_.reshape(wanted, {k, 1, 1}),
                                 g_.reshape(g_.iota(size, Type::Int), {1, 1, size}));
        const Id counts = g_.binary(Op::Less, g_.iota(rows_.rows, Type::Int),
                                    g_.scalar(static_cast<double>(rows_.valid), Type::Int));
        const Id both = g_.binary(Op::And, hit, g_.reshape(counts, {1, rows_.rows, 1}));
        const Id unit = g_.cast(both, Type::Real);
        return risk_.factor(g_.reshape(g_.broadcast(unit, {k, rows_.rows, size}), full));
      }
    }
  }

  const KfacPlan& plan_;
  const Rows rows_;
  Network network_;
  Graph& g_;
  RiskGraph risk_;
};

void accumulate(Graph& g, Id& sum, Id term) { sum = sum == kNone ? term : g.add(sum, term); }

Id collected(Graph& g, Id sum) { return sum == kNone ? kNone : g.collect(sum); }

}  // namespace

KfacLayers kfacLayers(const KfacPlan& plan, int64_t rows) {
  return Builder(plan, {rows, rows}).layers;
}

int64_t kfacColumns(const KfacPlan& plan, int64_t rows) {
  return Builder(plan, {rows, rows}).columns();
}

ProductGraph buildFactors(const KfacPlan& plan, const Rows& rows, const Columns& columns,
                          bool withInputs) {
  Builder builder(plan, rows);
  Graph& g = builder.graph();
  const size_t blocks = builder.layers.blocks.size();
  const bool reduce = plan.options.sharing == Sharing::Reduce;
  std::vector<Id> inputs(blocks, kNone), outputs(blocks, kNone);
  for (size_t b = 0; b < blocks; ++b) {
    const LinearLayer& layer = builder.layerOf(b);
    if (reduce && layer.shared) builder.requireSamples(layer);
    if (!withInputs || layer.bias) continue;
    Id a = builder.inputs(b);
    if (reduce) a = g.scale(g.sum(a, {1}), 1.0 / static_cast<double>(g.shape(a)[1]));
    const Shape s = g.shape(a);
    a = g.reshape(a, {s[0] * s[1], s[2], s[3]});
    inputs[b] = g.dot(a, a, "rgi,rgj->gij");
  }
  builder.derivatives(columns, kWidth, [&](size_t b, Id delta) {
    if (reduce) delta = g.sum(delta, {2});
    const Shape s = g.shape(delta);
    delta = g.reshape(delta, {s[0] * s[1] * s[2], s[3], s[4]});
    accumulate(g, outputs[b], g.dot(delta, delta, "rgi,rgj->gij"));
  });
  std::vector<Id> all;
  for (size_t b = 0; b < blocks; ++b) {
    all.push_back(collected(g, inputs[b]));
    all.push_back(collected(g, outputs[b]));
  }
  return builder.finish(std::move(all));
}

ProductGraph buildCorrections(const KfacPlan& plan, const Rows& rows, const Columns& columns,
                              const std::vector<KfacBasis>& bases) {
  Builder builder(plan, rows);
  Graph& g = builder.graph();
  const size_t blocks = builder.layers.blocks.size();
  std::vector<Id> inputs(blocks, kNone), sums(blocks, kNone);
  bool shared = false;
  for (size_t b = 0; b < blocks; ++b) {
    const LinearLayer& layer = builder.layerOf(b);
    builder.requireSamples(layer);
    if (layer.bias) continue;
    const Id a = builder.inputs(b);
    const int64_t n = g.shape(a)[3];
    // Eigenvectors are columns of a column-major matrix.
    const Id basis = g.constant(bases[b].in, {layer.groups, n, n});
    inputs[b] = g.dot(a, basis, "bpgi,gji->bpgj");
    shared = shared || layer.shared;
  }
  builder.derivatives(columns, shared ? kWidthOfGradients : kWidth, [&](size_t b, Id delta) {
    const LinearLayer& layer = builder.layerOf(b);
    const Id basis = g.constant(bases[b].out, {layer.groups, layer.out, layer.out});
    const Id d = g.dot(delta, basis, "xbpgi,gji->xbpgj");
    const Shape s = g.shape(d);
    if (layer.bias) {
      const Id whole = g.sum(d, {2});
      const Id squares = g.sum(g.mul(whole, whole), {0, 1});
      return accumulate(g, sums[b], g.reshape(squares, {layer.groups, layer.out, 1}));
    }
    if (!layer.shared) {
      // The square of an outer product is the outer product of squares.
      const Id dd = g.reshape(g.sum(g.mul(d, d), {0}), {s[1], s[3], s[4]});
      const Id aa = g.mul(inputs[b], inputs[b]);
      const Shape t = g.shape(aa);
      return accumulate(g, sums[b], g.dot(dd, g.reshape(aa, {t[0], t[2], t[3]}), "bgo,bgi->goi"));
    }
    const Id gradients = g.dot(d, inputs[b], "xbpgo,bpgi->xbgoi");
    const Id squares = g.sum(g.mul(gradients, gradients), {0, 1});
    const Shape t = g.shape(squares);
    accumulate(g, sums[b], g.reshape(squares, {t[2], t[3], t[4]}));
  });
  std::vector<Id> all;
  for (Id sum : sums) all.push_back(collected(g, sum));
  return builder.finish(std::move(all));
}

}  // namespace eigenscope
