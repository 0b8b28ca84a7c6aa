#include "spectral/restarted.h"

#include <algorithm>
#include <cmath>

#include "spectral/krylov_space.h"

namespace eigenscope {

namespace {

// The recurrence is driven a little below tol, so that the fresh residual passes at first try.
constexpr double kTargetShare = 0.7;
// No residual falls below this many roundings.
constexpr double kFloorRoundings = 4;
// Ritz values are looked at every step while T is small, then every active / 32 steps.
constexpr int64_t kRitzEvery = 32;
// Largest dimension in which a solve that goes badly is finished densely: seconds of LAPACK.
constexpr int64_t kDenseRescue = 2000;
// A missed eigenvector's share of the random vector must have grown by this times its expected
// inverse, sqrt(dim), before its absence is believed.
constexpr double kMissedGrowth = 30;

class Restarted {
 public:
  Restarted(const EigshPlan& plan, ProductCounter& a)
      : plan_(plan),
        k_(plan.options.k),
        which_(plan.options.which),
        floor_(kFloorRoundings * roundingOf(plan.precision)),
        target_(std::max(kTargetShare * plan.options.tol, floor_)),
        a_(a),
        basis_(plan.dim, plan.basis + plan.block, plan.precision, plan.options.threads),
        space_(a, basis_, plan.block, plan.options.seed) {}

  enum class Outcome { Found, Noise, OutOfProducts, BetterDense };

  Outcome search() {
    const Outcome outcome = findWanted();
    // A block of k vectors or more holds as many copies of each eigenvalue as can be wanted.
    if (outcome == Outcome::Found && plan_.block < k_) findMissed();
    return outcome;
  }

  int64_t restarts() const { return restarts_; }

  EigshResult finish(const char* method, Outcome outcome) {
    EigshResult result = finishPairs(plan_, a_, basis_, values_, residuals_, scale_, method);
    if (!result.converged)
      result.reason =
          describeNotConverged(plan_, worstRelative(), outcome == Outcome::OutOfProducts);
    result.restarts = restarts_;
    result.warnings = warnings_;
    const std::string asymmetry = asymmetryWarning(space_.asymmetry(), plan_.precision);
    if (!asymmetry.empty()) result.warnings.push_back(asymmetry);
    return result;
  }

 private:
  void note(const RitzPairs& pairs) {
    if (!pairs.values.empty())
      scale_ = std::max({scale_, std::abs(pairs.values.front()), std::abs(pairs.values.back())});
  }

  double worstRelative() const {
    const double worst = *std::max_element(residuals_.begin(), residuals_.end());
    return scale_ > 0 ? worst / scale_ : 0.0;
  }

  // Keeps the wanted pairs, first, and half of the others: those spare the restarted space the work
  // of finding the neighbourhood of the wanted ones again.
  void restartWanted() {
    const RitzPairs& pairs = space_.ritz();
    note(pairs);
    const int64_t keep = std::min(k_ + (plan_.basis - k_) / 2, space_.active());
    std::vector<int64_t> order = selectBest(pairs.values, k_, which_);
    std::vector<bool> chosen(pairs.values.size(), false);
    for (int64_t i : order) chosen[i] = true;
    for (int64_t i : selectBest(pairs.values, keep, which_))
      if (!chosen[i]) order.push_back(i);
    space_.restart(order);
    ++restarts_;
  }

  void measureWanted() {
    restartWanted();
    values_.resize(k_);
    residuals_.resize(k_);
    const int64_t free = space_.used();
    freshPairs(a_, basis_, 0, k_, basis_, free, basis_.capacity() - free, values_.data(),
               residuals_.data());
    for (double value : values_) scale_ = std::max(scale_, std::abs(value));
    a_.report(worstRelative());
  }

  bool betterDense() const {
    const int64_t dim = plan_.dim, budget = plan_.options.memoryBudget;
    if (dim > kDenseRescue || a_.products() < dim / 2 || !a_.allows(dim + k_)) return false;
    if (budget > 0 && denseBytes(dim) > budget) return false;
    return a_.products() >= dim || !a_.allows(dim + k_ + plan_.block);
  }

  // The main run. When found, k pairs have passed by fresh products and are columns 0 .. k - 1.
  Outcome findWanted() {
    space_.beginRandom(0);
    double before = HUGE_VAL;
    int64_t step = 0;
    while (true) {
      if (betterDense()) return Outcome::BetterDense;
      const bool stop = space_.exhausted() || !a_.allows(space_.next() + k_);
      bool converged = false;
      if (!stop) {
        if (!space_.hasRoom()) restartWanted();
        space_.expand();
        const bool last = !space_.hasRoom() || space_.exhausted();
        if (space_.active() >= k_ && (last || ++step % (1 + space_.active() / kRitzEvery) == 0)) {
          const RitzPairs& pairs = space_.ritz();
          note(pairs);
          double worst = 0;
          for (int64_t i : selectBest(pairs.values, k_, which_))
            worst = std::max(worst, pairs.residuals[i]);
          converged = worst <= target_ * scale_;
          a_.report(scale_ > 0 ? worst / scale_ : 0.0);
        }
        if (!converged) continue;
      }
      measureWanted();
      const double worst = worstRelative();
      if (worst <= plan_.options.tol) return Outcome::Found;
      if (stop) return space_.exhausted() ? Outcome::Noise : Outcome::OutOfProducts;
      // Driving the recurrence further helps only while the fresh residual follows.
      if (target_ <= floor_ || worst > 0.7 * before) return Outcome::Noise;
      if (!a_.allows(space_.next() + k_)) return Outcome::OutOfProducts;
      before = worst;
      target_ = std::max(floor_, 0.3 * target_);
    }
  }

