#include "curvature/loss.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"

namespace eigenscope {

namespace {

[[noreturn]] void refuseOption(const std::string& message) {
  throw Error(ErrorKind::Option, message);
}

// ---- which loss is computed where ------------------------------------------------------------

enum class Core {
  CrossEntropy,
  Nll,
  NllProbabilities,
  Mse,
  BceWithLogits,
  Bce,
  Huber,
  SmoothL1,
  L1,
  Output,
};

struct Row {
  const char* name;
  Core core;
  bool labels, values;  // what targets may be
};

// One row a loss. Formulas: PyTorch's documentation of the loss of that name.
constexpr Row kLosses[] = {
    {"cross-entropy", Core::CrossEntropy, true, true},
    {"nll", Core::Nll, true, false},
    {"nll-probabilities", Core::NllProbabilities, true, false},
    {"mse", Core::Mse, false, true},
    {"bce-with-logits", Core::BceWithLogits, false, true},
    {"bce", Core::Bce, false, true},
    {"huber", Core::Huber, false, true},
    {"smooth-l1", Core::SmoothL1, false, true},
    {"l1", Core::L1, false, true},
    {"output", Core::Output, false, false},
};

// A loss on what follows the last activation is the same loss, better conditioned, before it; the
// Gauss-Newton split moves with it.
struct Move {
  Core loss;
  const char* activation;
  Core becomes;
};

constexpr Move kMoves[] = {
    {Core::Nll, "LogSoftmax", Core::CrossEntropy},
    {Core::CrossEntropy, "LogSoftmax", Core::CrossEntropy},
    {Core::NllProbabilities, "Softmax", Core::CrossEntropy},
    {Core::Bce, "Sigmoid", Core::BceWithLogits},
};

// What is computed as PyTorch would, but rarely meant.
struct Doubtful {
  Core loss;
  const char* activation;
  const char* instead;
};

constexpr Doubtful kDoubtful[] = {
    {Core::CrossEntropy, "Softmax", "nll-probabilities"},
    {Core::BceWithLogits, "Sigmoid", "bce"},
};

const Row& rowOf(const LossOptions& options) {
  std::string known;
  for (const Row& row : kLosses) {
    if (options.name == row.name) return row;
    known += std::string(known.empty() ? "" : ", ") + row.name;
  }
  refuseOption("loss: expected one of " + known + "; received " + options.name);
}

bool isClassLoss(Core core) {
  return core == Core::CrossEntropy || core == Core::Nll || core == Core::NllProbabilities;
}

size_t classAxisOf(const LossOptions& options, size_t rank) {
  if (rank < 2)
    throw Error(ErrorKind::DataMismatch,
                "loss " + options.name + ": expected an output with a class axis, [N, C] or " +
                    "[N, C, ...]; the network's output has rank " + std::to_string(rank));
  int64_t axis = options.classAxis.value_or(1);
  if (axis < 0) axis += static_cast<int64_t>(rank);
  if (axis < 1 || axis >= static_cast<int64_t>(rank))
    refuseOption("classAxis: expected an axis from 1 to " + std::to_string(rank - 1) +
                 " (or negative) of the output; received " +
                 std::to_string(options.classAxis.value_or(1)));
  return static_cast<size_t>(axis);
}

Shape withoutAxis(Shape shape, size_t axis) {
  shape.erase(shape.begin() + static_cast<int64_t>(axis));
  return shape;
}

Shape perSample(const Shape& shape) { return {shape.begin() + 1, shape.end()}; }

// Every loss but "output" takes one row a sample.
void requireRows(const LossOptions& options, const Shape& output, int64_t samples) {
  if (!output.empty() && output[0] == samples) return;
  throw Error(
      ErrorKind::DataMismatch,
      "loss " + options.name + ": expected an output of one row a sample; the network's " +
          "output has shape " + show(output) + " for " + std::to_string(samples) +
          " samples: export the network with a dynamic batch axis, choose another output, " +
          "or take the loss \"output\" where it is the loss itself");
}

Shape squeezed(Shape shape) {
  std::erase(shape, 1);
  return shape;
}

bool isInteger(ElementType type) { return !isFloating(type) && type != ElementType::Bool; }

}  // namespace

// ---- targets -----------------------------------------------------------------------------------

TargetPlan planTargets(const Problem& problem, const Shape& output) {
  const LossOptions& options = problem.loss;
  const Row& row = rowOf(options);
  TargetPlan plan;
  const auto samples = static_cast<double>(problem.samples);

  if (!isClassLoss(row.core)) {
    if (!options.classWeights.empty() || options.labelSmoothing != 0)
      refuseOption("loss " + options.name +
                   ": class weights and label smoothing belong to cross-entropy");
  } else if (options.labelSmoothing < 0 || options.labelSmoothing > 1) {
    refuseOption("labelSmoothing: expected a number from 0 to 1; received " +
                 std::to_string(options.labelSmoothing));
  } else if (options.labelSmoothing > 0 && row.core != Core::CrossEntropy) {
    refuseOption("labelSmoothing belongs to the loss cross-entropy; the loss is " + options.name);
  }
  if (!options.posWeight.empty() && row.core != Core::BceWithLogits)
    refuseOption("posWeight belongs to the loss bce-with-logits; the loss is " + options.name);
  if (!(options.delta > 0))
    refuseOption("delta: expected a positive number; received " + std::to_string(options.delta));

  if (row.core == Core::Output) {
    plan.denominator = options.mean ? samples : 1;
    plan.items = problem.samples;
    return plan;
  }
  requireRows(options, output, problem.samples);
  if (!problem.targets)
    throw Error(ErrorKind::DataMismatch,
                "loss " + options.name + ": expected targets (an array y); the data have none");
  const Array& y = *problem.targets;
  if (y.rows() != problem.samples || y.rank() < 1)
    throw Error(ErrorKind::DataMismatch, "targets: expected " + std::to_string(problem.samples) +
                                             " rows, one a sample; received " + y.describe());
  const Shape yShape = perSample(y.shape());

  if (isClassLoss(row.core)) {
    const size_t axis = classAxisOf(options, output.size());
    const int64_t classes = output[axis];
    const Shape labelShape = perSample(withoutAxis(output, axis));
    if (!options.classWeights.empty() &&
        static_cast<int64_t>(options.classWeights.size()) != classes)
      refuseOption("classWeights: expected " + std::to_string(classes) + " numbers, one a class; " +
                   "received " + std::to_string(options.classWeights.size()));
    auto weight = [&](int64_t c) {
      return options.classWeights.empty() ? 1.0 : options.classWeights[static_cast<size_t>(c)];
    };
    const int64_t positions = count(labelShape);
    const bool asValues = row.values && isFloating(y.type()) && yShape == perSample(output);
    if (asValues) {
      plan.kind = TargetKind::Values;
      plan.perSample = yShape;
      requireFinite(y, 0, y.rows());
      plan.items = problem.samples * positions;
      plan.denominator = options.mean ? static_cast<double>(plan.items) : 1;
      return plan;
    }
    // Whole numbers held as floats are labels too: a table of text has no others.
    const bool whole = isInteger(y.type()) || isFloating(y.type());
    if (!whole || squeezed(yShape) != squeezed(labelShape))
      y.fail("expected integer labels of shape " + show(labelShape) + " a sample for the output " +
             show(perSample(output)) + " (class axis " + std::to_string(axis) + ")" +
             (row.values ? ", or probabilities of the output's shape" : "") + "; received " +
             y.describe());
    // Programs hold labels in 32 bits.
    if (options.ignoreIndex != static_cast<int32_t>(options.ignoreIndex))
      refuseOption("ignoreIndex: expected a whole number of 32 bits; received " +
                   std::to_string(options.ignoreIndex));
    plan.kind = TargetKind::Labels;
    plan.perSample = labelShape;
    double total = 0;
    std::vector<int64_t> labels(static_cast<size_t>(y.rowSize()));
    for (int64_t n = 0; n < y.rows(); ++n) {
      convertRows(y, n, n + 1, labels.data());
      for (int64_t i = 0; i < y.rowSize(); ++i) {
        const int64_t label = labels[static_cast<size_t>(i)];
        if (label == options.ignoreIndex) continue;
        if (label < 0 || label >= classes)
          y.fail("expected labels from 0 to " + std::to_string(classes - 1) + " (the output has " +
                 std::to_string(classes) + " classes) or " + std::to_string(options.ignoreIndex) +
                 " to ignore; received " + std::to_string(label) + " at " +
                 y.indexText(n * y.rowSize() + i));
        total += weight(label);
        ++plan.items;
      }
    }
    if (plan.items == 0 || (options.mean && !(total > 0)))
      y.fail("every target is ignored or has weight 0: the mean has no terms");
    plan.denominator = options.mean ? total : 1;
    return plan;
  }

  if (squeezed(yShape) != squeezed(perSample(output)))
    y.fail("expected targets of the output's shape " + show(perSample(output)) +
           " a sample for the loss " + options.name + "; received " + y.describe());
  if (row.core == Core::BceWithLogits && !options.posWeight.empty()) {
    const auto n = static_cast<int64_t>(options.posWeight.size());
    if (n != 1 && (output.size() < 2 || n != output.back()))
      refuseOption("posWeight: expected " + std::to_string(output.back()) +
                   " numbers, one for each of the last axis; received " + std::to_string(n));
  }
  requireFinite(y, 0, y.rows());
  plan.kind = TargetKind::Values;
  plan.perSample = perSample(output);
  plan.items = problem.samples * count(plan.perSample);
  plan.denominator = options.mean ? static_cast<double>(plan.items) : 1;
  return plan;
}

// ---- the graph
// -----------------------------------------------------------------------------------

namespace {

class Builder {
 public:
  Builder(Graph& graph, const LossOptions& options, Id z, Id y, const Rows& rows,
          const TargetPlan& targets, const std::optional<DrawOptions>& draws)
      : g_(graph), options_(options), z_(z), y_(y), rows_(rows), targets_(targets), draws_(draws) {
    loss_.split = z;
  }

