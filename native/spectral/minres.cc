#include "spectral/minres.h"

#include <algorithm>
#include <cmath>

#include "linalg/blas.h"

namespace eigenscope {

namespace {

// y = A v - shift v in double, whatever the operator's precision.
class ShiftedProduct {
 public:
  ShiftedProduct(ProductCounter& a, double shift, int64_t dim)
      : a_(a), shift_(shift), dim_(dim), single_(a.op().precision() == Precision::F32) {
    if (single_) in_.resize(dim), out_.resize(dim);
  }

  void operator()(const double* v, double* y) {
    if (single_) {
      std::copy(v, v + dim_, in_.begin());
      a_.apply(in_.data(), out_.data(), 1);
      std::copy(out_.begin(), out_.end(), y);
    } else {
      a_.apply(v, y, 1);
    }
    for (int64_t i = 0; i < dim_; ++i) y[i] -= shift_ * v[i];
  }

 private:
  ProductCounter& a_;
  double shift_;
  int64_t dim_;
  bool single_;
  std::vector<float> in_, out_;
};

// ||(A - shift) r|| over ||A|| ||r|| below which r may be a null vector, and the solve begins again
// from it: a little later rounding would bring the null vector into x.
double suspicious(Precision precision) { return precision == Precision::F32 ? 1e-3 : 1e-5; }
// As many runs that do not halve the residual tell that it is a null vector.
constexpr int kIdleRuns = 3;

// One run of Lanczos from the residual r of x, which it brings up to date.
class Run {
 public:
  enum class End { Converged, Suspicious, Singular, Stopped };

  Run(ProductCounter& a, double shift, int64_t dim) : product_(a, shift, dim), a_(a), dim_(dim) {}

  End go(std::vector<double>& r, double* x, double aim, double tol, int64_t most,
         MinresResult& result) {
    const double size = norm2(dim_, r.data());
    if (size <= aim) return End::Converged;
    std::vector<double> before(dim_, 0.0), v = r, w(dim_), d(dim_, 0.0), dOld(dim_, 0.0);
    for (double& entry : v) entry /= size;
    // Lanczos coefficients, the rotations of the two steps before, and the residual's length.
    const Precision precision = a_.op().precision();
    const double doubt = suspicious(precision), noise = std::max(tol, 4 * roundingOf(precision));
    double beta = 0, cOld = 1, sOld = 0, c = 1, s = 0, phi = size, least = HUGE_VAL;
    End end = End::Stopped;
    bool armed = false;
    while (result.products < most && a_.allows(1)) {
      product_(v.data(), w.data());
      ++result.products;
      const double alpha = dot(dim_, v.data(), w.data());
      for (int64_t i = 0; i < dim_; ++i) w[i] -= alpha * v[i] + beta * before[i];
      const double next = norm2(dim_, w.data());
      result.norm = std::max(result.norm, std::hypot(beta, alpha, next));

      // The column (beta, alpha, next) of T under the two last rotations, then the new one.
      const double epsilon = sOld * beta, bar = cOld * beta;
      const double delta = c * bar + s * alpha, gamma = c * alpha - s * bar;
      // ||(A - shift) r|| of the residual before this step is phi times this.
      const double normal = std::hypot(gamma, c * next);
      const double share = normal / result.norm;  // NaN where A is zero
      armed |= share > 10 * doubt;
      if (!(share > noise))
        end = End::Singular;
      else if ((armed && share <= doubt) || (least <= doubt && std::abs(phi) > 0.5 * size &&
                                             share > 100 * std::max(least, noise)))
        end = End::Suspicious;
      if (end != End::Stopped) break;
      least = std::min(least, share);
      const double rho = std::hypot(gamma, next);
      cOld = c;
      sOld = s;
      c = gamma / rho;
      s = next / rho;
      const double tau = c * phi;
      phi *= -s;
      for (int64_t i = 0; i < dim_; ++i) {
        const double direction = (v[i] - delta * d[i] - epsilon * dOld[i]) / rho;
        dOld[i] = d[i];
        d[i] = direction;
        x[i] += tau * direction;
        w[i] = next > 0 ? w[i] / next : 0.0;
        // r follows by its own recurrence: s^2 r - phi c v_next.
        r[i] = s * s * r[i] + phi * c * w[i];
      }
      if (std::abs(phi) <= aim) {
        end = End::Converged;
        break;
      }
      if (next <= 10 * roundingOf(Precision::F64) * result.norm) break;
      beta = next;
      before.swap(v);
      v.swap(w);
    }
    result.residual = norm2(dim_, r.data());
    return end;
  }

 private:
  ShiftedProduct product_;
  ProductCounter& a_;
  int64_t dim_;
};

}  // namespace

MinresResult minres(ProductCounter& a, double shift, const double* b, double* x, int64_t dim,
                    double tol, int64_t maxIterations, std::vector<double>* leastSquares) {
  MinresResult result;
  std::fill(x, x + dim, 0.0);
  std::vector<double> r(b, b + dim);
  result.residual = norm2(dim, b);
  const double aim = tol * result.residual;
  result.converged = result.residual == 0;
  if (result.converged) return result;
  Run run(a, shift, dim);
  Run::End end = Run::End::Suspicious;
  for (int idle = 0; end == Run::End::Suspicious && idle < kIdleRuns;) {
    const double before = result.residual;
    end = run.go(r, x, aim, tol, maxIterations, result);
    idle = result.residual > 0.5 * before ? idle + 1 : 0;
  }
  result.converged = end == Run::End::Converged;
  result.singular = end == Run::End::Singular || end == Run::End::Suspicious;
  if (result.singular && leastSquares) *leastSquares = r;
  return result;
}

}  // namespace eigenscope