  // A Krylov space holds one direction of each eigenspace, so copies of repeated eigenvalues stay
  // unseen. A missed eigenvector is orthogonal to everything found; with the wanted vectors and
  // the other Ritz vectors kept by the restart deflated, a Krylov space from a random vector runs
  // into it quickly if it exists. Ends when no Ritz value there can enter the wanted set.
  void findMissed() {
    const double budget = std::max<double>(20, 0.5 * static_cast<double>(a_.products()));
    guards_ = space_.active() - k_;
    bool fromCandidate = false;
    while (k_ + guards_ < plan_.dim) {
      if (fromCandidate)
        space_.beginFrom(k_);
      else
        space_.beginRandom(k_ + guards_);
      fromCandidate = false;
      const int64_t spent = a_.products();
      int64_t steps = 0;
      while (true) {
        if (!space_.exhausted() && !a_.allows(space_.next() + 1)) {
          warnings_.push_back(
              "maxProducts ended the search for repeated eigenvalues before it was complete; "
              "copies of a listed value may be missing");
          return;
        }
        if (!space_.hasRoom()) restartExtremes();
        space_.expand();
        ++steps;
        const RitzPairs& pairs = space_.ritz();
        note(pairs);
        const int64_t candidate = bestCandidate(pairs);
        if (candidate >= 0) {
          if (pairs.residuals[candidate] > target_ * scale_) continue;
          if (pairs.coupling[candidate] > target_ * scale_ && guards_ > 0) {
            // Not orthogonal to the deflated Ritz vectors after all: go on without those.
            const int64_t keep[] = {candidate};
            space_.restart(keep);
            basis_.copyColumn(k_ + guards_, k_);
            guards_ = 0;
            fromCandidate = true;
          } else if (!accept(candidate)) {
            return;
          }
          break;
        }
        if (space_.exhausted() || noneMissing(pairs, steps)) return;
        if (static_cast<double>(a_.products() - spent) > budget) return;
      }
    }
  }

  void restartExtremes() {
    const RitzPairs& pairs = space_.ritz();
    const int64_t keep = std::max<int64_t>(1, space_.active() / 2);
    const Which ends = which_ == Which::LM ? Which::BE : which_;
    space_.restart(selectBest(pairs.values, keep, ends));
    ++restarts_;
  }

  int64_t bestCandidate(const RitzPairs& pairs) const {
    int64_t best = -1;
    double most = target_ * scale_;
    for (std::size_t i = 0; i < pairs.values.size(); ++i) {
      const double gain = gainOver(values_, pairs.values[i], which_);
      if (gain > most) most = gain, best = static_cast<int64_t>(i);
    }
    return best;
  }

  // Would an eigenvalue at the border of the wanted set or beyond have shown by now? The Krylov
  // space holds the Chebyshev polynomial of the interval its Ritz values fill, which lifts such an
  // eigenvalue over them by T(1 + 2 margin / spread).
  bool noneMissing(const RitzPairs& pairs, int64_t steps) const {
    const double spread = pairs.values.back() - pairs.values.front();
    const double needed = std::log(2 * kMissedGrowth * std::sqrt(double(plan_.dim)));
    for (int end : {1, -1}) {
      if (!usesEnd(which_, k_, end)) continue;
      const std::size_t at = end > 0 ? pairs.values.size() - 1 : 0;
      if (pairs.residuals[at] <= target_ * scale_) continue;
      const double margin = -gainOver(values_, pairs.values[at], which_, end);
      if (!(margin > 0)) return false;
      const double growth = (steps - 1) * std::acosh(1 + 2 * margin / spread);
      if (steps < 3 || !(growth >= needed)) return false;
    }
    return true;
  }

  // A missed pair found: measured, and put in place of the one it displaces, which goes on being
  // deflated in place of the last guard. False when the fresh value displaces none.
  bool accept(int64_t candidate) {
    const int64_t at = k_ + guards_;
    const int64_t keep[] = {candidate};
    space_.restart(keep);
    double value = 0, residual = 0;
    const int64_t free = space_.used();
    freshPairs(a_, basis_, at, 1, basis_, free, 1, &value, &residual);
    scale_ = std::max(scale_, std::abs(value));
    const int64_t worst = displacedBy(values_, value, which_);
    if (worst == k_) return false;
    values_[worst] = value;
    residuals_[worst] = residual;
    basis_.swapColumns(worst, at);
    if (k_ + guards_ + 1 <= (k_ + plan_.basis) / 2)
      ++guards_;
    else if (guards_ > 0)
      basis_.copyColumn(at, at - 1);
    return true;
  }

  const EigshPlan& plan_;
  const int64_t k_;
  const Which which_;
  const double floor_;
  double target_;
  ProductCounter& a_;
  Basis basis_;
  KrylovSpace space_;
  double scale_ = 0;  // largest Ritz value in magnitude so far
  std::vector<double> values_, residuals_;
  std::vector<std::string> warnings_;
  int64_t guards_ = 0;
  int64_t restarts_ = 0;
};

}  // namespace

EigshResult restartedKrylov(const EigshPlan& plan, ProductCounter& a, const char* method) {
  int64_t restarts = 0;
  {
    Restarted solver(plan, a);
    const auto outcome = solver.search();
    if (outcome != Restarted::Outcome::BetterDense) return solver.finish(method, outcome);
    restarts = solver.restarts();
  }
  EigshResult result = denseEigsh(plan, a);
  result.restarts = restarts;
  return result;
}

}  // namespace eigenscope
