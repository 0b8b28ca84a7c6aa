#pragma once

#include <cstdint>
#include <vector>

namespace eigenscope {

// A number that was estimated from random samples.
struct Estimate {
  double value = 0;
  double standardError = 0;  // one standard deviation of the value, rounding included
  double low = 0, high = 0;  // holds the truth with probability 0.95
};

// The number that Student's t with `freedom` degrees of freedom exceeds with probability 0.025.
double studentQuantile(int64_t freedom);

// The mean of independent samples, at least two. The interval is that of Hall (1992, "On the
// removal of skewness by transformation"): Student's, turned by the skewness of the samples, which
// quadratic forms of operators with few large eigenvalues have. `rounding` is what the samples are
// wrong by at most, and widens it.
Estimate meanOf(const std::vector<double>& samples, double rounding);

// value +- t sqrt(variance), both widened by rounding.
Estimate symmetricEstimate(double value, double variance, int64_t freedom, double rounding);

}  // namespace eigenscope
