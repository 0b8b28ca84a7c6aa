#include "spectral/norms.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "spectral/leave_one_out.h"
#include "spectral/range_sketch.h"

namespace eigenscope {

namespace {

constexpr double kRoundings = 4;
constexpr int64_t kScaleProbes = 4;

// From the sum of |lambda|^2q of factor A to the norm of A. An interval that reaches below zero
// ends there.
class Root {
 public:
  Root(int64_t power, double factor) : exponent_(1.0 / double(2 * power)), factor_(factor) {}
  Estimate of(const Estimate& sum) const {
    Estimate norm;
    norm.value = root(sum.value);
    // By the slope of the root; at zero the root of the error.
    norm.standardError = sum.value > 0
                             ? exponent_ * norm.value * std::min(1.0, sum.standardError / sum.value)
                             : root(sum.standardError);
    norm.low = root(sum.low);
    norm.high = root(sum.high);
    return norm;
  }

 private:
  double root(double x) const { return x > 0 ? std::pow(x, exponent_) / factor_ : 0.0; }
  double exponent_, factor_;
};

class Common : public Sampler {
 public:
  Common(ProductCounter& a, const NormOptions& options, Root root)
      : a_(a), options_(options), root_(root) {}
  double scale(const Estimate& estimate) const override { return estimate.value; }

 protected:
  double rounding(double sum) const { return kRoundings * roundingOf(a_.op().precision()) * sum; }
  ProductCounter& a_;
  const NormOptions& options_;
  Root root_;
};

class Hutchinson : public Common {
 public:
  Hutchinson(ProductCounter& a, const NormOptions& options, Root root)
      : Common(a, options, root),
        z_(a.op().dim(), options.blockSize, a.op().precision(), options.threads, &a.task()),
        y_(a.op().dim(), options.blockSize, a.op().precision(), options.threads, &a.task()) {}

  Shape shape() const override { return {"hutchinson", 1, 2, 32, 0, false}; }
  int64_t samples() const override { return squares_.size(); }
  void grow(int64_t samples) override {
    while (this->samples() < samples) {
      const int64_t first = this->samples(), count = std::min(options_.blockSize, samples - first);
      fillProbes(z_, 0, count, Probes::Rademacher, options_.seed, kNormProbes + first,
                 a_.op().index());
      a_.apply(z_.column(0), y_.column(0), count);
      for (int64_t j = 0; j < count; ++j) squares_.push_back(std::pow(y_.norm(j), 2));
    }
  }
  Estimate estimate() override {
    const double largest = *std::max_element(squares_.begin(), squares_.end());
    return root_.of(meanOf(squares_, rounding(largest)));
  }

 private:
  Basis z_, y_;
  std::vector<double> squares_;
};

class XTrace : public Common {
 public:
  XTrace(ProductCounter& a, const NormOptions& options, Root root)
      : Common(a, options, root), sketch_(a, [&] {
          RangeSketch::Plan plan;
          plan.seed = options.seed;
          plan.column = kNormProbes;
          plan.block = options.blockSize;
          plan.threads = options.threads;
          plan.keepProducts = true;
          return plan;
        }()) {}

  Shape shape() const override { return {"xtrace", 2, 2, 16, 2, true}; }
  int64_t samples() const override { return sketch_.samples(); }
  bool exhausted() const override { return sketch_.exhausted(); }
  void grow(int64_t samples) override { sketch_.grow(samples); }
  Estimate estimate() override {
    if (sketch_.exhausted()) {
      double sum = 0;
      for (int64_t j = 0; j < sketch_.rank(); ++j) sum += std::pow(sketch_.products().norm(j), 2);
      return root_.of(symmetricEstimate(sum, 0, 1, rounding(sum)));
    }
    const LeaveOneOut mean = xtrace(sketch_, squareMoments(sketch_));
    return root_.of(
        symmetricEstimate(mean.value, mean.variance, samples() - 1, rounding(mean.value)));
  }

 private:
  RangeSketch sketch_;
};

// Root mean square of ||A z||.
double sizeOf(ProductCounter& a, uint64_t seed, int threads) {
  const int64_t dim = a.op().dim(), count = std::min(dim, kScaleProbes);
  Basis z(dim, count, a.op().precision(), threads), y(dim, count, a.op().precision(), threads);
  fillProbes(z, 0, count, Probes::Rademacher, seed, kNormProbes + (uint64_t{1} << 39),
             a.op().index());
  a.apply(z.column(0), y.column(0), count);
  double squares = 0;
  for (int64_t j = 0; j < count; ++j) squares += std::pow(y.norm(j), 2);
  return std::sqrt(squares / double(count));
}

}  // namespace

SampledEstimate evenNorm(LinearOperator& op, const NormOptions& given, Task& task) {
  NormOptions options = given;
  const int64_t power = options.power;
  const int64_t dim = op.dim();
  if (power < 1)
    throw Error(ErrorKind::Option, "power must be at least 1, got " + std::to_string(power));
  if (options.blockSize < 1)
    throw Error(ErrorKind::Option,
                "blockSize must be at least 1, got " + std::to_string(options.blockSize));
  options.blockSize = std::min(options.blockSize, dim);
  const char* call = power == 1 ? "frobeniusNorm" : "schattenNorm";
  StopRule& stop = options.stop;
  if (stop.products == 0 && stop.tol == 0 && stop.standardError == 0) stop.tol = 0.01;
  if (options.method == NormMethod::Exact) {
    requireExact(call, stop, dim * power);
    stop = {.products = dim * power};
  }
  // Powers of an operator that is far from 1 would leave the range of float.
  double factor = 1;
  int64_t spent = 0;
  if (power > 1) {
    ProductCounter first(op, task, 0);
    const double size = sizeOf(first, options.seed, options.threads);
    spent = first.products();
    if (size > 0) factor = std::exp2(-std::round(std::log2(size)));
  }
  PowerOperator raised(op, power, factor);
  ProductCounter a(power > 1 ? static_cast<LinearOperator&>(raised) : op, task, stop.maxProducts);
  const Root root(power, factor);
  std::unique_ptr<Common> sampler;
  if (options.method == NormMethod::XTrace)
    sampler = std::make_unique<XTrace>(a, options, root);
  else
    sampler = std::make_unique<Hutchinson>(a, options, root);
  const auto exact = [&] {
    double sum = 0;
    visitColumns(a, options.threads, [&](int64_t, int64_t count, Basis& columns) {
      for (int64_t j = 0; j < count; ++j) sum += std::pow(columns.norm(j), 2);
    });
    return root.of(symmetricEstimate(sum, 0, 1, kRoundings * roundingOf(op.precision()) * sum));
  };
  SampledEstimate result = sampleUntil(call, *sampler, stop, a, power, exact);
  result.products += spent;
  return result;
}

}  // namespace eigenscope
