#include "spectral/eigsh.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <string_view>

#include "linalg/blas.h"
#include "spectral/certify.h"
#include "spectral/checkpoint.h"
#include "spectral/complement.h"
#include "spectral/ritz.h"

namespace eigenscope {

namespace {

[[noreturn]] void refuse(const std::string& message) { throw Error(ErrorKind::Option, message); }

using Solve = EigshResult (*)(const EigshPlan&, ProductCounter&);

// In the order of EigshMethod.
struct MethodRow {
  const char* name;
  Solve solve;
  const char* ends;   // that it serves
  const char* finds;  // for the error about others
  bool sketch;        // works on a block of fixed size, at least k
  bool checkpoints;
  int64_t blocks;  // kept beside the basis
};
constexpr MethodRow kRows[] = {
    {"lanczos", lanczosEigsh, "LM LA SA BE", "", false, true, 1},
    {"subspace", subspaceEigsh, "LM",
     "subspace iteration finds eigenvalues of largest magnitude, which = LM", true, true, 1},
    {"krylov", krylovEigsh, "LM LA SA BE", "", false, true, 1},
    {"nystrom", nystromEigsh, "LM LA", "Nystrom finds the largest eigenvalues, which = LM or LA",
     true, false, 2},
    {"lobpcg", lobpcgEigsh, "LM LA SA BE", "", true, true, 5},
    {"two-sketch", twoSketchEigsh, "LM",
     "two sketches find eigenvalues of largest magnitude, which = LM", true, false, 5},
    {"shift-invert", shiftInvertEigsh, "LM", "sigma takes the place of which", false, false, 1},
    {"filter", filterEigsh, "LM", "the interval takes the place of which", false, false, 1},
};
const MethodRow& rowOf(EigshMethod method) { return kRows[static_cast<int>(method)]; }

bool interior(const EigshOptions& options) {
  return options.method == EigshMethod::ShiftInvert || options.method == EigshMethod::Filter;
}

int64_t basisBytes(const EigshPlan& plan, int64_t basis) {
  const int64_t number = bytesOf(plan.precision);
  const int64_t columns = basis + plan.block * rowOf(plan.options.method).blocks;
  const int64_t work = plan.block * (8 + (plan.precision == Precision::F32 ? number : 0));
  return plan.dim * (columns * number + work);
}

// The least basis with which a restart keeps the wanted vectors and still makes headway.
int64_t leastBasis(int64_t k, int64_t block) { return k + std::max<int64_t>(6, 3 * block); }

int64_t defaultBasis(const EigshPlan& plan) {
  const int64_t k = plan.options.k;
  if (plan.options.method == EigshMethod::Krylov)
    return std::max(6 * plan.block, leastBasis(k, plan.block));
  // Eigenvalues crowd at the low end, where a deeper space saves a third of the products.
  const Which which = plan.options.which;
  const int64_t spare = which == Which::SA || which == Which::BE ? 40 : 10;
  return std::max({2 * k + spare, int64_t{20}, k + 6 * plan.block});
}

// Each product of the outer iteration of an interior method costs tens of inner ones.
constexpr int64_t kInteriorFactor = 20;

// What only some methods take.
void checkExtras(const MethodRow& row, const EigshOptions& options) {
  const std::string got = std::string("got method ") + row.name;
  if (options.preconditioner && options.method != EigshMethod::Lobpcg)
    refuse("a preconditioner belongs to method lobpcg; " + got);
  if (!row.checkpoints && !(options.checkpoint.empty() && options.resume.empty()))
    refuse("checkpoints belong to methods lanczos, krylov, subspace and lobpcg; " + got);
  if (options.method == EigshMethod::ShiftInvert && !std::isfinite(options.sigma))
    refuse("sigma must be a finite number, got " + std::to_string(options.sigma));
  if (options.method == EigshMethod::Filter &&
      !(std::isfinite(options.low) && std::isfinite(options.high) && options.low < options.high))
    refuse("interval must be two finite numbers, the lower first, got " + shortNumber(options.low) +
           " and " + shortNumber(options.high));
}

void checkVectors(const char* name, const std::vector<double>& vectors, int64_t dim) {
  if (vectors.size() % dim != 0)
    refuse(std::string(name) + " must hold vectors of " + std::to_string(dim) +
           " numbers, the dimension of the operator, got " + std::to_string(vectors.size()) +
           " numbers");
  for (std::size_t i = 0; i < vectors.size(); ++i)
    if (!std::isfinite(vectors[i]))
      refuse(std::string(name) + ": vector " + std::to_string(i / dim) +
             " is not finite at coordinate " + std::to_string(i % dim));
}

EigshResult solvePlan(LinearOperator& op, const EigshOptions& options, Task& task) {
  const EigshPlan plan = planEigsh(op, options);
  ProductCounter counter(op, task, plan.options.maxProducts);
  if (plan.dense && !plan.options.resume.empty()) requireCheckpoint(plan);
  EigshResult result =
      plan.dense ? denseEigsh(plan, counter) : rowOf(plan.options.method).solve(plan, counter);
  certify(plan, result);
  return result;
}

// The pairs of the compression to the complement of the deflated vectors, taken back to the whole
// space; k more products tell how far those are from an invariant subspace.
EigshResult solveDeflated(LinearOperator& op, const EigshOptions& options, Task& task) {
  const int64_t dim = op.dim();
  const auto h = std::make_shared<Reflections>(options.deflate, dim, options.threads, &task);
  const int64_t rank = h->rank(), left = dim - rank;
  // The most that an interval may hold is no wish for so many.
  const int64_t k = options.method == EigshMethod::Filter ? std::min(options.k, left) : options.k;
  if (k < 1 || k > left)
    refuse("k must be from 1 to " + std::to_string(left) + ", the dimension " +
           std::to_string(dim) + " of the operator less the " + std::to_string(rank) +
           " that deflate takes, got " + std::to_string(k));
  ComplementOperator inner(op, h);
  EigshOptions reduced = options;
  reduced.deflate.clear();
  reduced.k = k;
  if (options.blockSize > left) reduced.blockSize = left;
  if (options.maxProducts > 0) reduced.maxProducts = std::max<int64_t>(1, options.maxProducts - k);
  if (options.preconditioner)
    reduced.preconditioner = std::make_shared<ComplementOperator>(*options.preconditioner, h);
  std::vector<double> w(dim);
  reduced.start.clear();
  for (std::size_t j = 0; j < options.start.size(); j += dim) {
    std::copy_n(options.start.begin() + j, dim, w.begin());
    h->applyTransposed(w.data());
    reduced.start.insert(reduced.start.end(), w.begin() + rank, w.end());
  }
  EigshResult result = solvePlan(inner, reduced, task);

  const int64_t found = result.values.size(), bytes = bytesOf(op.precision());
  Basis basis(left, found, op.precision()), whole(dim, found, op.precision());
  if (found == 0) return result;
  std::memcpy(basis.column(0), result.vectors.data(), result.vectors.size());
  for (int64_t j = 0; j < found; ++j) {
    std::fill(w.begin(), w.end(), 0.0);
    basis.load(j, 1, w.data() + rank);
    h->apply(w.data());
    whole.store(j, 1, w.data());
    fixSign(whole, j);
  }
  result.vectors.resize(found * dim * bytes);
  std::memcpy(result.vectors.data(), whole.column(0), result.vectors.size());

  Basis product(dim, found, op.precision());
  op.apply(whole.column(0), product.column(0), found, task);
  requireFinite(op, product.column(0), found, result.products);
  result.products += found;
  for (int64_t j = 0; j < found; ++j) {
    product.load(j, 1, w.data());
    h->applyTransposed(w.data());
    result.coupling = std::max(result.coupling, norm2(rank, w.data()));
  }
  if (result.coupling > result.tol * result.scale)
    result.warnings.push_back(
        "the vectors of deflate span no invariant subspace: ||Q^T A v|| is up to " +
        shortNumber(result.coupling) +
        ", so that these are eigenpairs of P A P, with P = I - Q Q^T, and not of A");
  return result;
}

}  // namespace

EigshPlan planEigsh(const LinearOperator& op, const EigshOptions& given) {
  EigshPlan plan{given, op.dim(), op.precision(), 1, 0, false};
  EigshOptions& options = plan.options;
  const int64_t dim = plan.dim, k = options.k;
  if (dim < 1) refuse("eigsh needs an operator of dimension 1 or more, got " + std::to_string(dim));
  if (k < 1 || k > dim)
    refuse("k must be an integer from 1 to " + std::to_string(dim) +
           ", the dimension of the operator, got " + std::to_string(k));
  if (!(options.tol >= 0 && options.tol < 1))
    refuse("tol must be at least 0 (the default of the precision) and below 1, got " +
           std::to_string(options.tol));
  if (options.tol == 0) options.tol = plan.precision == Precision::F32 ? 1e-5 : 1e-9;
  // Enough to give up at dim products and go on densely, in small dimensions.
  if (options.maxProducts == 0)
    options.maxProducts = (1000 + 50 * k + 2 * std::min<int64_t>(dim, 2000)) *
                          (interior(options) ? kInteriorFactor : 1);
  if (options.oversample < 0)
    refuse("oversample must be at least 0, got " + std::to_string(options.oversample));
  if (options.blockSize < 0 || options.blockSize > dim)
    refuse("blockSize must be from 1 to " + std::to_string(dim) +
           ", the dimension of the operator, got " + std::to_string(options.blockSize));

  const MethodRow& row = rowOf(options.method);
  const bool lanczos = options.method == EigshMethod::Lanczos || interior(options);
  const bool sketch = row.sketch;
  if (std::string_view(row.ends).find(nameOf(options.which)) == std::string_view::npos)
    refuse(std::string(row.finds) + "; got " + nameOf(options.which) +
           ": use method lanczos or krylov");
  plan.block = options.blockSize > 0 ? options.blockSize
               : lanczos             ? 1
                                     : std::min(dim, k + options.oversample);
  if (sketch && plan.block < k)
    refuse("blockSize must be at least k = " + std::to_string(k) + " for this method, got " +
           std::to_string(plan.block));
  checkExtras(row, options);

  const int64_t spanning = (k + plan.block - 1) / plan.block * plan.block;
  if (options.maxProducts < spanning + k)
    refuse("maxProducts must be at least " + std::to_string(spanning + k) +
           ", enough to find k = " + std::to_string(k) +
           " vectors and to measure their residuals, got " + std::to_string(options.maxProducts));

  const int64_t least = sketch ? plan.block : leastBasis(k, plan.block);
  if (options.basisSize != 0 && options.basisSize < least)
    refuse("basisSize must be at least " + std::to_string(least) + " for k = " + std::to_string(k) +
           " and blocks of " + std::to_string(plan.block) + ", got " +
           std::to_string(options.basisSize));
  plan.basis = sketch                   ? plan.block
               : options.basisSize != 0 ? options.basisSize
                                        : defaultBasis(plan);
  const int64_t budget = options.memoryBudget;
  const bool small = interior(options) ? dim <= kDenseRescue
                     : options.method == EigshMethod::Lobpcg
                         ? 3 * plan.block >= dim
                         : lanczos && plan.basis + plan.block >= dim;
  plan.dense =
      small && options.maxProducts >= dim + k && (budget <= 0 || denseBytes(dim) <= budget);
  if (budget > 0 && !plan.dense) {
    while (plan.basis > least && basisBytes(plan, plan.basis) > budget) --plan.basis;
    const int64_t need = basisBytes(plan, plan.basis);
    if (need > budget)
      throw Error(ErrorKind::MemoryBudget,
                  "eigsh for k = " + std::to_string(k) + " in dimension " + std::to_string(dim) +
                      " needs at least " + std::to_string(need) + " bytes for its basis, " +
                      std::to_string(budget) +
                      " are left; raise the memory limit, or lower k or the block size");
  }
  return plan;
}

EigshResult eigsh(LinearOperator& op, const EigshOptions& options, Task& task) {
  if (op.dim() > 0) {
    checkVectors("start", options.start, op.dim());
    checkVectors("deflate", options.deflate, op.dim());
  }
  const auto& other = options.preconditioner;
  if (other && (other->dim() != op.dim() || other->precision() != op.precision()))
    refuse("preconditioner must have the dimension " + std::to_string(op.dim()) +
           " and the precision of the operator, got dimension " + std::to_string(other->dim()) +
           (other->precision() == op.precision() ? "" : " in another precision"));
  return options.deflate.empty() ? solvePlan(op, options, task) : solveDeflated(op, options, task);
}

}  // namespace eigenscope
