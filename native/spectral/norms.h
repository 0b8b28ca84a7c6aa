#pragma once

#include <cstdint>

#include "spectral/sampling.h"

namespace eigenscope {

// Of the mean of ||A^q z||^2, whose expectation is tr A^2q.
// Hutchinson  the mean over random signs; q products a sample.
// XTrace      XTrace for A^2q, from the sketch of the range of A^q; 2 q products a sample.
// Exact       unit vectors, q dim products.
enum class NormMethod { Hutchinson, XTrace, Exact };

struct NormOptions {
  NormMethod method = NormMethod::XTrace;
  int64_t power = 1;  // q: the Schatten norm with p = 2 q
  StopRule stop;      // relative to the norm; without any request tol = 0.01
  uint64_t seed = 0;
  int64_t blockSize = 16;
  int threads = 1;
};

// (sum |lambda|^2q)^(1 / 2q) of a symmetric operator: for q = 1 the Frobenius norm. Throws as
// `trace` does.
SampledEstimate evenNorm(LinearOperator& op, const NormOptions& options, Task& task);

}  // namespace eigenscope
