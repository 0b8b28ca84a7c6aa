#pragma once

#include <cstdint>

#include "spectral/ritz.h"

namespace eigenscope {

// The randomized Nystrom preconditioner (Frangella, Tropp and Udell, "Randomized Nystrom
// preconditioning", SIAM J. Matrix Anal. Appl. 44, 2023) of A + damping I for a positive
// semi-definite A: (l + damping) U (L + damping I)^-1 U^T + (I - U U^T), with U L U^T the Nystrom
// approximation of A from a sketch of `rank` vectors and l the least number of L. Costs `rank`
// products; keeps as many vectors.
//
// Throws Error (Option) where the sketch shows that A is not positive semi-definite.
OperatorPtr nystromPreconditioner(ProductCounter& a, double damping, int64_t rank, uint64_t seed);

}  // namespace eigenscope
