#pragma once

#include "spectral/solve.h"

namespace eigenscope {

// (A + damping I)^-1 as an operator of the same dimension, precision and index: a product solves a
// system, to the tolerance of the options. It is linear and symmetric to that tolerance.
//
// A product that does not converge throws Error (NotConverged), unless `lenient`. Throws Error
// (Option) as LinearSolver does.
OperatorPtr inverseOperator(OperatorPtr part, SolveOptions options, bool lenient = false);

}  // namespace eigenscope
