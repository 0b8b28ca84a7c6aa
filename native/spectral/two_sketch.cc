#include <algorithm>
#include <cmath>

#include "linalg/blas.h"
#include "linalg/lapack.h"
#include "spectral/random_block.h"
#include "spectral/sketch.h"

namespace eigenscope {

namespace {

// The second block draws from columns of its own.
constexpr uint64_t kSecondColumns = uint64_t{1} << 40;
// Singular values of the core below this many roundings of the largest are noise.
constexpr double kCoreRoundings = 10;

// core^+ (s x l) of the l x s core.
std::vector<double> pseudoInverse(std::vector<double> core, int64_t l, int64_t s, double rounding) {
  const SmallSvd parts = svd(l, s, core.data(), l);
  const int64_t rank = std::min(l, s);
  std::vector<double> right(s * rank, 0.0), inverse(s * l, 0.0);
  for (int64_t j = 0; j < rank; ++j) {
    if (!(parts.values[j] > kCoreRoundings * rounding * parts.values[0])) break;
    for (int64_t i = 0; i < s; ++i) right[j * s + i] = parts.vt[i * rank + j] / parts.values[j];
  }
  gemm('N', 'T', s, l, rank, 1.0, right.data(), s, parts.u.data(), l, 0.0, inverse.data(), s);
  return inverse;
}

}  // namespace

// One pass with two sketches, for indefinite operators too: Y = A Omega, Z = A Psi and
//   A ~ Y (Psi^T Y)^+ Z^T,
// of which the symmetric part is taken (Tropp, Yurtsever, Udell, Cevher, "Practical sketching
// algorithms for low-rank matrix approximation", 2017; Nakatsukasa, "Fast and stable randomized
// low-rank matrix approximation", 2020, for Psi half as wide again as Omega).
EigshResult twoSketchEigsh(const EigshPlan& plan, ProductCounter& a) {
  const int64_t dim = plan.dim, k = plan.options.k, s = plan.block;
  const int64_t l = std::min(dim, s + s / 2 + 1), total = s + l;
  if (plan.options.maxProducts < total + k)
    throw Error(ErrorKind::Option, "maxProducts must be at least " + std::to_string(total + k) +
                                       " for method two-sketch with blocks of " +
                                       std::to_string(s) + " and " + std::to_string(l) +
                                       " vectors, got " + std::to_string(plan.options.maxProducts));
  const std::span<const int64_t> index = a.op().index();
  const auto basisOf = [&](int64_t columns) {
    return Basis(dim, columns, plan.precision, plan.options.threads, &a.task());
  };
  Basis omega = basisOf(s), psi = basisOf(l), y = basisOf(total);  // Y, then Z
  startBlock(omega, s, plan.options.start, s - k, plan.options.seed, 0, index);
  appendRandom(psi, 0, l, plan.options.seed, kSecondColumns, index);
  a.apply(omega.column(0), y.column(0), s);
  a.apply(psi.column(0), y.column(s), l);

  std::vector<double> core(l * s), across(l * s);
  psi.innerProducts(0, l, y, 0, s, core.data());
  y.innerProducts(s, l, omega, 0, s, across.data());
  double gap = 0, longest = 0;
  for (int64_t i = 0; i < l * s; ++i) gap = std::max(gap, std::abs(core[i] - across[i]));
  for (int64_t j = 0; j < total; ++j) longest = std::max(longest, y.norm(j));

  // In an orthonormal basis Q of [Y, Z], with [Y, Z] = Q R.
  Basis q = basisOf(std::min(dim, total) + k);
  Basis both = basisOf(total);
  for (int64_t j = 0; j < total; ++j) {
    std::vector<double> column(dim);
    y.load(j, 1, column.data());
    both.store(j, 1, column.data());
  }
  std::vector<double> r(total * total, 0.0);
  const double drop = 10 * roundingOf(plan.precision) * longest;
  const int64_t rank = std::min(dim, orthonormalise(both, 0, total, drop, r.data()));
  std::vector<double> left(rank * l), small(rank * rank, 0.0);
  if (rank > 0) {
    const std::vector<double> inverse = pseudoInverse(core, l, s, roundingOf(plan.precision));
    gemm('N', 'N', rank, l, s, 1.0, r.data(), total, inverse.data(), s, 0.0, left.data(), rank);
    gemm('N', 'T', rank, rank, l, 1.0, left.data(), rank, r.data() + s * total, total, 0.0,
         small.data(), rank);
    symmetrise(small, rank);
  }
  const std::vector<double> all = symmetricEigen(rank, small.data(), rank);
  const std::vector<int64_t> order = selectBest(all, k, Which::LM);
  const int64_t found = order.size();
  std::vector<double> turn(rank * found);
  for (int64_t j = 0; j < found; ++j)
    std::copy_n(small.data() + order[j] * rank, rank, turn.data() + j * rank);
  both.rotate(0, rank, found, turn.data());
  std::vector<double> column(dim);
  for (int64_t j = 0; j < found; ++j) {
    both.load(j, 1, column.data());
    q.store(j, 1, column.data());
  }
  appendRandom(q, found, k - found, plan.options.seed, kSecondColumns + l, index);

  std::vector<double> values(k), residuals(k);
  freshPairs(a, q, 0, k, q, k, q.capacity() - k, values.data(), residuals.data());
  EigshResult result = finishPairs(plan, a, q, values, residuals, 0, "two-sketch");
  if (!result.converged) {
    const double worst = *std::max_element(residuals.begin(), residuals.end()) / result.scale;
    result.reason = "one pass with two sketches leaves a worst residual of " + shortNumber(worst) +
                    " of the largest Ritz value, tol is " + shortNumber(plan.options.tol) +
                    "; raise oversample or tol, or use method lanczos or krylov";
  }
  result.missed.how = "no search was made: a single pass over two random blocks of " +
                      std::to_string(s) + " and " + std::to_string(l) + " vectors";
  const std::string warning = asymmetryWarning(longest > 0 ? gap / longest : 0.0, plan.precision);
  if (!warning.empty()) result.warnings.push_back(warning);
  return result;
}

}  // namespace eigenscope
