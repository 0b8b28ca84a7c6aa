#pragma once

#include "spectral/linear_system.h"

namespace eigenscope {

// MINRES (Paige and Saunders, "Solution of sparse indefinite systems of linear equations", SIAM J.
// Numer. Anal. 12, 1975), for symmetric A + shift I, indefinite or not. Optionally preconditioned
// by a symmetric positive definite operator. One product an iteration, eight vectors of memory.
Iteration minimalResiduals(Column& column);

}  // namespace eigenscope
