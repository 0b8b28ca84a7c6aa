#pragma once

#include "spectral/linear_system.h"

namespace eigenscope {

// The Neumann series step sum_k (I - step (A + shift I))^k b, as x += step (b - (A + shift I) x).
// It converges where every eigenvalue of step (A + shift I) lies between 0 and 2. One product an
// iteration, and every residual is fresh; three vectors of memory.
//
// Throws Error (NotConverged) when it diverges.
Iteration neumannSeries(Column& column);

// Where the spectrum of A + shift I ends, from `steps` products of Lanczos on a random vector: Ritz
// values lie within it, and `high` above it in all but unlikely starts (Zhou and Li, "Bounding the
// spectrum of large Hermitian matrices", 2011).
struct SpectrumEnds {
  double lowest = 0, highest = 0;  // Ritz values
  double high = 0;
};
SpectrumEnds spectrumEnds(ProductCounter& a, double shift, int64_t steps, uint64_t seed);

}  // namespace eigenscope
