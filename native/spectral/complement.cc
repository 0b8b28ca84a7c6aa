#include "spectral/complement.h"

#include <algorithm>
#include <cmath>

#include "linalg/blas.h"
#include "spectral/ritz.h"

namespace eigenscope {

Reflections::Reflections(const std::vector<double>& vectors, int64_t dim, int threads,
                         const Task* task)
    : dim_(dim) {
  const int64_t count = vectors.size() / dim;
  Basis basis(dim, count, Precision::F64, threads, task);
  basis.store(0, count, vectors.data());
  for (int64_t j = 0; j < count; ++j) {
    const double length = basis.norm(j);
    if (length > 0) basis.scaleColumn(j, 1 / length);
  }
  rank_ = orthonormalise(basis, 0, count, 1e-10, nullptr);
  const double* q = static_cast<const double*>(basis.column(0));
  w_.assign(q, q + dim * rank_);
  t_.assign(rank_ * rank_, 0.0);
  // Householder QR of the orthonormal columns, whose triangle is a diagonal of signs.
  for (int64_t j = 0; j < rank_; ++j) {
    double* w = w_.data() + j * dim;
    if (task) task->check();
    // H_(j-1) .. H_0 on this column: I - W T^T W^T.
    std::vector<double> s(j), ts(j);
    for (int64_t i = 0; i < j; ++i) s[i] = dot(dim, w_.data() + i * dim, w);
    for (int64_t i = 0; i < j; ++i)
      for (int64_t l = 0; l <= i; ++l) ts[i] += t_[i * rank_ + l] * s[l];
    for (int64_t i = 0; i < j; ++i)
      for (int64_t r = 0; r < dim; ++r) w[r] -= ts[i] * w_[i * dim + r];
    std::fill(w, w + j, 0.0);
    const double length = norm2(dim - j, w + j);
    w[j] += w[j] >= 0 ? length : -length;
    const double size = norm2(dim - j, w + j);
    for (int64_t r = j; r < dim; ++r) w[r] /= size;
    // With unit vectors every reflection has the factor 2; T grows by a column.
    for (int64_t i = 0; i < j; ++i) s[i] = dot(dim, w_.data() + i * dim, w);
    for (int64_t i = 0; i < j; ++i) {
      double sum = 0;
      for (int64_t l = i; l < j; ++l) sum += t_[l * rank_ + i] * s[l];
      t_[j * rank_ + i] = -2 * sum;
    }
    t_[j * rank_ + j] = 2;
  }
}

void Reflections::reflect(double* x, bool transposed) const {
  if (rank_ == 0) return;
  std::vector<double> s(rank_), ts(rank_, 0.0);
  gemv('T', dim_, rank_, 1.0, w_.data(), dim_, x, 0.0, s.data());
  for (int64_t j = 0; j < rank_; ++j)
    for (int64_t i = 0; i <= j; ++i)
      (transposed ? ts[j] : ts[i]) += t_[j * rank_ + i] * (transposed ? s[i] : s[j]);
  gemv('N', dim_, rank_, -1.0, w_.data(), dim_, ts.data(), 1.0, x);
}

namespace {

template <class T>
void applyComplement(LinearOperator& op, const Reflections& h, const T* x, T* y, int64_t count,
                     int64_t before, Task& task) {
  const int64_t dim = h.dim(), rank = h.rank(), inner = dim - rank;
  std::vector<double> w(dim);
  std::vector<T> in(dim * count), out(dim * count);
  for (int64_t j = 0; j < count; ++j) {
    std::fill(w.begin(), w.begin() + rank, 0.0);
    std::copy_n(x + j * inner, inner, w.begin() + rank);
    h.apply(w.data());
    std::transform(w.begin(), w.end(), in.begin() + j * dim,
                   [](double v) { return static_cast<T>(v); });
  }
  op.apply(in.data(), out.data(), count, task);
  requireFinite(op, out.data(), count, before);
  for (int64_t j = 0; j < count; ++j) {
    std::copy_n(out.data() + j * dim, dim, w.begin());
    h.applyTransposed(w.data());
    std::transform(w.begin() + rank, w.end(), y + j * inner,
                   [](double v) { return static_cast<T>(v); });
  }
}

}  // namespace

void ComplementOperator::apply(const void* x, void* y, int64_t count, Task& task) {
  if (precision() == Precision::F32)
    applyComplement(op_, *reflections_, static_cast<const float*>(x), static_cast<float*>(y), count,
                    products_, task);
  else
    applyComplement(op_, *reflections_, static_cast<const double*>(x), static_cast<double*>(y),
                    count, products_, task);
  products_ += count;
}

}  // namespace eigenscope
