#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "linalg/basis.h"
#include "spectral/eigsh.h"

namespace eigenscope {

const char* nameOf(Which which);

// Two significant digits, for messages.
std::string shortNumber(double value);

// Indices of the best `count` values under `which`, in the order of the result; all when fewer.
std::vector<int64_t> selectBest(const std::vector<double>& values, int64_t count, Which which);

// How far `value` lies inside the wanted set whose members are `wanted`: positive when it would
// displace one of them. `end` +1 looks at the high end only, -1 at the low end, 0 at both.
double gainOver(const std::vector<double>& wanted, double value, Which which, int end = 0);

// Index in `wanted` of the value that a newcomer displaces.
int64_t displacedBy(const std::vector<double>& wanted, double newcomer, Which which);

bool usesEnd(Which which, int64_t k, int end);

// Rounding level of a stored number.
double roundingOf(Precision precision);

// Throws Error (DataMismatch) naming product and coordinate unless all of y = A X, `count` vectors
// after `before` others, is finite.
void requireFinite(const LinearOperator& op, const void* y, int64_t count, int64_t before);

// The operator as solvers use it: counts products, watches for cancellation and for NaN, reports.
class ProductCounter {
 public:
  ProductCounter(LinearOperator& op, Task& task, int64_t limit)
      : op_(op), task_(task), limit_(limit) {}

  // y = A x for `count` vectors in the operator's precision.
  void apply(const void* x, void* y, int64_t count);

  LinearOperator& op() const { return op_; }
  Task& task() const { return task_; }
  int64_t products() const { return products_; }
  bool allows(int64_t more) const { return products_ + more <= limit_; }
  int64_t limit() const { return limit_; }
  // Products of an earlier part of the solve.
  void resumeAt(int64_t products) { products_ = products; }
  void report(double residual);

 private:
  void requireSquares(const void* y, int64_t count);
  LinearOperator& op_;
  Task& task_;
  int64_t limit_;
  int64_t products_ = 0;
  double residual_ = -1;
  double largest_ = 0;  // magnitude in any product
};

// Rayleigh quotients of columns first .. first + count - 1 and the norms of their residuals, from
// fresh products, blocks of which are written to the `room` columns of scratch from scratchFirst.
void freshPairs(ProductCounter& a, const Basis& basis, int64_t first, int64_t count, Basis& scratch,
                int64_t scratchFirst, int64_t room, double* values, double* residuals);

// Options with every default filled in and every range checked.
struct EigshPlan {
  EigshOptions options;
  int64_t dim = 0;
  Precision precision = Precision::F64;
  int64_t block = 1;
  int64_t basis = 0;
  bool dense = false;
};
EigshPlan planEigsh(const LinearOperator& op, const EigshOptions& options);

// Puts pairs held in columns [0, k) of the basis into the order of the result, with signs fixed,
// and fills everything but reason and restarts. `values` and `residuals` belong to the columns.
EigshResult finishPairs(const EigshPlan& plan, ProductCounter& a, Basis& basis,
                        const std::vector<double>& values, const std::vector<double>& residuals,
                        double scale, const std::string& method);

// The same for columns `order`, in that order.
EigshResult finishOrdered(const EigshPlan& plan, ProductCounter& a, Basis& basis,
                          const std::vector<double>& values, const std::vector<double>& residuals,
                          const std::vector<int64_t>& order, double scale,
                          const std::string& method);

// Makes the entry of largest magnitude positive.
void fixSign(Basis& basis, int64_t column);

// Indices of the wanted among all eigenvalues, in the order of the result, by which, sigma or
// interval. Throws Error (Option) where an interval holds more than k.
std::vector<int64_t> selectWanted(const EigshPlan& plan, const std::vector<double>& values);

std::string describeNotConverged(const EigshPlan& plan, double worstRelative, bool outOfProducts);

// Memory of a dense solve.
int64_t denseBytes(int64_t dim);

// Largest dimension in which a solve that goes badly is finished densely: seconds of LAPACK.
constexpr int64_t kDenseRescue = 2000;
bool canGoDense(const EigshPlan& plan, const ProductCounter& a);
// Spent as much as a dense solve costs, or half of it and the last moment to turn to one.
bool betterDense(const EigshPlan& plan, const ProductCounter& a);

EigshResult denseEigsh(const EigshPlan& plan, ProductCounter& a);
EigshResult lanczosEigsh(const EigshPlan& plan, ProductCounter& a);
EigshResult krylovEigsh(const EigshPlan& plan, ProductCounter& a);
EigshResult subspaceEigsh(const EigshPlan& plan, ProductCounter& a);
EigshResult nystromEigsh(const EigshPlan& plan, ProductCounter& a);
EigshResult lobpcgEigsh(const EigshPlan& plan, ProductCounter& a);
EigshResult twoSketchEigsh(const EigshPlan& plan, ProductCounter& a);
EigshResult shiftInvertEigsh(const EigshPlan& plan, ProductCounter& a);
EigshResult filterEigsh(const EigshPlan& plan, ProductCounter& a);

// A warning when the relative asymmetry seen in products is beyond rounding, else empty.
std::string asymmetryWarning(double relative, Precision precision);

}  // namespace eigenscope
