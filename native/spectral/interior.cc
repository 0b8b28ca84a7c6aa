#include "spectral/interior.h"

#include <algorithm>
#include <cmath>

#include "linalg/blas.h"
#include "spectral/complement.h"
#include "spectral/krylov_space.h"

namespace eigenscope {

namespace {

// The outer iteration is bounded by the products of the inner operator alone.
constexpr int64_t kOuterProducts = int64_t{1} << 40;

}  // namespace

Interior::Interior(const EigshPlan& plan, ProductCounter& a) : plan_(plan), a_(a) {}

void Interior::findEnds(int64_t steps) {
  steps = std::min({steps, plan_.dim - 1, plan_.options.maxProducts / 2});
  Basis basis(plan_.dim, steps + 1, plan_.precision, plan_.options.threads, &a_.task());
  KrylovSpace space(a_, basis, 1, plan_.options.seed);
  space.beginRandom(0);
  for (int64_t i = 0; i < steps && !space.exhausted(); ++i) space.expand();
  const RitzPairs& pairs = space.ritz();
  scale_ = std::max(std::abs(pairs.values.front()), std::abs(pairs.values.back()));
  low_ = pairs.values.front() - pairs.residuals.front();
  high_ = pairs.values.back() + pairs.residuals.back();
}

Interior::Round Interior::solve(const std::function<OperatorPtr(ProductCounter&)>& make,
                                Which which, int64_t k, double tol,
                                const std::vector<double>& start) {
  Round round;
  const int64_t dim = plan_.dim;
  CountedOperator counted(a_);
  std::shared_ptr<const Reflections> h;
  std::unique_ptr<ComplementOperator> complement;
  if (!vectors_.empty()) {
    h = std::make_shared<Reflections>(vectors_, dim, plan_.options.threads, &a_.task());
    complement = std::make_unique<ComplementOperator>(counted, h);
  }
  const int64_t rank = h ? h->rank() : 0, left = dim - rank;
  ProductCounter inner(complement ? static_cast<LinearOperator&>(*complement) : counted, a_.task(),
                       a_.limit());
  inner.resumeAt(a_.products());
  const auto back = [&](const double* x, double* out) {
    std::fill(out, out + rank, 0.0);
    std::copy_n(x, left, out + rank);
    if (h) h->apply(out);
  };

  EigshOptions options;
  options.k = std::min(k, left);
  options.which = which;
  options.tol = tol;
  options.maxProducts = kOuterProducts;
  options.seed = plan_.options.seed;
  options.threads = plan_.options.threads;
  options.memoryBudget = plan_.options.memoryBudget;
  options.basisSize = std::max<int64_t>(2 * options.k + 10, 30);
  std::vector<double> w(dim);
  for (std::size_t j = 0; j < start.size(); j += dim) {
    std::copy_n(start.begin() + j, dim, w.begin());
    if (h) h->applyTransposed(w.data());
    options.start.insert(options.start.end(), w.begin() + rank, w.end());
  }
  Task quiet;  // what stops the inner products stops this too
  try {
    const EigshResult found = eigsh(*make(inner), options, quiet);
    round.transformed = found.values;
    round.missed = found.missed;
    const double* x = reinterpret_cast<const double*>(found.vectors.data());
    round.vectors.resize(found.values.size() * dim);
    for (std::size_t j = 0; j < found.values.size(); ++j)
      back(x + j * left, round.vectors.data() + j * dim);
  } catch (const NullVector& null) {
    round.null = true;
    round.transformed = {0};
    round.vectors.resize(dim);
    back(null.vector.data(), round.vectors.data());
  } catch (const OutOfProducts&) {
    round.outOfProducts = true;
  }
  measure(round);
  return round;
}

void Interior::measure(Round& round) {
  const int64_t dim = plan_.dim, count = round.vectors.size() / dim;
  round.values.resize(count);
  round.residuals.resize(count);
  if (count == 0) return;
  Basis basis(dim, count + std::min<int64_t>(count, 16), plan_.precision);
  for (int64_t j = 0; j < count; ++j) {
    double* x = round.vectors.data() + j * dim;
    const double length = norm2(dim, x);
    for (int64_t i = 0; i < dim && length > 0; ++i) x[i] /= length;
  }
  basis.store(0, count, round.vectors.data());
  freshPairs(a_, basis, 0, count, basis, count, basis.capacity() - count, round.values.data(),
             round.residuals.data());
  for (double value : round.values) scale_ = std::max(scale_, std::abs(value));
}

void Interior::keep(const Round& round, int64_t j) {
  values_.push_back(round.values[j]);
  residuals_.push_back(round.residuals[j]);
  const auto first = round.vectors.begin() + j * plan_.dim;
  vectors_.insert(vectors_.end(), first, first + plan_.dim);
}

EigshResult Interior::finish(const char* method) {
  const int64_t count = values_.size();
  Basis basis(plan_.dim, std::max<int64_t>(count, 1), plan_.precision);
  basis.store(0, count, vectors_.data());
  return finishOrdered(plan_, a_, basis, values_, residuals_, selectWanted(plan_, values_), scale_,
                       method);
}

}  // namespace eigenscope
