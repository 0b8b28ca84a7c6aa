#include <algorithm>
#include <cmath>
#include <utility>

#include "linalg/lapack.h"
#include "spectral/checkpoint.h"
#include "spectral/random_block.h"
#include "spectral/sketch.h"

namespace eigenscope {

// Randomized subspace iteration (Halko, Martinsson, Tropp 2011) with Rayleigh-Ritz on Q^T A Q,
// which serves indefinite operators: Q is orthonormalised after every product, and its Ritz pairs
// are ordered by magnitude.
EigshResult subspaceEigsh(const EigshPlan& plan, ProductCounter& a) {
  const int64_t k = plan.options.k, width = plan.block;
  const std::span<const int64_t> index = a.op().index();
  Basis q(plan.dim, width, plan.precision, plan.options.threads, &a.task());
  Basis y(plan.dim, width, plan.precision, plan.options.threads, &a.task());
  uint64_t column = 0;
  SolverState state;
  if (readCheckpoint(plan, state, q)) {
    a.resumeAt(state.products);
    column = state.randomColumn;
  } else {
    startBlock(q, width, plan.options.start, width - k, plan.options.seed, column, index);
    column += width;
  }

  std::vector<double> t(width * width), values(k), residuals(k);
  SketchProgress progress(plan, a);
  while (true) {
    a.apply(q.column(0), y.column(0), width);
    q.innerProducts(0, width, y, 0, width, t.data());
    progress.noteAsymmetry(symmetrise(t, width), y);
    const std::vector<double> all = symmetricEigen(width, t.data(), width);
    const std::vector<int64_t> order = selectBest(all, width, Which::LM);
    std::vector<double> turn(width * width);
    for (int64_t j = 0; j < width; ++j)
      std::copy_n(t.data() + order[j] * width, width, turn.data() + j * width);
    q.rotate(0, width, width, turn.data());
    y.rotate(0, width, width, turn.data());
    for (int64_t j = 0; j < k; ++j) {
      values[j] = all[order[j]];
      residuals[j] = residualOf(q, j, y, j, values[j]);
    }
    progress.note(values, residuals);
    if (progress.reached() || progress.stalled() || !a.allows(width + k)) break;
    state.products = a.products();
    state.randomColumn = column;
    state.active = width;
    state.values = all;
    writeCheckpoint(plan, state, q);
    std::swap(q, y);
    const int64_t rank = orthonormalise(q, 0, width, progress.negligible(), nullptr);
    appendRandom(q, rank, width - rank, plan.options.seed, column, index);
    column += width - rank;
  }
  freshPairs(a, q, 0, k, y, 0, width, values.data(), residuals.data());
  return progress.finish(q, values, residuals, "subspace");
}

}  // namespace eigenscope
