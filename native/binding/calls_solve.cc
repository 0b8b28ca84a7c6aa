#include <cstring>

#include "binding/calls.h"
#include "spectral/inverse.h"

namespace eigenscope::binding {

namespace {

constexpr NameRow kMethods[] = {{"cg", static_cast<int>(SolveMethod::Cg)},
                                {"minres", static_cast<int>(SolveMethod::Minres)},
                                {"lsmr", static_cast<int>(SolveMethod::Lsmr)},
                                {"neumann", static_cast<int>(SolveMethod::Neumann)}};

SolveOptions solveOptionsOf(const Options& given, OperatorPtr preconditioner) {
  SolveOptions options;
  options.method = oneOf<SolveMethod>(given, "method", kMethods, "cg");
  options.damping = given.number("damping", options.damping);
  options.tol = given.number("tol", options.tol);
  options.maxProducts = given.integer("maxProducts", options.maxProducts);
  options.nystromRank = given.integer("rank", options.nystromRank);
  options.tikhonov = given.number("tikhonov", options.tikhonov);
  options.scale = given.number("scale", options.scale);
  options.seed = given.natural("seed", options.seed);
  options.preconditioner = std::move(preconditioner);
  return options;
}

// inverseOperator(a, options): (a + damping I)^-1
Napi::Value inverted(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Options given(info[1], "inverse");
    const bool lenient = given.boolean("lenient", false);
    const OperatorPtr op = composedOf(info[0]).op;
    if (!given.has("preconditioner"))
      return wrapComposed(info.Env(), inverseOperator(op, solveOptionsOf(given, nullptr), lenient),
                          {info[0]});
    const Napi::Value other = given.get("preconditioner");
    const SolveOptions options = solveOptionsOf(given, composedOf(other).op);
    return wrapComposed(info.Env(), inverseOperator(op, options, lenient), {info[0], other});
  });
}

}  // namespace

// The right-hand sides are `b`, count x dim; solutions go into `solution`, of the same size.
Work solveCall(CallInputs& inputs) {
  const Options& given = inputs.options();
  const OperatorPtr op = inputs.op();
  const SolveOptions options = solveOptionsOf(given, inputs.operand("preconditioner"));
  const View b = inputs.vectors("b");
  const int64_t size = b.length, count = size / op->dim();
  if (count < 1 || count * op->dim() != size)
    given.fail("b", "count * " + std::to_string(op->dim()) + " numbers");
  const View solution = inputs.vectors("solution", size);
  const void* start = given.has("start") ? inputs.vectors("start", size).data : nullptr;
  auto solver = std::make_shared<LinearSolver>(op, options);
  return [solver, b, start, solution, count](Task& task) {
    const SolveResult result = solver->solve(b.data, start, count, task);
    std::memcpy(solution.data, result.solution.data(), result.solution.size());
    return Fields{{"residuals", result.residuals},
                  {"errorBounds", result.errorBounds},
                  {"optimality", result.optimality},
                  {"iterations", result.iterations},
                  {"converged", result.converged},
                  {"reason", result.reason},
                  {"tol", result.tol},
                  {"scale", result.scale},
                  {"products", result.products},
                  {"preconditionerProducts", result.preconditionerProducts}};
  };
}

void exportSolve(Napi::Env env, Napi::Object exports) {
  exports.Set("inverseOperator", Napi::Function::New(env, inverted, "inverseOperator"));
}

}  // namespace eigenscope::binding
