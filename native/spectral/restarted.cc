#include "spectral/restarted.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>

#include "spectral/certify.h"
#include "spectral/checkpoint.h"
#include "spectral/krylov_space.h"

namespace eigenscope {

namespace {

// The recurrence is driven a little below tol, so that the fresh residual passes at first try.
constexpr double kTargetShare = 0.7;
// No residual falls below this many roundings.
constexpr double kFloorRoundings = 4;
// Ritz values are looked at every step while T is small, then every active / 32 steps.
constexpr int64_t kRitzEvery = 32;
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
        basis_(plan.dim, plan.basis + plan.block, plan.precision, plan.options.threads, &a.task()),
        space_(a, basis_, plan.block, plan.options.seed) {}

  enum class Outcome { Found, Noise, OutOfProducts, BetterDense };

  Outcome search() {
    const Outcome outcome = findWanted();
    // A block of k vectors or more holds as many copies of each eigenvalue as can be wanted.
    if (outcome == Outcome::Found && plan_.block < k_) return findMissed();
    missed_.how = plan_.block < k_ ? "no search was made, as the pairs have not converged"
                                   : describeBlock(plan_);
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
    result.missed = missed_;
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
    keptValues_.clear();
    for (int64_t i : order) keptValues_.push_back(pairs.values[i]);
    space_.restart(order);
    ++restarts_;
    save();
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

  // What a later solve needs to go on from a restart.
  void save() {
    if (plan_.options.checkpoint.empty()) return;
    SolverState state;
    state.products = a_.products();
    state.restarts = restarts_;
    state.randomColumn = space_.randomColumn();
    state.active = space_.active();
    state.next = space_.next();
    state.scale = scale_;
    state.target = target_;
    state.before = before_;
    state.productNorm = space_.productNorm();
    state.values = keptValues_;
    state.coupling = space_.coupling();
    writeCheckpoint(plan_, state, basis_);
  }

  void begin() {
    SolverState state;
    if (!readCheckpoint(plan_, state, basis_)) {
      // Blocks that skip the search for missed eigenvalues keep k random vectors.
      space_.beginWith(plan_.options.start, plan_.block < k_ ? plan_.block : plan_.block - k_);
      return;
    }
    a_.resumeAt(state.products);
    restarts_ = state.restarts;
    scale_ = state.scale;
    target_ = std::min(target_, state.target);
    before_ = state.before;
    space_.resume(state.active, state.next, state.values, state.coupling, state.randomColumn,
                  state.productNorm);
    requireSameRecurrence(plan_, state, basis_, a_);
  }

  // The main run. When found, k pairs have passed by fresh products and are columns 0 .. k - 1.
  Outcome findWanted() {
    begin();
    int64_t step = 0;
    while (true) {
      if (betterDense(plan_, a_)) return Outcome::BetterDense;
      const bool stop = space_.exhausted() || !a_.allows(space_.next() + k_);
      bool converged = false;
      if (!stop) {
        if (!space_.hasRoom()) restartWanted();
        space_.expand();
        const bool last = !space_.hasRoom() || space_.exhausted();
        if (space_.active() >= k_ && (last || ++step % (1 + space_.active() / kRitzEvery) == 0)) {
          const RitzPairs& pairs = space_.ritz();
          note(pairs);
          double worst = 0, wanted = 0;
          for (int64_t i : selectBest(pairs.values, k_, which_)) {
            worst = std::max(worst, pairs.residuals[i]);
            wanted = std::max(wanted, std::abs(pairs.values[i]));
          }
          // The promise is relative to the largest Ritz value; at the small end of a spectrum the
          // aim is relative to the wanted ones, as far as rounding lets it be.
          converged = worst <= std::max(target_ * wanted, floor_ * scale_);
          a_.report(scale_ > 0 ? worst / scale_ : 0.0);
        }
        if (!converged) continue;
      }
      measureWanted();
      const double worst = worstRelative();
      if (worst <= plan_.options.tol) return Outcome::Found;
      if (stop) return space_.exhausted() ? Outcome::Noise : Outcome::OutOfProducts;
      // Driving the recurrence further helps only while the fresh residual follows.
      if (target_ <= floor_ || worst > 0.7 * before_) return Outcome::Noise;
      if (!a_.allows(space_.next() + k_)) return Outcome::OutOfProducts;
      before_ = worst;
      target_ = std::max(floor_, 0.3 * target_);
    }
  }

  // A Krylov space holds one direction of each eigenspace, so copies of repeated eigenvalues stay
  // unseen. A missed eigenvector is orthogonal to everything found; with the wanted vectors and
  // the other Ritz vectors kept by the restart deflated, a Krylov space from a random vector runs
  // into it quickly if it exists. Ends when no Ritz value there can enter the wanted set.
  Outcome findMissed() {
    const int64_t before = a_.products();
    const double patience = std::max<double>(20, 0.5 * static_cast<double>(before));
    missed_.how = "the search for missed eigenvalues ended before it was conclusive";
    guards_ = std::min(space_.active() - k_, mostGuards());
    space_.beginRandom(k_ + guards_);
    int64_t steps = 0, started = before;
    while (!space_.exhausted() || space_.active() > 0) {
      if (!space_.exhausted()) {
        if (a_.products() - before >= plan_.dim && canGoDense(plan_, a_))
          return Outcome::BetterDense;
        if (!a_.allows(space_.next() + 1)) {
          warnings_.push_back(
              "maxProducts ended the search for repeated eigenvalues before it was complete; "
              "copies of a listed value may be missing");
          break;
        }
        if (!space_.hasRoom()) restartExtremes();
        space_.expand();
        ++steps;
      }
      const RitzPairs& pairs = space_.ritz();
      note(pairs);
      const std::vector<int64_t> candidates = candidatesOf(pairs);
      if (candidates.empty()) {
        if (space_.exhausted() || noneMissing(pairs, steps)) {
          state(space_.exhausted() ? 0 : missedChance(pairs, steps), a_.products() - before);
          break;
        }
        if (static_cast<double>(a_.products() - started) > patience) break;
        continue;
      }
      const int64_t best = candidates[0];
      if (pairs.residuals[best] > target_ * scale_) continue;
      if (pairs.coupling[best] > target_ * scale_ && guards_ > 0) {
        // Not orthogonal to the deflated Ritz vectors after all: go on without those.
        space_.restart(std::span(&best, 1));
        basis_.copyColumn(k_ + guards_, k_);
        guards_ = 0;
        space_.beginFrom(k_);
      } else {
        if (!accept(pairs, candidates)) break;
        if (k_ + guards_ == plan_.dim) break;
        space_.beginRandom(k_ + guards_);
      }
      steps = 0;
      started = a_.products();
    }
    return Outcome::Found;
  }

  // Deflated Ritz vectors leave room for a Krylov space of some depth.
  int64_t mostGuards() const {
    const int64_t spare = plan_.basis - k_;
    return std::max<int64_t>(0,
                             std::min(spare / 2, spare - std::max<int64_t>(10, 5 * plan_.block)));
  }

  void restartExtremes() {
    const RitzPairs& pairs = space_.ritz();
    const int64_t most = basis_.capacity() - space_.frozen() - 2 * plan_.block;
    const int64_t keep = std::clamp<int64_t>(space_.active() / 2, 1, most);
    const Which ends = which_ == Which::LM ? Which::BE : which_;
    space_.restart(selectBest(pairs.values, keep, ends));
    ++restarts_;
  }

  // Ritz pairs that would enter the wanted set, the most wanted first.
  std::vector<int64_t> candidatesOf(const RitzPairs& pairs) const {
    std::vector<int64_t> found;
    std::vector<double> gains(pairs.values.size());
    for (std::size_t i = 0; i < gains.size(); ++i) {
      gains[i] = gainOver(values_, pairs.values[i], which_);
      if (gains[i] > target_ * scale_) found.push_back(i);
    }
    std::stable_sort(found.begin(), found.end(),
                     [&](int64_t a, int64_t b) { return gains[a] > gains[b]; });
    return found;
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
      if (steps < 3 || !(margin > 0) || pairs.residuals[at] > margin) return false;
      if (!((steps - 1) * std::acosh(1 + 2 * margin / spread) >= needed)) return false;
    }
    return true;
  }

