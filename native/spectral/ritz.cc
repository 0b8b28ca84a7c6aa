#include "spectral/ritz.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <numeric>
#include <type_traits>

namespace eigenscope {

namespace {

constexpr int64_t kFreshBlock = 16;

template <class T>
int64_t firstNotFinite(const T* y, int64_t size) {
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  constexpr Bits kExponent =
      sizeof(T) == 4 ? Bits{0xff} << 23 : Bits{0x7ff} << (sizeof(T) * 8 - 12);
  // One pass without a branch first: this runs over every product.
  Bits bad = 0;
  for (int64_t i = 0; i < size; ++i) {
    Bits bits;
    std::memcpy(&bits, y + i, sizeof bits);
    bad |= (bits & kExponent) == kExponent;
  }
  if (bad == 0) return -1;
  return std::find_if(y, y + size, [](T x) { return !std::isfinite(x); }) - y;
}

template <class T>
void rayleigh(const T* x, const T* y, int64_t dim, double& value, double& residual) {
  double xx = 0, xy = 0;
  for (int64_t i = 0; i < dim; ++i) {
    xx += static_cast<double>(x[i]) * x[i];
    xy += static_cast<double>(x[i]) * y[i];
  }
  value = xx > 0 ? xy / xx : 0.0;
  double squares = 0;
  for (int64_t i = 0; i < dim; ++i) {
    const double left = y[i] - value * x[i];
    squares += left * left;
  }
  residual = xx > 0 ? std::sqrt(squares / xx) : 0.0;
}

template <class T>
bool largestEntryNegative(const T* x, int64_t dim) {
  const T* largest =
      std::max_element(x, x + dim, [](T a, T b) { return std::abs(a) < std::abs(b); });
  return *largest < 0;
}

}  // namespace

const char* nameOf(Which which) {
  constexpr const char* kNames[] = {"LM", "LA", "SA", "BE"};
  return kNames[static_cast<int>(which)];
}

std::string shortNumber(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2g", value);
  return text;
}

std::vector<int64_t> selectBest(const std::vector<double>& values, int64_t count, Which which) {
  std::vector<int64_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  count = std::min<int64_t>(count, order.size());
  auto before = [&](int64_t a, int64_t b) {
    switch (which) {
      case Which::LM: {
        const double x = std::abs(values[a]), y = std::abs(values[b]);
        return x != y ? x > y : values[a] > values[b];
      }
      case Which::SA: return values[a] < values[b];
      default: return values[a] > values[b];
    }
  };
  std::stable_sort(order.begin(), order.end(), before);
  if (which == Which::BE) {
    const int64_t high = count - count / 2;
    order.erase(order.begin() + high, order.end() - (count - high));
  } else {
    order.resize(count);
  }
  return order;
}

bool usesEnd(Which which, int64_t k, int end) {
  switch (which) {
    case Which::LA: return end > 0;
    case Which::SA: return end < 0;
    case Which::BE: return end > 0 || k > 1;
    default: return true;
  }
}

int64_t displacedBy(const std::vector<double>& wanted, double newcomer, Which which) {
  std::vector<double> all = wanted;
  all.push_back(newcomer);
  const std::vector<int64_t> best = selectBest(all, wanted.size(), which);
  std::vector<bool> stays(all.size(), false);
  for (int64_t i : best) stays[i] = true;
  for (std::size_t i = 0; i < wanted.size(); ++i)
    if (!stays[i]) return i;
  return wanted.size();
}

double gainOver(const std::vector<double>& wanted, double value, Which which, int end) {
  const int64_t k = wanted.size();
  const double nothing = -std::numeric_limits<double>::infinity();
  std::vector<double> sorted = wanted;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  switch (which) {
    case Which::LA: return value - sorted.back();
    case Which::SA: return sorted.front() - value;
    case Which::BE: {
      const int64_t high = k - k / 2;
      const double above = end < 0 ? nothing : value - sorted[high - 1];
      const double below = end > 0 || high == k ? nothing : sorted[high] - value;
      return std::max(above, below);
    }
    default: {
      double least = std::abs(wanted[0]);
      for (double x : wanted) least = std::min(least, std::abs(x));
      return (end == 0 ? std::abs(value) : end * value) - least;
    }
  }
}

double roundingOf(Precision precision) {
  return precision == Precision::F32 ? std::numeric_limits<float>::epsilon()
                                     : std::numeric_limits<double>::epsilon();
}

void requireFinite(const LinearOperator& op, const void* y, int64_t count, int64_t before) {
  const int64_t dim = op.dim(), size = dim * count;
  const int64_t bad = op.precision() == Precision::F32
                          ? firstNotFinite(static_cast<const float*>(y), size)
                          : firstNotFinite(static_cast<const double*>(y), size);
  if (bad < 0) return;
  const int64_t coordinate = bad % dim;
  std::string where = "coordinate " + std::to_string(coordinate);
  if (!op.index().empty())
    where += " (parameter index " + std::to_string(op.index()[coordinate]) + ")";
  throw Error(ErrorKind::DataMismatch,
              "the operator returned NaN or infinity in product " +
                  std::to_string(before + bad / dim + 1) + " at " + where +
                  ", for a finite vector; look for NaN, infinity or overflow in the parameters, "
                  "the data or the function behind it, or use float64");
}

void ProductCounter::apply(const void* x, void* y, int64_t count) {
  task_.check();
  op_.apply(x, y, count, task_);
  task_.check();
  requireFinite(op_, y, count, products_);
  products_ += count;
  requireSquares(y, count);
  report(residual_);
}

// Inner products need the squares of what products hold.
void ProductCounter::requireSquares(const void* y, int64_t count) {
  constexpr double kLeast = 1e-150, kMost = 1e150;
  constexpr int64_t kEnough = 8;  // one product may be small by chance
  if (op_.precision() == Precision::F32) return;
  const double* values = static_cast<const double*>(y);
  const int64_t size = op_.dim() * count;
  for (int64_t i = 0; i < size; ++i) largest_ = std::max(largest_, std::abs(values[i]));
  const bool tiny = products_ >= kEnough && largest_ > 0 && largest_ < kLeast;
  if (!tiny && largest_ <= kMost) return;
  throw Error(
      ErrorKind::DataMismatch,
      "the largest number in " + std::to_string(products_) + " products of the operator is " +
          shortNumber(largest_) +
          ", whose square is beyond float64: scale the operator or the loss, and divide the "
          "results");
}

void ProductCounter::report(double residual) {
  residual_ = residual;
  if (task_.report) task_.report({products_, residual, -1});
}

void freshPairs(ProductCounter& a, const Basis& basis, int64_t first, int64_t count, Basis& scratch,
                int64_t scratchFirst, int64_t room, double* values, double* residuals) {
  const int64_t dim = basis.dim(), block = std::clamp<int64_t>(room, 1, kFreshBlock);
  for (int64_t j = 0; j < count; j += block) {
    const int64_t width = std::min(block, count - j);
    a.apply(basis.column(first + j), scratch.column(scratchFirst), width);
    for (int64_t l = 0; l < width; ++l) {
      const void *x = basis.column(first + j + l), *y = scratch.column(scratchFirst + l);
      double &value = values[j + l], &residual = residuals[j + l];
      if (basis.precision() == Precision::F32)
        rayleigh(static_cast<const float*>(x), static_cast<const float*>(y), dim, value, residual);
      else
        rayleigh(static_cast<const double*>(x), static_cast<const double*>(y), dim, value,
                 residual);
    }
  }
}

void fixSign(Basis& basis, int64_t column) {
  const bool flip =
      basis.precision() == Precision::F32
          ? largestEntryNegative(static_cast<float*>(basis.column(column)), basis.dim())
          : largestEntryNegative(static_cast<double*>(basis.column(column)), basis.dim());
  if (flip) basis.scaleColumn(column, -1.0);
}

EigshResult finishOrdered(const EigshPlan& plan, ProductCounter& a, Basis& basis,
                          const std::vector<double>& values, const std::vector<double>& residuals,
                          const std::vector<int64_t>& order, double scale,
                          const std::string& method) {
  EigshResult result;
  const std::size_t bytes = plan.dim * bytesOf(plan.precision);
  basis.shrink(values.size());
  result.vectors.reserve(order.size() * bytes);
  double worst = 0;
  for (int64_t i : order) {
    fixSign(basis, i);
    const std::byte* v = static_cast<const std::byte*>(basis.column(i));
    result.vectors.insert(result.vectors.end(), v, v + bytes);
    result.values.push_back(values[i]);
    result.residuals.push_back(residuals[i]);
    worst = std::max(worst, residuals[i]);
    scale = std::max(scale, std::abs(values[i]));
  }
  result.scale = scale;
  result.tol = plan.options.tol;
  result.converged = worst <= plan.options.tol * scale;
  result.method = method;
  result.products = a.products();
  a.report(scale > 0 ? worst / scale : 0.0);
  return result;
}

EigshResult finishPairs(const EigshPlan& plan, ProductCounter& a, Basis& basis,
                        const std::vector<double>& values, const std::vector<double>& residuals,
                        double scale, const std::string& method) {
  const int64_t k = plan.options.k;
  const std::vector<double> first(values.begin(), values.begin() + k);
  return finishOrdered(plan, a, basis, first, residuals, selectBest(first, k, plan.options.which),
                       scale, method);
}

std::vector<int64_t> selectWanted(const EigshPlan& plan, const std::vector<double>& values) {
  const EigshOptions& options = plan.options;
  const int64_t k = options.k;
  if (options.method == EigshMethod::Filter) {
    std::vector<int64_t> inside;
    for (std::size_t i = 0; i < values.size(); ++i)
      if (values[i] >= options.low && values[i] <= options.high) inside.push_back(i);
    std::stable_sort(inside.begin(), inside.end(),
                     [&](int64_t x, int64_t y) { return values[x] < values[y]; });
    if (static_cast<int64_t>(inside.size()) > k)
      throw Error(ErrorKind::Option, "the interval holds " + std::to_string(inside.size()) +
                                         " eigenvalues or more, and k = " + std::to_string(k) +
                                         " is the most asked for; raise k or narrow the interval");
    return inside;
  }
  if (options.method != EigshMethod::ShiftInvert) return selectBest(values, k, options.which);
  std::vector<int64_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t x, int64_t y) {
    return std::abs(values[x] - options.sigma) < std::abs(values[y] - options.sigma);
  });
  order.resize(std::min<std::size_t>(order.size(), k));
  return order;
}

