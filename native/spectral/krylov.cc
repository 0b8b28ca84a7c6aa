#include "spectral/restarted.h"

namespace eigenscope {

// Randomized block Krylov (Musco and Musco, "Randomized block Krylov methods for stronger and
// faster approximate singular value decomposition", 2015): Rayleigh-Ritz on [X, AX, A^2 X, ...] of
// a random block X of k + oversample vectors, as deep as the residuals ask for. A space that
// outgrows the basis is restarted from its best Ritz vectors.
EigshResult krylovEigsh(const EigshPlan& plan, ProductCounter& a) {
  return restartedKrylov(plan, a, "krylov");
}

}  // namespace eigenscope
