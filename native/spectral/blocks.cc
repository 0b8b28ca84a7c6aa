#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <mutex>
#include <numeric>

#include "base/error.h"
#include "linalg/blas.h"
#include "linalg/lapack.h"
#include "spectral/structured.h"

// The kinds of blocks of a structured operator.
namespace eigenscope {

namespace {

constexpr double kEpsilon = std::numeric_limits<double>::epsilon();

// Row-major V (rows x columns) to left V right; left and right symmetric, in either order of
// memory. A right factor of 1 x 1 is a number.
void sandwich(int64_t rows, int64_t columns, const double* left, const double* right,
              const double* v, double* scratch, double* y) {
  // In column-major terms: V^T is columns x rows.
  if (columns == 1) {
    gemv('N', rows, rows, right[0], left, rows, v, 0.0, y);
    return;
  }
  if (rows == 1) {
    gemv('N', columns, columns, left[0], right, columns, v, 0.0, y);
    return;
  }
  gemm('N', 'N', columns, rows, columns, 1.0, right, columns, v, columns, 0.0, scratch, columns);
  gemm('N', 'N', columns, rows, rows, 1.0, scratch, columns, left, rows, 0.0, y, columns);
}

double squaresOf(const std::vector<double>& values) {
  return std::inner_product(values.begin(), values.end(), values.begin(), 0.0);
}

double traceOf(const std::vector<double>& matrix, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += matrix[static_cast<size_t>(i * n + i)];
  return sum;
}

std::string shown(double number) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", number);
  return text;
}

// 1 / (values + damping). What is lost in rounding beside the largest cannot be inverted.
std::vector<double> inverted(std::vector<double> values, double damping, const std::string& name) {
  double largest = 0;
  for (double& value : values) {
    value += damping;
    largest = std::max(largest, std::abs(value));
  }
  const double least = kEpsilon * largest;
  for (double& value : values) {
    if (!(std::abs(value) > least))
      throw Error(ErrorKind::Option,
                  "inverse: the block of " + name + " with damping " + shown(damping) +
                      " is singular: its smallest eigenvalue is below rounding of its largest; "
                      "give a larger damping");
    value = 1 / value;
  }
  return values;
}

struct Eigen {
  Matrix vectors;  // one a column
  std::vector<double> values;
};

Eigen decomposed(const std::vector<double>& matrix, int64_t n, bool semiDefinite) {
  auto vectors = std::make_shared<std::vector<double>>(matrix);
  Eigen eigen;
  eigen.values = symmetricEigen(n, vectors->data(), n);
  eigen.vectors = std::move(vectors);
  if (semiDefinite)
    for (double& value : eigen.values) value = std::max(value, 0.0);
  return eigen;
}

class EigenBlock final : public Block {
 public:
  EigenBlock(int64_t rows, int64_t columns, Matrix left, Matrix right, std::vector<double> values)
      : rows_(rows),
        columns_(columns),
        left_(std::move(left)),
        right_(std::move(right)),
        values_(std::move(values)) {}

  const char* kind() const override { return "eigen"; }
  int64_t size() const override { return rows_ * columns_; }
  int64_t bytes() const override {
    return static_cast<int64_t>((values_.size() + left_->size() + right_->size()) * sizeof(double));
  }

  void apply(const double* x, double* y) const override {
    const auto n = static_cast<size_t>(size());
    std::vector<double> inside(n), scratch(n);
    // Column-major: X = V^T is columns x rows, L^T V R transposed is R^T X L.
    const double *l = left_->data(), *r = right_->data();
    if (columns_ == 1) {
      gemv('T', rows_, rows_, 1.0, l, rows_, x, 0.0, inside.data());
      for (size_t i = 0; i < n; ++i) inside[i] *= values_[i];
      gemv('N', rows_, rows_, 1.0, l, rows_, inside.data(), 0.0, y);
      return;
    }
    gemm('T', 'N', columns_, rows_, columns_, 1.0, r, columns_, x, columns_, 0.0, scratch.data(),
         columns_);
    gemm('N', 'N', columns_, rows_, rows_, 1.0, scratch.data(), columns_, l, rows_, 0.0,
         inside.data(), columns_);
    for (size_t i = 0; i < n; ++i) inside[i] *= values_[i];
    gemm('N', 'N', columns_, rows_, columns_, 1.0, r, columns_, inside.data(), columns_, 0.0,
         scratch.data(), columns_);
    gemm('N', 'T', columns_, rows_, rows_, 1.0, scratch.data(), columns_, l, rows_, 0.0, y,
         columns_);
  }