  LossGraph build(Core core) {
    switch (core) {
      case Core::CrossEntropy: crossEntropy(); break;
      case Core::Nll: nll(); break;
      case Core::NllProbabilities: nllProbabilities(); break;
      case Core::Mse: mse(); break;
      case Core::BceWithLogits: bceWithLogits(); break;
      case Core::Bce: bce(); break;
      case Core::Huber: huber(options_.delta, 1); break;
      case Core::SmoothL1: huber(options_.delta, options_.delta); break;
      case Core::L1: l1(); break;
      case Core::Output: output(); break;
    }
    return std::move(loss_);
  }

 private:
  Id vector(const std::vector<double>& values) {
    return g_.constant(std::make_shared<std::vector<double>>(values),
                       {static_cast<int64_t>(values.size())});
  }

  // The sum of items [rows, ...] that count.
  Id totalOf(Id items) { return g_.sumAll(counted(items, 0)); }

  // Zeros for the samples that only pad the micro-batch.
  Id counted(Id x, size_t sampleAxis) {
    if (rows_.valid == rows_.rows) return x;
    Shape shape(g_.shape(x).size(), 1);
    shape[sampleAxis] = rows_.rows;
    Id counts = g_.binary(Op::Less, g_.iota(rows_.rows, Type::Int),
                          g_.scalar(static_cast<double>(rows_.valid), Type::Int));
    return g_.select(g_.reshape(counts, shape), x, g_.scalar(0));
  }

