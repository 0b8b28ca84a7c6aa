#include <cstring>

#include "binding/calls.h"
#include "spectral/eigsh.h"

namespace eigenscope::binding {

namespace {

constexpr NameRow kWhich[] = {{"LM", static_cast<int>(Which::LM)},
                              {"LA", static_cast<int>(Which::LA)},
                              {"SA", static_cast<int>(Which::SA)},
                              {"BE", static_cast<int>(Which::BE)}};
constexpr NameRow kMethods[] = {{"lanczos", static_cast<int>(EigshMethod::Lanczos)},
                                {"subspace", static_cast<int>(EigshMethod::Subspace)},
                                {"krylov", static_cast<int>(EigshMethod::Krylov)},
                                {"nystrom", static_cast<int>(EigshMethod::Nystrom)},
                                {"lobpcg", static_cast<int>(EigshMethod::Lobpcg)},
                                {"two-sketch", static_cast<int>(EigshMethod::TwoSketch)},
                                {"shift-invert", static_cast<int>(EigshMethod::ShiftInvert)},
                                {"filter", static_cast<int>(EigshMethod::Filter)}};

// In the order of BoundKind.
constexpr const char* kBounds[] = {"residual", "gap", "cluster"};

// A typed array of vectors in the operator's precision, in double; empty where there is none.
std::vector<double> optionalVectors(CallInputs& inputs, const char* name) {
  if (!inputs.options().has(name)) return {};
  const View view = inputs.vectors(name);
  if (inputs.op()->precision() == Precision::F64) {
    const auto numbers = view.as<double>();
    return {numbers.begin(), numbers.end()};
  }
  const auto numbers = view.as<float>();
  return {numbers.begin(), numbers.end()};
}

}  // namespace

// Eigenvectors are written into `vectors`, of k * dim numbers.
Work eigshCall(CallInputs& inputs) {
  const Options& given = inputs.options();
  EigshOptions options;
  options.k = given.integer("k", options.k);
  options.which = oneOf<Which>(given, "which", kWhich, "LM");
  options.method = oneOf<EigshMethod>(given, "method", kMethods, "lanczos");
  options.tol = given.number("tol", options.tol);
  options.maxProducts = given.integer("maxProducts", options.maxProducts);
  options.seed = given.natural("seed", options.seed);
  options.blockSize = given.integer("blockSize", options.blockSize);
  options.oversample = given.integer("oversample", options.oversample);
  options.basisSize = given.integer("basisSize", options.basisSize);
  options.memoryBudget = given.integer("memoryBudget", options.memoryBudget);
  options.threads = inputs.threads();
  options.start = optionalVectors(inputs, "start");
  options.deflate = optionalVectors(inputs, "deflate");
  options.preconditioner = inputs.operand("preconditioner");
  options.sigma = given.number("sigma", options.sigma);
  options.low = given.number("low", options.low);
  options.high = given.number("high", options.high);
  options.checkpoint = given.string("checkpoint", "");
  options.resume = given.string("resume", "");
  const View vectors = inputs.vectors("vectors");
  return [op = inputs.op(), options, vectors](Task& task) {
    const EigshResult result = eigsh(*op, options, task);
    if (result.vectors.size() > vectors.bytes)
      throw Error(ErrorKind::Internal, "eigsh: more vectors than were asked for");
    std::memcpy(vectors.data, result.vectors.data(), result.vectors.size());
    std::vector<double> low, high;
    std::vector<std::string> bounds;
    for (const EigenInterval& interval : result.intervals) {
      low.push_back(interval.low);
      high.push_back(interval.high);
      bounds.push_back(kBounds[static_cast<int>(interval.kind)]);
    }
    return Fields{{"values", result.values},
                  {"low", low},
                  {"high", high},
                  {"bounds", bounds},
                  {"missedProbability", result.missed.probability},
                  {"missedHow", result.missed.how},
                  {"countExact", result.count.exact},
                  {"countEstimate", result.count.estimate},
                  {"countError", result.count.standardError},
                  {"countProbes", result.count.probes},
                  {"coupling", result.coupling},
                  {"residuals", result.residuals},
                  {"converged", result.converged},
                  {"reason", result.reason},
                  {"method", result.method},
                  {"scale", result.scale},
                  {"tol", result.tol},
                  {"products", result.products},
                  {"restarts", result.restarts},
                  {"warnings", result.warnings}};
  };
}

}  // namespace eigenscope::binding
