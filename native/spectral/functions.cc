#include "spectral/functions.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "linalg/blas.h"
#include "spectral/quadrature.h"

namespace eigenscope {

namespace {

constexpr int64_t kMostLanes = 16;
constexpr int64_t kDefaultSteps = 200;

constexpr MatrixFunction kFunctions[] = {
    {"exp", [](double x) { return std::exp(x); }, MatrixFunction::Any},
    {"log", [](double x) { return std::log(x); }, MatrixFunction::Positive},
    {"sqrt", [](double x) { return std::sqrt(x); }, MatrixFunction::NonNegative},
    {"inverse", [](double x) { return 1 / x; }, MatrixFunction::NonZero},
    {"inverse-sqrt", [](double x) { return 1 / std::sqrt(x); }, MatrixFunction::Positive},
    {"sign", [](double x) { return x > 0   ? 1.0
                                   : x < 0 ? -1.0
                                           : 0.0; }, MatrixFunction::Any},
    {"abs", [](double x) { return std::abs(x); }, MatrixFunction::Any},
};

[[noreturn]] void outsideDomain(const MatrixFunction& f, double value, double scale) {
  const char* wanted = f.domain == MatrixFunction::NonZero ? "an invertible operator"
                       : f.domain == MatrixFunction::NonNegative
                           ? "a positive semi-definite operator"
                           : "a positive definite operator";
  throw Error(ErrorKind::Option, std::string(f.name) + " needs " + wanted +
                                     ", and a Ritz value is " + shortNumber(value) +
                                     " where the largest is " + shortNumber(scale) +
                                     "; shift the operator by enough damping, A.shift(x)");
}

// f at a Ritz value. Rounding does not make a semi-definite operator indefinite; a zero that 1 / x
// does not take may pass by while steps are still to come.
double valueAt(const MatrixFunction& f, double x, double scale, double resolution, bool last) {
  const bool zero = std::abs(x) <= resolution;
  switch (f.domain) {
    case MatrixFunction::NonNegative:
      if (x < -resolution) outsideDomain(f, x, scale);
      return f.value(std::max(x, 0.0));
    case MatrixFunction::Positive:
      if (x < -resolution || (zero && last)) outsideDomain(f, x, scale);
      return f.value(zero ? std::max(resolution, std::numeric_limits<double>::min()) : x);
    case MatrixFunction::NonZero:
      if (zero && last) outsideDomain(f, x, scale);
      return f.value(zero ? std::max(resolution, std::numeric_limits<double>::min()) : x);
    default: return f.value(zero && std::string(f.name) == "sign" ? 0.0 : x);
  }
}

// Iterates of one vector, as coefficients in its basis, and what they tell of the error.
class Iterate {
 public:
  const std::vector<double>& coefficients() const { return now_; }

  // f(T_m) e_1.
  void compute(const Tridiagonal& t, const MatrixFunction& f, Precision precision, bool last,
               FunctionProduct& product, double& scale) {
    const int64_t m = t.steps();
    const TridiagonalEigen eigen = eigenOf(t, m);
    const double top = std::max(std::abs(eigen.values.front()), std::abs(eigen.values.back()));
    scale = std::max(scale, top);
    std::vector<double> next(m, 0.0);
    for (int64_t j = 0; j < m; ++j) {
      const double factor =
          eigen.first(j) * valueAt(f, eigen.values[j], top, resolutionOf(top, precision), last);
      for (int64_t i = 0; i < m; ++i) next[i] += factor * eigen.vectors[j * m + i];
    }
    const double length = norm2(m, next.data());
    double squares = 0;
    for (int64_t i = 0; i < m; ++i) {
      const double before = i < static_cast<int64_t>(now_.size()) ? now_[i] : 0.0;
      squares += (next[i] - before) * (next[i] - before);
    }
    // A first iterate may vanish by symmetry, as the square root of +-lambda's mean does.
    const bool tells = length > 0 && m >= kFewSteps;
    const double change = length > 0 ? std::sqrt(squares) / length : 1.0;
    const double pace = change_ > 0 ? std::min(change / change_, kMostPace) : kMostPace;
    product.error = t.exact ? 0.0 : tells ? change / (1 - pace) : 1.0;
    product.residual =
        length > 0 && top > 0 ? t.beta() * std::abs(next.back()) / (length * top) : 0.0;
    change_ = change;
    now_ = std::move(next);
  }

