#include <algorithm>
#include <cmath>

#include "linalg/lapack.h"
#include "spectral/ritz.h"

namespace eigenscope {

namespace {

constexpr int64_t kIdentityBlock = 16;

template <class T>
std::vector<double> columnsOf(ProductCounter& a, int64_t dim) {
  std::vector<double> matrix(dim * dim);
  const int64_t block = std::min(dim, kIdentityBlock);
  std::vector<T> x(dim * block), y(dim * block);
  for (int64_t j = 0; j < dim; j += block) {
    const int64_t width = std::min(block, dim - j);
    std::fill(x.begin(), x.end(), T{0});
    for (int64_t l = 0; l < width; ++l) x[l * dim + j + l] = T{1};
    a.apply(x.data(), y.data(), width);
    std::copy(y.begin(), y.begin() + width * dim, matrix.begin() + j * dim);
  }
  return matrix;
}

}  // namespace

int64_t denseBytes(int64_t dim) { return 3 * 8 * dim * dim; }

// All columns from products with the identity, then LAPACK.
EigshResult denseEigsh(const EigshPlan& plan, ProductCounter& a) {
  const int64_t dim = plan.dim, k = plan.options.k;
  std::vector<double> matrix =
      plan.precision == Precision::F32 ? columnsOf<float>(a, dim) : columnsOf<double>(a, dim);
  double gap = 0, largest = 0;
  for (int64_t j = 0; j < dim; ++j)
    for (int64_t i = 0; i <= j; ++i) {
      double &upper = matrix[j * dim + i], lower = matrix[i * dim + j];
      gap = std::max(gap, std::abs(upper - lower));
      largest = std::max(largest, std::abs(upper));
      upper = 0.5 * (upper + lower);
    }
  a.task().check();
  const std::vector<double> all = symmetricEigen(dim, matrix.data(), dim);
  a.task().check();

  Basis basis(dim, k + std::min<int64_t>(k, kIdentityBlock), plan.precision);
  const std::vector<int64_t> best = selectBest(all, k, plan.options.which);
  for (int64_t j = 0; j < k; ++j) basis.store(j, 1, matrix.data() + best[j] * dim);
  std::vector<double> values(k), residuals(k);
  freshPairs(a, basis, 0, k, basis, k, basis.capacity() - k, values.data(), residuals.data());
  const double scale = std::max(std::abs(all.front()), std::abs(all.back()));
  EigshResult result = finishPairs(plan, a, basis, values, residuals, scale, "dense");
  if (!result.converged) {
    const double worst = *std::max_element(result.residuals.begin(), result.residuals.end());
    result.reason = describeNotConverged(plan, worst / result.scale, false);
  }
  const std::string warning = asymmetryWarning(largest > 0 ? gap / largest : 0.0, plan.precision);
  if (!warning.empty()) result.warnings.push_back(warning);
  return result;
}

}  // namespace eigenscope
