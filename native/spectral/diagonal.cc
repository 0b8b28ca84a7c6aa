#include "spectral/diagonal.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "linalg/blas.h"
#include "run/pool.h"
#include "spectral/range_sketch.h"

namespace eigenscope {

namespace {

constexpr double kRoundings = 4;
constexpr int64_t kChunkRows = 2048;
constexpr int64_t kNeighbours = 8;  // pairs that a probe enters

double entry(const Basis& basis, int64_t j, int64_t i) {
  return basis.precision() == Precision::F32 ? static_cast<const float*>(basis.column(j))[i]
                                             : static_cast<const double*>(basis.column(j))[i];
}

double normOf(const std::vector<double>& x) { return norm2(x.size(), x.data()); }

class Common : public Sampler {
 public:
  Common(ProductCounter& a, const DiagonalOptions& options, DiagonalResult& result)
      : a_(a), options_(options), result_(result) {}
  double scale(const Estimate& estimate) const override { return estimate.value; }

 protected:
  Estimate whole(double rounding) const {
    for (double& error : result_.standardErrors) error = std::hypot(error, rounding);
    Estimate estimate;
    estimate.value = normOf(result_.values);
    estimate.standardError = normOf(result_.standardErrors);
    return estimate;
  }
  double roundings() const { return kRoundings * roundingOf(a_.op().precision()); }

  ProductCounter& a_;
  const DiagonalOptions& options_;
  DiagonalResult& result_;
};

class Hutchinson : public Common {
 public:
  Hutchinson(ProductCounter& a, const DiagonalOptions& options, DiagonalResult& result)
      : Common(a, options, result),
        z_(a.op().dim(), options.blockSize, a.op().precision(), options.threads, &a.task()),
        y_(a.op().dim(), options.blockSize, a.op().precision(), options.threads, &a.task()),
        mean_(a.op().dim(), 0.0),
        squares_(a.op().dim(), 0.0) {}

  Shape shape() const override { return {"hutchinson", 1, 2, 32, 0, false}; }
  int64_t samples() const override { return samples_; }
  void grow(int64_t samples) override {
    const int64_t dim = a_.op().dim();
    while (samples_ < samples) {
      const int64_t count = std::min(options_.blockSize, samples - samples_);
      fillProbes(z_, 0, count, Probes::Rademacher, options_.seed, kDiagonalProbes + samples_,
                 a_.op().index());
      a_.apply(z_.column(0), y_.column(0), count);
      for (int64_t j = 0; j < count; ++j) {
        ++samples_;
        const double length = y_.norm(j);
        products_ += length * length;
        for (int64_t i = 0; i < dim; ++i) {
          const double x = entry(z_, j, i) * entry(y_, j, i), before = x - mean_[i];
          mean_[i] += before / double(samples_);
          squares_[i] += before * (x - mean_[i]);
        }
      }
    }
  }
  Estimate estimate() override {
    const double n = double(samples_), dim = double(mean_.size());
    result_.values = mean_;
    result_.standardErrors.resize(mean_.size());
    for (std::size_t i = 0; i < mean_.size(); ++i)
      result_.standardErrors[i] = std::sqrt(squares_[i] / (n - 1) / n);
    return whole(roundings() * std::sqrt(products_ / n / dim));
  }

 private:
  Basis z_, y_;
  int64_t samples_ = 0;
  double products_ = 0;
  std::vector<double> mean_, squares_;  // over samples, and summed squares of deviations
};

class XDiag : public Common {
 public:
  XDiag(ProductCounter& a, const DiagonalOptions& options, DiagonalResult& result)
      : Common(a, options, result), sketch_(a, [&] {
          RangeSketch::Plan plan;
          plan.probes = Probes::Rademacher;
          plan.seed = options.seed;
          plan.column = kDiagonalProbes;
          plan.block = options.blockSize;
          plan.threads = options.threads;
          plan.keepProducts = true;
          plan.overlaps = false;
          return plan;
        }()) {}

  Shape shape() const override { return {"xdiag", 2, 3, 16, 3, true}; }
  int64_t samples() const override { return sketch_.samples(); }
  bool exhausted() const override { return sketch_.exhausted(); }
  void grow(int64_t samples) override { sketch_.grow(samples); }

