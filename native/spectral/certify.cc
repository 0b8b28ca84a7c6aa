#include "spectral/certify.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace eigenscope {

namespace {

// Rounding of a product and of the residual's own computation, relative to the largest Ritz value.
double noiseOf(Precision precision) { return precision == Precision::F32 ? 1.2e-6 : 1e-13; }

}  // namespace

void certify(const EigshPlan& plan, EigshResult& result) {
  const int64_t count = result.values.size();
  const double noise = noiseOf(plan.precision) * result.scale;
  std::vector<double> radius(count);
  for (int64_t i = 0; i < count; ++i) radius[i] = result.residuals[i] + noise;
  std::vector<int64_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return result.values[a] < result.values[b]; });
  result.intervals.assign(count, {});

  // Runs of values whose intervals overlap, in ascending order.
  for (int64_t first = 0, last = 0; first < count; first = last + 1) {
    double squares = radius[order[first]] * radius[order[first]];
    double reach = result.values[order[first]] + radius[order[first]];
    for (last = first; last + 1 < count; ++last) {
      const int64_t next = order[last + 1];
      if (result.values[next] - radius[next] > reach) break;
      reach = std::max(reach, result.values[next] + radius[next]);
      squares += radius[next] * radius[next];
    }
    const double together = std::sqrt(squares);
    for (int64_t j = first; j <= last; ++j) {
      const int64_t i = order[j];
      const double value = result.values[i], r = first == last ? radius[i] : together;
      double below = r, above = r;
      BoundKind kind = first == last ? BoundKind::Residual : BoundKind::Cluster;
      // Kato and Temple: with the one eigenvalue alone in (value - left, value + right), it lies
      // within r^2 / right below and r^2 / left above. The gaps end at the intervals of the pairs
      // on both sides.
      if (first == last && first > 0 && last + 1 < count) {
        const double left = value - (result.values[order[first - 1]] + radius[order[first - 1]]);
        const double right = result.values[order[last + 1]] - radius[order[last + 1]] - value;
        if (left > r && right > r) {
          below = std::min(r, r * r / right + noise);
          above = std::min(r, r * r / left + noise);
          if (below < r || above < r) kind = BoundKind::Gap;
        }
      }
      result.intervals[i] = {value - below, value + above, kind};
    }
  }
}

std::string describeBlock(const EigshPlan& plan) {
  return "no search was made: a random block of " + std::to_string(plan.block) +
         " vectors sees as many copies of an eigenvalue";
}

}  // namespace eigenscope
