#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "spectral/operator.h"

namespace eigenscope {

// Which eigenvalues, and the order they come in: LM by magnitude, largest first; LA largest first;
// SA smallest first; BE half from each end (odd k: one more from the high end), largest first.
enum class Which { LM, LA, SA, BE };

// Lanczos   thick-restart Lanczos with full reorthogonalisation: any symmetric operator, any Which.
// Subspace  subspace iteration with Rayleigh-Ritz on Q^T A Q: LM only.
// Krylov    randomized block Krylov (Musco and Musco 2015): any symmetric operator, any Which.
// Nystrom   Nystrom approximation (Tropp, Yurtsever, Udell, Cevher 2017): positive semi-definite
//           operators only, LM or LA.
// Lobpcg    locally optimal block preconditioned conjugate gradients (Knyazev 2001): any Which.
// TwoSketch one pass of products with two random blocks (Tropp et al. 2017, Nakatsukasa 2020): LM.
// ShiftInvert  Lanczos on (A - sigma I)^-1, solved by MINRES: the eigenvalues nearest to sigma.
// Filter    Lanczos on a Chebyshev polynomial of A: every eigenvalue in an interval.
enum class EigshMethod {
  Lanczos,
  Subspace,
  Krylov,
  Nystrom,
  Lobpcg,
  TwoSketch,
  ShiftInvert,
  Filter
};

struct EigshOptions {
  int64_t k = 6;
  Which which = Which::LM;
  EigshMethod method = EigshMethod::Lanczos;
  // Largest residual ||A v - lambda v|| relative to the largest Ritz value in magnitude;
  // 0: 1e-5 in float32, whose products carry noise of about 1e-6, and 1e-9 in float64.
  double tol = 0;
  // Single vectors, all phases together; 0: 1000 + 50 k + 2 min(dim, 2000).
  int64_t maxProducts = 0;
  uint64_t seed = 0;
  int64_t blockSize = 0;    // vectors a product; 0: 1 for Lanczos, k + oversample for the others
  int64_t oversample = 10;  // extra sketch vectors of the randomized methods
  // Most basis vectors kept at once by lanczos and krylov; 0: 2 k + 10 for LM and LA, 2 k + 40 for
  // SA and BE, six blocks for krylov. The sketches keep 2 (subspace) or 3 (nystrom) blocks.
  int64_t basisSize = 0;
  int64_t memoryBudget = 0;  // bytes for the basis and work vectors; 0: no limit
  int threads = 1;           // for the work on the basis; results do not depend on it
  // Vectors near the wanted ones, m x dim, to begin with, beside random ones: blocks of k vectors
  // or more keep k that are random, so that a start in the wrong place hides nothing.
  std::vector<double> start;
  // Vectors, m x dim, to whose span all pairs shall be orthogonal: those of P A P on the
  // complement.
  std::vector<double> deflate;
  // Of Lobpcg: a positive definite operator near the inverse of A - lambda I; may be null.
  OperatorPtr preconditioner;
  double sigma = 0;          // of ShiftInvert
  double low = 0, high = 0;  // of Filter; k is then the most that the interval may hold
  // Files (Lanczos, Krylov, Lobpcg, Subspace): the state at every restart or iteration is written
  // to the one, and the solve goes on from what the other holds. Empty: none.
  std::string checkpoint, resume;
};

// What holds the eigenvalue of a pair: Residual, some eigenvalue lies within the residual; Gap, the
// bound of Kato and Temple, residual^2 over the gap to the other pairs, which holds when no
// eigenvalue lies in that gap; Cluster, as many eigenvalues as there are overlapping intervals lie
// within the root of their summed squares (Kahan 1967).
enum class BoundKind { Residual, Gap, Cluster };

struct EigenInterval {
  double low = 0, high = 0;
  BoundKind kind = BoundKind::Residual;
};

// Whether wanted eigenvalues may have been missed.
struct MissedStatement {
  // That an eigenvalue as wanted as the last one found went unseen is at most this likely over
  // random starts; NaN where nothing was shown.
  double probability = std::numeric_limits<double>::quiet_NaN();
  std::string how;
};

// Of an interval: the eigenvalues that were found, and how many there should be.
struct CountCheck {
  bool exact = false;        // from the dense spectrum
  double estimate = 0;       // of all eigenvalues in the interval
  double standardError = 0;  // of the estimate, over probes
  int64_t probes = 0;
};

struct EigshResult {
  std::vector<double> values;
  // K x dim, row-major, unit vectors in the operator's precision; the entry of largest magnitude
  // of each is positive.
  std::vector<std::byte> vectors;
  std::vector<double> residuals;  // ||A v - lambda v||, absolute, from a fresh product
  std::vector<EigenInterval> intervals;
  bool converged = false;  // every residual <= tol * max |Ritz value|
  std::string reason;      // why not, empty when converged
  std::string method;      // what ran, by its name; dense where the matrix was formed
  double scale = 0;        // max |Ritz value|
  double tol = 0;          // the one that was used
  int64_t products = 0;    // operator applications, counted in single vectors
  int64_t restarts = 0;
  MissedStatement missed;
  CountCheck count;     // of Filter
  double coupling = 0;  // of deflation: the longest ||Q^T A v||, 0 when Q spans eigenvectors
  std::vector<std::string> warnings;
};

// The k eigenpairs of a symmetric operator at one end of its spectrum or both.
//
// Small problems (dim within the basis size) are solved densely from dim products, and so are those
// of dimension up to 2000 that have not converged after dim products.
// Otherwise every pair is accepted by its residual in a fresh product (k products), and Lanczos
// then looks for eigenvalues it may have missed, above all copies of repeated ones, from a random
// vector orthogonal to what it found, until it sees that none is left; all count in `products`.
// Deterministic for given options and operator; random vectors are keyed by (seed, op.index()).
//
// For an interval the result holds all the pairs inside, smallest first; for sigma the nearest
// first. Residuals and intervals of a deflated solve are those of P A P.
//
// Throws Error: Option (k, tol, block or basis size out of range; which not served by the method;
// Nystrom on an indefinite operator; more than k eigenvalues in the interval; a checkpoint of
// another solve), MemoryBudget, DataMismatch (the operator returned NaN or infinity), Abort
// (between products; a dense solve of dimension 2000 spends seconds in LAPACK, which cannot be
// interrupted). Running out of products or below the noise of the operator is no error: converged
// is false and reason says why.
EigshResult eigsh(LinearOperator& op, const EigshOptions& options, Task& task);

}  // namespace eigenscope
