#include "spectral/minres.h"

#include <cmath>

namespace eigenscope {

namespace {

constexpr char kSingular[] =
    "the system is singular and its right-hand side lies partly outside the range of the operator, "
    "so that no solution exists: ||A r|| is 0 to rounding; add damping, or take method lsmr for "
    "the "
    "shortest least-squares solution";

}  // namespace

Iteration minimalResiduals(Column& c) {
  const std::size_t n = c.dim();
  // Lanczos vectors before and after the preconditioner, the directions of x, and the residual.
  std::vector<double> earlier(n), current(n), next(n), y(n), v(n), w(n), w1(n), w2(n);
  std::vector<double>& residual = c.r;
  if (c.needsFresh()) co_await c.fresh();
  while (!c.judge()) {
    current = residual;
    if (c.preconditioned())
      co_await c.precondition(current, y);
    else
      y = current;
    double beta = dot(current, y);
    if (!(beta > 0)) refusePreconditioner(beta, length(current) * length(y));
    beta = std::sqrt(beta);
    double previousBeta = 0, dbar = 0, epsilon = 0, phibar = beta, cs = -1, sn = 0;
    double firstCurvature = 0;
    std::fill(w.begin(), w.end(), 0.0);
    std::fill(w2.begin(), w2.end(), 0.0);
    for (bool first = true; !c.stopping(); first = false) {
      for (std::size_t i = 0; i < n; ++i) v[i] = y[i] / beta;
      co_await c.product(v, next);
      ++c.iterations;
      c.noteNorm(length(next) / (c.preconditioned() ? length(v) : 1.0));
      if (!first) addTo(next, -beta / previousBeta, earlier);
      const double alpha = dot(v, next);
      addTo(next, -alpha / beta, current);
      std::swap(earlier, current);
      std::swap(current, next);
      if (c.preconditioned())
        co_await c.precondition(current, y);
      else
        y = current;
      previousBeta = beta;
      beta = dot(current, y);
      if (!(beta >= 0)) refusePreconditioner(beta, length(current) * length(y));
      beta = std::sqrt(beta);

      // The next column of the tridiagonal matrix, rotated.
      const double oldEpsilon = epsilon, delta = cs * dbar + sn * alpha;
      const double gbar = sn * dbar - cs * alpha;
      epsilon = sn * beta;
      dbar = -cs * beta;
      const double gamma = std::hypot(gbar, beta);
      const double size = std::abs(alpha) + beta + (first ? 0.0 : previousBeta);
      fprintf(stderr, "%ld root %.3g phibar %.3g beta %.3g size %.3g\n", long(c.iterations),
              std::hypot(gbar, dbar) / c.norm(), phibar, beta, size);
      // ||A r|| / ||r||, of the residual before this step. Where it has fallen this far the
      // residual lies near the null space, and orthogonality is lost: the next cycle sees what is
      // true.
      const double curvature = std::hypot(gbar, dbar);
      if (first) firstCurvature = curvature;
      if (curvature <= 8 * c.rounding() * c.norm()) c.hinder(kSingular);
      if (curvature <= 8 * c.rounding() * c.norm() ||
          curvature <= std::sqrt(c.rounding()) * firstCurvature)
        break;
      cs = gbar / gamma;
      sn = beta / gamma;
      const double phi = cs * phibar;
      phibar *= sn;
      std::swap(w1, w2);
      std::swap(w2, w);
      for (std::size_t i = 0; i < n; ++i) {
        w[i] = (v[i] - oldEpsilon * w1[i] - delta * w2[i]) / gamma;
        c.x[i] += phi * w[i];
      }
      // r = sn^2 r - phibar cs v', v' the next Lanczos vector before the preconditioner.
      const double keep = sn * sn, take = beta > 0 ? phibar * cs / beta : 0.0;
      for (std::size_t i = 0; i < n; ++i) residual[i] = keep * residual[i] - take * current[i];
      if (beta <= c.rounding() * size || c.small(length(residual))) break;
    }
    co_await c.fresh();
  }
}

MinresResult minres(ProductCounter& a, double shift, const double* b, double* x, double tol) {
  SystemTerms terms;
  terms.shift = -shift;
  terms.tol = tol;
  MinresResult result;
  const auto make = [&](int64_t) {
    return std::make_unique<Column>(terms, a.op().precision(), a.op().dim(), b, nullptr);
  };
  const auto settle = [&](int64_t, const Column& column) {
    column.solution(x);
    result = {column.residual, column.iterations, column.converged};
  };
  Columns(a, terms).run(minimalResiduals, 1, make, settle);
  return result;
}

}  // namespace eigenscope
