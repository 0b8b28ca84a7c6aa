#include <algorithm>
#include <cmath>

#include "binding/calls.h"
#include "spectral/functions.h"
#include "spectral/kpm.h"
#include "spectral/quadrature.h"

namespace eigenscope::binding {

namespace {

constexpr NameRow kProbeTypes[] = {{"rademacher", static_cast<int>(ProbeType::Rademacher)},
                                   {"gaussian", static_cast<int>(ProbeType::Gaussian)}};

template <class T>
T probesOf(CallInputs& inputs) {
  const Options& given = inputs.options();
  T options;
  options.probes = given.integer("probes", options.probes);
  options.steps = given.integer("steps", options.steps);
  options.type = oneOf<ProbeType>(given, "probeType", kProbeTypes, "rademacher");
  options.seed = given.natural("seed", options.seed);
  options.blockSize = given.integer("blockSize", options.blockSize);
  options.memoryBudget = given.integer("memoryBudget", options.memoryBudget);
  options.threads = inputs.threads();
  return options;
}

Fields tridiagonalFields(const Tridiagonal& t) {
  return {{"diagonal", t.diagonal}, {"offDiagonal", t.offDiagonal}, {"exact", t.exact}};
}

}  // namespace

Work quadratureCall(CallInputs& inputs) {
  const auto options = probesOf<QuadratureOptions>(inputs);
  return [op = inputs.op(), options](Task& task) {
    const QuadratureResult result = lanczosQuadrature(*op, options, task);
    std::vector<Fields> rules;
    for (const ProbeRule& rule : result.rules) {
      Fields fields = tridiagonalFields(rule.t);
      fields.add("nodes", rule.nodes);
      fields.add("weights", rule.weights);
      fields.add("residuals", rule.residuals);
      rules.push_back(std::move(fields));
    }
    return Fields{{"rules", std::move(rules)},
                  {"scale", result.scale},
                  {"resolution", resolutionOf(result.scale, op->precision())},
                  {"products", result.products},
                  {"blockSize", result.blockSize},
                  {"warnings", result.warnings}};
  };
}

Work momentsCall(CallInputs& inputs) {
  const auto options = probesOf<MomentOptions>(inputs);
  return [op = inputs.op(), options](Task& task) {
    const MomentResult result = chebyshevMoments(*op, options, task);
    std::vector<Fields> probes;
    for (const std::vector<double>& moments : result.moments)
      probes.push_back({{"moments", moments}});
    const double scale = std::max(std::abs(result.least), std::abs(result.largest));
    return Fields{{"probes", std::move(probes)},
                  {"center", result.center},
                  {"halfWidth", result.halfWidth},
                  {"least", result.least},
                  {"largest", result.largest},
                  {"scale", scale},
                  {"resolution", resolutionOf(scale, op->precision())},
                  {"products", result.products},
                  {"blockSize", result.blockSize},
                  {"warnings", result.warnings}};
  };
}

// f(A) v goes into `result`; without a function, the bases into `bases`, of count * steps * dim
// numbers.
Work functionProductCall(CallInputs& inputs) {
  const Options& given = inputs.options();
  FunctionOptions options;
  const std::string name = given.string("function", "");
  if (!name.empty()) {
    options.function = matrixFunction(name);
    std::string names;
    for (const std::string& known : matrixFunctionNames())
      names += (names.empty() ? "\"" : ", \"") + known + "\"";
    if (!options.function) given.fail("function", "one of " + names);
  }
  options.steps = given.integer("steps", options.steps);
  options.tol = given.number("tol", options.tol);
  options.blockSize = given.integer("blockSize", options.blockSize);
  options.memoryBudget = given.integer("memoryBudget", options.memoryBudget);
  options.threads = inputs.threads();
  const int64_t count = given.integer("count", 1), dim = inputs.op()->dim();
  const View v = inputs.vectors("vectors", count * dim);
  const View y = inputs.vectors("result", count * dim);
  void* bases = nullptr;
  if (given.has("bases")) {
    if (options.steps < 1 || options.steps > dim) given.fail("steps", "from 1 to the dimension");
    bases = inputs.vectors("bases", count * options.steps * dim).data;
  }
  return [op = inputs.op(), options, v, y, bases, count](Task& task) {
    const FunctionResult result = functionProduct(*op, v.data, y.data, count, options, bases, task);
    std::vector<Fields> vectors;
    for (const FunctionProduct& product : result.vectors) {
      Fields fields = tridiagonalFields(product.t);
      fields.add("startNorm", product.t.startNorm);
      fields.add("error", product.error);
      fields.add("residual", product.residual);
      fields.add("converged", product.converged);
      vectors.push_back(std::move(fields));
    }
    return Fields{{"vectors", std::move(vectors)},
                  {"products", result.products},
                  {"tol", result.tol},
                  {"resolution", resolutionOf(result.scale, op->precision())},
                  {"warnings", result.warnings}};
  };
}

}  // namespace eigenscope::binding