  Estimate estimate() override {
    dim_ = a_.op().dim();
    rank_ = sketch_.rank();
    const int64_t chunks = (dim_ + kChunkRows - 1) / kChunkRows;
    result_.values.assign(dim_, 0.0);
    result_.standardErrors.assign(dim_, 0.0);
    const double rounding = roundings() * sketch_.productLengths() / std::sqrt(double(dim_));
    const bool leaves = !sketch_.exhausted();
    if (leaves) prepare();
    std::vector<std::vector<double>> covariances(chunks);
    parallel(options_.threads, chunks, [&](int, int64_t c) {
      a_.task().check();
      const int64_t row = c * kChunkRows, rows = std::min(kChunkRows, dim_ - row);
      leaves ? leaveOut(row, rows, covariances[c]) : onRange(row, rows);
    });
    if (leaves) inflate(covariances);
    return whole(rounding);
  }

 private:
  struct Pair {
    int64_t i, j;
    double one, other;  // the unit vector of j beside that of i is one s_j + other s_i
    double along;       // and has this product with r_i
  };

  void prepare() {
    const int64_t n = rank_;
    omega_ = std::make_unique<Basis>(dim_, n, a_.op().precision(), options_.threads, &a_.task());
    fillProbes(*omega_, 0, n, Probes::Rademacher, options_.seed, kDiagonalProbes, a_.op().index());
    const std::vector<double> r = sketch_.r();
    s_.assign(n * n, 0.0);
    for (int64_t i = 0; i < n; ++i) s_[i * n + i] = 1.0;
    trsm('L', 'U', 'T', 'N', n, n, 1.0, r.data(), n, s_.data(), n);
    along_.resize(n);
    for (int64_t i = 0; i < n; ++i) {
      double* s = s_.data() + i * n;
      const double length = norm2(n, s);
      for (int64_t l = 0; l < n; ++l) s[l] /= length;
      along_[i] = dot(n, s, r.data() + i * n);
    }
    // Each pair in both orders, one after the other.
    pairs_.clear();
    const auto add = [&](int64_t i, int64_t j) {
      const double *si = s_.data() + i * n, *sj = s_.data() + j * n;
      const double inner = dot(n, si, sj);
      std::vector<double> p(sj, sj + n);
      for (int64_t l = 0; l < n; ++l) p[l] -= inner * si[l];
      const double length = std::max(norm2(n, p.data()), 1e-12);
      pairs_.push_back(
          {i, j, 1 / length, -inner / length, dot(n, p.data(), r.data() + i * n) / length});
    };
    for (int64_t i = 0; i < n; ++i)
      for (int64_t h = 1; h <= std::min(kNeighbours, (n - 1) / 2); ++h) {
        add(i, (i + h) % n);
        add((i + h) % n, i);
      }
  }

  // Rows of a basis as a dense rows x count block.
  static std::vector<double> rowsOf(const Basis& basis, int64_t row, int64_t rows, int64_t count) {
    std::vector<double> block(rows * count);
    for (int64_t j = 0; j < count; ++j)
      for (int64_t i = 0; i < rows; ++i) block[j * rows + i] = entry(basis, j, row + i);
    return block;
  }

  // The diagonal of Q Q^T A.
  void onRange(int64_t row, int64_t rows) {
    for (int64_t j = 0; j < rank_; ++j)
      for (int64_t i = row; i < row + rows; ++i)
        result_.values[i] += entry(sketch_.q(), j, i) * entry(sketch_.products(), j, i);
  }