  // Class axis last, so that softmax and sums run along memory.
  std::vector<int64_t> classLast() const {
    const size_t rank = g_.shape(z_).size(), axis = classAxisOf(options_, rank);
    std::vector<int64_t> perm;
    for (size_t i = 0; i < rank; ++i)
      if (i != axis) perm.push_back(static_cast<int64_t>(i));
    perm.push_back(static_cast<int64_t>(axis));
    return perm;
  }

  // Labels as [B, ..., 1] and the weights t of each class: item = -sum_c t_c log p_c.
  Id classTargets(Id zLast) {
    const int64_t classes = g_.shape(zLast).back();
    const double eps = options_.labelSmoothing;
    Id weights = options_.classWeights.empty() ? g_.scalar(1) : vector(options_.classWeights);
    if (targets_.kind == TargetKind::Values) {
      Id q = g_.permute(y_, classLast());
      q = g_.shift(g_.scale(q, 1 - eps), eps / static_cast<double>(classes));
      return g_.mul(q, weights);
    }
    Shape labelShape = g_.shape(zLast);
    labelShape.back() = 1;
    Id label = g_.reshape(y_, labelShape);
    Id hit = g_.binary(Op::Equal, label, g_.iota(classes, Type::Int));
    Id t = g_.mul(g_.cast(hit, Type::Real), g_.scale(weights, 1 - eps));
    if (eps > 0) t = g_.add(t, g_.scale(weights, eps / static_cast<double>(classes)));
    // An ignored label that is no class has hit none.
    if (eps > 0 || (options_.ignoreIndex >= 0 && options_.ignoreIndex < classes)) {
      Id ignored = g_.binary(Op::Equal, label,
                             g_.scalar(static_cast<double>(options_.ignoreIndex), Type::Int));
      t = g_.select(ignored, g_.scalar(0), t);
    }
    return g_.broadcast(t, g_.shape(zLast));
  }