  double trace() const override { return std::accumulate(values_.begin(), values_.end(), 0.0); }
  double squares() const override { return squaresOf(values_); }
  std::vector<double> eigenvalues() const override { return values_; }

  BlockPtr inverse(double damping, Damping how, const std::string& name) const override {
    if (how == Damping::Heuristic)
      throw Error(ErrorKind::Option,
                  "inverse: the heuristic damping is for Kronecker products; the "
                  "block of " +
                      name + " has eigenvalues of its own: damp it exactly");
    return std::make_shared<EigenBlock>(rows_, columns_, left_, right_,
                                        inverted(values_, damping, name));
  }

  std::vector<Part> parts() const override {
    // A column-major matrix is the transposed one in row-major order.
    std::vector<Part> all = {{"leftBasis", {rows_, rows_}, *left_},
                             {"values", {rows_, columns_}, values_}};
    if (columns_ > 1) all.insert(all.begin() + 1, {"rightBasis", {columns_, columns_}, *right_});
    return all;
  }

 private:
  const int64_t rows_, columns_;
  const Matrix left_, right_;
  const std::vector<double> values_;
};

class KroneckerBlock final : public Block {
 public:
  KroneckerBlock(int64_t rows, int64_t columns, std::vector<double> left, std::vector<double> right,
                 bool semiDefinite)
      : rows_(rows),
        columns_(columns),
        left_(std::move(left)),
        right_(std::move(right)),
        semiDefinite_(semiDefinite) {}

  const char* kind() const override { return columns_ == 1 ? "dense" : "kronecker"; }
  int64_t size() const override { return rows_ * columns_; }
  int64_t bytes() const override {
    return static_cast<int64_t>(2 * (left_.size() + right_.size()) * sizeof(double));
  }

  void apply(const double* x, double* y) const override {
    std::vector<double> scratch(static_cast<size_t>(columns_ == 1 || rows_ == 1 ? 0 : size()));
    sandwich(rows_, columns_, left_.data(), right_.data(), x, scratch.data(), y);
  }

  double trace() const override { return traceOf(left_, rows_) * traceOf(right_, columns_); }
  double squares() const override { return squaresOf(left_) * squaresOf(right_); }

  std::vector<double> eigenvalues() const override {
    const auto& [left, right] = spectra();
    std::vector<double> values;
    values.reserve(static_cast<size_t>(size()));
    for (double l : left.values)
      for (double r : right.values) values.push_back(l * r);
    return values;
  }

  BlockPtr inverse(double damping, Damping how, const std::string& name) const override {
    const auto& [left, right] = spectra();
    if (how == Damping::Exact || rows_ == 1 || columns_ == 1)
      return std::make_shared<EigenBlock>(rows_, columns_, left.vectors, right.vectors,
                                          inverted(eigenvalues(), damping, name));
    // Mean eigenvalues: traces over sizes. Where one is 0 there is no ratio to share out by.
    const double a = traceOf(right_, columns_) / static_cast<double>(columns_);
    const double b = traceOf(left_, rows_) / static_cast<double>(rows_);
    const double ratio = a > 0 && b > 0 ? std::sqrt(a / b) : 1, root = std::sqrt(damping);
    const std::vector<double> l = inverted(left.values, root / ratio, name);
    const std::vector<double> r = inverted(right.values, root * ratio, name);
    std::vector<double> values;
    values.reserve(static_cast<size_t>(size()));
    for (double x : l)
      for (double y : r) values.push_back(x * y);
    return std::make_shared<EigenBlock>(rows_, columns_, left.vectors, right.vectors,
                                        std::move(values));
  }

