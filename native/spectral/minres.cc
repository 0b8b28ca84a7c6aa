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

}  // namespace

MinresResult minres(ProductCounter& a, double shift, const double* b, double* x, int64_t dim,
                    double tol, int64_t maxIterations, std::vector<double>* leastSquares) {
  MinresResult result;
  std::fill(x, x + dim, 0.0);
  const double size = norm2(dim, b);
  result.residual = size;
  result.converged = size == 0;
  if (result.converged) return result;

  ShiftedProduct product(a, shift, dim);
  std::vector<double> before(dim, 0.0), v(b, b + dim), w(dim), d(dim, 0.0), dOld(dim, 0.0);
  for (double& entry : v) entry /= size;
  // Lanczos coefficients, the rotations of the two steps before, and the residual's length.
  double beta = 0, cOld = 1, sOld = 0, c = 1, s = 0, phi = size, frobenius = 0;
  // What Lanczos left of b within rounding is no direction.
  const double breakdown = 10 * roundingOf(Precision::F64);

  while (result.products < maxIterations && a.allows(1)) {
    product(v.data(), w.data());
    ++result.products;
    const double alpha = dot(dim, v.data(), w.data());
    double square = 0;
    for (int64_t i = 0; i < dim; ++i) {
      w[i] -= alpha * v[i] + beta * before[i];
      square += w[i] * w[i];
    }
    const double next = std::sqrt(square);
    frobenius = std::max(frobenius, std::hypot(beta, alpha, next));
    result.norm = frobenius;

    // The column (beta, alpha, next) of T under the two last rotations, then the new one.
    const double epsilon = sOld * beta, bar = cOld * beta;
    const double delta = c * bar + s * alpha, gamma = c * alpha - s * bar;
    // ||(A - shift) r|| of the residual before this step is phi hypot(gamma, next c).
    const double normal = std::hypot(gamma, c * next);
    if (normal <= tol * frobenius) {
      result.singular = true;
      break;
    }
    const double rho = std::hypot(gamma, next);
    cOld = c;
    sOld = s;
    c = gamma / rho;
    s = next / rho;
    const double tau = c * phi;
    phi *= -s;
    for (int64_t i = 0; i < dim; ++i) {
      const double direction = (v[i] - delta * d[i] - epsilon * dOld[i]) / rho;
      dOld[i] = d[i];
      d[i] = direction;
      x[i] += tau * direction;
    }
    result.residual = std::abs(phi);
    result.converged = result.residual <= tol * size;
    if (result.converged || next <= breakdown * frobenius) break;
    beta = next;
    for (int64_t i = 0; i < dim; ++i) {
      before[i] = v[i];
      v[i] = w[i] / next;
    }
  }
  if (result.singular && leastSquares) {
    leastSquares->resize(dim);
    product(x, leastSquares->data());
    ++result.products;
    for (int64_t i = 0; i < dim; ++i) (*leastSquares)[i] = b[i] - (*leastSquares)[i];
  }
  return result;
}

}  // namespace eigenscope
