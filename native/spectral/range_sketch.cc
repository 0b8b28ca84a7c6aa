#include "spectral/range_sketch.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "linalg/blas.h"
#include "linalg/lapack.h"

namespace eigenscope {

namespace {

// What projections leave of a vector of length 1 that lies in the space, in roundings.
constexpr double kDropRoundings = 16;

Basis enlarged(const Basis& old, int64_t used, int64_t capacity) {
  Basis larger(old.dim(), capacity, old.precision(), old.threads(), old.task());
  if (used > 0)
    std::memcpy(larger.column(0), old.column(0), used * old.dim() * bytesOf(old.precision()));
  return larger;
}

// The factor of orthonormalise is triangular up to the order of its columns. Turns the columns of
// the basis so that it is triangular as it stands.
void makeUpper(Basis& basis, int64_t first, int64_t count, std::vector<double>& r) {
  bool upper = true;
  for (int64_t j = 0; j < count; ++j)
    for (int64_t i = j + 1; i < count; ++i) upper &= r[j * count + i] == 0;
  if (upper) return;
  std::vector<double> turn = r, turned(count * count);
  qrOrthonormal(count, count, turn.data(), count);
  gemm('T', 'N', count, count, count, 1.0, turn.data(), count, r.data(), count, 0.0, turned.data(),
       count);
  for (int64_t j = 0; j < count; ++j)
    for (int64_t i = 0; i < count; ++i) r[j * count + i] = i <= j ? turned[j * count + i] : 0.0;
  basis.rotate(first, count, count, turn.data());
}

}  // namespace

std::vector<double> packed(const Columns& columns, int64_t rows) {
  std::vector<double> matrix(columns.size() * rows, 0.0);
  for (std::size_t j = 0; j < columns.size(); ++j)
    std::copy_n(columns[j].begin(), std::min<std::size_t>(rows, columns[j].size()),
                matrix.begin() + j * rows);
  return matrix;
}

RangeSketch::RangeSketch(ProductCounter& a, const Plan& plan)
    : a_(a),
      plan_(plan),
      dim_(a.op().dim()),
      q_(dim_, 0, a.op().precision(), plan.threads, &a.task()),
      z_(dim_, 0, a.op().precision(), plan.threads, &a.task()),
      omega_(dim_, plan.block, a.op().precision(), plan.threads, &a.task()),
      work_(dim_, plan.block, a.op().precision(), plan.threads, &a.task()),
      y_(dim_ * plan.block) {}

double RangeSketch::frobenius() const {
  return samples_ > 0 ? std::sqrt(squares_ / double(samples_)) : 0.0;
}

void RangeSketch::reserve(int64_t samples) {
  // orthonormalise needs room for a whole block, of which rank may keep less.
  if (q_.capacity() >= samples) return;
  q_ = enlarged(q_, rank_, samples);
  if (plan_.keepProducts) z_ = enlarged(z_, rank_, samples);
}

void RangeSketch::grow(int64_t samples) {
  reserve(samples);
  const int64_t oldSamples = samples_;
  while (samples_ < samples && !exhausted_) take(std::min(plan_.block, samples - samples_));
  if (plan_.overlaps || plan_.gram) overlapsWithOld(oldSamples);
}

void RangeSketch::take(int64_t count) {
  const int64_t before = rank_, first = samples_;
  const std::span<const int64_t> index = a_.op().index();
  fillProbes(omega_, 0, count, plan_.probes, plan_.seed, plan_.column + first, index);
  a_.apply(omega_.column(0), work_.column(0), count);
  std::vector<double> lengths(count);
  for (int64_t j = 0; j < count; ++j) {
    lengths[j] = work_.norm(j);
    longest_ = std::max(longest_, lengths[j]);
    squares_ += lengths[j] * lengths[j];
    const double length = omega_.norm(j);
    probeSquares_.push_back(length * length);
  }
  samples_ += count;
  const double rounding = roundingOf(work_.precision());
  work_.load(0, count, y_.data());
  if (plan_.shiftRoundings > 0) {
    if (shift_ == 0)
      shift_ = plan_.shiftRoundings * rounding * frobenius() / std::sqrt(double(dim_));
    std::vector<double> probe(dim_);
    for (int64_t j = 0; j < count; ++j) {
      omega_.load(j, 1, probe.data());
      for (int64_t i = 0; i < dim_; ++i) y_[j * dim_ + i] += shift_ * probe[i];
    }
  }
  std::vector<double> taken(before * count), r(count * count);
  q_.project(y_.data(), count, before, taken.data());
  q_.store(before, count, y_.data());
  const double drop = plan_.shiftRoundings > 0 ? 0.0 : kDropRoundings * rounding * longest_;
  const int64_t added = orthonormalise(q_, before, count, drop, r.data());
  rank_ += added;
  exhausted_ = added < count;
  if (!exhausted_) makeUpper(q_, before, count, r);
  for (int64_t j = 0; j < count; ++j) {
    std::vector<double> column(taken.begin() + j * before, taken.begin() + (j + 1) * before);
    column.insert(column.end(), r.begin() + j * count, r.begin() + j * count + added);
    r_.push_back(std::move(column));
  }

  if (plan_.overlaps) {
    std::vector<double> products(rank_ * count);
    q_.innerProducts(0, rank_, omega_, 0, count, products.data());
    for (int64_t j = 0; j < count; ++j)
      w_.emplace_back(products.begin() + j * rank_, products.begin() + (j + 1) * rank_);
  }
  if (plan_.gram) {
    std::vector<double> products(count * count);
    omega_.innerProducts(0, count, omega_, 0, count, products.data());
    for (int64_t j = 0; j < count; ++j) {
      std::vector<double> column(first, 0.0);
      column.insert(column.end(), products.begin() + j * count, products.begin() + (j + 1) * count);
      gram_.push_back(std::move(column));
    }
  }
  if (!plan_.second || added == 0) return;

  a_.apply(q_.column(before), work_.column(0), added);
  std::vector<double> products(rank_ * added);
  q_.innerProducts(0, rank_, work_, 0, added, products.data());
  double longest = 0;
  for (int64_t j = 0; j < added; ++j) {
    const double length = work_.norm(j);
    productLengths_ += length;
    longest = std::max(longest, length);
    h_.emplace_back(products.begin() + j * rank_, products.begin() + (j + 1) * rank_);
  }
  double gap = 0;
  for (int64_t j = before; j < rank_; ++j)
    for (int64_t i = 0; i < j; ++i) {
      if (i < before) {
        h_[i].resize(std::max<std::size_t>(h_[i].size(), rank_), 0.0);
        h_[i][j] = h_[j][i];
        continue;
      }
      double &upper = h_[j][i], &lower = h_[i][j];
      gap = std::max(gap, std::abs(upper - lower));
      upper = lower = 0.5 * (upper + lower);
    }
  if (longest > 0) asymmetry_ = std::max(asymmetry_, gap / longest);
  if (plan_.keepProducts)
    std::memcpy(z_.column(before), work_.column(0), added * dim_ * bytesOf(z_.precision()));
  if (onColumns) onColumns(before, added, work_);
}

// What earlier probes share with what has joined since, from the same random numbers.
void RangeSketch::overlapsWithOld(int64_t oldSamples) {
  if (oldSamples == 0 && samples_ <= plan_.block) return;
  const std::span<const int64_t> index = a_.op().index();
  for (int64_t j = 0; j < samples_; j += plan_.block) {
    const int64_t count = std::min(plan_.block, samples_ - j);
    int64_t least = rank_;
    for (int64_t l = j; plan_.overlaps && l < j + count; ++l)
      least = std::min<int64_t>(least, w_[l].size());
    if (least == rank_ && !plan_.gram) continue;
    fillProbes(omega_, 0, count, plan_.probes, plan_.seed, plan_.column + j, index);
    if (least < rank_) {
      const int64_t joined = rank_ - least;
      std::vector<double> products(joined * count);
      q_.innerProducts(least, joined, omega_, 0, count, products.data());
      for (int64_t l = 0; l < count; ++l) {
        w_[j + l].resize(least);
        w_[j + l].insert(w_[j + l].end(), products.begin() + l * joined,
                         products.begin() + (l + 1) * joined);
      }
    }
    for (int64_t k = std::max(oldSamples, j); plan_.gram && k < samples_; k += plan_.block) {
      const int64_t more = std::min(plan_.block, samples_ - k);
      fillProbes(work_, 0, more, plan_.probes, plan_.seed, plan_.column + k, index);
      std::vector<double> products(count * more);
      omega_.innerProducts(0, count, work_, 0, more, products.data());
      for (int64_t m = 0; m < more; ++m)
        for (int64_t l = 0; l < count && j + l <= k + m; ++l)
          gram_[k + m][j + l] = products[m * count + l];
    }
  }
}

}  // namespace eigenscope
