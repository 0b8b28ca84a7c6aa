#pragma once

#include <cstdint>
#include <vector>

#include "spectral/ritz.h"

namespace eigenscope {

struct MinresResult {
  double residual = 0;  // ||b - (A - shift I) x||, absolute, from the recurrence
  int64_t products = 0;
  bool converged = false;  // residual <= tol ||b||
  // The residual is near a null vector of A - shift I: ||(A - shift I) r|| <= tol ||A|| ||r||. x is
  // then a solution of least squares.
  bool singular = false;
  double norm = 0;  // estimate of ||A - shift I|| from below
};

// Solves (A - shift I) x = b for a symmetric A, in double (Paige and Saunders, "Solution of sparse
// indefinite systems of linear equations", 1975; the test for singular systems of Choi, Paige and
// Saunders, "MINRES-QLP", 2011). x is overwritten, beginning at 0. Costs a product a step; stops
// early where the counter allows no more. With `leastSquares` the residual vector goes there.
MinresResult minres(ProductCounter& a, double shift, const double* b, double* x, int64_t dim,
                    double tol, int64_t maxIterations, std::vector<double>* leastSquares = nullptr);

}  // namespace eigenscope
