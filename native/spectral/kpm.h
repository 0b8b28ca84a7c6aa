#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "spectral/quadrature.h"

namespace eigenscope {

struct MomentOptions {
  int64_t probes = 8;
  int64_t steps = 64;  // products a probe; they give 2 steps + 1 moments
  ProbeType type = ProbeType::Rademacher;
  uint64_t seed = 0;
  int64_t blockSize = 0;     // probes side by side; 0: up to 16, within the memory
  int64_t memoryBudget = 0;  // bytes for vectors; 0: 1 GiB, and one probe whatever it takes
  int64_t boundSteps = 20;   // products for the bounds of the spectrum
  int threads = 1;
};

struct MomentResult {
  // Of each probe, mu_n = v^T T_n((A - center) / halfWidth) v for n = 0 .. 2 steps, v of length 1.
  std::vector<std::vector<double>> moments;
  double center = 0, halfWidth = 1;  // the interval that holds the spectrum
  double least = 0, largest = 0;     // Ritz values at the ends
  int64_t products = 0;
  int64_t blockSize = 0;
  std::vector<std::string> warnings;
};

// Chebyshev moments for the kernel polynomial method (Weisse, Wellein, Alvermann and Fehske 2006),
// two a product by T_(2n) = 2 T_n^2 - 1 and T_(2n+1) = 2 T_(n+1) T_n - T_1. The interval comes from
// a few Lanczos steps, each end moved out by the norm of the last residual (Zhou and Li 2011);
// where a moment shows that the spectrum reaches beyond it, it is widened and the moments are begun
// anew.
MomentResult chebyshevMoments(LinearOperator& op, const MomentOptions& options, Task& task);

}  // namespace eigenscope
