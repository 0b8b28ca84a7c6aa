#include "spectral/restarted.h"

namespace eigenscope {

// Thick-restart Lanczos (Wu and Simon 2000), single vectors unless a block size is asked for: on
// real spectra blocks cost more products.
EigshResult lanczosEigsh(const EigshPlan& plan, ProductCounter& a) {
  return restartedKrylov(plan, a, "lanczos");
}

}  // namespace eigenscope
