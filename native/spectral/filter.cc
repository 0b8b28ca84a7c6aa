#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/philox.h"
#include "linalg/blas.h"
#include "spectral/complement.h"
#include "spectral/interior.h"

namespace eigenscope {

namespace {

constexpr int64_t kEndSteps = 30;     // of the Lanczos run that finds the ends of the spectrum
constexpr double kEndMargin = 0.005;  // of the width, on both sides
constexpr double kHighestEdge = 0.6;  // of the filter at the ends of the interval, 1 at its peak
constexpr double kLowestEdge = 0.02;
constexpr int64_t kMostDegree = 20000;
constexpr int64_t kSizingProbes = 2, kCheckProbes = 6;
constexpr int64_t kSizingDegree = 24, kCheckDegree = 120;  // the least
constexpr int64_t kCheckDegrees = 12;                      // of the count, in degrees of the filter
constexpr double kOuterShare = 0.05, kLeastOuter = 1e-13;
constexpr uint64_t kProbeColumns = uint64_t{1} << 41;

// Jackson's damping factors of Chebyshev coefficients 0 .. degree, which keep a kernel positive.
std::vector<double> jackson(int64_t degree) {
  std::vector<double> g(degree + 1);
  const double n = double(degree) + 2, angle = std::numbers::pi / n;
  for (int64_t j = 0; j <= degree; ++j)
    g[j] = ((n - double(j)) * std::cos(double(j) * angle) +
            std::sin(double(j) * angle) / std::tan(angle)) /
           n;
  return g;
}

double chebyshevSum(const std::vector<double>& c, double t) {
  double b1 = 0, b2 = 0;
  for (int64_t j = c.size() - 1; j > 0; --j) {
    const double b = c[j] + 2 * t * b1 - b2;
    b2 = b1;
    b1 = b;
  }
  return c[0] + t * b1 - b2;
}

// A damped delta function at `peak` in [-1, 1], 1 there.
std::vector<double> peakAt(double peak, int64_t degree) {
  std::vector<double> c = jackson(degree);
  for (int64_t j = 0; j <= degree; ++j)
    c[j] *= (j == 0 ? 1.0 : 2.0) * std::cos(double(j) * std::acos(peak));
  const double height = chebyshevSum(c, peak);
  for (double& x : c) x /= height;
  return c;
}

// A polynomial of A that is at least `edge` on the interval, and below outside.
struct Window {
  std::vector<double> coefficients;
  double edge = 0;
};

// Whether the window is at least its edge all over the interval and below it elsewhere, on a grid
// that is fine beside its oscillations.
bool separates(const Window& window, double a, double b) {
  const int64_t points = 24 * int64_t(window.coefficients.size()) + 100;
  for (int64_t i = 0; i <= points; ++i) {
    const double t = std::cos(std::numbers::pi * double(i) / double(points));
    const double height = chebyshevSum(window.coefficients, t);
    if (t >= a && t <= b ? height < window.edge * (1 - 1e-9) : height > window.edge * (1 + 1e-9))
      return false;
  }
  return window.edge > kLowestEdge;
}

// The least degree at which the peak falls to kHighestEdge at both ends [a, b] of the interval in
// [-1, 1], with its place chosen so that it falls equally; an end outside takes no part.
Window windowOf(double a, double b) {
  for (int64_t degree = 1; degree <= kMostDegree; degree += 1 + degree / 10) {
    double low = std::max(a, -1.0), high = std::min(b, 1.0);
    double peak = a <= -1 ? -1 : b >= 1 ? 1 : 0;
    if (a > -1 && b < 1) {
      for (int step = 0; step < 60; ++step) {
        peak = 0.5 * (low + high);
        const std::vector<double> c = peakAt(peak, degree);
        (chebyshevSum(c, a) > chebyshevSum(c, b) ? low : high) = peak;
      }
    }
    Window window{peakAt(peak, degree), 0};
    const double left = a > -1 ? chebyshevSum(window.coefficients, a) : -1;
    const double right = b < 1 ? chebyshevSum(window.coefficients, b) : -1;
    if (std::max(left, right) > kHighestEdge) continue;
    window.edge = a > -1 && b < 1 ? std::min(left, right) : std::max(left, right);
    if (separates(window, a, b)) return window;
  }
  return {};
}

// p(A) in double by the recurrence of Chebyshev polynomials.
class PolynomialOperator : public LinearOperator {
 public:
  PolynomialOperator(ProductCounter& a, double center, double half, std::vector<double> c)
      : a_(a), center_(center), half_(half), c_(std::move(c)) {}

  int64_t dim() const override { return a_.op().dim(); }
  Precision precision() const override { return Precision::F64; }
  std::span<const int64_t> index() const override { return a_.op().index(); }
  void apply(const void* x, void* y, int64_t count, Task&) override {
    const int64_t size = dim() * count;
    const double* in = static_cast<const double*>(x);
    double* out = static_cast<double*>(y);
    std::vector<double> old(in, in + size), now(size), next(size);
    mapped(old, now, count);
    for (int64_t i = 0; i < size; ++i) out[i] = c_[0] * old[i] + c_[1] * now[i];
    for (std::size_t j = 2; j < c_.size(); ++j) {
      mapped(now, next, count);
      for (int64_t i = 0; i < size; ++i) {
        next[i] = 2 * next[i] - old[i];
        out[i] += c_[j] * next[i];
      }
      old.swap(now);
      now.swap(next);
    }
  }

