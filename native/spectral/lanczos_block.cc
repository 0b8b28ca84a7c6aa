#include "spectral/lanczos_block.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "linalg/blas.h"
#include "linalg/lapack.h"
#include "run/pool.h"

namespace eigenscope {

namespace {

// What is left of a product this small relative to the longest product is rounding.
constexpr double kBreakdown = 32;
constexpr int64_t kDefaultBytes = int64_t{1} << 30;

}  // namespace

TridiagonalEigen eigenOf(const Tridiagonal& t, int64_t m) {
  TridiagonalEigen eigen;
  eigen.vectors.assign(m * m, 0.0);
  for (int64_t i = 0; i < m; ++i) {
    eigen.vectors[i * m + i] = t.diagonal[i];
    if (i > 0) eigen.vectors[i * m + i - 1] = t.offDiagonal[i - 1];
  }
  eigen.values = symmetricEigen(m, eigen.vectors.data(), m);
  return eigen;
}

int64_t LanczosBlock::bytesOf(int64_t dim, Precision precision, int64_t lanes, int64_t steps) {
  // Basis, the block and its product; the vectors worked on and the starts in double.
  const int64_t number = eigenscope::bytesOf(precision);
  return lanes * dim * ((steps + 2) * number + 16);
}

int64_t lanesFor(const LinearOperator& op, int64_t wanted, int64_t steps, int64_t budget,
                 const char* where) {
  const int64_t one = LanczosBlock::bytesOf(op.dim(), op.precision(), 1, steps);
  if (budget > 0 && one > budget)
    throw Error(ErrorKind::MemoryBudget, std::string(where) + " with " + std::to_string(steps) +
                                             " steps in dimension " + std::to_string(op.dim()) +
                                             " needs at least " + std::to_string(one) +
                                             " bytes for its basis, " + std::to_string(budget) +
                                             " are allowed; raise the memory limit or lower steps");
  const int64_t fitting = std::max<int64_t>(1, (budget > 0 ? budget : kDefaultBytes) / one);
  return std::min(wanted, fitting);
}

LanczosBlock::LanczosBlock(ProductCounter& a, int64_t lanes, int64_t steps, int threads)
    : a_(a), dim_(a.op().dim()), steps_(std::min(steps, dim_)), threads_(threads) {
  const std::size_t number = eigenscope::bytesOf(a.op().precision());
  in_.resize(lanes * dim_ * number);
  out_.resize(lanes * dim_ * number);
  work_.resize(lanes * dim_);
  // With enough lanes the threads take one each, else they share the rows of one.
  const int inner = lanes >= threads ? 1 : threads;
  for (int64_t j = 0; j < lanes; ++j)
    bases_.push_back(std::make_unique<Basis>(dim_, steps_, a.op().precision(), inner, &a.task()));
}

void LanczosBlock::begin(const double* vectors, int64_t count) {
  lanes_.assign(count, {});
  running_.assign(count, true);
  productNorms_.assign(count, 0.0);
  for (int64_t j = 0; j < count; ++j) {
    const double* v = vectors + j * dim_;
    double* w = work_.data() + j * dim_;
    const double length = norm2(dim_, v);
    lanes_[j].startNorm = length;
    for (int64_t i = 0; i < dim_; ++i) w[i] = length > 0 ? v[i] / length : 0.0;
    bases_[j]->store(0, 1, w);
  }
}

bool LanczosBlock::step() {
  const std::size_t bytes = dim_ * eigenscope::bytesOf(a_.op().precision());
  std::vector<int64_t> active;
  for (int64_t j = 0; j < lanes(); ++j)
    if (running_[j] && !lanes_[j].exact && lanes_[j].steps() < steps_) active.push_back(j);
  if (active.empty()) return false;
  const int64_t count = static_cast<int64_t>(active.size());
  for (int64_t l = 0; l < count; ++l)
    std::memcpy(in_.data() + l * bytes, bases_[active[l]]->column(lanes_[active[l]].steps()),
                bytes);
  a_.apply(in_.data(), out_.data(), count);
  if (a_.op().precision() == Precision::F32) {
    const float* y = reinterpret_cast<const float*>(out_.data());
    std::copy(y, y + count * dim_, work_.data());
  } else {
    std::memcpy(work_.data(), out_.data(), count * bytes);
  }
  std::vector<double> gaps(count);
  const auto one = [&](int, int64_t l) { gaps[l] = advance(active[l], work_.data() + l * dim_); };
  if (static_cast<int64_t>(bases_.size()) >= threads_)
    parallel(threads_, count, one);
  else
    for (int64_t l = 0; l < count; ++l) one(0, l);
  for (double gap : gaps) asymmetry_ = std::max(asymmetry_, gap);
  return true;
}

double LanczosBlock::advance(int64_t lane, double* w) {
  Tridiagonal& t = lanes_[lane];
  Basis& basis = *bases_[lane];
  const int64_t m = t.steps() + 1;
  double& longest = productNorms_[lane];
  longest = std::max(longest, norm2(dim_, w));
  std::vector<double> taken(m);
  basis.project(w, 1, m, taken.data());
  // The part against old vectors is known from their side too, as A is symmetric.
  double gap = 0;
  for (int64_t i = 0; i + 1 < m; ++i)
    gap = std::max(gap, std::abs(taken[i] - (i + 2 == m ? t.offDiagonal[i] : 0.0)));
  const double beta = norm2(dim_, w);
  const double rounding = kBreakdown * roundingOf(basis.precision()) * longest;
  t.exact = !(beta > rounding) || m == dim_;
  t.diagonal.push_back(taken[m - 1]);
  t.offDiagonal.push_back(t.exact ? 0.0 : beta);
  if (!t.exact && m < steps_) {
    for (int64_t i = 0; i < dim_; ++i) w[i] /= beta;
    basis.store(m, 1, w);
  }
  return longest > 0 ? gap / longest : 0.0;
}

ShareDone::ShareDone(Task& task, int64_t total) : task_(task), plain_(task.report) {
  if (!plain_) return;
  task.report = [plain = plain_, total](Progress progress) {
    progress.fraction = std::min(1.0, static_cast<double>(progress.products) / total);
    plain(progress);
  };
}

std::string lanczosWarning(double asymmetry, Precision precision) {
  if (!(asymmetry > (precision == Precision::F32 ? 1e-3 : 1e-7))) return {};
  return "the operator does not look symmetric: u^T A v and v^T A u differ by " +
         shortNumber(asymmetry) + " of its norm; Lanczos quadrature of it means little";
}

}  // namespace eigenscope