  void crossEntropy() {
    const auto perm = classLast();
    Id z = g_.permute(z_, perm);
    // Shifted by the row's maximum, which cancels: otherwise a small loss is the difference of two
    // large numbers.
    z = g_.sub(z, g_.unary(Op::StopGradient, g_.reduceMax(z, {-1})));
    Id t = classTargets(z);
    Id mass = g_.sum(t, {-1});
    loss_.total = totalOf(g_.sub(g_.mul(mass, g_.logSumExp(z)), g_.sum(g_.mul(t, z), {-1})));
    // Permutations of a block, [K, ...], to the class axis last and back.
    std::vector<int64_t> last = {0}, back(perm.size() + 1, 0);
    for (size_t i = 0; i < perm.size(); ++i) {
      last.push_back(perm[i] + 1);
      back[static_cast<size_t>(perm[i]) + 1] = static_cast<int64_t>(i) + 1;
    }
    loss_.factor = [z, mass, last, back](Graph& g, Id u) {
      // S = sqrt(a) (I - p 1^T) diag(sqrt p): S S^T = a (diag p - p p^T).
      Id p = g.softmax(z);
      Id part = g.mul(g.unary(Op::Sqrt, g.mul(mass, p)), g.permute(u, last));
      return g.permute(g.sub(part, g.mul(p, g.sum(part, {-1}))), back);
    };
    if (draws_) {
      // s = sqrt(a) (p - e_k), k drawn from p: E[s s^T] = a (diag p - p p^T).
      Id p = g_.softmax(z);
      Id s = g_.mul(g_.unary(Op::Sqrt, mass), g_.sub(p, draw(DrawKind::Categorical, p)));
      loss_.draws = counted(g_.permute(s, back), 1);
    }
  }

  void nll() {
    Id z = g_.permute(z_, classLast());
    loss_.total = g_.neg(totalOf(g_.mul(classTargets(z), z)));
    loss_.noGgn =
        "nll is linear in the output, so its Gauss-Newton matrix is zero: end the network with "
        "LogSoftmax, or use cross-entropy on logits";
    loss_.noLikelihood = loss_.noGgn;
  }

  void nllProbabilities() {
    Id p = g_.permute(z_, classLast());
    Id t = classTargets(p);
    // Classes that do not count may have probability 0.
    Id counts = g_.binary(Op::Less, g_.scalar(0), t);
    Id safe = g_.select(counts, p, g_.scalar(1));
    loss_.total = g_.neg(totalOf(g_.mul(t, g_.unary(Op::Log, safe))));
    loss_.noLikelihood =
        "nll-probabilities has its type-2 and mc Fisher only where the network ends with Softmax";
  }

  Id residual() { return g_.sub(z_, y_); }

  void mse() {
    Id r = residual();
    loss_.total = totalOf(g_.mul(r, r));
    if (draws_) loss_.draws = counted(g_.scale(draw(DrawKind::Normal, z_), std::sqrt(2.0)), 1);
  }

  void bceWithLogits() {
    // (1 - y) z + (1 + (k - 1) y) softplus(-z)
    Id one = g_.scalar(1);
    Id k = options_.posWeight.empty() ? one : vector(options_.posWeight);
    Id steep = g_.add(one, g_.mul(g_.sub(k, one), y_));
    Id item =
        g_.add(g_.mul(g_.sub(one, y_), z_), g_.mul(steep, g_.unary(Op::Softplus, g_.neg(z_))));
    loss_.total = totalOf(item);
    if (draws_) {
      Id p = g_.unary(Op::Sigmoid, z_);
      Id s = g_.mul(g_.unary(Op::Sqrt, steep), g_.sub(p, draw(DrawKind::Bernoulli, p)));
      loss_.draws = counted(s, 1);
    }
  }

  void bce() {
    // PyTorch's clamp: a logarithm below -100 counts as -100, with slope 0.
    auto clampedLog = [&](Id p) {
      Id tiny = g_.binary(Op::LessEqual, p, g_.scalar(std::exp(-100.0)));
      Id safe = g_.select(tiny, g_.scalar(1), p);
      return g_.select(tiny, g_.scalar(-100), g_.unary(Op::Log, safe));
    };
    Id one = g_.scalar(1);
    Id item =
        g_.add(g_.mul(y_, clampedLog(z_)), g_.mul(g_.sub(one, y_), clampedLog(g_.sub(one, z_))));
    loss_.total = g_.neg(totalOf(item));
    loss_.noLikelihood =
        "bce has its type-2 and mc Fisher only where the network ends with Sigmoid";
  }