  // Estimates without each probe in turn, their mean and variance, and the covariances of pairs.
  void leaveOut(int64_t row, int64_t rows, std::vector<double>& covariances) {
    const int64_t n = rank_;
    const std::vector<double> q = rowsOf(sketch_.q(), row, rows, n);
    const std::vector<double> z = rowsOf(sketch_.products(), row, rows, n);
    const std::vector<double> omega = rowsOf(*omega_, row, rows, n);
    std::vector<double> qs(rows * n), zs(rows * n), mean(rows, 0.0), base(rows, 0.0);
    gemm('N', 'N', rows, n, n, 1.0, q.data(), rows, s_.data(), n, 0.0, qs.data(), rows);
    gemm('N', 'N', rows, n, n, 1.0, z.data(), rows, s_.data(), n, 0.0, zs.data(), rows);
    for (int64_t l = 0; l < rows * n; ++l) base[l % rows] += q[l] * z[l];
    const auto change = [&](int64_t i, int64_t l) {  // of the estimate without probe i
      const int64_t at = i * rows + l;
      return qs[at] * (omega[at] * along_[i] - zs[at]);
    };
    for (int64_t i = 0; i < n; ++i)
      for (int64_t l = 0; l < rows; ++l) mean[l] += change(i, l) / double(n);
    std::vector<double> squares(rows, 0.0);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t l = 0; l < rows; ++l) {
        const double d = change(i, l) - mean[l];
        squares[l] += d * d;
      }
    for (int64_t l = 0; l < rows; ++l) {
      result_.values[row + l] = base[l] + mean[l];
      result_.standardErrors[row + l] = std::sqrt(squares[l] / double(n - 1) / double(n));
    }
    covariances.assign(pairs_.size() / 2, 0.0);
    const auto joined = [&](const Pair& pair, int64_t l) {  // d_ij
      const int64_t i = pair.i * rows + l, j = pair.j * rows + l;
      const double qp = pair.one * qs[j] + pair.other * qs[i];
      const double zp = pair.one * zs[j] + pair.other * zs[i];
      return qp * (zp - omega[i] * pair.along);
    };
    for (std::size_t k = 0; k < covariances.size(); ++k)
      for (int64_t l = 0; l < rows; ++l)
        covariances[k] += joined(pairs_[2 * k], l) * joined(pairs_[2 * k + 1], l);
  }

  // As for XTrace (leave_one_out.h), the covariance of the estimates is part of the variance of
  // their mean. Entry by entry it would be all noise; its share is taken to be that of the sum.
  void inflate(const std::vector<std::vector<double>>& covariances) {
    const double count = double(pairs_.size() / 2);
    if (count == 0) return;
    std::vector<double> sums(pairs_.size() / 2, 0.0);
    for (const std::vector<double>& part : covariances)
      for (std::size_t k = 0; k < part.size(); ++k) sums[k] += part[k];
    double mean = 0, noise = 0;
    for (double x : sums) mean += x / count;
    for (double x : sums) noise += (x - mean) * (x - mean);
    noise = count > 1 ? std::sqrt(noise / (count - 1) / count) : 0.0;
    const double own = std::pow(normOf(result_.standardErrors), 2);
    if (!(own > 0)) return;
    const double factor = std::sqrt(1 + std::max(0.0, mean + noise) / own);
    for (double& error : result_.standardErrors) error *= factor;
  }

  RangeSketch sketch_;
  std::unique_ptr<Basis> omega_;
  int64_t dim_ = 0, rank_ = 0;
  std::vector<double> s_, along_;
  std::vector<Pair> pairs_;
};

}  // namespace

const char* nameOf(DiagonalMethod method) {
  constexpr const char* kNames[] = {"hutchinson", "xdiag", "exact"};
  return kNames[static_cast<int>(method)];
}

DiagonalResult diagonal(LinearOperator& op, const DiagonalOptions& given, Task& task) {
  DiagonalOptions options = given;
  const int64_t dim = op.dim();
  if (options.blockSize < 1)
    throw Error(ErrorKind::Option,
                "diagonal: blockSize must be at least 1, got " + std::to_string(options.blockSize));
  options.blockSize = std::min(options.blockSize, dim);
  StopRule& stop = options.stop;
  if (stop.products == 0 && stop.tol == 0 && stop.standardError == 0)
    stop.products = options.method == DiagonalMethod::Exact ? dim : std::min<int64_t>(dim, 128);
  if (options.method == DiagonalMethod::Exact) {
    requireExact("diagonal", stop, dim);
    stop = {.products = dim};
  }
  DiagonalResult result;
  ProductCounter a(op, task, stop.maxProducts);
  std::unique_ptr<Common> sampler;
  if (options.method == DiagonalMethod::XDiag)
    sampler = std::make_unique<XDiag>(a, options, result);
  else
    sampler = std::make_unique<Hutchinson>(a, options, result);
  const auto exact = [&] {
    result.values.resize(dim);
    visitColumns(a, options.threads, [&](int64_t first, int64_t count, Basis& columns) {
      for (int64_t j = 0; j < count; ++j) result.values[first + j] = entry(columns, j, first + j);
    });
    result.standardErrors.assign(dim, 0.0);
    Estimate estimate;
    estimate.value = normOf(result.values);
    return estimate;
  };
  result.whole = sampleUntil("diagonal", *sampler, stop, a, 1, exact);
  return result;
}

}  // namespace eigenscope