  std::vector<Part> parts() const override {
    if (columns_ == 1) {
      std::vector<double> matrix = left_;
      for (double& x : matrix) x *= right_[0];
      return {{"matrix", {rows_, rows_}, std::move(matrix)}};
    }
    return {{"B", {rows_, rows_}, left_}, {"A", {columns_, columns_}, right_}};
  }

 private:
  struct Spectra {
    Eigen left, right;
  };
  const Spectra& spectra() const {
    std::call_once(once_, [this] {
      spectra_.left = decomposed(left_, rows_, semiDefinite_);
      spectra_.right = decomposed(right_, columns_, semiDefinite_);
    });
    return spectra_;
  }

  const int64_t rows_, columns_;
  const std::vector<double> left_, right_;
  const bool semiDefinite_;
  mutable std::once_flag once_;
  mutable Spectra spectra_;
};

class DiagonalBlock final : public Block {
 public:
  // One value stands for all.
  DiagonalBlock(int64_t size, std::vector<double> values)
      : size_(size), values_(std::move(values)) {}

  const char* kind() const override { return splat() ? "identity" : "diagonal"; }
  int64_t size() const override { return size_; }
  int64_t bytes() const override { return static_cast<int64_t>(values_.size() * sizeof(double)); }
  void apply(const double* x, double* y) const override {
    for (int64_t i = 0; i < size_; ++i) y[i] = at(i) * x[i];
  }
  double trace() const override {
    double sum = 0;
    for (int64_t i = 0; i < size_; ++i) sum += at(i);
    return sum;
  }
  double squares() const override {
    double sum = 0;
    for (int64_t i = 0; i < size_; ++i) sum += at(i) * at(i);
    return sum;
  }
  std::vector<double> eigenvalues() const override {
    std::vector<double> all(static_cast<size_t>(size_));
    for (int64_t i = 0; i < size_; ++i) all[static_cast<size_t>(i)] = at(i);
    return all;
  }
  BlockPtr inverse(double damping, Damping, const std::string& name) const override {
    return std::make_shared<DiagonalBlock>(size_, inverted(values_, damping, name));
  }
  std::vector<Part> parts() const override { return {{"diagonal", {size_}, eigenvalues()}}; }

 private:
  bool splat() const { return values_.size() == 1 && size_ != 1; }
  double at(int64_t i) const { return values_[values_.size() == 1 ? 0 : static_cast<size_t>(i)]; }

  const int64_t size_;
  const std::vector<double> values_;
};

Matrix unit() { return std::make_shared<const std::vector<double>>(1, 1.0); }

}  // namespace

BlockPtr kroneckerBlock(int64_t rows, int64_t columns, std::vector<double> left,
                        std::vector<double> right, bool semiDefinite) {
  return std::make_shared<KroneckerBlock>(rows, columns, std::move(left), std::move(right),
                                          semiDefinite);
}

BlockPtr eigenBlock(int64_t rows, int64_t columns, Matrix left, Matrix right,
                    std::vector<double> values) {
  return std::make_shared<EigenBlock>(rows, columns, std::move(left),
                                      right ? std::move(right) : unit(), std::move(values));
}

BlockPtr denseBlock(int64_t size, std::vector<double> matrix, bool semiDefinite) {
  return std::make_shared<KroneckerBlock>(size, 1, std::move(matrix), std::vector<double>{1.0},
                                          semiDefinite);
}

BlockPtr diagonalBlock(std::vector<double> values) {
  const auto size = static_cast<int64_t>(values.size());
  return std::make_shared<DiagonalBlock>(size, std::move(values));
}

BlockPtr scaledIdentityBlock(int64_t size, double value) {
  return std::make_shared<DiagonalBlock>(size, std::vector<double>{value});
}

}  // namespace eigenscope