  // How likely it is over random vectors that an eigenvector at the border of the wanted set or
  // beyond was there and did not show: its share of the vector, at least t / sqrt(dim) but for a
  // probability of t sqrt(2 / pi), has grown by the Chebyshev polynomial, to 1 were it there.
  double missedChance(const RitzPairs& pairs, int64_t steps) const {
    const double spread = pairs.values.back() - pairs.values.front();
    const double unit = std::sqrt(2 / std::numbers::pi * double(plan_.dim));
    double chance = 0;
    bool invariant = true;
    for (double residual : pairs.residuals) invariant &= residual <= target_ * scale_;
    for (int end : {1, -1}) {
      if (!usesEnd(which_, k_, end)) continue;
      // The polynomial may vanish at values that have converged, and grow over those behind.
      double growth = 1, zeros = 1;
      const int64_t count = pairs.values.size();
      for (int64_t c = 0; c < std::min(count, steps); ++c) {
        const int64_t at = end > 0 ? count - 1 - c : c;
        const double margin = -gainOver(values_, pairs.values[at], which_, end);
        if (!(margin > 0)) break;
        const double width = std::abs(pairs.values[end > 0 ? 0 : count - 1] - pairs.values[at]);
        const double lift =
            width > 0 ? std::cosh(double(steps - 1 - c) * std::acosh(1 + 2 * margin / width))
                      : HUGE_VAL;
        growth = std::max(growth, zeros * lift);
        if (pairs.residuals[at] > target_ * scale_) break;
        zeros *= std::min(1.0, margin / spread);
      }
      // The vector lies in an invariant space, up to the tolerance: others have no share in it.
      if (invariant) growth = std::max(growth, 1 / target_);
      chance = std::max(chance, unit / growth);
    }
    return chance < 1 ? chance : std::numeric_limits<double>::quiet_NaN();
  }

