#pragma once

#include "spectral/ritz.h"

namespace eigenscope {

// Eigenpairs from a Krylov space with thick restarts: grown by blocks of plan.block vectors to
// plan.basis, then reduced to the best Ritz vectors. Pairs are accepted by fresh products; with
// blocks of fewer than k vectors, copies of repeated eigenvalues are searched afterwards. Once as
// many products are spent as the dimension counts, a dense solve is the cheaper way to go on, and
// is taken where its matrix is small enough.
EigshResult restartedKrylov(const EigshPlan& plan, ProductCounter& a, const char* method);

}  // namespace eigenscope
