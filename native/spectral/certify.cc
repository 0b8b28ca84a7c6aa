#include "spectral/certify.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace eigenscope {

namespace {

// Rounding of a product and of the residual's own computation, relative to the largest Ritz value.
double noiseOf(Precision precision) { return precision == Precision::F32 ? 1.2e-6 : 1e-13; }

struct Segment {
  double low, high;
};

// Where every eigenvalue is listed, unless one was missed.
std::vector<Segment> coveredBy(const EigshPlan& plan, const std::vector<double>& values) {
  constexpr double kEndless = std::numeric_limits<double>::infinity();
  const EigshOptions& options = plan.options;
  std::vector<double> sorted = values;
  std::sort(sorted.begin(), sorted.end());
  if (options.method == EigshMethod::Filter) return {{options.low, options.high}};
  if (options.method == EigshMethod::ShiftInvert) {
    double reach = 0;
    for (double value : values) reach = std::max(reach, std::abs(value - options.sigma));
    return {{options.sigma - reach, options.sigma + reach}};
  }
  const int64_t count = sorted.size();
  switch (options.which) {
    case Which::LA: return {{sorted.front(), kEndless}};
    case Which::SA: return {{-kEndless, sorted.back()}};
    case Which::BE:
      if (count < 2) return {{sorted.front(), kEndless}};
      return {{-kEndless, sorted[count / 2 - 1]}, {sorted[count / 2], kEndless}};
    default: {
      double least = kEndless;
      for (double value : values) least = std::min(least, std::abs(value));
      return {{-kEndless, -least}, {least, kEndless}};
    }
  }
}

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
  std::vector<Segment> covered;
  if (count > 0 && result.converged) covered = coveredBy(plan, result.values);

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
      // on both sides, and where not all eigenvalues are listed.
      for (const Segment& segment : covered) {
        if (first != last || value < segment.low || value > segment.high) continue;
        double left = value - segment.low, right = segment.high - value;
        if (first > 0) {
          const int64_t before = order[first - 1];
          left = std::min(left, value - (result.values[before] + radius[before]));
        }
        if (last + 1 < count) {
          const int64_t after = order[last + 1];
          right = std::min(right, result.values[after] - radius[after] - value);
        }
        if (!(left > r && right > r)) continue;
        below = std::min(r, r * r / right + noise);
        above = std::min(r, r * r / left + noise);
        if (below < r || above < r) kind = BoundKind::Gap;
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
