#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "spectral/ritz.h"

namespace eigenscope {

// A transformed operator gives up in the middle of a product by throwing one of these.
struct NullVector {
  std::vector<double> vector;  // an eigenvector at the shift, of the operator that was transformed
};
struct OutOfProducts {};

// Lanczos on a function of A, for eigenvalues inside the spectrum: pairs of the function are
// measured on A, those that pass are kept, and the next round runs on the complement of what was
// kept, so that large values of the function do not hide the accuracy of small ones.
class Interior {
 public:
  Interior(const EigshPlan& plan, ProductCounter& a);

  // The ends of the spectrum from a short Lanczos run, with the residual of each as margin.
  void findEnds(int64_t steps);
  double low() const { return low_; }
  double high() const { return high_; }
  double scale() const { return scale_; }

  struct Round {
    std::vector<double> transformed;  // values of the function, best first
    std::vector<double> values, residuals;
    std::vector<double> vectors;  // in the whole space, one after the other
    MissedStatement missed;
    bool outOfProducts = false, null = false;
  };
  // `make` gives the function of the operator behind the counter, in double; k of its pairs at the
  // end `which`, to the tolerance tol.
  Round solve(const std::function<OperatorPtr(ProductCounter&)>& make, Which which, int64_t k,
              double tol, const std::vector<double>& start);

  bool passes(const Round& round, int64_t j) const {
    return round.residuals[j] <= plan_.options.tol * scale_;
  }
  // Keeps pair j, and deflates it from now on.
  void keep(const Round& round, int64_t j);

  int64_t kept() const { return values_.size(); }
  const std::vector<double>& keptVectors() const { return vectors_; }

  // The kept pairs that are wanted.
  EigshResult finish(const char* method);

 private:
  void measure(Round& round);

  const EigshPlan& plan_;
  ProductCounter& a_;
  double low_ = 0, high_ = 0, scale_ = 0;
  std::vector<double> values_, residuals_, vectors_;
};

// The operator behind a counter as one of its own: its products are counted there.
class CountedOperator : public LinearOperator {
 public:
  explicit CountedOperator(ProductCounter& a) : a_(a) {}
  int64_t dim() const override { return a_.op().dim(); }
  Precision precision() const override { return a_.op().precision(); }
  void apply(const void* x, void* y, int64_t count, Task&) override { a_.apply(x, y, count); }
  std::span<const int64_t> index() const override { return a_.op().index(); }

 private:
  ProductCounter& a_;
};

}  // namespace eigenscope