bool canGoDense(const EigshPlan& plan, const ProductCounter& a) {
  const int64_t dim = plan.dim, budget = plan.options.memoryBudget;
  return dim <= kDenseRescue && a.allows(dim + plan.options.k) &&
         (budget <= 0 || denseBytes(dim) <= budget);
}

bool betterDense(const EigshPlan& plan, const ProductCounter& a) {
  if (a.products() < plan.dim / 2 || !canGoDense(plan, a)) return false;
  return a.products() >= plan.dim || !a.allows(plan.dim + plan.options.k + plan.block);
}

std::string describeNotConverged(const EigshPlan& plan, double worstRelative, bool outOfProducts) {
  const std::string state = "the worst residual is " + shortNumber(worstRelative) +
                            " of the largest Ritz value, tol is " + shortNumber(plan.options.tol);
  if (outOfProducts)
    return std::to_string(plan.options.maxProducts) +
           " products (maxProducts) were not enough: " + state +
           "; allow more products, raise tol or enlarge the basis";
  const bool single = plan.precision == Precision::F32;
  return "tol is below the noise of the operator: " + state + " and falls no further; raise tol" +
         (single ? " or use float64" : "") +
         ", and check that the operator is symmetric and repeats itself";
}

std::string asymmetryWarning(double relative, Precision precision) {
  const double noise = precision == Precision::F32 ? 1e-3 : 1e-7;
  if (!(relative > noise)) return {};
  return "the operator does not look symmetric: u^T A v and v^T A u differ by " +
         shortNumber(relative) +
         " of its norm; eigsh needs a symmetric operator, and its values mean little here";
}

}  // namespace eigenscope
