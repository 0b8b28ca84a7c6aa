#include <algorithm>
#include <cmath>
#include <utility>

#include "linalg/blas.h"
#include "linalg/lapack.h"
#include "spectral/random_block.h"
#include "spectral/sketch.h"

namespace eigenscope {

namespace {

// Curvature below minus this, relative to the longest product, is not rounding.
double curvatureNoise(Precision precision) { return precision == Precision::F32 ? 2e-5 : 1e-12; }

[[noreturn]] void refuseIndefinite(const std::string& evidence) {
  throw Error(
      ErrorKind::Option,
      "Nystrom needs a positive semi-definite operator (ggn, fisher), and this one is not: " +
          evidence + ". Its result would be wrong without bound; use method lanczos or krylov");
}

// Adds `shift` times the columns of omega to those of y.
void addMultiple(Basis& y, const Basis& omega, int64_t count, double shift) {
  const int64_t size = y.dim() * count;
  if (y.precision() == Precision::F32) {
    float* to = static_cast<float*>(y.column(0));
    const float* from = static_cast<const float*>(omega.column(0));
    for (int64_t i = 0; i < size; ++i) to[i] = static_cast<float>(to[i] + shift * from[i]);
  } else {
    double* to = static_cast<double*>(y.column(0));
    const double* from = static_cast<const double*>(omega.column(0));
    for (int64_t i = 0; i < size; ++i) to[i] += shift * from[i];
  }
}

double leastEigenvalue(std::vector<double> matrix, int64_t order) {
  return symmetricEigenvalues(order, matrix.data(), order).front();
}

class Nystrom {
 public:
  Nystrom(const EigshPlan& plan, ProductCounter& a)
      : plan_(plan),
        a_(a),
        k_(plan.options.k),
        width_(plan.block),
        omega_(plan.dim, width_, plan.precision, plan.options.threads, &a.task()),
        y_(plan.dim, width_, plan.precision, plan.options.threads, &a.task()),
        product_(plan.dim, width_, plan.precision, plan.options.threads, &a.task()),
        progress_(plan, a) {}

  // The sketch of one pass is the measurement of the one before: A U gives the residuals of the
  // pairs (U, lambda), and U, which lies nearer to the wanted space than random vectors do, is
  // what the next approximation is built on.
  EigshResult run() {
    startBlock(omega_, width_, plan_.options.start, width_ - k_, plan_.options.seed, column_,
               a_.op().index());
    column_ += width_;
    a_.apply(omega_.column(0), y_.column(0), width_);
    while (true) {
      approximate();
      const bool last = !a_.allows(width_ + k_);
      const int64_t measured = last && !a_.allows(width_) ? k_ : width_;
      a_.apply(y_.column(0), product_.column(0), measured);
      std::vector<double> values(values_.begin(), values_.begin() + k_), residuals(k_);
      for (int64_t j = 0; j < k_; ++j) residuals[j] = residualOf(y_, j, product_, j, values[j]);
      if (longest_ > 0) compare(measured);
      progress_.note(values, residuals);
      if (last || progress_.reached() || progress_.stalled())
        return progress_.finish(y_, values, residuals, "nystrom");
      std::swap(omega_, y_);
      std::swap(y_, product_);
    }
  }

