#pragma once

#include <cstdint>

#include "spectral/linear_system.h"

namespace eigenscope {

// MINRES (Paige and Saunders, "Solution of sparse indefinite systems of linear equations", SIAM J.
// Numer. Anal. 12, 1975), for symmetric A + shift I, indefinite or not. Optionally preconditioned
// by a symmetric positive definite operator. One product an iteration, eight vectors of memory.
Iteration minimalResiduals(Column& column);

struct MinresResult {
  double residual = 0;  // ||b - (A - shift I) x|| / ||b||, from a fresh product
  int64_t iterations = 0;
  bool converged = false;  // residual <= tol
};

// Solves (A - shift I) x = b for one vector of dim numbers; x is overwritten. The products come
// from `a`, within its limit; where they are used up, or tol is below the noise of the operator, or
// the system is singular, the best x found is given and `converged` is false.
MinresResult minres(ProductCounter& a, double shift, const double* b, double* x, double tol);

}  // namespace eigenscope