  // y = (A - center) / half x
  void mapped(const std::vector<double>& x, std::vector<double>& y, int64_t count) {
    if (!a_.allows(count)) throw OutOfProducts{};
    if (a_.op().precision() == Precision::F32) {
      const std::vector<float> in(x.begin(), x.end());
      std::vector<float> out(x.size());
      a_.apply(in.data(), out.data(), count);
      std::copy(out.begin(), out.end(), y.begin());
    } else {
      a_.apply(x.data(), y.data(), count);
    }
    for (std::size_t i = 0; i < x.size(); ++i) y[i] = (y[i] - center_ * x[i]) / half_;
  }

 private:
  ProductCounter& a_;
  double center_, half_;
  std::vector<double> c_;
};

struct Estimate {
  double mean = 0, standardError = 0;
  int64_t probes = 0;
};

// How many eigenvalues lie in [a, b] of [-1, 1]: the trace of the damped Chebyshev expansion of
// its indicator, over Gaussian probes (Di Napoli, Polizzi and Saad 2016). 2 moments a product.
Estimate countInside(PolynomialOperator& op, double a, double b, int64_t degree, int64_t probes,
                     uint64_t seed) {
  a = std::clamp(a, -1.0, 1.0);
  b = std::clamp(b, -1.0, 1.0);
  std::vector<double> c = jackson(degree);
  for (int64_t j = 0; j <= degree; ++j)
    c[j] *= j == 0 ? (std::acos(a) - std::acos(b)) / std::numbers::pi
                   : 2 / (std::numbers::pi * double(j)) *
                         (std::sin(double(j) * std::acos(a)) - std::sin(double(j) * std::acos(b)));
  const int64_t dim = op.dim();
  std::vector<double> old(dim), now(dim), next(dim), seen;
  for (int64_t probe = 0; probe < probes; ++probe) {
    fillGaussian(old.data(), dim, 1, seed, kProbeColumns + probe, op.index());
    const double zero = dot(dim, old.data(), old.data());
    op.mapped(old, now, 1);
    const double one = dot(dim, old.data(), now.data());
    double sum = c[0] * zero + c[1] * one;
    for (int64_t j = 1; 2 * j <= degree; ++j) {
      sum += c[2 * j] * (2 * dot(dim, now.data(), now.data()) - zero);
      if (2 * j + 1 > degree) break;
      op.mapped(now, next, 1);
      for (int64_t i = 0; i < dim; ++i) next[i] = 2 * next[i] - old[i];
      sum += c[2 * j + 1] * (2 * dot(dim, now.data(), next.data()) - one);
      old.swap(now);
      now.swap(next);
    }
    // Of the length that a probe of this dimension has.
    seen.push_back(sum * double(dim) / zero);
  }
  Estimate estimate;
  estimate.probes = probes;
  for (double x : seen) estimate.mean += x / double(probes);
  double squares = 0;
  for (double x : seen) squares += (x - estimate.mean) * (x - estimate.mean);
  if (probes > 1) estimate.standardError = std::sqrt(squares / double(probes * (probes - 1)));
  return estimate;
}

}  // namespace

// Every eigenvalue in an interval by Lanczos on a polynomial that lifts the interval over the rest
// of the spectrum (Li, Xi, Vecharynski, Yang and Saad, "A thick-restart Lanczos algorithm with
// polynomial filtering", 2016). Rounds go on until one brings a value below the filter's edge,
// which says that none inside is left; then a stochastic count of what remains beside the pairs is
// made.
EigshResult filterEigsh(const EigshPlan& plan, ProductCounter& a) {
  const EigshOptions& options = plan.options;
  Interior interior(plan, a);
  interior.findEnds(kEndSteps);
  const double width = interior.high() - interior.low();
  const double low = interior.low() - kEndMargin * width;
  const double high = interior.high() + kEndMargin * width;
  const double center = 0.5 * (low + high), half = 0.5 * (high - low);
  const double left = half > 0 ? (options.low - center) / half : 0;
  const double right = half > 0 ? (options.high - center) / half : 0;
  const auto nothing = [&](const std::string& how) {
    EigshResult result = interior.finish("filter");
    result.missed.how = how;
    return result;
  };
  if (half > 0 && (left >= 1 || right <= -1))
    return nothing("the interval lies outside the ends of the spectrum, " + shortNumber(low) +
                   " to " + shortNumber(high));
  if (!(half > 0) || (left <= -1 && right >= 1))
    throw Error(ErrorKind::Option, "interval: it covers the whole spectrum, from about " +
                                       shortNumber(low) + " to " + shortNumber(high) +
                                       ", of an operator of dimension " + std::to_string(plan.dim) +
                                       "; narrow it, or use which");
  const Window window = windowOf(left, right);
  const int64_t degree = window.coefficients.size() - 1;
  if (window.coefficients.empty() || !a.allows(30 * degree))
    throw Error(ErrorKind::Option,
                "interval: it is so narrow beside the spectrum, from about " + shortNumber(low) +
                    " to " + shortNumber(high) +
                    ", that a filter for it needs more products than maxProducts = " +
                    std::to_string(options.maxProducts) +
                    (window.coefficients.empty()
                         ? ""
                         : ": " + std::to_string(degree) + " each time it is applied") +
                    "; widen it, or allow more products");

  MissedStatement missed;
  bool complete = false, out = false;
  double tol = std::max(kLeastOuter, kOuterShare * options.tol);
  std::vector<double> start = options.start;
  try {
    CountedOperator counted(a);
    PolynomialOperator whole(a, center, half, window.coefficients);
    const Estimate sizing = countInside(whole, left, right, std::max(kSizingDegree, degree),
                                        kSizingProbes, options.seed);
    // Eigenvalues beside the interval count in part, so only a gross excess tells.
    if (sizing.mean > 40 * double(options.k) + 200)
      throw Error(ErrorKind::Option, "the interval holds about " +
                                         std::to_string(int64_t(sizing.mean)) +
                                         " eigenvalues, and k = " + std::to_string(options.k) +
                                         " is the most asked for; raise k or narrow the interval");
    int64_t chunk = std::clamp<int64_t>(int64_t(1.3 * sizing.mean) + 4, 4, options.k + 4);
    int64_t inside = 0;
    while (!complete && !out) {
      const auto make = [&](ProductCounter& inner) -> OperatorPtr {
        return std::make_shared<PolynomialOperator>(inner, center, half, window.coefficients);
      };
      const Interior::Round round = interior.solve(make, Which::LA, chunk, tol, start);
      if (round.outOfProducts) {
        out = true;
        break;
      }
      missed = round.missed;
      start.clear();
      bool any = false, all = true;
      const int64_t count = round.values.size();
      for (int64_t j = 0; j < count; ++j) {
        const bool in = round.values[j] >= options.low && round.values[j] <= options.high;
        if (interior.passes(round, j)) {
          interior.keep(round, j);
          inside += in;
          any = true;
        } else if (in) {
          all = false;
          start.insert(start.end(), round.vectors.begin() + j * plan.dim,
                       round.vectors.begin() + (j + 1) * plan.dim);
        }
      }
      selectWanted(plan, std::vector<double>(inside, options.low));  // no more than k
      // The least value of the filter lies below its edge, by more than rounding.
      complete = all && count > 0 && round.transformed.back() < window.edge * (1 - 1e-6);
      if (!any && !complete) {
        if (tol <= kLeastOuter) break;
        tol = std::max(kLeastOuter, 0.01 * tol);
      }
      chunk = std::clamp<int64_t>(chunk / 2, 4, options.k + 4);
    }
  } catch (const OutOfProducts&) {
    out = true;
  }

  // What is left beside all pairs that were found, those outside the interval too.
  Estimate rest;
  try {
    CountedOperator counted(a);
    const auto h =
        std::make_shared<Reflections>(interior.keptVectors(), plan.dim, options.threads, &a.task());
    ComplementOperator complement(counted, h);
    ProductCounter inner(complement, a.task(), a.limit());
    inner.resumeAt(a.products());
    PolynomialOperator mapped(inner, center, half, window.coefficients);
    rest = countInside(mapped, left, right, std::max(kCheckDegree, kCheckDegrees * degree),
                       kCheckProbes, options.seed + 1);
  } catch (const OutOfProducts&) {
  }

  EigshResult result = interior.finish("filter");
  const double found = double(result.values.size());
  if (rest.probes > 0) {
    result.count = {false, found + rest.mean, rest.standardError, rest.probes};
    // Eigenvalues just outside count in part.
    if (rest.mean > 3 * rest.standardError + 2)
      result.warnings.push_back(
          "a stochastic count finds " + shortNumber(rest.mean) + " +- " +
          shortNumber(rest.standardError) +
          " eigenvalues in the interval beside those listed: some may be missing, or lie just "
          "outside its ends");
  }
  if (!complete) {
    result.converged = false;
    result.reason =
        out ? std::to_string(options.maxProducts) +
                  " products (maxProducts) were not enough to find every eigenvalue in the "
                  "interval; allow more products or narrow it"
            : "tol is below the noise of the operator: some pairs in the interval do not pass; "
              "raise tol" +
                  std::string(plan.precision == Precision::F32 ? " or use float64" : "");
  } else if (!result.converged) {
    const double worst = *std::max_element(result.residuals.begin(), result.residuals.end());
    result.reason = describeNotConverged(plan, worst / result.scale, false);
  }
  result.missed = missed;
  return result;
}

}  // namespace eigenscope
