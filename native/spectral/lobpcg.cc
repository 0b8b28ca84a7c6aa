#include <algorithm>
#include <cmath>

#include "linalg/lapack.h"
#include "spectral/certify.h"
#include "spectral/checkpoint.h"
#include "spectral/random_block.h"
#include "spectral/sketch.h"

namespace eigenscope {

namespace {

constexpr double kTargetShare = 0.7;  // of tol, so that fresh products pass at first try
constexpr double kFloorRoundings = 4;
// Iterations near rounding in which the residuals did not fall by a tenth: noise.
constexpr int kPatience = 12;
constexpr double kNearRounding = 1e4;

// X, P and W in columns of one orthonormal basis S, and their products AS.
class Lobpcg {
 public:
  Lobpcg(const EigshPlan& plan, ProductCounter& a)
      : plan_(plan),
        a_(a),
        k_(plan.options.k),
        block_(plan.block),
        s_(plan.dim, std::min(plan.dim, 3 * block_), plan.precision, plan.options.threads,
           &a.task()),
        as_(plan.dim, s_.capacity(), plan.precision, plan.options.threads, &a.task()),
        work_(plan.dim, block_, Precision::F64, plan.options.threads, &a.task()),
        floor_(kFloorRoundings * roundingOf(plan.precision)),
        target_(std::max(kTargetShare * plan.options.tol, floor_)) {}

  enum class Outcome { Found, Noise, OutOfProducts, BetterDense };

  Outcome search() {
    begin();
    double freshBefore = HUGE_VAL;
    int stale = 0;
    double best = HUGE_VAL;
    while (true) {
      if (betterDense(plan_, a_)) return Outcome::BetterDense;
      rayleighRitz();
      const double worst = worstOf(residuals_);
      a_.report(worst);
      if (worst < 0.9 * best) {
        best = worst;
        stale = 0;
      } else if (best < kNearRounding * roundingOf(plan_.precision)) {
        ++stale;
      }
      bool stop = worst <= target_ || stale > kPatience;
      if (!stop) {
        const int64_t columns = activeCount();
        if (!a_.allows(columns + k_)) {
          measure();
          return worstOf(fresh_) <= plan_.options.tol ? Outcome::Found : Outcome::OutOfProducts;
        }
        stop = !expand();  // nothing left to add: the space is invariant
      }
      if (!stop) continue;
      measure();
      const double now = worstOf(fresh_);
      if (now <= plan_.options.tol) return Outcome::Found;
      if (now > 0.7 * freshBefore || target_ <= floor_) return Outcome::Noise;
      if (!a_.allows(2 * block_ + k_)) return Outcome::OutOfProducts;
      // Rounding has come between AS and the products it stands for.
      freshBefore = now;
      target_ = std::max(floor_, 0.3 * target_);
      best = HUGE_VAL;
      stale = 0;
      refresh();
    }
  }

  EigshResult finish(Outcome outcome) {
    EigshResult result = finishPairs(plan_, a_, s_, freshValues_, fresh_, scale_, "lobpcg");
    if (!result.converged)
      result.reason =
          describeNotConverged(plan_, worstOf(fresh_), outcome == Outcome::OutOfProducts);
    result.restarts = iterations_;
    result.missed.how = describeBlock(plan_);
    const std::string warning = asymmetryWarning(asymmetry_, plan_.precision);
    if (!warning.empty()) result.warnings.push_back(warning);
    return result;
  }

  int64_t iterations() const { return iterations_; }

 private:
  double worstOf(const std::vector<double>& residuals) const {
    const double worst = *std::max_element(residuals.begin(), residuals.begin() + k_);
    return scale_ > 0 ? worst / scale_ : 0.0;
  }

  void begin() {
    SolverState state;
    if (readCheckpoint(plan_, state, s_)) {
      a_.resumeAt(state.products);
      iterations_ = state.restarts;
      column_ = state.randomColumn;
    } else {
      startBlock(s_, block_, plan_.options.start, block_ - k_, plan_.options.seed, column_,
                 a_.op().index());
      column_ += block_;
    }
    refresh();
  }

  // X alone, with fresh products.
  void refresh() {
    used_ = block_;
    a_.apply(s_.column(0), as_.column(0), block_);
  }

