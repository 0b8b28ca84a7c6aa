#pragma once

#include "spectral/linear_system.h"

namespace eigenscope {

// LSMR (Fong and Saunders, "LSMR: an iterative algorithm for sparse least-squares problems", SIAM
// J. Sci. Comput. 33, 2011), for symmetric A + shift I: minimises ||b - (A + shift I) x||^2 +
// tikhonov^2 ||x||^2, and of its minimisers takes the nearest to the start, from 0 the shortest.
// The preconditioner P acts from the right, x = P y, and the shortest y is taken then. Two products
// an iteration, and as many with P; seven vectors of memory.
//
// Done when the residual is within tol, or the gradient of the squares is, relative to the norm of
// the operator times the residual (both with the rows of tikhonov).
Iteration leastSquares(Column& column);

}  // namespace eigenscope