 private:
  static constexpr double kMostPace = 0.99;
  static constexpr int64_t kFewSteps = 3;  // up to which a change says little
  std::vector<double> now_;
  double change_ = 0;
};

// y = length * V c.
template <class T>
void combine(const Basis& basis, const std::vector<double>& c, double length, T* y) {
  const int64_t dim = basis.dim();
  std::vector<double> sum(dim, 0.0);
  for (std::size_t j = 0; j < c.size(); ++j) {
    const T* v = static_cast<const T*>(basis.column(j));
    const double factor = length * c[j];
    for (int64_t i = 0; i < dim; ++i) sum[i] += factor * v[i];
  }
  for (int64_t i = 0; i < dim; ++i) y[i] = static_cast<T>(sum[i]);
}

void toDouble(const void* from, Precision precision, int64_t size, double* to) {
  if (precision == Precision::F32)
    std::copy_n(static_cast<const float*>(from), size, to);
  else
    std::memcpy(to, from, size * sizeof(double));
}

}  // namespace

const MatrixFunction* matrixFunction(const std::string& name) {
  for (const MatrixFunction& row : kFunctions)
    if (name == row.name) return &row;
  return nullptr;
}

std::vector<std::string> matrixFunctionNames() {
  std::vector<std::string> names;
  for (const MatrixFunction& row : kFunctions) names.emplace_back(row.name);
  return names;
}

FunctionResult functionProduct(LinearOperator& op, const void* v, void* y, int64_t count,
                               const FunctionOptions& options, void* bases, Task& task) {
  const int64_t dim = op.dim();
  const Precision precision = op.precision();
  const std::size_t bytes = dim * bytesOf(precision);
  if (options.steps < 0 || !(options.tol >= 0 && options.tol < 1) || count < 1)
    throw Error(ErrorKind::Option,
                "functionProduct: steps and tol must be at least 0, tol below 1");
  const int64_t steps = std::min(dim, options.steps > 0 ? options.steps : kDefaultSteps);
  const int64_t wanted = std::min(count, options.blockSize > 0 ? options.blockSize : kMostLanes);
  const int64_t lanes = lanesFor(op, wanted, steps, options.memoryBudget, "a product with f(A)");
  FunctionResult result;
  result.tol = options.tol > 0 ? options.tol : precision == Precision::F32 ? 1e-5 : 1e-10;
  ProductCounter counter(op, task, std::numeric_limits<int64_t>::max());
  LanczosBlock block(counter, lanes, steps, options.threads);
  std::vector<double> starts(lanes * dim);
  for (int64_t first = 0; first < count; first += lanes) {
    const int64_t width = std::min(lanes, count - first);
    toDouble(static_cast<const std::byte*>(v) + first * bytes, precision, width * dim,
             starts.data());
    block.begin(starts.data(), width);
    std::vector<Iterate> iterates(width);
    std::vector<FunctionProduct> products(width);
    int64_t checked = 0;
    for (int64_t taken = 1; block.step(); ++taken) {
      // The eigenproblem of T is small, but not so small that every step of many should pay it.
      if (!options.function ||
          (taken < steps && taken - checked < std::max<int64_t>(1, taken / 10)))
        continue;
      checked = taken;
      double worst = 0;
      for (int64_t j = 0; j < width; ++j) {
        const Tridiagonal& t = block.tridiagonal(j);
        if (products[j].converged) continue;
        const bool last = t.exact || t.steps() == steps;
        iterates[j].compute(t, *options.function, precision, last, products[j], result.scale);
        products[j].converged =
            t.exact || std::max(products[j].error, products[j].residual) <= result.tol;
        if (products[j].converged) block.stop(j);
        worst = std::max(worst, products[j].error);
      }
      counter.report(worst);
    }
    for (int64_t j = 0; j < width; ++j) {
      const Tridiagonal& t = block.tridiagonal(j);
      const int64_t at = first + j;
      products[j].t = t;
      std::byte* out = static_cast<std::byte*>(y) + at * bytes;
      if (options.function) {
        // A lane that went exact between two checks.
        if (static_cast<int64_t>(iterates[j].coefficients().size()) != t.steps()) {
          iterates[j].compute(t, *options.function, precision, true, products[j], result.scale);
          products[j].converged = products[j].converged || t.exact;
        }
        if (precision == Precision::F32)
          combine(block.basis(j), iterates[j].coefficients(), t.startNorm,
                  reinterpret_cast<float*>(out));
        else
          combine(block.basis(j), iterates[j].coefficients(), t.startNorm,
                  reinterpret_cast<double*>(out));
      }
      if (bases)
        std::memcpy(static_cast<std::byte*>(bases) + at * steps * bytes, block.basis(j).column(0),
                    t.steps() * bytes);
      result.vectors.push_back(std::move(products[j]));
    }
  }
  result.products = counter.products();
  const std::string warning = lanczosWarning(block.asymmetry(), precision);
  if (!warning.empty()) result.warnings.push_back(warning);
  return result;
}

}  // namespace eigenscope
