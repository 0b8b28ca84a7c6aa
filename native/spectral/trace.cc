#include "spectral/trace.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "linalg/blas.h"
#include "spectral/leave_one_out.h"
#include "spectral/range_sketch.h"

namespace eigenscope {

namespace {

// Rounding of a result, in roundings of what it was computed from.
constexpr double kRoundings = 4;
// A sketch of a semi-definite operator is shifted by this many roundings, to be positive definite
// and of full rank.
double shiftRoundings(Precision precision) { return precision == Precision::F32 ? 16 : 200; }

double innerProduct(const Basis& x, int64_t i, const Basis& y, int64_t j) {
  double product = 0;
  x.innerProducts(i, 1, y, j, 1, &product);
  return product;
}

class Common : public Sampler {
 public:
  Common(ProductCounter& a, const TraceOptions& options) : a_(a), options_(options) {
    for (double value : options.values) {
      offset_ += value;
      offsetSize_ = std::hypot(offsetSize_, value);
    }
  }

  double scale(const Estimate& estimate) const override {
    return std::max(std::abs(estimate.value + offset_), std::hypot(frobenius(), offsetSize_));
  }
  virtual double asymmetry() const { return 0; }

 protected:
  virtual double frobenius() const = 0;
  double rounding(double size) const { return kRoundings * roundingOf(a_.op().precision()) * size; }
  RangeSketch::Plan sketchPlan() const {
    RangeSketch::Plan plan;
    plan.seed = options_.seed;
    plan.column = kTraceSketch;
    plan.block = options_.blockSize;
    plan.threads = options_.threads;
    return plan;
  }

  ProductCounter& a_;
  const TraceOptions& options_;

 private:
  double offset_ = 0, offsetSize_ = 0;  // of the known eigenvalues
};

class Hutchinson : public Common {
 public:
  Hutchinson(ProductCounter& a, const TraceOptions& options)
      : Common(a, options),
        z_(a.op().dim(), options.blockSize, a.op().precision(), options.threads, &a.task()),
        y_(a.op().dim(), options.blockSize, a.op().precision(), options.threads, &a.task()) {}

  Shape shape() const override { return {"hutchinson", 1, 2, 32, 0, false}; }
  int64_t samples() const override { return forms_.size(); }
  void grow(int64_t samples) override {
    while (static_cast<int64_t>(forms_.size()) < samples) {
      const int64_t first = forms_.size(), count = std::min(options_.blockSize, samples - first);
      fillProbes(z_, 0, count, options_.probes, options_.seed, kTraceProbes + first,
                 a_.op().index());
      a_.apply(z_.column(0), y_.column(0), count);
      for (int64_t j = 0; j < count; ++j) {
        forms_.push_back(innerProduct(z_, j, y_, j));
        const double length = y_.norm(j);
        squares_ += length * length;
      }
    }
  }
  Estimate estimate() override {
    double size = frobenius();
    for (double x : forms_) size = std::max(size, std::abs(x));
    return meanOf(forms_, rounding(size));
  }

 protected:
  double frobenius() const override {
    return forms_.empty() ? 0.0 : std::sqrt(squares_ / double(forms_.size()));
  }

 private:
  Basis z_, y_;
  std::vector<double> forms_;
  double squares_ = 0;
};

class HutchPP : public Common {
 public:
  HutchPP(ProductCounter& a, const TraceOptions& options)
      : Common(a, options),
        sketch_(a,
                [&] {
                  RangeSketch::Plan plan = sketchPlan();
                  plan.probes = options.probes;
                  plan.overlaps = false;
                  return plan;
                }()),
        z_(a.op().dim(), options.blockSize, a.op().precision(), options.threads, &a.task()),
        y_(a.op().dim(), options.blockSize, a.op().precision(), options.threads, &a.task()) {
    // What columns that join Q share with the probes of before, by the symmetry of A from A q.
    sketch_.onColumns = [this](int64_t first, int64_t count, Basis& products) {
      for (int64_t j = 0; j < probes(); j += options_.blockSize) {
        const int64_t width = std::min(options_.blockSize, probes() - j);
        fill(j, width);
        appendOverlaps(inside_, j, width, sketch_.q(), first, count, z_);
        appendOverlaps(across_, j, width, products, 0, count, z_);
      }
    };
  }

