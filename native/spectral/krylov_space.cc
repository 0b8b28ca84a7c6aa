#include "spectral/krylov_space.h"

#include <algorithm>
#include <cmath>

#include "linalg/blas.h"
#include "linalg/lapack.h"
#include "spectral/random_block.h"

namespace eigenscope {

namespace {

// What is left of a product this small relative to the longest product is rounding.
constexpr double kBreakdown = 10;
// Columns of a block nearer than this to dependence have lost digits in their orthonormalisation.
constexpr double kCancellation = 0.1;

// The least singular value of the columns of r (rank rows, leading dimension width) scaled to unit
// length.
double independence(const std::vector<double>& r, int64_t rank, int64_t width) {
  std::vector<double> scaled(rank * width);
  for (int64_t j = 0; j < width; ++j) {
    const double length = norm2(rank, r.data() + j * width);
    for (int64_t i = 0; i < rank; ++i)
      scaled[j * rank + i] = length > 0 ? r[j * width + i] / length : 0.0;
  }
  return svd(rank, width, scaled.data(), rank).values.back();
}

}  // namespace

KrylovSpace::KrylovSpace(ProductCounter& a, Basis& basis, int64_t block, uint64_t seed)
    : a_(a),
      basis_(basis),
      work_(basis.dim(), block, Precision::F64, basis.threads(), basis.task()),
      product_(basis.precision() == Precision::F32 ? basis.dim() * block * sizeof(float) : 0),
      block_(block),
      seed_(seed),
      t_(basis.capacity() * basis.capacity(), 0.0) {}

void KrylovSpace::forget(int64_t frozen) {
  frozen_ = frozen;
  active_ = next_ = 0;
  c_.clear();
  g_.clear();
  ritzKnown_ = false;
}

void KrylovSpace::beginRandom(int64_t frozen) {
  forget(frozen);
  next_ = std::min(block_, basis_.dim() - frozen);
  fillRandom(frozen, next_);
}

void KrylovSpace::beginWith(std::span<const double> given, int64_t most) {
  forget(0);
  next_ = std::min(block_, basis_.dim());
  startBlock(basis_, next_, given, most, seed_, randomColumn_, a_.op().index());
  randomColumn_ += next_;
}

void KrylovSpace::resume(int64_t active, int64_t next, const std::vector<double>& values,
                         const std::vector<double>& coupling, uint64_t randomColumn,
                         double productNorm) {
  forget(0);
  active_ = active;
  next_ = next;
  c_ = coupling;
  for (int64_t j = 0; j < active; ++j)
    for (int64_t i = 0; i < active; ++i) t_[j * basis_.capacity() + i] = i == j ? values[j] : 0.0;
  randomColumn_ = randomColumn;
  productNorm_ = productNorm;
}

void KrylovSpace::beginFrom(int64_t frozen) {
  forget(frozen);
  double* w = static_cast<double*>(work_.column(0));
  basis_.load(frozen, 1, w);
  std::vector<double> taken(frozen);
  basis_.project(w, 1, frozen, taken.data());
  orthonormalise(work_, 0, 1, 0.0, nullptr);
  basis_.store(frozen, 1, w);
  next_ = 1;
}

void KrylovSpace::fillRandom(int64_t first, int64_t count) {
  appendRandom(basis_, first, count, seed_, randomColumn_, a_.op().index());
  randomColumn_ += count;
}

void KrylovSpace::expand() {
  const int64_t dim = basis_.dim(), width = next_, start = frozen_ + active_;
  const int64_t total = start + width, capacity = basis_.capacity();
  if (!hasRoom()) throw Error(ErrorKind::Internal, "the Krylov basis is full");
  double* w = static_cast<double*>(work_.column(0));
  if (basis_.precision() == Precision::F64) {
    a_.apply(basis_.column(start), w, width);
  } else {
    a_.apply(basis_.column(start), product_.data(), width);
    const float* y = reinterpret_cast<const float*>(product_.data());
    std::copy(y, y + dim * width, w);
  }
  for (int64_t j = 0; j < width; ++j)
    productNorm_ = std::max(productNorm_, norm2(dim, w + j * dim));

  std::vector<double> taken(total * width);
  basis_.project(w, width, total, taken.data());

  // The part against old vectors is known from their side too, as A is symmetric.
  double gap = 0;
  for (int64_t j = 0; j < width; ++j)
    for (int64_t i = 0; i < active_; ++i)
      gap = std::max(gap, std::abs(taken[j * total + frozen_ + i] - c_[i * width + j]));
  for (int64_t j = 0; j < width; ++j)
    for (int64_t i = 0; i < j; ++i)
      gap = std::max(gap, std::abs(taken[j * total + start + i] - taken[i * total + start + j]));
  if (productNorm_ > 0) asymmetry_ = std::max(asymmetry_, gap / productNorm_);

  for (int64_t j = 0; j < width; ++j) {
    const double* column = taken.data() + j * total;
    g_.insert(g_.end(), column, column + frozen_);
    for (int64_t i = 0; i < active_ + width; ++i) {
      const int64_t at = active_ + j;
      double entry = column[frozen_ + i];
      if (i >= active_) entry = 0.5 * (entry + taken[(i - active_) * total + start + j]);
      t_[at * capacity + i] = t_[i * capacity + at] = entry;
    }
  }
  active_ += width;

  const double drop = kBreakdown * roundingOf(basis_.precision()) * productNorm_;
  std::vector<double> r(width * width, 0.0);
  int64_t rank = orthonormalise(work_, 0, width, drop, r.data());
  if (rank > 1 && independence(r, rank, width) < kCancellation) {
    // Cancellation inside the block has magnified what overlap with V was left.
    std::vector<double> overlap(total * rank), turn(rank * rank), product(width * width, 0.0);
    basis_.project(w, rank, total, overlap.data());
    const int64_t again = orthonormalise(work_, 0, rank, 0.5, turn.data());
    gemm('N', 'N', again, width, rank, 1.0, turn.data(), rank, r.data(), width, 0.0, product.data(),
         width);
    r = product;
    rank = again;
  }
  rank = std::min(rank, dim - total);
  basis_.store(total, rank, w);
  next_ = std::max(rank, std::min(block_, dim - total));
  c_.assign(next_ * active_, 0.0);
  for (int64_t j = 0; j < width; ++j)
    for (int64_t i = 0; i < rank; ++i) c_[(active_ - width + j) * next_ + i] = r[j * width + i];
  fillRandom(total + rank, next_ - rank);
  ritzKnown_ = false;
}

const RitzPairs& KrylovSpace::ritz() {
  if (ritzKnown_) return ritz_;
  const int64_t m = active_, capacity = basis_.capacity();
  ritz_.vectors.resize(m * m);
  for (int64_t j = 0; j < m; ++j)
    std::copy(t_.data() + j * capacity, t_.data() + j * capacity + m, ritz_.vectors.data() + j * m);
  ritz_.values = symmetricEigen(m, ritz_.vectors.data(), m);
  auto columnNorms = [&](const std::vector<double>& left, int64_t rows) {
    std::vector<double> norms(m, 0.0), image(rows * m);
    if (rows == 0 || m == 0) return norms;
    gemm('N', 'N', rows, m, m, 1.0, left.data(), rows, ritz_.vectors.data(), m, 0.0, image.data(),
         rows);
    for (int64_t j = 0; j < m; ++j) norms[j] = norm2(rows, image.data() + j * rows);
    return norms;
  };
  ritz_.residuals = columnNorms(c_, next_);
  ritz_.coupling = columnNorms(g_, frozen_);
  ritzKnown_ = true;
  return ritz_;
}

void KrylovSpace::restart(std::span<const int64_t> keep) {
  const RitzPairs& pairs = ritz();
  const int64_t m = active_, count = static_cast<int64_t>(keep.size());
  const int64_t capacity = basis_.capacity();
  std::vector<double> s(m * count), values(count);
  for (int64_t j = 0; j < count; ++j) {
    const double* in = pairs.vectors.data() + keep[j] * m;
    std::copy(in, in + m, s.data() + j * m);
    values[j] = pairs.values[keep[j]];
  }
  basis_.rotate(frozen_, m, count, s.data());
  for (int64_t j = 0; j < next_; ++j) basis_.copyColumn(frozen_ + m + j, frozen_ + count + j);
  auto turn = [&](std::vector<double>& left, int64_t rows) {
    std::vector<double> image(rows * count);
    if (rows > 0 && count > 0)
      gemm('N', 'N', rows, count, m, 1.0, left.data(), rows, s.data(), m, 0.0, image.data(), rows);
    left.swap(image);
  };
  turn(c_, next_);
  turn(g_, frozen_);
  for (int64_t j = 0; j < count; ++j)
    for (int64_t i = 0; i < count; ++i) t_[j * capacity + i] = i == j ? values[j] : 0.0;
  active_ = count;
  ritzKnown_ = false;
}

}  // namespace eigenscope
