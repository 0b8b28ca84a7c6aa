#include "spectral/kpm.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "linalg/blas.h"
#include "run/pool.h"

namespace eigenscope {

namespace {

constexpr int64_t kMostLanes = 16;
constexpr int64_t kDefaultBytes = int64_t{1} << 30;
// The probe of the bounds is none of the moments'.
constexpr int64_t kBoundProbe = int64_t{1} << 32;
// Share of the interval that is left free at its ends, where Chebyshev polynomials are steep.
constexpr double kMargin = 0.01;
// An interval is no narrower than this share of the largest value.
constexpr double kLeastWidth = 1e-3;
// Moments of a spectrum inside the interval lie in [-1, 1].
constexpr double kMostMoment = 1.001;
constexpr double kWider = 2;
constexpr int kMostWidenings = 16;

void findInterval(ProductCounter& a, const MomentOptions& options, MomentResult& result) {
  const int64_t dim = a.op().dim();
  LanczosBlock block(a, 1, options.boundSteps, options.threads);
  std::vector<double> start(dim);
  fillProbes(start.data(), dim, 1, ProbeType::Gaussian, options.seed, kBoundProbe, a.op().index());
  block.begin(start.data(), 1);
  while (block.step()) {
  }
  const Tridiagonal& t = block.tridiagonal(0);
  const TridiagonalEigen eigen = eigenOf(t, t.steps());
  result.least = eigen.values.front();
  result.largest = eigen.values.back();
  const double scale = std::max(std::abs(result.least), std::abs(result.largest));
  const double width = result.largest - result.least + 2 * t.beta();
  result.center = 0.5 * (result.largest + result.least);
  result.halfWidth = std::max(0.5 * (1 + kMargin) * width, kLeastWidth * scale);
  if (result.halfWidth == 0) result.halfWidth = 1;  // the zero operator
  const std::string warning = lanczosWarning(block.asymmetry(), a.op().precision());
  if (!warning.empty()) result.warnings.push_back(warning);
}

// The moments of `count` probes from `first`; false where one shows that the interval is too small.
template <class T>
bool momentsOf(ProductCounter& a, const MomentOptions& options, int64_t first, int64_t count,
               MomentResult& result) {
  const int64_t dim = a.op().dim(), size = count * dim;
  const double center = result.center, half = result.halfWidth;
  std::vector<T> before(size), now(size), product(size);
  {
    std::vector<double> starts(size);
    fillProbes(starts.data(), dim, count, options.type, options.seed, first, a.op().index());
    for (int64_t j = 0; j < count; ++j) {
      const double length = norm2(dim, starts.data() + j * dim);
      for (int64_t i = j * dim; i < (j + 1) * dim; ++i) now[i] = static_cast<T>(starts[i] / length);
    }
  }
  const auto inner = [&](const T* x, const T* y) {
    double sum = 0;
    for (int64_t i = 0; i < dim; ++i) sum += static_cast<double>(x[i]) * y[i];
    return sum;
  };
  std::vector<std::vector<double>> moments(count);
  std::vector<double> lengths(count);
  for (int64_t j = 0; j < count; ++j) {
    lengths[j] = inner(now.data() + j * dim, now.data() + j * dim);
    moments[j] = {1.0};
  }
  for (int64_t n = 0; n < options.steps; ++n) {
    a.apply(now.data(), product.data(), count);
    // The next vector takes the place of the one before the last.
    parallel(options.threads, count, [&](int, int64_t j) {
      T *old = before.data() + j * dim, *v = now.data() + j * dim, *y = product.data() + j * dim;
      const double twice = n == 0 ? 1.0 : 2.0;
      for (int64_t i = 0; i < dim; ++i)
        old[i] = static_cast<T>(twice * (y[i] - center * v[i]) / half - (n == 0 ? 0.0 : old[i]));
      std::vector<double>& mu = moments[j];
      const double cross = inner(old, v) / lengths[j], square = inner(old, old) / lengths[j];
      mu.push_back(n == 0 ? cross : 2 * cross - mu[1]);
      mu.push_back(2 * square - 1);
    });
    before.swap(now);
    for (int64_t j = 0; j < count; ++j)
      for (int64_t i = 2 * n + 1; i <= 2 * n + 2; ++i)
        if (!(std::abs(moments[j][i]) <= kMostMoment)) return false;
  }
  for (auto& mu : moments) result.moments.push_back(std::move(mu));
  return true;
}

}  // namespace

MomentResult chebyshevMoments(LinearOperator& op, const MomentOptions& options, Task& task) {
  checkProbes("chebyshevMoments", op, options.probes, options.steps, options.blockSize);
  MomentResult result;
  const int64_t one = op.dim() * (3 * bytesOf(op.precision()) + 8);
  const int64_t budget = options.memoryBudget;
  if (budget > 0 && LanczosBlock::bytesOf(op.dim(), op.precision(), 1, options.boundSteps) > budget)
    throw Error(
        ErrorKind::MemoryBudget,
        "the kernel polynomial method in dimension " + std::to_string(op.dim()) +
            " needs at least " +
            std::to_string(LanczosBlock::bytesOf(op.dim(), op.precision(), 1, options.boundSteps)) +
            " bytes, " + std::to_string(budget) + " are allowed; raise the memory limit");
  const int64_t wanted =
      std::min(options.probes, options.blockSize > 0 ? options.blockSize : kMostLanes);
  result.blockSize =
      std::min(wanted, std::max<int64_t>(1, (budget > 0 ? budget : kDefaultBytes) / one));
  ProductCounter counter(op, task, std::numeric_limits<int64_t>::max());
  const ShareDone share(task,
                        options.probes * options.steps + std::min(options.boundSteps, op.dim()));
  findInterval(counter, options, result);
  int widenings = 0;
  for (int64_t first = 0; first < options.probes;) {
    const int64_t count = std::min(result.blockSize, options.probes - first);
    const bool held = op.precision() == Precision::F32
                          ? momentsOf<float>(counter, options, first, count, result)
                          : momentsOf<double>(counter, options, first, count, result);
    if (held) {
      first += count;
      continue;
    }
    if (++widenings > kMostWidenings)
      throw Error(ErrorKind::DataMismatch,
                  "the spectrum reaches beyond every interval tried, the last of half width " +
                      shortNumber(result.halfWidth) +
                      "; check that the operator is symmetric and repeats itself");
    result.halfWidth *= kWider;
    result.moments.clear();
    first = 0;
  }
  if (widenings > 0)
    result.warnings.push_back(
        "the interval from Lanczos did not hold the spectrum and was widened " +
        std::to_string(widenings) + " times, at the cost of products");
  result.products = counter.products();
  return result;
}

}  // namespace eigenscope
