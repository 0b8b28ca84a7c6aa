#include "spectral/interval.h"

#include <algorithm>
#include <cmath>

namespace eigenscope {

namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr double kNormalQuantile = 1.959963984540054;

// P(|T| <= t), by the finite sums for whole degrees of freedom.
double centralProbability(double t, int64_t freedom) {
  const double angle = std::atan(t / std::sqrt(double(freedom)));
  const double cosine = std::cos(angle), sine = std::sin(angle);
  const bool odd = freedom % 2 == 1;
  double term = odd ? cosine : 1.0, sum = freedom == 1 ? 0.0 : term;
  for (int64_t k = odd ? 3 : 2; k < freedom; k += 2) {
    term *= cosine * cosine * double(k - 1) / double(k);
    sum += term;
  }
  return odd ? 2 / kPi * (angle + sine * sum) : sine * sum;
}

// Hall's cubic, inverted: where a statistic with skewness lies whose transform is y.
double unskewed(double y, double skewness, int64_t count) {
  const double root = std::sqrt(double(count));
  const double shifted = y - skewness / (6 * root), bend = skewness / (3 * root);
  if (std::abs(bend) < 1e-8) return shifted;
  return (std::cbrt(1 + 3 * bend * shifted) - 1) / bend;
}

}  // namespace

double studentQuantile(int64_t freedom) {
  if (freedom < 1) freedom = 1;
  if (freedom > 2000) {
    const double z = kNormalQuantile, v = double(freedom);
    return z + (z * z * z + z) / (4 * v);
  }
  double low = 1.9, high = 13;
  for (int step = 0; step < 60; ++step) {
    const double middle = 0.5 * (low + high);
    (centralProbability(middle, freedom) < 0.95 ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

Estimate meanOf(const std::vector<double>& samples, double rounding) {
  const int64_t count = samples.size();
  double mean = 0;
  for (double x : samples) mean += x;
  mean /= double(count);
  double largest = 0;
  for (double x : samples) largest = std::max(largest, std::abs(x - mean));
  // In units of the largest deviation, whose cube then neither over- nor underflows.
  double squares = 0, cubes = 0;
  for (double x : samples) {
    const double d = largest > 0 ? (x - mean) / largest : 0.0;
    squares += d * d;
    cubes += d * d * d;
  }
  const double spread = std::sqrt(squares / double(count - 1));
  const double skewness = spread > 0 ? cubes / double(count) / (spread * spread * spread) : 0.0;
  const double error = largest * spread / std::sqrt(double(count));
  const double t = studentQuantile(count - 1);
  Estimate result;
  result.value = mean;
  result.standardError = std::hypot(error, rounding);
  result.low = mean - error * unskewed(t, skewness, count) - 2 * rounding;
  result.high = mean - error * unskewed(-t, skewness, count) + 2 * rounding;
  return result;
}

Estimate symmetricEstimate(double value, double variance, int64_t freedom, double rounding) {
  const double error = std::sqrt(std::max(0.0, variance));
  const double half = studentQuantile(freedom) * error + 2 * rounding;
  return {value, std::hypot(error, rounding), value - half, value + half};
}

}  // namespace eigenscope
