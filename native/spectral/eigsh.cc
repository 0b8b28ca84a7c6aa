#include "spectral/eigsh.h"

#include <algorithm>
#include <cmath>

#include "spectral/ritz.h"

namespace eigenscope {

namespace {

[[noreturn]] void refuse(const std::string& message) { throw Error(ErrorKind::Option, message); }

int64_t basisBytes(const EigshPlan& plan, int64_t basis) {
  const int64_t number = bytesOf(plan.precision);
  const int64_t columns =
      basis + plan.block * (plan.options.method == EigshMethod::Nystrom ? 2 : 1);
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
    options.maxProducts = 1000 + 50 * k + 2 * std::min<int64_t>(dim, 2000);
  if (options.oversample < 0)
    refuse("oversample must be at least 0, got " + std::to_string(options.oversample));
  if (options.blockSize < 0 || options.blockSize > dim)
    refuse("blockSize must be from 1 to " + std::to_string(dim) +
           ", the dimension of the operator, got " + std::to_string(options.blockSize));

  const bool lanczos = options.method == EigshMethod::Lanczos;
  const bool sketch =
      options.method == EigshMethod::Subspace || options.method == EigshMethod::Nystrom;
  if (options.method == EigshMethod::Subspace && options.which != Which::LM)
    refuse(
        std::string("subspace iteration finds eigenvalues of largest magnitude, which = LM; got ") +
        nameOf(options.which) + ": use method lanczos or krylov");
  if (options.method == EigshMethod::Nystrom && options.which != Which::LM &&
      options.which != Which::LA)
    refuse(std::string("Nystrom finds the largest eigenvalues, which = LM or LA; got ") +
           nameOf(options.which) + ": use method lanczos or krylov");
  plan.block = options.blockSize > 0 ? options.blockSize
               : lanczos             ? 1
                                     : std::min(dim, k + options.oversample);
  if (sketch && plan.block < k)
    refuse("blockSize must be at least k = " + std::to_string(k) + " for this method, got " +
           std::to_string(plan.block));

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
  plan.dense = lanczos && plan.basis + plan.block >= dim && options.maxProducts >= dim + k &&
               (budget <= 0 || denseBytes(dim) <= budget);
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
  const EigshPlan plan = planEigsh(op, options);
  ProductCounter counter(op, task, plan.options.maxProducts);
  if (plan.dense) return denseEigsh(plan, counter);
  using Solve = EigshResult (*)(const EigshPlan&, ProductCounter&);
  constexpr Solve kSolvers[] = {lanczosEigsh, subspaceEigsh, krylovEigsh, nystromEigsh};
  return kSolvers[static_cast<int>(plan.options.method)](plan, counter);
}

}  // namespace eigenscope
