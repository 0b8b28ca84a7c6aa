#include <algorithm>
#include <cmath>

#include "linalg/lapack.h"
#include "spectral/exact_spectrum.h"
#include "spectral/ritz.h"

namespace eigenscope {

namespace {

constexpr int64_t kFreshBlock = 16;

}  // namespace

int64_t denseBytes(int64_t dim) { return 3 * 8 * dim * dim; }

// All columns from products with the identity, then LAPACK.
EigshResult denseEigsh(const EigshPlan& plan, ProductCounter& a) {
  const int64_t dim = plan.dim;
  std::vector<double> matrix = matrixOf(a, false);
  const double asymmetry = symmetricPart(matrix, dim);
  a.task().check();
  const std::vector<double> all = symmetricEigen(dim, matrix.data(), dim);
  a.task().check();

  const std::vector<int64_t> best = selectWanted(plan, all);
  const int64_t k = best.size();
  Basis basis(dim, k + std::clamp<int64_t>(k, 1, kFreshBlock), plan.precision);
  std::vector<int64_t> order(k);
  for (int64_t j = 0; j < k; ++j) {
    basis.store(j, 1, matrix.data() + best[j] * dim);
    order[j] = j;
  }
  std::vector<double> values(k), residuals(k);
  freshPairs(a, basis, 0, k, basis, k, basis.capacity() - k, values.data(), residuals.data());
  const double scale = std::max(std::abs(all.front()), std::abs(all.back()));
  // Fresh values of a cluster may have changed places.
  if (plan.options.method != EigshMethod::Filter) order = selectWanted(plan, values);
  EigshResult result = finishOrdered(plan, a, basis, values, residuals, order, scale, "dense");
  result.missed = {0, "the whole spectrum was computed"};
  if (plan.options.method == EigshMethod::Filter) result.count = {true, double(k), 0, 0};
  if (!result.converged) {
    const double worst = *std::max_element(result.residuals.begin(), result.residuals.end());
    result.reason = describeNotConverged(plan, worst / result.scale, false);
  }
  const std::string warning = asymmetryWarning(asymmetry, plan.precision);
  if (!warning.empty()) result.warnings.push_back(warning);
  return result;
}

}  // namespace eigenscope