 private:
  // From omega (orthonormal) and y = A omega to the eigenpairs of
  //   (A Omega) (Omega^T A Omega)^-1 (A Omega)^T,
  // computed for A + shift I and shifted back; the vectors replace y.
  void approximate() {
    const int64_t n = width_;
    std::vector<double> core(n * n), gram(n * n);
    omega_.innerProducts(0, n, y_, 0, n, core.data());
    progress_.noteAsymmetry(symmetrise(core, n), y_);
    y_.innerProducts(0, n, y_, 0, n, gram.data());
    double squares = 0, longest = 0;
    for (int64_t j = 0; j < n; ++j) {
      squares += gram[j * n + j];
      longest = std::max(longest, gram[j * n + j]);
    }
    longest = longest_ = std::sqrt(longest);
    values_.assign(n, 0.0);
    if (longest == 0) {  // A Omega = 0: the vectors of omega are as good as any
      for (int64_t j = 0; j < n; ++j) y_.scaleColumn(j, 0.0);
      addMultiple(y_, omega_, n, 1.0);
      return;
    }
    const double least = leastEigenvalue(core, n);
    if (least < -curvatureNoise(plan_.precision) * longest)
      refuseIndefinite("a vector of the sketch has curvature " + shortNumber(least) +
                       " beside products of length " + shortNumber(longest));

    const double rounding = roundingOf(plan_.precision);
    const double shift = shift_ =
        std::max(std::sqrt(double(plan_.dim)) * rounding * std::sqrt(squares), -4 * least);
    addMultiple(y_, omega_, n, shift);
    for (int64_t j = 0; j < n; ++j) core[j * n + j] += shift;
    if (cholesky(n, core.data(), n) != 0)
      refuseIndefinite("the core matrix of the sketch has no Cholesky factor");
    factor_ = core;

    // E = Y C^-1 = Q_y (R_y C^-1): its singular values are those of the small factor.
    std::vector<double> small(n * n), turn(n * n, 0.0);
    y_.triangle(0, n, small.data());
    trsm('R', 'U', 'N', 'N', n, n, 1.0, core.data(), n, small.data(), n);
    const SmallSvd parts = svd(n, n, small.data(), n);
    for (int64_t j = 0; j < n; ++j) {
      const double s = parts.values[j];
      values_[j] = std::max(0.0, s * s - shift);
      for (int64_t i = 0; i < n; ++i) turn[j * n + i] = s > 0 ? parts.vt[i * n + j] / s : 0.0;
    }
    trsm('L', 'U', 'N', 'N', n, n, 1.0, core.data(), n, turn.data(), n);
    y_.rotate(0, n, n, turn.data());
    const int64_t rank = orthonormalise(y_, 0, n, 0.0, nullptr);
    appendRandom(y_, rank, n - rank, plan_.options.seed, column_, a_.op().index());
    column_ += n - rank;
  }

  // For positive semi-definite A the approximation lies below A, so that U^T A U - diag(lambda) is
  // positive semi-definite too. Where it is not, the Schur complement of the core in the Rayleigh
  // matrix of [Omega, U] is not, and x = U z - Omega (Omega^T A Omega)^-1 Omega^T A U z for its
  // lowest eigenvector z has negative curvature, however harmless the core looked. One more
  // product with x proves it.
  void compare(int64_t count) {
    std::vector<double> excess(count * count);
    y_.innerProducts(0, count, product_, 0, count, excess.data());
    symmetrise(excess, count);
    for (int64_t j = 0; j < count; ++j) excess[j * count + j] -= values_[j];
    const double noise = curvatureNoise(plan_.precision);
    const double least = symmetricEigen(count, excess.data(), count).front();
    if (least >= -noise * values_[0] || !a_.allows(1)) return;

    const int64_t n = width_;
    std::vector<double> across(n * count), overlap(n * count), back(n, 0.0), z(count);
    omega_.innerProducts(0, n, product_, 0, count, across.data());
    omega_.innerProducts(0, n, y_, 0, count, overlap.data());
    for (int64_t i = 0; i < n * count; ++i) across[i] += shift_ * overlap[i];
    gemv('N', n, count, 1.0, across.data(), n, excess.data(), 0.0, back.data());
    trsm('L', 'U', 'T', 'N', n, 1, 1.0, factor_.data(), n, back.data(), n);
    trsm('L', 'U', 'N', 'N', n, 1, 1.0, factor_.data(), n, back.data(), n);
    for (int64_t j = 0; j < count; ++j) z[j] = -excess[j];
    std::vector<double> x(plan_.dim, 0.0);
    y_.subtract(x.data(), count, z.data());
    omega_.subtract(x.data(), n, back.data());

    Basis proof(plan_.dim, 2, plan_.precision);
    proof.store(0, 1, x.data());
    if (orthonormalise(proof, 0, 1, 0.0, nullptr) == 0) return;
    double curvature = 0, residual = 0;
    freshPairs(a_, proof, 0, 1, proof, 1, 1, &curvature, &residual);
    if (curvature < -noise * longest_)
      refuseIndefinite("a vector beside the sketch has curvature " + shortNumber(curvature));
  }

  const EigshPlan& plan_;
  ProductCounter& a_;
  const int64_t k_, width_;
  Basis omega_, y_, product_;
  std::vector<double> factor_;  // of the shifted core, as Cholesky leaves it
  double shift_ = 0;
  double longest_ = 0;  // product of a unit vector
  SketchProgress progress_;
  std::vector<double> values_;  // descending
  uint64_t column_ = 0;
};

}  // namespace

// Nystrom approximation with shift (Tropp, Yurtsever, Udell, Cevher, "Fixed-rank approximation of a
// positive-semidefinite matrix from streaming data", 2017), repeated on its own eigenvectors until
// the residuals pass.
EigshResult nystromEigsh(const EigshPlan& plan, ProductCounter& a) {
  return Nystrom(plan, a).run();
}

}  // namespace eigenscope
