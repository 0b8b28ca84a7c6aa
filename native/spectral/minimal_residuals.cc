#include "spectral/minimal_residuals.h"

#include <algorithm>
#include <cmath>

namespace eigenscope {

namespace {

constexpr char kSingular[] =
    "the system is singular and its right-hand side lies partly outside the range of the operator, "
    "so that no solution exists: ||A r|| is 0 to rounding; add damping, or take method lsmr for "
    "the shortest least-squares solution";

}  // namespace

Iteration minimalResiduals(Column& c) {
  const std::size_t n = c.dim();
  // Lanczos vectors before and after the preconditioner, the directions of x, and the residual.
  std::vector<double> earlier(n), current(n), next(n), y(n), v(n), w(n), w1(n), w2(n);
  std::vector<double>& residual = c.r;
  double widest = 0;  // column of the tridiagonal matrix
  if (c.needsFresh()) co_await c.fresh();
  for (c.measure(); !c.judge(); c.measure()) {
    current = residual;
    if (c.preconditioned())
      co_await c.precondition(current, y);
    else
      y = current;
    double beta = dot(current, y);
    requirePositive(beta, current, y);
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
      if (beta != 0) requirePositive(beta, current, y);
      beta = std::sqrt(beta);

      // The next column of the tridiagonal matrix, rotated.
      const double oldEpsilon = epsilon, delta = cs * dbar + sn * alpha;
      const double gbar = sn * dbar - cs * alpha;
      epsilon = sn * beta;
      dbar = -cs * beta;
      const double gamma = std::hypot(gbar, beta);
      const double size = std::abs(alpha) + beta + (first ? 0.0 : previousBeta);
      // ||A r|| / ||r||, of the residual before this step. Where it has fallen this far the
      // residual lies near the null space, and orthogonality is lost: the next cycle sees what is
      // true.
      const double curvature = std::hypot(gbar, dbar);
      if (first) firstCurvature = curvature;
      widest = std::max(widest, size);
      if (curvature <= 8 * c.rounding() * widest) {
        c.hinder(kSingular);
        break;
      }
      if (curvature <= std::sqrt(c.rounding()) * firstCurvature) break;
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

}  // namespace eigenscope