  // The best Ritz vectors in the space become X, wanted ones first; P are the directions in which
  // they moved, orthonormal to X by the algebra of the coefficients (Hetmaniuk and Lehoucq 2006;
  // Duersch, Shao, Yang and Gu 2018).
  void rayleighRitz() {
    const int64_t m = used_;
    std::vector<double> t(m * m);
    s_.innerProducts(0, m, as_, 0, m, t.data());
    const double gap = symmetrise(t, m);
    const std::vector<double> all = symmetricEigen(m, t.data(), m);
    scale_ = std::max({scale_, std::abs(all.front()), std::abs(all.back())});
    if (scale_ > 0) asymmetry_ = std::max(asymmetry_, gap / scale_);

    std::vector<int64_t> order = selectBest(all, k_, plan_.options.which);
    std::vector<bool> chosen(m, false);
    for (int64_t i : order) chosen[i] = true;
    for (int64_t i : selectBest(all, block_, plan_.options.which))
      if (!chosen[i]) order.push_back(i);

    const int64_t moved = m - block_;
    Basis c(m, block_ + std::min(moved, block_), Precision::F64);
    values_.resize(block_);
    for (int64_t j = 0; j < block_; ++j) {
      c.store(j, 1, t.data() + order[j] * m);
      values_[j] = all[order[j]];
    }
    int64_t directions = 0;
    if (moved > 0) {
      for (int64_t j = 0; j < block_ && directions < moved; ++j) {
        if (j < int64_t(residuals_.size()) && locked_[j]) continue;
        double* p = static_cast<double*>(c.column(block_ + directions));
        std::copy_n(t.data() + order[j] * m, m, p);
        std::fill(p, p + block_, 0.0);
        const double length = c.norm(block_ + directions);
        if (!(length > 1e-12)) continue;
        c.scaleColumn(block_ + directions, 1 / length);
        ++directions;
      }
      std::vector<double> taken(block_ * std::max<int64_t>(directions, 1));
      if (directions > 0)
        c.project(static_cast<double*>(c.column(block_)), directions, block_, taken.data());
      directions = orthonormalise(c, block_, directions, 1e-10, nullptr);
    }
    const int64_t keep = block_ + directions;
    const double* coefficients = static_cast<const double*>(c.column(0));
    s_.rotate(0, m, keep, coefficients);
    as_.rotate(0, m, keep, coefficients);
    used_ = keep;
    residuals_.resize(block_);
    locked_.assign(block_, false);
    for (int64_t j = 0; j < block_; ++j) {
      residuals_[j] = residualOf(s_, j, as_, j, values_[j]);
      locked_[j] = residuals_[j] <= target_ * scale_;
    }
    ++iterations_;
    save();
  }

  void save() const {
    SolverState state;
    state.products = a_.products();
    state.restarts = iterations_;
    state.randomColumn = column_;
    state.active = block_;
    state.scale = scale_;
    state.values = values_;
    writeCheckpoint(plan_, state, s_);
  }

  int64_t activeCount() const { return std::count(locked_.begin(), locked_.end(), false); }

  // W: preconditioned residuals of the pairs that have not converged (those that have are locked
  // softly: they stay in X and get no new directions). False when they lie in the space already.
  bool expand() {
    const int64_t dim = plan_.dim;
    double* w = static_cast<double*>(work_.column(0));
    std::vector<double> x(dim), y(dim);
    int64_t count = 0;
    for (int64_t j = 0; j < block_; ++j) {
      if (locked_[j] || !(residuals_[j] > 0)) continue;
      s_.load(j, 1, x.data());
      as_.load(j, 1, y.data());
      double* r = w + count * dim;
      for (int64_t i = 0; i < dim; ++i) r[i] = (y[i] - values_[j] * x[i]) / residuals_[j];
      ++count;
    }
    precondition(w, count);
    for (int64_t j = 0; j < count; ++j) {
      const double length = work_.norm(j);
      if (length > 0) work_.scaleColumn(j, 1 / length);
    }
    std::vector<double> taken(used_ * std::max<int64_t>(count, 1));
    // Twice, as little may be left of a residual in the first pass.
    for (int pass = 0; pass < 2 && count > 0; ++pass) {
      s_.project(w, count, used_, taken.data());
      count = orthonormalise(work_, 0, count, pass == 0 ? 10 * roundingOf(plan_.precision) : 0.5,
                             nullptr);
    }
    count = std::min(count, s_.capacity() - used_);
    if (count == 0) return false;
    s_.store(used_, count, w);
    a_.apply(s_.column(used_), as_.column(used_), count);
    used_ += count;
    return true;
  }

  void precondition(double* w, int64_t count) {
    LinearOperator* m = plan_.options.preconditioner.get();
    if (!m || count == 0) return;
    Basis in(plan_.dim, count, plan_.precision), out(plan_.dim, count, plan_.precision);
    in.store(0, count, w);
    m->apply(in.column(0), out.column(0), count, a_.task());
    requireFinite(*m, out.column(0), count, 0);
    out.load(0, count, w);
  }

  void measure() {
    freshValues_.resize(k_);
    fresh_.resize(k_);
    Basis product(plan_.dim, std::min<int64_t>(k_, 16), plan_.precision);
    freshPairs(a_, s_, 0, k_, product, 0, product.capacity(), freshValues_.data(), fresh_.data());
    for (double value : freshValues_) scale_ = std::max(scale_, std::abs(value));
    a_.report(worstOf(fresh_));
  }

  const EigshPlan& plan_;
  ProductCounter& a_;
  const int64_t k_, block_;
  Basis s_, as_, work_;
  const double floor_;
  double target_, scale_ = 0, asymmetry_ = 0;
  int64_t used_ = 0, iterations_ = 0;
  uint64_t column_ = 0;
  std::vector<double> values_, residuals_, freshValues_, fresh_;
  std::vector<bool> locked_;
};

}  // namespace

// Locally optimal block preconditioned conjugate gradients (Knyazev, "Toward the optimal
// preconditioned eigensolver", 2001), with every basis orthonormal throughout (Duersch, Shao, Yang,
// Gu, "A robust and efficient implementation of LOBPCG", 2018).
EigshResult lobpcgEigsh(const EigshPlan& plan, ProductCounter& a) {
  int64_t iterations = 0;
  {
    Lobpcg solver(plan, a);
    const auto outcome = solver.search();
    if (outcome != Lobpcg::Outcome::BetterDense) return solver.finish(outcome);
    iterations = solver.iterations();
  }
  EigshResult result = denseEigsh(plan, a);
  result.restarts = iterations;
  return result;
}

}  // namespace eigenscope
