#include "spectral/neumann.h"

#include <algorithm>
#include <cmath>

#include "linalg/blas.h"
#include "linalg/lapack.h"
#include "spectral/random_block.h"

namespace eigenscope {

namespace {

// Of random numbers, apart from those of other uses.
constexpr uint64_t kEndsColumn = uint64_t{5} << 44;

// Iterations without a new least residual that mean there will be none.
constexpr int64_t kPatience = 20;

[[noreturn]] void refuseDivergence(const Column& c, double least) {
  throw Error(
      ErrorKind::NotConverged,
      "the Neumann series diverges: by iteration " + std::to_string(c.iterations) +
          " the residual rose from " + shortNumber(least) + " to " + shortNumber(c.residual) +
          " of the right-hand side. It needs every eigenvalue of A + damping I between 0 and "
          "twice the scale, which was " +
          shortNumber(1 / c.terms().step) +
          "; raise scale or damping, or take cg (positive definite operators) or minres");
}

}  // namespace

Iteration neumannSeries(Column& c) {
  const double step = c.terms().step;
  double least = -1;
  c.gain = 1;
  c.patience = kPatience;
  if (c.needsFresh()) co_await c.fresh();
  for (c.measure(); !c.judge(); c.measure()) {
    const double noise = 100 * c.rounding() * length(c.x) / (step * c.lengthOfB());
    if (least < 0 || c.residual < least) least = c.residual;
    if (c.residual > 2 * least && c.residual > noise) refuseDivergence(c, least);
    addTo(c.x, step, c.r);
    ++c.iterations;
    co_await c.fresh();
  }
}

SpectrumEnds spectrumEnds(ProductCounter& a, double shift, int64_t steps, uint64_t seed) {
  const int64_t dim = a.op().dim();
  const Precision precision = a.op().precision();
  steps = std::min(steps, dim);
  Basis basis(dim, steps + 1, precision, 1, &a.task());
  appendRandom(basis, 0, 1, seed, kEndsColumn, a.op().index());
  std::vector<double> matrix(steps * steps, 0.0), w(dim);
  int64_t size = 0;
  double beta = 0, longest = 0;
  while (size < steps) {
    a.apply(basis.column(size), basis.column(size + 1), 1);
    basis.load(size + 1, 1, w.data());
    longest = std::max(longest, norm2(dim, w.data()));
    basis.project(w.data(), 1, size + 1, matrix.data() + size * steps);
    matrix[size * steps + size] += shift;
    ++size;
    beta = norm2(dim, w.data());
    if (beta <= 4 * roundingOf(precision) * longest) break;
    for (double& entry : w) entry /= beta;
    basis.store(size, 1, w.data());
  }
  const std::vector<double> values = symmetricEigen(size, matrix.data(), steps);
  SpectrumEnds ends{values.front(), values.back(), values.back()};
  for (int64_t i = 0; i < size; ++i)
    ends.high = std::max(ends.high, values[i] + beta * std::abs(matrix[i * steps + size - 1]));
  return ends;
}

}  // namespace eigenscope
