#include "spectral/cg.h"

#include <cmath>

namespace eigenscope {

namespace {

constexpr char kSingular[] =
    "a direction has no curvature to rounding, so the operator is singular, and the right-hand "
    "side "
    "lies partly outside its range; add damping, or take method lsmr for the shortest "
    "least-squares "
    "solution";

// What products in this precision leave of a zero, relative to the norm.
double noiseOf(double rounding) { return rounding > 1e-10 ? 2e-5 : 1e-12; }

[[noreturn]] void refuseIndefinite(double curvature, double norm, double shift) {
  throw Error(ErrorKind::Option,
              "cg needs a positive semi-definite operator (ggn, fisher), and this one is not: a "
              "direction has curvature p^T (A + damping I) p / p^T p = " +
                  shortNumber(curvature) + " where products reach " + shortNumber(norm) +
                  ". Take method minres, or damping above " + shortNumber(shift - curvature));
}

}  // namespace

Iteration conjugateGradients(Column& c) {
  std::vector<double> p(c.dim()), q(c.dim()), z(c.preconditioned() ? c.dim() : 0);
  std::vector<double>& r = c.r;
  if (c.needsFresh()) co_await c.fresh();
  for (c.measure(); !c.judge(); c.measure()) {
    double rz = 0;
    for (bool first = true; !c.stopping(); first = false) {
      if (c.preconditioned()) co_await c.precondition(r, z);
      const std::vector<double>& way = c.preconditioned() ? z : r;
      const double before = rz;
      rz = dot(r, way);
      requirePositive(rz, r, way);
      if (first) {
        p = way;
      } else {
        const double keep = rz / before;
        for (std::size_t i = 0; i < p.size(); ++i) p[i] = way[i] + keep * p[i];
      }
      co_await c.product(p, q);
      ++c.iterations;
      const double pp = dot(p, p), pq = dot(p, q), curvature = pq / pp;
      c.noteNorm(std::sqrt(dot(q, q) / pp));
      const double noise = noiseOf(c.rounding()) * c.norm();
      if (curvature < -noise) refuseIndefinite(curvature, c.norm(), c.terms().shift);
      if (curvature <= c.rounding() * c.norm()) {
        c.hinder(kSingular);
        break;
      }
      const double step = rz / pq;
      addTo(c.x, step, p);
      addTo(r, -step, q);
      if (c.small(length(r))) break;
    }
    co_await c.fresh();
  }
}

}  // namespace eigenscope
