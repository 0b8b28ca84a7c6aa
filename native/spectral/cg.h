#pragma once

#include "spectral/linear_system.h"

namespace eigenscope {

// Conjugate gradients (Hestenes and Stiefel, "Methods of conjugate gradients for solving linear
// systems", 1952), for positive (semi-)definite A + shift I. Optionally preconditioned by a
// symmetric positive definite operator. One product an iteration, five vectors of memory.
//
// Throws Error (Option) when it meets a direction of negative curvature.
Iteration conjugateGradients(Column& column);

}  // namespace eigenscope
