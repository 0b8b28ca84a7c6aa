#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "spectral/probes.h"
#include "spectral/sampling.h"

namespace eigenscope {

// Hutchinson   mean of z^T A z over random z (Hutchinson 1990).
// HutchPP      the trace on a sketched range, plus Hutchinson on what is left (Meyer, Musco, Musco,
//              Woodruff 2021); a sample is a probe of the sketch and one of the rest, 3 products.
// XTrace       every probe serves for both (Epperly, Tropp, Webber 2024); 2 products a sample.
// XNysTrace    the same with a Nystrom approximation: positive semi-definite operators; 1 product.
// Exact        unit vectors, dim products.
enum class TraceMethod { Hutchinson, HutchPP, XTrace, XNysTrace, Exact };

const char* nameOf(TraceMethod method);

struct TraceOptions {
  TraceMethod method = TraceMethod::XTrace;
  Probes probes = Probes::Rademacher;  // of Hutchinson and HutchPP; the others need Gaussian ones
  StopRule stop;
  uint64_t seed = 0;
  int64_t blockSize = 16;  // vectors a product
  // Eigenpairs that are known: vectors, m x dim in the operator's precision, and their Rayleigh
  // quotients. The rest, P A P on the complement, is estimated.
  const void* vectors = nullptr;
  std::vector<double> values;
  int threads = 1;  // for the work on vectors; results do not depend on it
};

// The trace of a symmetric operator. The error is relative to the larger of |trace| and the
// Frobenius norm, which for a positive semi-definite operator is the trace.
//
// Throws Error: Option (options out of range, XNysTrace on an indefinite operator, dependent
// vectors), MemoryBudget, DataMismatch (NaN or infinity), Abort. An error that was not reached is
// no failure: converged is false and reason says why.
SampledEstimate trace(LinearOperator& op, const TraceOptions& options, Task& task);

}  // namespace eigenscope
