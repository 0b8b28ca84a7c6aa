#include "spectral/linear_system.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "linalg/blas.h"

namespace eigenscope {

namespace {

double largestOf(const double* v, int64_t size) {
  double largest = 0;
  for (int64_t i = 0; i < size; ++i) largest = std::max(largest, std::abs(v[i]));
  return largest;
}

// A power of two that brings the largest entry into [1, 2), so that no precision's range matters.
double unitFor(double largest) {
  return largest > 0 && std::isfinite(largest) ? std::exp2(-std::ilogb(largest)) : 1.0;
}

}  // namespace

double dot(const std::vector<double>& x, const std::vector<double>& y) {
  return dot(static_cast<int64_t>(x.size()), x.data(), y.data());
}

double length(const std::vector<double>& x) {
  return norm2(static_cast<int64_t>(x.size()), x.data());
}

void addTo(std::vector<double>& y, double factor, const std::vector<double>& x) {
  for (std::size_t i = 0; i < y.size(); ++i) y[i] += factor * x[i];
}

void requirePositive(double value, const std::vector<double>& r, const std::vector<double>& pr) {
  if (value > 0 && std::isfinite(value)) return;
  throw Error(ErrorKind::Option,
              "preconditioner: expected a symmetric positive definite operator P near the inverse, "
              "got r^T P r = " +
                  shortNumber(value) +
                  " where ||r|| ||P r|| = " + shortNumber(length(r) * length(pr)));
}

// ---- Column ---------------------------------------------------------------------------------

Column::Column(const SystemTerms& terms, Precision precision, int64_t dim, const double* b,
               const double* start)
    : x(dim, 0.0), terms_(terms), precision_(precision), b_(b, b + dim), y_(dim, 0.0) {
  unit_ = unitFor(largestOf(b, dim));
  for (double& entry : b_) entry *= unit_;
  r = b_;
  lengthOfB_ = length(b_);
  if (start != nullptr && lengthOfB_ > 0) {
    started_ = largestOf(start, dim) > 0;
    for (int64_t i = 0; i < dim; ++i) x[i] = start[i] * unit_;
  }
}

Wanted Column::fresh() {
  if (precision_ == Precision::F32) {
    const double unit = unitFor(largestOf(x.data(), dim()));
    for (double& entry : x) entry = static_cast<float>(entry * unit) / unit;
  }
  return product(x, y_);
}

void Column::measure() {
  for (int64_t i = 0; i < dim(); ++i) r[i] = b_[i] - y_[i];
  residual = estimate_ = lengthOfB_ > 0 ? length(r) / lengthOfB_ : 0.0;
}

bool Column::judge(double error, bool good) {
  const bool gained = least_ < 0 || error <= gain * least_;
  stalls_ = gained ? 0 : stalls_ + 1;
  if (good) return finish(Ending::Converged);
  if (least_ < 0 || error < least_) {
    least_ = error;
    leastResidual_ = residual;
    leastOptimality_ = optimality;
    best_ = x;
  }
  if (!hindered_.empty() && !gained) return finish(Ending::Hindered);
  if (stopping_) return finish(Ending::OutOfProducts);
  if (stalls_ >= patience) return finish(Ending::Noise);
  hindered_.clear();
  return false;
}

bool Column::finish(Ending how) {
  ending = how;
  if (how == Ending::Hindered) hindrance = std::move(hindered_);
  if (how != Ending::Converged) {
    x = std::move(best_);
    residual = leastResidual_;
    optimality = leastOptimality_;
  }
  estimate_ = residual;
  return true;
}

bool Column::small(double length) {
  estimate_ = length / lengthOfB_;
  return estimate_ <= 0.5 * terms_.tol ||
         length <= 0.1 * rounding() * norm_ * eigenscope::length(x);
}

void Column::solution(double* to) const {
  for (int64_t i = 0; i < dim(); ++i) to[i] = x[i] / unit_;
}

// ---- Columns --------------------------------------------------------------------------------

Columns::Columns(ProductCounter& a, const SystemTerms& terms) : a_(a), terms_(terms) {}

void Columns::run(Method method, int64_t count,
                  const std::function<std::unique_ptr<Column>(int64_t)>& make,
                  const std::function<void(int64_t, const Column&)>& settle) {
  double worst = 0;
  for (int64_t next = 0; next < count || !active_.empty();) {
    const int64_t entering = std::min(count - next, terms_.width - int64_t(active_.size()));
    // After this step, a column needs at most four products to end: the second half of an
    // iteration, the residual and its gradient.
    const int64_t step = int64_t(active_.size()) + entering;
    const bool stopping = !a_.allows(5 * step + 2 * (count - next));
    for (Active& each : active_) each.column->stopping_ = stopping;
    for (int64_t i = 0; i < entering; ++i) {
      Active fresh{next, make(next), {}};
      fresh.column->stopping_ = stopping;
      fresh.iteration = method(*fresh.column);
      fresh.iteration.resume();
      active_.push_back(std::move(fresh));
      ++next;
    }
    serve(false);
    serve(true);
    double now = worst;
    for (const Active& each : active_) now = std::max(now, each.column->estimate_);
    a_.report(now);
    std::erase_if(active_, [&](const Active& each) {
      if (!each.iteration.done()) return false;
      worst = std::max(worst, each.column->residual);
      settle(each.number, *each.column);
      return true;
    });
  }
}

// One block product for all that wait for it.
void Columns::serve(bool preconditioner) {
  waiting_.clear();
  std::vector<Iteration*> waiters;
  for (Active& each : active_)
    if (!each.iteration.done() && each.iteration.wanted().preconditioner == preconditioner) {
      waiting_.push_back(&each.iteration.wanted());
      waiters.push_back(&each.iteration);
    }
  if (waiting_.empty()) return;
  if (a_.op().precision() == Precision::F32)
    multiply<float>(preconditioner);
  else
    multiply<double>(preconditioner);
  for (Iteration* iteration : waiters) iteration->resume();
}

template <class T>
void Columns::multiply(bool preconditioner) {
  const int64_t dim = a_.op().dim(), count = waiting_.size();
  const std::size_t bytes = dim * count * sizeof(T);
  if (in_.size() < bytes) {
    in_.resize(bytes);
    out_.resize(bytes);
  }
  T* in = reinterpret_cast<T*>(in_.data());
  T* out = reinterpret_cast<T*>(out_.data());
  std::vector<double> units(count);
  for (int64_t j = 0; j < count; ++j) {
    const double* from = waiting_[j]->from;
    units[j] = unitFor(largestOf(from, dim));
    for (int64_t i = 0; i < dim; ++i) in[j * dim + i] = static_cast<T>(from[i] * units[j]);
  }
  if (preconditioner) {
    terms_.preconditioner->apply(in, out, count, a_.task());
    preconditionerProducts_ += count;
  } else {
    a_.apply(in, out, count);
  }
  for (int64_t j = 0; j < count; ++j) {
    const double back = 1 / units[j], shift = preconditioner ? 0.0 : terms_.shift;
    const double* from = waiting_[j]->from;
    double* to = waiting_[j]->to;
    for (int64_t i = 0; i < dim; ++i) {
      const double value = out[j * dim + i];
      to[i] = value * back + shift * from[i];
    }
  }
}

}  // namespace eigenscope
