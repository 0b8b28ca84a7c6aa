#include <algorithm>
#include <cmath>

#include "spectral/interior.h"
#include "spectral/minres.h"

namespace eigenscope {

namespace {

constexpr int64_t kEndSteps = 12;      // of the Lanczos run that finds the scale
constexpr double kOuterShare = 0.1;    // tolerance of the outer iteration to begin with, of tol
constexpr double kLeastOuter = 1e-13;  // and the least
constexpr double kInnerShare = 0.1;    // tolerance of a solve, of the outer one

// (A - sigma I)^-1 in double.
class InverseOperator : public LinearOperator {
 public:
  InverseOperator(ProductCounter& a, double sigma, double tol) : a_(a), sigma_(sigma), tol_(tol) {}

  int64_t dim() const override { return a_.op().dim(); }
  Precision precision() const override { return Precision::F64; }
  void apply(const void* x, void* y, int64_t count, Task&) override {
    for (int64_t j = 0; j < count; ++j) {
      std::vector<double> residual;
      const MinresResult solved =
          minres(a_, sigma_, static_cast<const double*>(x) + j * dim(),
                 static_cast<double*>(y) + j * dim(), dim(), tol_, 4 * dim() + 100, &residual);
      if (solved.singular) throw NullVector{residual};
      if (!solved.converged && !a_.allows(1)) throw OutOfProducts{};
    }
  }
  std::span<const int64_t> index() const override { return a_.op().index(); }

 private:
  ProductCounter& a_;
  double sigma_, tol_;
};

}  // namespace

// The eigenvalues nearest to sigma are the largest of (A - sigma I)^-1 in magnitude. Its products
// are solved by MINRES; where sigma is an eigenvalue itself, the residual of a solve in the sense
// of least squares is its eigenvector, which is kept and deflated.
EigshResult shiftInvertEigsh(const EigshPlan& plan, ProductCounter& a) {
  const int64_t k = plan.options.k;
  Interior interior(plan, a);
  interior.findEnds(kEndSteps);
  // An eigenvalue at sigma would make the solves singular; one at the distance of tol does not, and
  // pairs are told apart to tol only.
  const double sigma = plan.options.sigma + plan.options.tol * interior.scale();
  double tol = std::max(kLeastOuter, kOuterShare * plan.options.tol);
  std::vector<double> start = plan.options.start;
  MissedStatement missed;
  bool ended = false;
  while (interior.kept() < k && !ended) {
    const int64_t wanted = k - interior.kept();
    if (!a.allows(2 * wanted + 2)) break;
    const auto make = [&](ProductCounter& inner) -> OperatorPtr {
      return std::make_shared<InverseOperator>(inner, sigma, std::max(1e-15, kInnerShare * tol));
    };
    const Interior::Round round = interior.solve(make, Which::LM, wanted, tol, start);
    if (round.outOfProducts) break;
    if (round.null) {
      interior.keep(round, 0);
      continue;
    }
    missed = round.missed;
    bool any = false;
    start.clear();
    // Pairs that pass are kept as long as all that are nearer passed as well.
    const int64_t count = round.values.size();
    for (int64_t j = 0; j < count; ++j) {
      if (interior.passes(round, j)) {
        interior.keep(round, j);
        any = true;
      } else {
        start.insert(start.end(), round.vectors.begin() + j * plan.dim,
                     round.vectors.begin() + (j + 1) * plan.dim);
      }
    }
    if (any) continue;
    ended = tol <= kLeastOuter;
    tol = std::max(kLeastOuter, 0.01 * tol);
    for (int64_t j = 0; ended && j < count; ++j) interior.keep(round, j);
  }
  EigshResult result = interior.finish("shift-invert");
  const int64_t found = result.values.size();
  if (found < k) {
    result.converged = false;
    result.reason =
        std::to_string(plan.options.maxProducts) +
        " products (maxProducts) were not enough for the inner solves: " + std::to_string(found) +
        " of " + std::to_string(k) + " pairs were found; allow more products, or use method filter";
  } else if (!result.converged) {
    const double worst = *std::max_element(result.residuals.begin(), result.residuals.end());
    result.reason = describeNotConverged(plan, worst / result.scale, false);
  }
  result.missed = missed;
  if (missed.how.empty()) result.missed.how = "no search was made";
  return result;
}

}  // namespace eigenscope