  Shape shape() const override { return {"hutch++", 3, 2, 16, 1, true}; }
  int64_t samples() const override { return sketch_.samples(); }
  bool exhausted() const override { return sketch_.exhausted(); }
  double asymmetry() const override { return sketch_.asymmetry(); }
  void grow(int64_t samples) override {
    sketch_.grow(samples);
    while (probes() < samples && !sketch_.exhausted()) {
      const int64_t first = probes(), count = std::min(options_.blockSize, samples - first);
      fill(first, count);
      a_.apply(z_.column(0), y_.column(0), count);
      for (int64_t j = 0; j < count; ++j) forms_.push_back(innerProduct(z_, j, y_, j));
      inside_.resize(first + count);
      across_.resize(first + count);
      appendOverlaps(inside_, first, count, sketch_.q(), 0, sketch_.rank(), z_);
      appendOverlaps(across_, first, count, sketch_.q(), 0, sketch_.rank(), y_);
    }
  }
  Estimate estimate() override {
    const int64_t rank = sketch_.rank();
    const std::vector<double> h = sketch_.h();
    double known = 0;
    for (int64_t i = 0; i < rank; ++i) known += h[i * rank + i];
    const double noise = rounding(sketch_.productLengths() + std::abs(known));
    if (sketch_.exhausted()) return symmetricEstimate(known, 0, 1, noise);
    std::vector<double> rest(probes()), image(rank);
    for (int64_t j = 0; j < probes(); ++j) {
      const double* c = inside_[j].data();
      gemv('N', rank, rank, 1.0, h.data(), rank, c, 0.0, image.data());
      rest[j] =
          known + forms_[j] - 2 * dot(rank, c, across_[j].data()) + dot(rank, c, image.data());
    }
    return meanOf(rest, noise);
  }

 protected:
  double frobenius() const override { return sketch_.frobenius(); }

 private:
  int64_t probes() const { return forms_.size(); }
  void fill(int64_t first, int64_t count) {
    fillProbes(z_, 0, count, options_.probes, options_.seed, kTraceProbes + first, a_.op().index());
  }
  static void appendOverlaps(Columns& columns, int64_t at, int64_t width, const Basis& basis,
                             int64_t first, int64_t count, const Basis& other) {
    std::vector<double> products(count * width);
    basis.innerProducts(first, count, other, 0, width, products.data());
    for (int64_t j = 0; j < width; ++j)
      columns[at + j].insert(columns[at + j].end(), products.begin() + j * count,
                             products.begin() + (j + 1) * count);
  }

  RangeSketch sketch_;
  Basis z_, y_;
  std::vector<double> forms_;  // z^T A z
  Columns inside_, across_;    // Q^T z, Q^T A z
};

class XTrace : public Common {
 public:
  XTrace(ProductCounter& a, const TraceOptions& options)
      : Common(a, options), sketch_(a, sketchPlan()) {}

  Shape shape() const override { return {"xtrace", 2, 2, 16, 1, true}; }
  int64_t samples() const override { return sketch_.samples(); }
  bool exhausted() const override { return sketch_.exhausted(); }
  double asymmetry() const override { return sketch_.asymmetry(); }
  void grow(int64_t samples) override { sketch_.grow(samples); }
  Estimate estimate() override {
    const int64_t rank = sketch_.rank();
    if (sketch_.exhausted()) {
      const std::vector<double> h = sketch_.h();
      double known = 0;
      for (int64_t i = 0; i < rank; ++i) known += h[i * rank + i];
      return symmetricEstimate(known, 0, 1, rounding(sketch_.productLengths()));
    }
    const LeaveOneOut mean = xtrace(sketch_, traceMoments(sketch_));
    return symmetricEstimate(mean.value, mean.variance, sketch_.samples() - 1,
                             rounding(sketch_.productLengths()));
  }

 protected:
  double frobenius() const override { return sketch_.frobenius(); }

 private:
  RangeSketch sketch_;
};

class XNysTrace : public Common {
 public:
  XNysTrace(ProductCounter& a, const TraceOptions& options)
      : Common(a, options), sketch_(a, [&] {
          RangeSketch::Plan plan = sketchPlan();
          plan.shiftRoundings = shiftRoundings(a.op().precision());
          plan.second = false;
          plan.gram = true;
          return plan;
        }()) {}

  Shape shape() const override { return {"xnystrace", 1, 2, 16, 1, true}; }
  int64_t samples() const override { return sketch_.samples(); }
  void grow(int64_t samples) override { sketch_.grow(samples); }
  Estimate estimate() override {
    if (sketch_.frobenius() == 0) return {};
    LeaveOneOut mean;
    double least = 0;
    if (!xnystrace(sketch_, mean, least))
      throw Error(
          ErrorKind::Option,
          "xnystrace needs a positive semi-definite operator (ggn, fisher), and this one is "
          "not: the sketch has an eigenvalue of " +
              shortNumber(least) + " times its largest; use method xtrace, hutch++ or hutchinson");
    const double size = double(sketch_.samples()) * sketch_.frobenius() + std::abs(mean.value) +
                        std::sqrt(double(a_.op().dim())) * sketch_.frobenius();
    return symmetricEstimate(mean.value, mean.variance, sketch_.samples() - 1, rounding(size));
  }

