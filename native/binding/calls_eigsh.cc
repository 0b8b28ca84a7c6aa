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
                                {"nystrom", static_cast<int>(EigshMethod::Nystrom)}};

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
  const View vectors = inputs.vectors("vectors");
  return [op = inputs.op(), options, vectors](Task& task) {
    const EigshResult result = eigsh(*op, options, task);
    if (result.vectors.size() > vectors.bytes)
      throw Error(ErrorKind::Internal, "eigsh: more vectors than were asked for");
    std::memcpy(vectors.data, result.vectors.data(), result.vectors.size());
    return Fields{{"values", result.values},
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
