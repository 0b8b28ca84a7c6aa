#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "linalg/basis.h"
#include "spectral/ritz.h"

namespace eigenscope {

// Replaces a square matrix by its symmetric part and returns the largest difference between it and
// its transpose.
double symmetrise(std::vector<double>& matrix, int64_t order);

// ||y - value q|| for one column of each.
double residualOf(const Basis& q, int64_t qColumn, const Basis& y, int64_t yColumn, double value);

// When an iteration on a fixed number of vectors has done what it can.
class SketchProgress {
 public:
  SketchProgress(const EigshPlan& plan, ProductCounter& a);

  // The Ritz values of an iteration, best first, and the residuals of the wanted ones.
  void note(const std::vector<double>& values, const std::vector<double>& residuals);

  bool reached() const;  // the residuals are a little below tol
  bool stalled() const;  // over some iterations neither they nor the Ritz values gained
  double scale() const { return scale_; }
  double negligible() const;  // lengths that are rounding

  // Notes that Q^T y and its transpose differed by `gap`, y being products of unit vectors.
  void noteAsymmetry(double gap, const Basis& y);

  EigshResult finish(Basis& basis, const std::vector<double>& values,
                     const std::vector<double>& residuals, const std::string& method);

 private:
  const EigshPlan& plan_;
  ProductCounter& a_;
  double scale_ = 0;
  double asymmetry_ = 0;       // relative
  std::vector<double> best_;   // least worst relative residual up to each iteration
  std::vector<double> sizes_;  // sum of the wanted Ritz values' magnitudes at each iteration
};

}  // namespace eigenscope
