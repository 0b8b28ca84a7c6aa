#pragma once

#include <cstdint>
#include <vector>

#include "spectral/sampling.h"

namespace eigenscope {

// Hutchinson  mean of z * A z over random signs z (Bekas, Kokiopoulou, Saad 2007).
// XDiag       the diagonal on a sketched range plus the same for what is left, every probe serving
//             for both (Epperly, Tropp, Webber 2024); 2 products a sample.
// Exact       unit vectors, dim products.
enum class DiagonalMethod { Hutchinson, XDiag, Exact };

const char* nameOf(DiagonalMethod method);

struct DiagonalOptions {
  DiagonalMethod method = DiagonalMethod::XDiag;
  // tol is relative to the norm of the diagonal, and the errors are norms too. Without any
  // request: 128 products, or dim where that is fewer.
  StopRule stop;
  uint64_t seed = 0;
  int64_t blockSize = 16;  // vectors a product
  int threads = 1;         // for the work on vectors; results do not depend on it
};

struct DiagonalResult {
  std::vector<double> values;
  std::vector<double> standardErrors;  // of each value
  // As of the whole: `value` is the norm of the diagonal, `standardError` that of the errors.
  SampledEstimate whole;
};

// The diagonal of a symmetric operator, with an error for each entry. Throws as `trace` does.
DiagonalResult diagonal(LinearOperator& op, const DiagonalOptions& options, Task& task);

}  // namespace eigenscope
