#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "curvature/engine.h"
#include "curvature/problem.h"
#include "linalg/blas.h"

namespace eigenscope {

namespace {

// Directions that one program takes at most; more are cut into blocks. Beyond this a wider block
// gains nothing (the matrix products are wide already) and costs memory.
constexpr int64_t kDirections = 16;

void checkData(const Problem& problem) {
  if (problem.samples < 1)
    throw Error(ErrorKind::DataMismatch, "data: expected at least one sample; received none");
  for (const auto& [name, array] : problem.inputs)
    if (isFloating(array.type())) requireFinite(array, 0, array.rows());
  for (const auto& parameter : problem.parameters) {
    const Array flat = parameter.value.reshaped({parameter.value.size()});
    const int64_t bad = firstNonFinite(flat, 0, flat.rows());
    if (bad >= 0)
      throw Error(ErrorKind::DataMismatch, "parameter " + parameter.name + ": expected finite " +
                                               "numbers; NaN or infinity at " +
                                               parameter.value.indexText(bad));
  }
}

template <class T>
bool allFinite(const T* values, int64_t n) {
  return std::all_of(values, values + n, [](T value) { return std::isfinite(value); });
}

// A view that keeps nothing alive: the caller holds the problem for the length of the call.
std::shared_ptr<const Problem> borrowed(const Problem& problem) {
  return {std::shared_ptr<const Problem>(), &problem};
}

Engine forwardEngine(const Problem& problem, const RunOptions& options, int64_t fixedBatch) {
  return Engine(
      borrowed(problem), options, fixedBatch, {},
      [&problem](const Rows& rows, int64_t) {
        Network network = buildNetwork(problem, rows.rows);
        ProductGraph product;
        product.outputs = {network.lowered.output};
        product.warnings = network.lowered.warnings;
        product.graph = std::move(network.graph);
        return product;
      },
      0);
}

// Outputs for the first n samples, computed in micro-batches of exactly `batch`.
std::vector<double> outputsBy(const Problem& problem, int64_t batch, int64_t n) {
  RunOptions options;
  options.precision = Precision::F64;
  options.threads = 1;
  Task task;
  return forwardEngine(problem, options, batch).locals(n, task);
}

// A graph exported for a batch of b may hold b in its constants. Where twice the batch gives the
// same outputs it generalises, and any size will do: 0. Otherwise b.
int64_t fixedBatchOf(const Problem& problem) {
  int64_t fixed = 0;
  for (const auto& input : problem.model->inputs)
    if (problem.inputs.count(input.name) && !input.dims.empty() && input.dims[0] > 0)
      fixed = input.dims[0];
  if (fixed == 0) return 0;
  const int64_t n = std::min(problem.samples, 2 * fixed);
  const std::vector<double> own = outputsBy(problem, fixed, n);
  try {
    const std::vector<double> twice = outputsBy(problem, 2 * fixed, n);
    if (twice.size() != own.size()) return fixed;
    double scale = 0, worst = 0;
    for (size_t i = 0; i < own.size(); ++i) {
      scale = std::max(scale, std::abs(own[i]));
      worst = std::max(worst, std::abs(own[i] - twice[i]));
    }
    constexpr double kSame = 1e-9;
    return worst <= kSame * scale ? 0 : fixed;
  } catch (const Error&) {
    return fixed;
  }
}

// The shape [N, ...] of the network's output, from a network of few rows.
Shape outputShape(const Problem& problem, int64_t fixedBatch) {
  const int64_t rows = fixedBatch > 0 ? fixedBatch : std::min<int64_t>(problem.samples, 2);
  Network network = buildNetwork(problem, rows);
  Shape shape = network.graph.shape(network.lowered.output);
  if (!shape.empty() && shape[0] == rows) shape[0] = problem.samples;
  return shape;
}

class ProductOperator : public CurvatureOperator {
 public:
  ProductOperator(std::shared_ptr<const Problem> problem, const OperatorOptions& options)
      : problem_(std::move(problem)), options_(options) {
    if (options_.tensors.empty()) {
      options_.tensors.resize(problem_->parameters.size());
      std::iota(options_.tensors.begin(), options_.tensors.end(), 0);
    }
    for (int64_t i : options_.tensors) dim_ += problem_->parameters.at(i).size;
    if (dim_ == 0)
      throw Error(ErrorKind::Option,
                  "parameters: expected at least one tensor to differentiate by; none was chosen, "
                  "or the model has none");
    if (options_.kind == OperatorKind::FisherMc && options_.draws < 1)
      throw Error(ErrorKind::Option,
                  "draws: expected at least 1; received " + std::to_string(options_.draws));
    checkData(*problem_);
    const int64_t fixedBatch = fixedBatchOf(*problem_);
    targets_ = planTargets(*problem_, outputShape(*problem_, fixedBatch));
    for (int64_t i : options_.tensors) {
      const auto& parameter = problem_->parameters.at(i);
      for (int64_t j = 0; j < parameter.size; ++j) index_.push_back(parameter.offset + j);
    }
    if (static_cast<size_t>(dim_) == index_.size() && index_.front() == 0 &&
        index_.back() == dim_ - 1)
      index_.clear();
    engine_ = std::make_unique<Engine>(
        problem_, options_, fixedBatch, options_.tensors,
        [this](const Rows& rows, int64_t k) {
          return buildProduct(*problem_, targets_, options_, rows, k);
        },
        kDirections);
  }

