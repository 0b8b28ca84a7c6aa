// The loss, its gradient and the network's output, and what the data say about a problem.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "curvature/engine.h"
#include "curvature/outputs.h"
#include "curvature/prepare.h"
#include "curvature/problem.h"
#include "onnx/modes.h"

namespace eigenscope {

namespace {

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
int64_t fixedBatchOf(const Problem& given) {
  int64_t fixed = 0;
  // Statistics of the batch change with its size whether it is in the constants or not.
  Problem problem = given;
  if (onnx::usesBatchStatistics(*given.model)) {
    auto stored = std::make_shared<onnx::Model>(*given.model);
    onnx::applyModes(*stored, {.batchNorm = onnx::Modes::Statistics::Running});
    problem.model = std::move(stored);
  }
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

}  // namespace

Prepared prepare(const Problem& problem) {
  checkData(problem);
  const int64_t fixedBatch = fixedBatchOf(problem);
  return {fixedBatch, planTargets(problem, outputShape(problem, fixedBatch))};
}

namespace {

// The outputs of the first n samples, where the engine stands.
Forward outputsOf(Engine& engine, int64_t n, Task& task) {
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

}  // namespace

Forward evaluateForward(const Problem& problem, const RunOptions& options, int64_t n, Task& task) {
  Engine engine = forwardEngine(problem, options, fixedBatchOf(problem));
  return outputsOf(engine, std::min(n, problem.samples), task);
}

struct RiskEvaluator::State {
  std::shared_ptr<const Problem> problem;  // at the parameters
  RunOptions options;
  bool gradient;
  Prepared prepared;
  std::unique_ptr<Engine> engine;
};

RiskEvaluator::RiskEvaluator(std::shared_ptr<const Problem> problem, const RunOptions& options,
                             bool gradient)
    : state_(new State{problem, options, gradient, prepare(*problem), nullptr}) {
  State& state = *state_;
  state.engine = std::make_unique<Engine>(
      problem, options, state.prepared.fixedBatch, std::vector<int64_t>(),
      [&state](const Rows& rows, int64_t) {
        return buildRisk(*state.problem, state.prepared.targets, rows, state.gradient);
      },
      0);
}

RiskEvaluator::~RiskEvaluator() = default;

namespace {

std::shared_ptr<const Problem> moved(const Problem& problem, const double* direction, double step) {
  auto there = std::make_shared<Problem>(problem);
  for (onnx::Parameter& parameter : there->parameters) {
    std::vector<double> values(static_cast<size_t>(parameter.size));
    const Array flat = parameter.value.reshaped({parameter.value.size()});
    convertRows(flat, 0, parameter.size, values.data());
    for (size_t i = 0; i < values.size(); ++i)
      values[i] += step * direction[static_cast<size_t>(parameter.offset) + i];
    parameter.value =
        Array(parameter.name, ElementType::F64, parameter.value.shape(),
              copyBytes(parameter.name, values.data(), values.size() * sizeof(double)));
  }
  checkData(*there);
  return there;
}

// Says where a loss that is not finite comes from.
[[noreturn]] void blame(const Problem& problem, const RunOptions& options, Task& task) {
  const Forward forward = evaluateForward(problem, options, problem.samples, task);
  int64_t width = 1;
  for (size_t a = 1; a < forward.shape.size(); ++a) width *= forward.shape[a];
  for (size_t i = 0; i < forward.values.size(); ++i)
    if (!std::isfinite(forward.values[i]))
      throw Error(ErrorKind::DataMismatch, "the loss is not finite: the network's output is " +
                                               std::to_string(forward.values[i]) + " for sample " +
                                               std::to_string(static_cast<int64_t>(i) / width) +
                                               ", element " +
                                               std::to_string(static_cast<int64_t>(i) % width));
  throw Error(ErrorKind::DataMismatch,
              "the loss is not finite although all outputs are: a target meets a probability of 0");
}

}  // namespace

Risk RiskEvaluator::at(const double* direction, double step, Task& task) {
  State& state = *state_;
  const auto problem = direction ? moved(*state.problem, direction, step) : state.problem;
  state.engine->moveTo(problem);
  const auto totals = state.engine->totals(task);
  const double denominator = state.prepared.targets.denominator;
  Risk risk;
  risk.loss = totals[0][0] / denominator;
  if (!std::isfinite(risk.loss)) blame(*problem, state.options, task);
  double squares = 0;
  if (state.gradient)
    for (size_t i = 0; i < problem->parameters.size(); ++i) {
      std::vector<double> part = totals[i + 1];
      part.resize(static_cast<size_t>(problem->parameters[i].size), 0.0);
      for (double g : part) {
        risk.gradient.push_back(g / denominator);
        squares += risk.gradient.back() * risk.gradient.back();
      }
    }
  risk.gradientNorm = std::sqrt(squares);
  risk.report = state.engine->report();
  return risk;
}

struct OutputEvaluator::State {
  std::shared_ptr<const Problem> problem;  // at the parameters
  Engine engine;
};

OutputEvaluator::OutputEvaluator(std::shared_ptr<const Problem> problem, const RunOptions& options)
    : state_(new State{problem, forwardEngine(*problem, options, fixedBatchOf(*problem))}) {
  checkData(*problem);
}

OutputEvaluator::~OutputEvaluator() = default;

Forward OutputEvaluator::at(const double* direction, Task& task) {
  State& state = *state_;
  state.engine.moveTo(direction ? moved(*state.problem, direction, 1) : state.problem);
  return outputsOf(state.engine, state.problem->samples, task);
}

Risk evaluateRisk(const Problem& problem, const RunOptions& options, bool gradient, Task& task) {
  return RiskEvaluator(borrowed(problem), options, gradient).at(nullptr, 0, task);
}

}  // namespace eigenscope
