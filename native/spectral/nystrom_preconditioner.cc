#include "spectral/nystrom_preconditioner.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "linalg/blas.h"
#include "linalg/lapack.h"
#include "linalg/mixed.h"
#include "spectral/random_block.h"

namespace eigenscope {

namespace {

constexpr uint64_t kSketchColumn = uint64_t{6} << 44;
constexpr int64_t kBlock = 16;

[[noreturn]] void refuseIndefinite(const std::string& evidence) {
  throw Error(
      ErrorKind::Option,
      "the Nystrom preconditioner needs a positive semi-definite operator (ggn, fisher), and "
      "this one is not: " +
          evidence + "; take method minres without it");
}

// x + U diag(weights) U^T x
class LowRankUpdate final : public LinearOperator {
 public:
  LowRankUpdate(Basis u, std::vector<double> weights, std::span<const int64_t> index)
      : u_(std::move(u)), weights_(std::move(weights)), index_(index.begin(), index.end()) {}

  int64_t dim() const override { return u_.dim(); }
  Precision precision() const override { return u_.precision(); }
  std::span<const int64_t> index() const override { return index_; }

  void apply(const void* x, void* y, int64_t count, Task& task) override {
    for (int64_t j = 0; j < count; ++j) {
      task.check();
      if (precision() == Precision::F32)
        one(static_cast<const float*>(x) + j * dim(), static_cast<float*>(y) + j * dim());
      else
        one(static_cast<const double*>(x) + j * dim(), static_cast<double*>(y) + j * dim());
    }
  }

 private:
  template <class T>
  void one(const T* x, T* y) const {
    const int64_t n = dim(), rank = weights_.size();
    const T* u = static_cast<const T*>(u_.column(0));
    std::vector<double> w(x, x + n), factors(rank, 0.0);
    addDots(u, n, n, rank, w.data(), factors.data());
    for (int64_t i = 0; i < rank; ++i) factors[i] *= -weights_[i];
    subtractColumns(u, n, n, rank, factors.data(), w.data());
    std::copy(w.begin(), w.end(), y);
  }

  const Basis u_;
  const std::vector<double> weights_;
  const std::vector<int64_t> index_;
};

}  // namespace

OperatorPtr nystromPreconditioner(ProductCounter& a, double damping, int64_t rank, uint64_t seed) {
  const int64_t dim = a.op().dim();
  const Precision precision = a.op().precision();
  Basis omega(dim, rank, precision, 1, &a.task()), y(dim, rank, precision, 1, &a.task());
  appendRandom(omega, 0, rank, seed, kSketchColumn, a.op().index());
  for (int64_t j = 0; j < rank; j += kBlock)
    a.apply(omega.column(j), y.column(j), std::min(kBlock, rank - j));

  std::vector<double> core(rank * rank);
  omega.innerProducts(0, rank, y, 0, rank, core.data());
  double squares = 0, longest = 0, least = 0;
  for (int64_t j = 0; j < rank; ++j) {
    const double length = y.norm(j);
    squares += length * length;
    longest = std::max(longest, length);
    for (int64_t i = 0; i < j; ++i) {
      const double mean = (core[j * rank + i] + core[i * rank + j]) / 2;
      core[j * rank + i] = core[i * rank + j] = mean;
    }
    least = std::min(least, core[j * rank + j]);
  }
  const double noise = precision == Precision::F32 ? 2e-5 : 1e-12;
  if (least < -noise * longest)
    refuseIndefinite("a vector of the sketch has curvature " + shortNumber(least) +
                     " beside products of length " + shortNumber(longest));
  const OperatorPtr none;
  if (longest == 0) return none;

  // (A + shift I) Omega keeps the core positive definite; the shift is taken away again below.
  const double shift =
      std::max(std::sqrt(double(dim)) * roundingOf(precision) * std::sqrt(squares), -4 * least);
  std::vector<double> column(dim), from(dim);
  for (int64_t j = 0; j < rank; ++j) {
    y.load(j, 1, column.data());
    omega.load(j, 1, from.data());
    for (int64_t i = 0; i < dim; ++i) column[i] += shift * from[i];
    y.store(j, 1, column.data());
    core[j * rank + j] += shift;
  }
  if (cholesky(rank, core.data(), rank) != 0)
    refuseIndefinite("the core matrix of its sketch has no Cholesky factor");

  // Y C^-1 = Q (R C^-1): U turns Q by the left singular vectors of the small factor.
  std::vector<double> small(rank * rank, 0.0);
  const int64_t kept = orthonormalise(y, 0, rank, 0.0, small.data());
  trsm('R', 'U', 'N', 'N', rank, rank, 1.0, core.data(), rank, small.data(), rank);
  const SmallSvd parts = svd(rank, rank, small.data(), rank);
  std::vector<double> turn(kept * kept), values(kept);
  for (int64_t j = 0; j < kept; ++j) {
    for (int64_t i = 0; i < kept; ++i) turn[j * kept + i] = parts.u[j * rank + i];
    values[j] = std::max(0.0, parts.values[j] * parts.values[j] - shift);
  }
  y.rotate(0, kept, kept, turn.data());
  y.shrink(kept);
  const double lowest = values.back() + damping;
  std::vector<double> weights(kept);
  for (int64_t j = 0; j < kept; ++j) weights[j] = lowest / (values[j] + damping) - 1;
  return std::make_shared<LowRankUpdate>(std::move(y), std::move(weights), a.op().index());
}

}  // namespace eigenscope