 protected:
  double frobenius() const override { return sketch_.frobenius(); }

 private:
  RangeSketch sketch_;
};

std::unique_ptr<Common> samplerFor(ProductCounter& a, const TraceOptions& options) {
  switch (options.method) {
    case TraceMethod::HutchPP: return std::make_unique<HutchPP>(a, options);
    case TraceMethod::XTrace: return std::make_unique<XTrace>(a, options);
    case TraceMethod::XNysTrace: return std::make_unique<XNysTrace>(a, options);
    default: return std::make_unique<Hutchinson>(a, options);
  }
}

template <class T>
double diagonalEntry(Basis& columns, int64_t j, int64_t i) {
  return static_cast<const T*>(columns.column(j))[i];
}

// The vectors, made orthonormal: an orthonormal basis of eigenvectors has the trace of the
// eigenvalues, however far from orthogonal they were.
Basis knownSpace(LinearOperator& op, const TraceOptions& options, Task& task) {
  const int64_t count = options.values.size(), dim = op.dim();
  if (count >= dim)
    throw Error(ErrorKind::Option, "trace: expected fewer known eigenpairs than the dimension, " +
                                       std::to_string(dim) + ", got " + std::to_string(count) +
                                       ": the trace is their sum");
  Basis known(dim, count, op.precision(), options.threads, &task);
  std::copy_n(static_cast<const std::byte*>(options.vectors),
              count * dim * static_cast<int64_t>(bytesOf(op.precision())),
              static_cast<std::byte*>(known.column(0)));
  double longest = 0;
  for (int64_t j = 0; j < count; ++j) longest = std::max(longest, known.norm(j));
  const double drop = 1e3 * roundingOf(op.precision()) * longest;
  if (orthonormalise(known, 0, count, drop, nullptr) < count)
    throw Error(ErrorKind::Option,
                "trace: expected known eigenvectors that are orthogonal, got ones that are "
                "linearly dependent");
  return known;
}

}  // namespace

const char* nameOf(TraceMethod method) {
  constexpr const char* kNames[] = {"hutchinson", "hutch++", "xtrace", "xnystrace", "exact"};
  return kNames[static_cast<int>(method)];
}

SampledEstimate trace(LinearOperator& op, const TraceOptions& given, Task& task) {
  TraceOptions options = given;
  const int64_t dim = op.dim();
  if (options.blockSize < 1)
    throw Error(ErrorKind::Option,
                "trace: blockSize must be at least 1, got " + std::to_string(options.blockSize));
  options.blockSize = std::min(options.blockSize, dim);
  StopRule& stop = options.stop;
  if (stop.products == 0 && stop.tol == 0 && stop.standardError == 0) stop.tol = 0.01;
  if (options.method == TraceMethod::Exact) {
    requireExact("trace", stop, dim);
    stop = {.products = dim};
  }
  std::unique_ptr<Basis> known;
  std::unique_ptr<DeflatedOperator> rest;
  if (!options.values.empty()) {
    known = std::make_unique<Basis>(knownSpace(op, options, task));
    rest = std::make_unique<DeflatedOperator>(op, *known);
  }
  ProductCounter a(rest ? *rest : op, task, stop.maxProducts);
  double offset = 0;
  for (double value : options.values) offset += value;

  const std::unique_ptr<Common> sampler = samplerFor(a, options);
  const auto exact = [&] {
    double sum = 0, size = 0;
    visitColumns(a, options.threads, [&](int64_t first, int64_t count, Basis& columns) {
      for (int64_t j = 0; j < count; ++j) {
        const double x = op.precision() == Precision::F32
                             ? diagonalEntry<float>(columns, j, first + j)
                             : diagonalEntry<double>(columns, j, first + j);
        sum += x;
        size += columns.norm(j);
      }
    });
    return symmetricEstimate(sum, 0, 1, roundingOf(op.precision()) * size);
  };
  SampledEstimate result = sampleUntil("trace", *sampler, stop, a, 1, exact);
  result.value += offset;
  result.low += offset;
  result.high += offset;
  if (!asymmetryWarning(sampler->asymmetry(), op.precision()).empty())
    result.warnings.push_back(
        "the operator does not look symmetric: u^T A v and v^T A u differ by " +
        shortNumber(sampler->asymmetry()) +
        " of its norm; use method hutchinson or exact, which do not need it");
  return result;
}

}  // namespace eigenscope
