#pragma once

#include <cstdint>
#include <vector>

#include "spectral/ritz.h"

namespace eigenscope {

// A solve at one of its restarts, besides the vectors: `active` + `next` columns of its basis.
struct SolverState {
  int64_t products = 0, restarts = 0, active = 0, next = 0;
  uint64_t randomColumn = 0;
  double scale = 0, target = 0, before = 0, productNorm = 0;
  std::vector<double> values;    // of the active columns
  std::vector<double> coupling;  // next x active
};

// Writes the state to options.checkpoint, through a file beside it that takes its place when it is
// whole; does nothing where there is none. Throws Error (Option) where it cannot be written.
void writeCheckpoint(const EigshPlan& plan, const SolverState& state, const Basis& basis);

// Reads options.resume into state and basis; false where there is none. Throws Error (Option) where
// it cannot be read, is damaged, or belongs to another solve: dimension, precision, which, k,
// method, block or basis size.
bool readCheckpoint(const EigshPlan& plan, SolverState& state, Basis& basis);

// The checks of readCheckpoint alone.
void requireCheckpoint(const EigshPlan& plan);

// One product that tells whether a Krylov space read from a file is one of this operator. Throws
// Error (Option) where it is not.
void requireSameRecurrence(const EigshPlan& plan, const SolverState& state, const Basis& basis,
                           ProductCounter& a);

}  // namespace eigenscope
