#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "spectral/lanczos_block.h"

namespace eigenscope {

// Entries of random vectors before they are normalised.
enum class ProbeType { Rademacher, Gaussian };

struct QuadratureOptions {
  int64_t probes = 8;
  int64_t steps = 64;  // products a probe; at most dim are taken
  ProbeType type = ProbeType::Rademacher;
  uint64_t seed = 0;
  int64_t blockSize = 0;     // probes side by side; 0: up to 16, within the memory
  int64_t memoryBudget = 0;  // bytes for bases; 0: 1 GiB, and one probe whatever it takes
  int threads = 1;
};

// What Lanczos saw from one probe v: the Gauss rule of its spectral measure, sum_i (u_i^T v)^2
// delta(lambda_i), exact for polynomials of degree up to 2 m - 1.
struct ProbeRule {
  Tridiagonal t;
  std::vector<double> nodes;      // ascending
  std::vector<double> weights;    // sum to 1
  std::vector<double> residuals;  // of the Ritz pairs behind the nodes
};

struct QuadratureResult {
  std::vector<ProbeRule> rules;
  double scale = 0;  // max |node|
  int64_t products = 0;
  int64_t blockSize = 0;
  std::vector<std::string> warnings;
};

// Stochastic Lanczos quadrature (Golub and Meurant 2010; Chen, Trogdon and Ubaru 2021): Lanczos
// with full reorthogonalisation from `probes` random unit vectors, keyed by (seed, probe,
// op.index()). A probe ends early when its Krylov space is exhausted.
//
// Throws Error: Option (numbers out of range), MemoryBudget, DataMismatch (NaN or infinity), Abort.
QuadratureResult lanczosQuadrature(LinearOperator& op, const QuadratureOptions& options,
                                   Task& task);

// Fills `count` random vectors, not normalised, of probes first, first + 1, ...
void fillProbes(double* out, int64_t dim, int64_t count, ProbeType type, uint64_t seed,
                int64_t first, std::span<const int64_t> index);

// Level below which eigenvalues are not told from one another: rounding in products of this
// precision.
double resolutionOf(double scale, Precision precision);

// The checks that density methods share.
void checkProbes(const char* where, const LinearOperator& op, int64_t probes, int64_t steps,
                 int64_t blockSize);

}  // namespace eigenscope
