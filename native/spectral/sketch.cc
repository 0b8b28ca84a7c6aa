#include "spectral/sketch.h"

#include <algorithm>
#include <cmath>

#include "spectral/certify.h"

namespace eigenscope {

namespace {

constexpr double kTargetShare = 0.7;  // of tol, so that fresh products pass at first try
constexpr double kFloorRoundings = 4;
constexpr std::size_t kPatience = 5;
constexpr double kLeastGain = 0.02;

template <class T>
double distance(const T* q, const T* y, double value, int64_t dim) {
  double squares = 0;
  for (int64_t i = 0; i < dim; ++i) {
    const double left = y[i] - value * q[i];
    squares += left * left;
  }
  return std::sqrt(squares);
}

}  // namespace

double symmetrise(std::vector<double>& matrix, int64_t order) {
  double gap = 0;
  for (int64_t j = 0; j < order; ++j)
    for (int64_t i = 0; i <= j; ++i) {
      double &upper = matrix[j * order + i], &lower = matrix[i * order + j];
      gap = std::max(gap, std::abs(upper - lower));
      upper = lower = 0.5 * (upper + lower);
    }
  return gap;
}

double residualOf(const Basis& q, int64_t qColumn, const Basis& y, int64_t yColumn, double value) {
  const void *x = q.column(qColumn), *ax = y.column(yColumn);
  return q.precision() == Precision::F32
             ? distance(static_cast<const float*>(x), static_cast<const float*>(ax), value, q.dim())
             : distance(static_cast<const double*>(x), static_cast<const double*>(ax), value,
                        q.dim());
}

SketchProgress::SketchProgress(const EigshPlan& plan, ProductCounter& a) : plan_(plan), a_(a) {}

void SketchProgress::note(const std::vector<double>& values, const std::vector<double>& residuals) {
  scale_ = std::max(scale_, std::abs(values[0]));
  double size = 0;
  for (std::size_t j = 0; j < residuals.size(); ++j) size += std::abs(values[j]);
  sizes_.push_back(size);
  const double worst = *std::max_element(residuals.begin(), residuals.end());
  const double relative = scale_ > 0 ? worst / scale_ : 0.0;
  best_.push_back(best_.empty() ? relative : std::min(best_.back(), relative));
  a_.report(relative);
}

bool SketchProgress::reached() const {
  return best_.back() <=
         std::max(kTargetShare * plan_.options.tol, kFloorRoundings * roundingOf(plan_.precision));
}

bool SketchProgress::stalled() const {
  if (best_.size() <= kPatience) return false;
  const std::size_t before = best_.size() - 1 - kPatience;
  return best_.back() > (1 - kLeastGain) * best_[before] &&
         sizes_.back() < (1 + kLeastGain) * sizes_[before];
}

double SketchProgress::negligible() const { return 10 * roundingOf(plan_.precision) * scale_; }

void SketchProgress::noteAsymmetry(double gap, const Basis& y) {
  double longest = 0;
  for (int64_t j = 0; j < plan_.block; ++j) longest = std::max(longest, y.norm(j));
  if (longest > 0) asymmetry_ = std::max(asymmetry_, gap / longest);
}

EigshResult SketchProgress::finish(Basis& basis, const std::vector<double>& values,
                                   const std::vector<double>& residuals,
                                   const std::string& method) {
  EigshResult result = finishPairs(plan_, a_, basis, values, residuals, scale_, method);
  result.missed.how = describeBlock(plan_);
  if (!result.converged) {
    const double worst = *std::max_element(residuals.begin(), residuals.end()) / result.scale;
    result.reason = describeNotConverged(plan_, worst, !stalled() && !reached());
    // Far above rounding it is the method that is slow, not the operator that is noisy.
    if (stalled() && worst > 1e3 * roundingOf(plan_.precision))
      result.reason = method + " iteration hardly gains any more: the worst residual is " +
                      shortNumber(worst) + " of the largest Ritz value, tol is " +
                      shortNumber(plan_.options.tol) +
                      "; enlarge oversample, or use method lanczos or krylov";
  }
  const std::string warning = asymmetryWarning(asymmetry_, plan_.precision);
  if (!warning.empty()) result.warnings.push_back(warning);
  return result;
}

}  // namespace eigenscope
