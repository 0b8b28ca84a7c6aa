#include <cstring>

#include "binding/calls.h"
#include "spectral/diagonal.h"
#include "spectral/norms.h"
#include "spectral/trace.h"

namespace eigenscope::binding {

namespace {

constexpr NameRow kTraceMethods[] = {{"hutchinson", static_cast<int>(TraceMethod::Hutchinson)},
                                     {"hutch++", static_cast<int>(TraceMethod::HutchPP)},
                                     {"xtrace", static_cast<int>(TraceMethod::XTrace)},
                                     {"xnystrace", static_cast<int>(TraceMethod::XNysTrace)},
                                     {"exact", static_cast<int>(TraceMethod::Exact)}};
constexpr NameRow kDiagonalMethods[] = {
    {"hutchinson", static_cast<int>(DiagonalMethod::Hutchinson)},
    {"xdiag", static_cast<int>(DiagonalMethod::XDiag)},
    {"exact", static_cast<int>(DiagonalMethod::Exact)}};
constexpr NameRow kNormMethods[] = {{"hutchinson", static_cast<int>(NormMethod::Hutchinson)},
                                    {"xtrace", static_cast<int>(NormMethod::XTrace)},
                                    {"exact", static_cast<int>(NormMethod::Exact)}};
constexpr NameRow kProbes[] = {{"rademacher", static_cast<int>(Probes::Rademacher)},
                               {"gaussian", static_cast<int>(Probes::Gaussian)}};

template <class T>
T sampled(CallInputs& inputs) {
  const Options& given = inputs.options();
  T options;
  options.stop.tol = given.number("tol", 0);
  options.stop.standardError = given.number("standardError", 0);
  options.stop.products = given.integer("products", 0);
  options.stop.maxProducts = given.integer("maxProducts", 0);
  options.stop.memoryBudget = given.integer("memoryBudget", 0);
  options.seed = given.natural("seed", options.seed);
  options.blockSize = given.integer("blockSize", options.blockSize);
  options.threads = inputs.threads();
  return options;
}

Fields fieldsOf(const SampledEstimate& result) {
  return {{"value", result.value},
          {"standardError", result.standardError},
          {"low", result.low},
          {"high", result.high},
          {"converged", result.converged},
          {"reason", result.reason},
          {"method", result.method},
          {"products", result.products},
          {"samples", result.samples},
          {"scale", result.scale},
          {"warnings", result.warnings}};
}

}  // namespace

// Known eigenvectors are the rows of `vectors`, of as many as there are `values`.
Work traceCall(CallInputs& inputs) {
  const Options& given = inputs.options();
  auto options = sampled<TraceOptions>(inputs);
  options.method = oneOf<TraceMethod>(given, "method", kTraceMethods, "xtrace");
  options.probes = oneOf<Probes>(given, "probes", kProbes, "rademacher");
  options.values = given.numbers("values");
  if (!options.values.empty())
    options.vectors =
        inputs.vectors("vectors", static_cast<int64_t>(options.values.size()) * inputs.op()->dim())
            .data;
  return [op = inputs.op(), options](Task& task) { return fieldsOf(trace(*op, options, task)); };
}

// Entries and their errors are written into `diagonal` and `errors`, of dim numbers each.
Work diagonalCall(CallInputs& inputs) {
  auto options = sampled<DiagonalOptions>(inputs);
  options.method = oneOf<DiagonalMethod>(inputs.options(), "method", kDiagonalMethods, "xdiag");
  const int64_t dim = inputs.op()->dim();
  const View values = inputs.doubles("diagonal", dim), errors = inputs.doubles("errors", dim);
  return [op = inputs.op(), options, values, errors](Task& task) {
    const DiagonalResult result = diagonal(*op, options, task);
    std::memcpy(values.data, result.values.data(), values.bytes);
    std::memcpy(errors.data, result.standardErrors.data(), errors.bytes);
    return fieldsOf(result.whole);
  };
}

Work evenNormCall(CallInputs& inputs) {
  auto options = sampled<NormOptions>(inputs);
  options.method = oneOf<NormMethod>(inputs.options(), "method", kNormMethods, "xtrace");
  options.power = inputs.options().integer("power", options.power);
  return [op = inputs.op(), options](Task& task) { return fieldsOf(evenNorm(*op, options, task)); };
}

}  // namespace eigenscope::binding
