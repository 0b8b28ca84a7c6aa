#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "spectral/interval.h"
#include "spectral/range_sketch.h"

namespace eigenscope {

// Mean of estimates each of which is unbiased whatever the other probes are, with its variance.
//
// Let estimate i be X_i, and X_ij what it would be had probe j not joined the space; d_ij = X_i -
// X_ij. Given all probes but i and j, the covariance of X_i and X_j is E[d_ij d_ji]: the other
// terms vanish, as each estimate is unbiased given the space it was taken against. So the variance
// of the mean over N is E[s^2] / N + E[d_ij d_ji], s^2 being the sample variance. The formula of
// the papers, s^2 / N alone, is too small by the second part, half of the whole or more.
struct LeaveOneOut {
  double value = 0;
  double variance = 0;
};

// What an XTrace estimate of tr B needs besides the sketch A Omega = Q R; B = A or a power of it.
struct XTraceMoments {
  std::vector<double> core;    // Q^T B Q, N x N
  std::vector<double> across;  // Q^T B Omega, N x N
  std::vector<double> quad;    // omega^T B omega
};

// XTrace (Epperly, Tropp, Webber 2024): for each probe, the trace of B on the space that the other
// probes span, plus the scaled quadratic form of the part of the probe outside of it. The sketch
// has full rank.
LeaveOneOut xtrace(const RangeSketch& sketch, const XTraceMoments& moments);

XTraceMoments traceMoments(const RangeSketch& sketch);
// Those of A^2, for the Frobenius norm; needs the products A Q.
XTraceMoments squareMoments(const RangeSketch& sketch);

// XNysTrace (same source): the trace of the Nystrom approximation from the other probes, plus the
// scaled quadratic form of what it leaves. Returns false, with the least eigenvalue of the core
// matrix Omega^T A Omega relative to the largest, where that is not positive definite.
bool xnystrace(const RangeSketch& sketch, LeaveOneOut& result, double& least);

}  // namespace eigenscope
