#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "spectral/linear_system.h"

namespace eigenscope {

// Cg       conjugate gradients: positive (semi-)definite A + damping I.
// Minres   any symmetric operator.
// Lsmr     any symmetric operator, singular ones and those without a solution too: least squares.
// Neumann  the Neumann series: positive (semi-)definite A + damping I.
enum class SolveMethod { Cg, Minres, Lsmr, Neumann };

struct SolveOptions {
  SolveMethod method = SolveMethod::Cg;
  double damping = 0;  // (A + damping I) x = b
  // ||b - (A + damping I) x|| <= tol ||b||; 0: 1e-4 in float32, whose products carry noise of about
  // 1e-6 of ||A|| ||x||, and 1e-8 in float64.
  double tol = 0;
  // Single vectors of all right-hand sides and of preparation; 0: 1000 + min(10 dim, 10000) a
  // right-hand side.
  int64_t maxProducts = 0;
  OperatorPtr preconditioner;  // symmetric positive definite, near the inverse; cg, minres, lsmr
  int64_t nystromRank = 0;     // builds one from a sketch of that many vectors; cg, minres
  double tikhonov = 0;         // lsmr: adds tikhonov^2 ||x||^2
  double scale = 0;            // neumann: above half the largest eigenvalue; 0: estimated
  uint64_t seed = 0;           // of the sketch and the estimate
};

// One entry a right-hand side.
struct SolveResult {
  std::vector<std::byte> solution;  // K x dim, in the operator's precision
  std::vector<double> residuals;    // ||b - (A + damping I) x|| / ||b||, from a fresh product
  // ||x - x*|| <= residual / damping for damping > 0 and methods that need a positive semi-definite
  // A, which this supposes; else empty.
  std::vector<double> errorBounds;
  std::vector<double> optimality;  // lsmr: the gradient of the squares, relative; else empty
  std::vector<int64_t> iterations;
  bool converged = false;  // all
  std::string reason;      // of the first that is not
  double tol = 0;          // the one that was used
  double scale = 0;        // neumann: the one that was used
  int64_t products = 0;    // with single vectors, preparation and residuals included
  int64_t preconditionerProducts = 0;
};

// Solves systems with one operator. What depends on the operator alone (the sketch of a
// preconditioner, the scale of a series) is prepared by the first call and kept; calls may come
// from several threads.
class LinearSolver {
 public:
  // Throws Error (Option): options out of range or not of the method.
  LinearSolver(OperatorPtr op, SolveOptions options);

  const OperatorPtr& op() const { return op_; }

  // `b` and `start` (may be null: 0) are count x dim in the operator's precision. Throws Error:
  // Option (cg meets negative curvature, a preconditioner that is not positive definite, a scale
  // too small), NotConverged (the Neumann series diverges), DataMismatch (NaN or infinity in b,
  // start or a product; a solution beyond the precision's range), Abort. Running out of products,
  // noise and systems without a solution are no errors: converged is false and reason says why.
  SolveResult solve(const void* b, const void* start, int64_t count, Task& task);

 private:
  void prepare(ProductCounter& a);
  std::string describe(const Column& column, int64_t number, int64_t count) const;

  const OperatorPtr op_;
  SolveOptions options_;
  std::mutex mutex_;  // of what follows
  bool prepared_ = false;
  OperatorPtr preconditioner_;
  double scale_ = 0;
};

}  // namespace eigenscope