  void state(double chance, int64_t products) {
    missed_ = {chance, space_.exhausted() ? "the search went through the whole space"
                       : std::isnan(chance)
                           ? "a search of " + std::to_string(products) +
                                 " products found none, and was too short for a bound"
                           : "growth of Chebyshev polynomials in a search of " +
                                 std::to_string(products) +
                                 " products from a random vector orthogonal to the pairs"};
  }

  // The converged candidates are measured and put in place of those they displace, which go on
  // being deflated. False when the fresh values displace none.
  bool accept(const RitzPairs& pairs, const std::vector<int64_t>& candidates) {
    const int64_t at = k_ + guards_;
    std::vector<int64_t> keep;
    for (int64_t i : candidates)
      if (pairs.residuals[i] <= target_ * scale_ &&
          (guards_ == 0 || pairs.coupling[i] <= target_ * scale_))
        keep.push_back(i);
    // Each needs a product; the block that would come next is not needed, and makes room for those.
    int64_t count = keep.size();
    while (count > 1 && (!a_.allows(count) || at + count >= basis_.capacity())) --count;
    keep.resize(count);
    space_.restart(keep);
    std::vector<double> values(count), residuals(count);
    freshPairs(a_, basis_, at, count, basis_, at + count, basis_.capacity() - at - count,
               values.data(), residuals.data());
    bool any = false;
    for (int64_t j = 0; j < count; ++j) {
      scale_ = std::max(scale_, std::abs(values[j]));
      const int64_t worst = displacedBy(values_, values[j], which_);
      if (worst == k_) continue;
      values_[worst] = values[j];
      residuals_[worst] = residuals[j];
      basis_.swapColumns(worst, at + j);
      any = true;
    }
    guards_ = std::min(guards_ + count, std::max(guards_, mostGuards()));
    return any;
  }

  const EigshPlan& plan_;
  const int64_t k_;
  const Which which_;
  const double floor_;
  double target_;
  ProductCounter& a_;
  Basis basis_;
  KrylovSpace space_;
  double scale_ = 0;                // largest Ritz value in magnitude so far
  double before_ = HUGE_VAL;        // worst fresh residual of the last measurement
  std::vector<double> keptValues_;  // of the last restart
  std::vector<double> values_, residuals_;
  MissedStatement missed_;
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
