#include "spectral/solve.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "spectral/cg.h"
#include "spectral/lsmr.h"
#include "spectral/minimal_residuals.h"
#include "spectral/neumann.h"
#include "spectral/nystrom_preconditioner.h"

namespace eigenscope {

namespace {

constexpr int64_t kEndSteps = 12;

// Numbers of a vector of all right-hand sides at work; a method keeps up to a dozen such vectors.
constexpr int64_t kNumbersAtWork = int64_t{1} << 24;

struct MethodRow {
  SolveMethod method;
  const char* name;
  Columns::Method run;
  bool definite;  // needs a positive semi-definite A + damping I
  bool takesPreconditioner;
};

constexpr MethodRow kMethods[] = {
    {SolveMethod::Cg, "cg", conjugateGradients, true, true},
    {SolveMethod::Minres, "minres", minimalResiduals, false, true},
    {SolveMethod::Lsmr, "lsmr", leastSquares, false, true},
    {SolveMethod::Neumann, "neumann", neumannSeries, true, false},
};

const MethodRow& rowOf(SolveMethod method) { return kMethods[static_cast<int>(method)]; }

[[noreturn]] void refuse(const std::string& message) {
  throw Error(ErrorKind::Option, "solve: " + message);
}

void requireRange(const char* name, double value, bool fits, const char* expected) {
  if (!fits)
    refuse(std::string(name) + ": expected " + expected + ", got " + std::to_string(value));
}

SolveOptions checked(const LinearOperator& op, SolveOptions options) {
  const MethodRow& row = rowOf(options.method);
  const std::string name = row.name;
  const bool single = op.precision() == Precision::F32;
  if (options.tol == 0) options.tol = single ? 1e-4 : 1e-8;
  requireRange("tol", options.tol, options.tol > 0 && options.tol < 1, "a number between 0 and 1");
  requireRange("damping", options.damping, options.damping >= 0 && std::isfinite(options.damping),
               "a number from 0");
  requireRange("tikhonov", options.tikhonov,
               options.tikhonov >= 0 && std::isfinite(options.tikhonov), "a number from 0");
  requireRange("scale", options.scale, options.scale >= 0 && std::isfinite(options.scale),
               "a number above 0");
  if (options.maxProducts < 0)
    refuse("maxProducts: expected a positive integer, got " + std::to_string(options.maxProducts));
  if (options.tikhonov > 0 && options.method != SolveMethod::Lsmr)
    refuse("tikhonov belongs to method lsmr, got method " + name);
  if (options.scale > 0 && options.method != SolveMethod::Neumann)
    refuse("scale belongs to method neumann, got method " + name);
  const bool sketch = options.nystromRank != 0;
  if (!sketch && !options.preconditioner) return options;
  if (!row.takesPreconditioner) refuse("method " + name + " takes no preconditioner; take cg");
  if (options.tikhonov > 0) refuse("lsmr takes either a preconditioner or tikhonov, got both");
  if (sketch) {
    if (options.preconditioner) refuse("expected one preconditioner, got two");
    if (options.method == SolveMethod::Lsmr)
      refuse("the Nystrom preconditioner is for methods cg and minres, got lsmr");
    if (options.nystromRank < 1 || options.nystromRank > op.dim())
      refuse("rank: expected an integer from 1 to " + std::to_string(op.dim()) +
             ", the dimension, got " + std::to_string(options.nystromRank));
    if (options.damping == 0) refuse("the Nystrom preconditioner needs damping above 0, got none");
    return options;
  }
  const LinearOperator& p = *options.preconditioner;
  if (p.dim() != op.dim())
    refuse("preconditioner: expected dimension " + std::to_string(op.dim()) +
           ", that of the operator, got " + std::to_string(p.dim()));
  if (p.precision() != op.precision())
    refuse(std::string("preconditioner: expected ") + (single ? "float32" : "float64") +
           ", as the operator, got " + (single ? "float64" : "float32"));
  return options;
}

template <class T>
std::vector<double> widened(const void* from, int64_t row, int64_t dim, const char* name) {
  const T* values = static_cast<const T*>(from) + row * dim;
  for (int64_t i = 0; i < dim; ++i)
    if (!std::isfinite(values[i]))
      throw Error(ErrorKind::DataMismatch, std::string("solve: ") + name + " " +
                                               std::to_string(row) + " has " +
                                               std::to_string(values[i]) + " at coordinate " +
                                               std::to_string(i) + "; every number must be finite");
  return {values, values + dim};
}

std::vector<double> widened(Precision precision, const void* from, int64_t row, int64_t dim,
                            const char* name) {
  return precision == Precision::F32 ? widened<float>(from, row, dim, name)
                                     : widened<double>(from, row, dim, name);
}

template <class T>
void narrowed(const std::vector<double>& x, std::byte* to) {
  for (std::size_t i = 0; i < x.size(); ++i) {
    const T value = static_cast<T>(x[i]);
    if (!std::isfinite(value))
      throw Error(ErrorKind::DataMismatch,
                  "solve: the solution is beyond the range of the precision at coordinate " +
                      std::to_string(i) + "; scale the right-hand side down, or use float64");
    std::memcpy(to + i * sizeof(T), &value, sizeof(T));
  }
}

}  // namespace

LinearSolver::LinearSolver(OperatorPtr op, SolveOptions options)
    : op_(std::move(op)), options_(checked(*op_, std::move(options))) {}

void LinearSolver::prepare(ProductCounter& a) {
  const std::lock_guard lock(mutex_);
  if (prepared_) return;
  preconditioner_ = options_.preconditioner;
  if (options_.nystromRank > 0)
    preconditioner_ =
        nystromPreconditioner(a, options_.damping, options_.nystromRank, options_.seed);
  if (options_.method == SolveMethod::Neumann) {
    const SpectrumEnds ends = spectrumEnds(a, options_.damping, kEndSteps, options_.seed);
    const double noise = op_->precision() == Precision::F32 ? 2e-5 : 1e-12;
    if (!(ends.highest > 0) || ends.lowest < -noise * ends.highest)
      refuse(
          "the Neumann series needs a positive definite operator, and A + damping I has an "
          "eigenvalue of at most " +
          shortNumber(ends.lowest) + "; take method minres, or damping above " +
          shortNumber(options_.damping - ends.lowest));
    scale_ = options_.scale > 0 ? options_.scale : ends.high;
    if (scale_ <= ends.highest / 2)
      refuse(
          "scale: expected more than half the largest eigenvalue of A + damping I, which is at "
          "least " +
          shortNumber(ends.highest) + ", or the Neumann series diverges; got " +
          shortNumber(scale_));
  }
  prepared_ = true;
}

std::string LinearSolver::describe(const Column& column, int64_t number, int64_t count) const {
  const MethodRow& row = rowOf(options_.method);
  const bool single = op_->precision() == Precision::F32;
  const std::string which = count > 1 ? "right-hand side " + std::to_string(number) + ": " : "";
  const std::string state = "the residual is " + shortNumber(column.residual) +
                            " of the right-hand side, tol is " + shortNumber(options_.tol);
  switch (column.ending) {
    case Ending::Converged: return {};
    case Ending::Hindered: return which + column.hindrance + " (" + state + ")";
    case Ending::OutOfProducts:
      return which + "the products allowed (maxProducts) were not enough: " + state +
             "; allow more products, raise tol or damping, or " +
             (options_.method == SolveMethod::Neumann ? "take method cg, which needs far fewer"
              : row.takesPreconditioner               ? "give a preconditioner"
                                                      : "take another method");
    default:
      return which +
             "tol is below what the products can resolve, or the system is singular: " + state +
             " and falls no further; raise tol or damping" + (single ? ", or use float64" : "");
  }
}

SolveResult LinearSolver::solve(const void* b, const void* start, int64_t count, Task& task) {
  const int64_t dim = op_->dim();
  const Precision precision = op_->precision();
  const std::size_t bytes = dim * bytesOf(precision);
  for (int64_t k = 0; k < count; ++k) {
    widened(precision, b, k, dim, "right-hand side");
    if (start) widened(precision, start, k, dim, "start");
  }
  const int64_t each = 1000 + std::min<int64_t>(10 * dim, 10000);
  const int64_t limit = options_.maxProducts > 0 ? options_.maxProducts : each * count;
  ProductCounter a(*op_, task, limit);
  prepare(a);

  SystemTerms terms;
  terms.shift = options_.damping;
  terms.preconditioner = preconditioner_.get();
  terms.tol = options_.tol;
  terms.tikhonov = options_.tikhonov;
  terms.width = std::clamp<int64_t>(kNumbersAtWork / dim, 1, terms.width);
  if (scale_ > 0) terms.step = 1 / scale_;

  SolveResult result;
  result.solution.resize(bytes * count);
  result.residuals.resize(count);
  result.iterations.resize(count);
  const MethodRow& row = rowOf(options_.method);
  if (row.definite && options_.damping > 0) result.errorBounds.resize(count);
  if (options_.method == SolveMethod::Lsmr) result.optimality.resize(count);
  result.converged = true;
  result.tol = options_.tol;
  result.scale = scale_;
  int64_t firstBad = count;

  const auto make = [&](int64_t k) {
    const std::vector<double> rhs = widened(precision, b, k, dim, "right-hand side");
    std::vector<double> from;
    if (start) from = widened(precision, start, k, dim, "start");
    return std::make_unique<Column>(terms, precision, dim, rhs.data(),
                                    start ? from.data() : nullptr);
  };
  const auto settle = [&](int64_t k, const Column& column) {
    std::vector<double> x(dim);
    column.solution(x.data());
    std::byte* to = result.solution.data() + k * bytes;
    precision == Precision::F32 ? narrowed<float>(x, to) : narrowed<double>(x, to);
    result.residuals[k] = column.residual;
    result.iterations[k] = column.iterations;
    if (!result.errorBounds.empty())
      result.errorBounds[k] = column.residual * column.lengthOfRightHandSide() / options_.damping;
    if (!result.optimality.empty()) result.optimality[k] = column.optimality;
    if (column.ending == Ending::Converged || k > firstBad) return;
    firstBad = k;
    result.converged = false;
    result.reason = describe(column, k, count);
  };
  Columns columns(a, terms);
  columns.run(row.run, count, make, settle);
  result.products = a.products();
  result.preconditionerProducts = columns.preconditionerProducts();
  return result;
}

}  // namespace eigenscope
