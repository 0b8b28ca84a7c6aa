#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "linalg/basis.h"
#include "spectral/ritz.h"

namespace eigenscope {

struct RitzPairs {
  std::vector<double> values;     // ascending
  std::vector<double> vectors;    // active x active, one a column, in the active basis
  std::vector<double> residuals;  // of A projected off the frozen vectors, from the recurrence
  std::vector<double> coupling;   // norm of the part of A v inside the frozen vectors
};

// An orthonormal basis V grown by block products, with the relation
//   A V = F G + V T + Q C
// F the frozen (deflated) vectors, T = V^T A V, Q the block to be multiplied next. All live in one
// Basis: columns [0, frozen) are F, then V (active), then Q (next). T is taken from the
// coefficients of a full reorthogonalisation, so a thick restart needs no special form (Stewart, "A
// Krylov-Schur algorithm for large eigenproblems", 2001; Wu and Simon, "Thick-restart Lanczos",
// 2000). A block that breaks down, the sign of an invariant subspace, is filled up with random
// vectors that do not couple back.
class KrylovSpace {
 public:
  KrylovSpace(ProductCounter& a, Basis& basis, int64_t block, uint64_t seed);

  // Forgets V and Q; the next block is random, orthogonal to the first `frozen` columns.
  void beginRandom(int64_t frozen);
  // Forgets all; the next block begins with the given vectors, as in startBlock.
  void beginWith(std::span<const double> given, int64_t most);
  // The same with the one vector held in column `frozen` as next block.
  void beginFrom(int64_t frozen);

  int64_t frozen() const { return frozen_; }
  int64_t active() const { return active_; }
  int64_t next() const { return next_; }
  // The first column that holds nothing.
  int64_t used() const { return frozen_ + active_ + next_; }

  bool exhausted() const { return next_ == 0; }  // V and F span the whole space
  // The block that follows the next one fits; it has the full width even where next has not.
  bool hasRoom() const { return used() + std::max(next_, block_) <= basis_.capacity(); }

  void expand();
  const RitzPairs& ritz();
  // V becomes the Ritz vectors of the given indices, in that order.
  void restart(std::span<const int64_t> keep);

  // After a restart with nothing frozen: what A V = V diag(values) + Q C needs beside the columns,
  // and the way back to it when `active` + `next` columns hold V and Q.
  const std::vector<double>& coupling() const { return c_; }
  uint64_t randomColumn() const { return randomColumn_; }
  void resume(int64_t active, int64_t next, const std::vector<double>& values,
              const std::vector<double>& coupling, uint64_t randomColumn, double productNorm);

  double asymmetry() const { return asymmetry_; }  // largest seen, relative
  double productNorm() const { return productNorm_; }

 private:
  void fillRandom(int64_t first, int64_t count);
  void forget(int64_t frozen);

  ProductCounter& a_;
  Basis& basis_;
  Basis work_;                      // the block being worked on, in double
  std::vector<std::byte> product_;  // its product in float
  int64_t block_;
  uint64_t seed_;
  uint64_t randomColumn_ = 0;
  int64_t frozen_ = 0, active_ = 0, next_ = 0;
  std::vector<double> t_;  // leading dimension: the basis capacity
  std::vector<double> c_;  // next x active
  std::vector<double> g_;  // frozen x active
  RitzPairs ritz_;
  bool ritzKnown_ = false;
  double asymmetry_ = 0;
  double productNorm_ = 0;  // the longest product of a unit vector so far
};

}  // namespace eigenscope