  int64_t dim() const override { return dim_; }
  Precision precision() const override { return options_.precision; }
  std::span<const int64_t> index() const override { return index_; }

  void apply(const void* x, void* y, int64_t count, Task& task) override {
    engine_->product(x, y, count, productScale(*problem_, targets_, options_.kind), task);
    const bool finite = options_.precision == Precision::F32
                            ? allFinite(static_cast<const float*>(y), count * dim_)
                            : allFinite(static_cast<const double*>(y), count * dim_);
    if (finite) return;
    evaluateRisk(*problem_, options_, false, task);  // names the sample where the loss is to blame
    throw Error(ErrorKind::DataMismatch,
                "a product of the operator is not finite although the loss is: a derivative of the "
                "network is infinite or too large for the precision; try float64, and look for "
                "roots, powers and quotients at 0");
  }

  OperatorReport report() const override { return engine_->report(); }
  std::string printPlan() const override { return engine_->printPlan(); }
  int64_t heldBytes() const override { return engine_->heldBytes(); }

 private:
  std::shared_ptr<const Problem> problem_;
  OperatorOptions options_;
  TargetPlan targets_;
  int64_t dim_ = 0;
  std::vector<int64_t> index_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace

std::shared_ptr<CurvatureOperator> makeOperator(std::shared_ptr<const Problem> problem,
                                                const OperatorOptions& options) {
  return std::make_shared<ProductOperator>(std::move(problem), options);
}

Forward evaluateForward(const Problem& problem, const RunOptions& options, int64_t n, Task& task) {
  Engine engine = forwardEngine(problem, options, fixedBatchOf(problem));
  n = std::min(n, problem.samples);
  Forward forward;
  forward.shape = engine.localShape();
  forward.values = engine.locals(n, task);
  const auto found = static_cast<int64_t>(forward.values.size());
  Shape rows = forward.shape;
  if (!rows.empty()) rows[0] = n;
  if (!rows.empty() && count(rows) == found)
    forward.shape = rows;
  else if (count(forward.shape) != found)
    throw Error(ErrorKind::DataMismatch,
                "forward: expected an output of one row a sample; the network's output has shape " +
                    show(forward.shape) +
                    ", and the samples make several micro-batches: evaluate fewer of them, raise "
                    "the micro-batch size, or export the network with a dynamic batch axis");
  return forward;
}

Risk evaluateRisk(const Problem& problem, const RunOptions& options, bool gradient, Task& task) {
  checkData(problem);
  const int64_t fixedBatch = fixedBatchOf(problem);
  const TargetPlan targets = planTargets(problem, outputShape(problem, fixedBatch));
  Engine engine(
      borrowed(problem), options, fixedBatch, {},
      [&](const Rows& rows, int64_t) { return buildRisk(problem, targets, rows, gradient); }, 0);
  const auto totals = engine.totals(task);
  Risk risk;
  risk.loss = totals[0][0] / targets.denominator;
  if (!std::isfinite(risk.loss)) {
    // Say where it comes from.
    const Forward forward = evaluateForward(problem, options, problem.samples, task);
    int64_t width = 1;
    for (size_t a = 1; a < forward.shape.size(); ++a) width *= forward.shape[a];
    for (size_t i = 0; i < forward.values.size(); ++i)
      if (!std::isfinite(forward.values[i]))
        throw Error(ErrorKind::DataMismatch,
                    "the loss is not finite: the network's output is " +
                        std::to_string(forward.values[i]) + " for sample " +
                        std::to_string(static_cast<int64_t>(i) / width) + ", element " +
                        std::to_string(static_cast<int64_t>(i) % width));
    throw Error(
        ErrorKind::DataMismatch,
        "the loss is not finite although all outputs are: a target meets a probability of 0");
  }
  double squares = 0;
  if (gradient)
    for (size_t i = 0; i < problem.parameters.size(); ++i) {
      std::vector<double> part = totals[i + 1];
      part.resize(static_cast<size_t>(problem.parameters[i].size), 0.0);
      for (double g : part) {
        risk.gradient.push_back(g / targets.denominator);
        squares += risk.gradient.back() * risk.gradient.back();
      }
    }
  risk.gradientNorm = std::sqrt(squares);
  risk.report = engine.report();
  return risk;
}

}  // namespace eigenscope
