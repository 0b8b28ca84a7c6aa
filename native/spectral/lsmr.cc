#include "spectral/lsmr.h"

#include <cmath>

namespace eigenscope {

namespace {

// The rotation that turns (a, b) into (length, 0).
struct Rotation {
  double c, s, length;
  Rotation(double a, double b) : length(std::hypot(a, b)) {
    c = length > 0 ? a / length : 1.0;
    s = length > 0 ? b / length : 0.0;
  }
};

void scale(std::vector<double>& v, double factor) {
  for (double& entry : v) entry *= factor;
}

}  // namespace

Iteration leastSquares(Column& c) {
  const std::size_t n = c.dim();
  const double ridge = c.terms().tikhonov;
  // The operator on top of ridge I: u has two parts, the second where there is a ridge.
  std::vector<double> u(n), below(ridge > 0 ? n : 0), v(n), next(n), h(n), hbar(n);
  std::vector<double> way(c.preconditioned() ? n : 0);  // P v
  const auto lengthOfU = [&] { return std::hypot(length(u), length(below)); };
  if (c.needsFresh()) co_await c.fresh();
  for (;;) {
    c.measure();
    u = c.r;
    for (std::size_t i = 0; i < below.size(); ++i) below[i] = -ridge * c.x[i];
    // The gradient of the squares, which is also where the next cycle begins.
    double beta = lengthOfU(), gradient = 0;
    c.optimality = -1;
    if (c.residual > c.terms().tol && !(c.stopping() && c.iterations == 0)) {
      co_await c.product(u, v);
      c.noteNorm(length(v) / length(u));
      for (std::size_t i = 0; i < below.size(); ++i) v[i] += ridge * below[i];
      gradient = length(v);
      c.optimality = c.norm() > 0 ? gradient / (std::hypot(c.norm(), ridge) * beta) : 0.0;
    }
    // The length of the gradient falls from step to step; its ratio to the residual need not.
    const bool measured = c.optimality >= 0;
    if (c.judge(c.residual * (measured ? c.optimality : 1.0),
                c.residual <= c.terms().tol || (measured && c.optimality <= c.terms().tol)))
      break;
    if (c.preconditioned()) {
      next = v;
      co_await c.precondition(next, v);
    }
    double alpha = length(v);
    scale(u, 1 / beta);
    scale(below, 1 / beta);
    scale(v, 1 / alpha);
    alpha /= beta;

    if (c.preconditioned()) co_await c.precondition(v, way);
    h = c.preconditioned() ? way : v;
    std::fill(hbar.begin(), hbar.end(), 0.0);
    double alphabar = alpha, zetabar = alpha * beta, rho = 1, rhobar = 1, cbar = 1, sbar = 0;
    // For the norm of the residual.
    double betadd = beta, betad = 0, rhodold = 1, tautildeold = 0, thetatilde = 0, zeta = 0;
    const double firstGradient = zetabar;
    // What multiplies A, and what the solution is made of.
    const std::vector<double>& direction = c.preconditioned() ? way : v;
    while (!c.stopping()) {
      // Golub-Kahan bidiagonalisation.
      co_await c.product(direction, next);
      ++c.iterations;
      c.noteNorm(length(next) / length(direction));
      for (std::size_t i = 0; i < n; ++i) u[i] = next[i] - alpha * u[i];
      for (std::size_t i = 0; i < below.size(); ++i)
        below[i] = ridge * direction[i] - alpha * below[i];
      beta = lengthOfU();
      if (beta > 0) {
        scale(u, 1 / beta);
        scale(below, 1 / beta);
      }
      co_await c.product(u, next);
      for (std::size_t i = 0; i < below.size(); ++i) next[i] += ridge * below[i];
      if (c.preconditioned()) {
        co_await c.precondition(next, way);
        std::swap(next, way);
      }
      for (std::size_t i = 0; i < n; ++i) v[i] = next[i] - beta * v[i];
      alpha = length(v);
      if (alpha > 0) scale(v, 1 / alpha);
      if (c.preconditioned()) co_await c.precondition(v, way);

      const Rotation first(alphabar, beta);
      const double rhoold = rho, rhobarold = rhobar, zetaold = zeta;
      rho = first.length;
      const double thetanew = first.s * alpha;
      alphabar = first.c * alpha;
      const double thetabar = sbar * rho;
      const Rotation second(cbar * rho, thetanew);
      cbar = second.c;
      sbar = second.s;
      rhobar = second.length;
      if (!(rho > 0 && rhobar > 0)) break;
      zeta = cbar * zetabar;
      zetabar *= -sbar;
      const double back = thetabar * rho / (rhoold * rhobarold), step = zeta / (rho * rhobar);
      for (std::size_t i = 0; i < n; ++i) hbar[i] = h[i] - back * hbar[i];
      addTo(c.x, step, hbar);
      for (std::size_t i = 0; i < n; ++i) h[i] = direction[i] - thetanew / rho * h[i];

      const double betahat = first.c * betadd;
      betadd *= -first.s;
      const double thetatildeold = thetatilde;
      const Rotation third(rhodold, thetabar);
      thetatilde = third.s * rhobar;
      rhodold = third.c * rhobar;
      betad = -third.s * betad + third.c * betahat;
      tautildeold = (zetaold - thetatildeold * tautildeold) / third.length;
      const double taud = (zeta - thetatilde * tautildeold) / rhodold;
      const double residual = std::hypot(betad - taud, betadd);
      gradient = std::abs(zetabar);

      const double wide = std::hypot(c.norm(), ridge);
      if (c.small(residual)) break;
      const double enough =
          c.preconditioned()
              ? 0.5 * firstGradient * std::min(1.0, c.terms().tol / c.optimality)
              : wide * std::max(0.5 * c.terms().tol * residual,
                                1e-3 * c.rounding() * (residual + wide * length(c.x)));
      if (gradient <= enough) break;
      if (alpha <= c.rounding() * wide || beta <= c.rounding() * wide) break;
    }
    co_await c.fresh();
  }
}

}  // namespace eigenscope