  // r^2 / (2 scale) within delta, linear beyond.
  void huber(double delta, double scale) {
    Id r = residual();
    Id size = g_.max(r, g_.neg(r));
    Id inside = g_.scale(g_.mul(r, r), 0.5 / scale);
    Id beyond = g_.scale(g_.shift(size, -delta / 2), delta / scale);
    loss_.total = totalOf(g_.select(g_.binary(Op::Less, size, g_.scalar(delta)), inside, beyond));
    loss_.noLikelihood = options_.name + " is no likelihood: type-2 and mc Fisher do not exist";
  }

  void l1() {
    Id r = residual();
    Id zero = g_.scalar(0);
    Id below = g_.select(g_.binary(Op::Less, r, zero), g_.neg(r), zero);
    loss_.total = totalOf(g_.select(g_.binary(Op::Less, zero, r), r, below));
    loss_.noGgn = "l1 has no curvature in the output, so its Gauss-Newton matrix is zero";
    loss_.noLikelihood = loss_.noGgn;
  }

  void output() {
    // One number a sample, or one for the micro-batch, which is its mean or its sum.
    const Shape& shape = g_.shape(z_);
    const int64_t rows = rows_.rows;
    if (!shape.empty() && shape[0] == rows && count(shape) == rows)
      loss_.total = totalOf(z_);
    else if (count(shape) == 1 && rows_.valid == rows)
      loss_.total = g_.scale(g_.reshape(z_, {}), options_.mean ? static_cast<double>(rows) : 1.0);
    else if (count(shape) == 1)
      throw Error(ErrorKind::DataMismatch,
                  "loss output: the graph computes one number for exactly " + std::to_string(rows) +
                      " samples; use a number of samples that is a multiple of it, or export with "
                      "a dynamic batch axis");
    else
      throw Error(ErrorKind::DataMismatch,
                  "loss output: expected a scalar, or one number a sample, from the network; its "
                  "output has shape " +
                      show(shape) + " for " + std::to_string(rows) + " samples");
    if (count(shape) == 1 && rows > 1)
      loss_.noSamples =
          "the loss \"output\" is one number a micro-batch: the gradients of its samples, "
          "of which the empirical Fisher is made, are not known";
    loss_.noGgn =
        "the loss \"output\" is the graph's own scalar: where its Gauss-Newton split lies "
        "is not known; give a loss on the network's output instead";
    loss_.noLikelihood = loss_.noGgn;
  }

  Id draw(DrawKind kind, Id p) {
    Shape shape = g_.shape(p);
    shape.insert(shape.begin(), draws_->draws);
    return g_.draw(
        {p},
        {.ints = {static_cast<int64_t>(kind), draws_->draws, static_cast<int64_t>(draws_->seed)}},
        shape);
  }

  Graph& g_;
  const LossOptions& options_;
  Id z_, y_;
  Rows rows_;
  const TargetPlan& targets_;
  const std::optional<DrawOptions>& draws_;
  LossGraph loss_;
};

}  // namespace

LossGraph buildLoss(Graph& graph, const Problem& problem, const onnx::Lowered& network, Id y,
                    const Rows& rows, const TargetPlan& targets,
                    const std::optional<DrawOptions>& draws) {
  Core core = rowOf(problem.loss).core;
  Id value = network.output;
  std::string where = "at the output";
  // A softmax over another axis than that of the classes is a part of the network.
  const Shape& shape = graph.shape(network.output);
  if (core != Core::Output) requireRows(problem.loss, shape, rows.rows);
  const bool overClasses =
      !isClassLoss(core) || network.activation == "Sigmoid" ||
      network.activationAxis == static_cast<int64_t>(classAxisOf(problem.loss, shape.size()));
  for (const Move& move : kMoves)
    if (core == move.loss && network.activation == move.activation && overClasses) {
      core = move.becomes;
      value = network.logits;
      where = std::string("at the input of the last ") + move.activation;
      break;
    }
  const Id z = graph.unary(Op::Barrier, value);
  LossGraph loss = Builder(graph, problem.loss, z, y, rows, targets, draws).build(core);
  loss.where = where;
  for (const Doubtful& doubtful : kDoubtful)
    if (core == doubtful.loss && value == network.output && overClasses &&
        network.activation == doubtful.activation)
      loss.warnings.push_back("the network ends with " + network.activation + ", and " +
                              problem.loss.name +
                              " applies it once more, as PyTorch would: did you " +
                              "mean the loss " + doubtful.instead + "?");
  return loss;
}

}  // namespace eigenscope
