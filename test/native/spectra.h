#pragma once

#include <doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "base/philox.h"
#include "linalg/blas.h"
#include "linalg/lapack.h"
#include "spectral/compose.h"
#include "spectral/eigsh.h"
#include "spectral/ritz.h"

// Operators with known spectra, and what every result of eigsh must satisfy.
namespace eigenscope::spectra {

inline std::vector<double> randomSymmetric(int64_t dim, uint64_t seed) {
  std::vector<double> g(dim * dim), a(dim * dim);
  fillGaussian(g.data(), dim, dim, seed, 1000);
  for (int64_t j = 0; j < dim; ++j)
    for (int64_t i = 0; i < dim; ++i)
      a[j * dim + i] = (g[j * dim + i] + g[i * dim + j]) / std::sqrt(2.0 * dim);
  return a;
}

// Q diag(values) Q^T for a random orthogonal Q.
inline std::vector<double> matrixWithSpectrum(const std::vector<double>& values, uint64_t seed) {
  const int64_t dim = values.size();
  std::vector<double> q(dim * dim), scaled(dim * dim), a(dim * dim);
  fillGaussian(q.data(), dim, dim, seed, 2000);
  qrOrthonormal(dim, dim, q.data(), dim);
  for (int64_t j = 0; j < dim; ++j)
    for (int64_t i = 0; i < dim; ++i) scaled[j * dim + i] = q[j * dim + i] * values[j];
  gemm('N', 'T', dim, dim, dim, 1.0, scaled.data(), dim, q.data(), dim, 0.0, a.data(), dim);
  for (int64_t j = 0; j < dim; ++j)
    for (int64_t i = 0; i < j; ++i) a[j * dim + i] = a[i * dim + j];
  return a;
}

inline OperatorPtr operatorWithSpectrum(const std::vector<double>& values, Precision precision,
                                        uint64_t seed = 1) {
  return denseOperator(matrixWithSpectrum(values, seed), values.size(), precision);
}

inline std::vector<double> denseSpectrum(std::vector<double> matrix, int64_t dim) {
  return symmetricEigenvalues(dim, matrix.data(), dim);
}

// Spikes on random directions plus a symmetric Gaussian matrix whose spectrum fills a semicircle of
// the given radius.
inline OperatorPtr spikedOperator(int64_t dim, const std::vector<double>& spikes, double radius,
                                  Precision precision) {
  std::vector<double> a = randomSymmetric(dim, 7);
  for (double& x : a) x *= radius / 2;
  const int64_t count = spikes.size();
  std::vector<double> q(dim * count), scaled(dim * count);
  fillGaussian(q.data(), dim, count, 11, 0);
  qrOrthonormal(dim, count, q.data(), dim);
  for (int64_t j = 0; j < count; ++j)
    for (int64_t i = 0; i < dim; ++i) scaled[j * dim + i] = q[j * dim + i] * spikes[j];
  gemm('N', 'T', dim, dim, count, 1.0, scaled.data(), dim, q.data(), dim, 1.0, a.data(), dim);
  return denseOperator(std::move(a), dim, precision);
}

inline OperatorPtr diagonalOperator(const std::vector<double>& values, Precision precision) {
  const int64_t dim = values.size();
  std::vector<double> matrix(dim * dim, 0.0);
  for (int64_t i = 0; i < dim; ++i) matrix[i * dim + i] = values[i];
  return denseOperator(std::move(matrix), dim, precision);
}

// A diagonal operator that counts, and can be made noisy, wrong or observant.
class SpectrumOperator : public LinearOperator {
 public:
  SpectrumOperator(std::vector<double> values, Precision precision)
      : values_(std::move(values)), precision_(precision) {}

  double noise = 0;  // relative, fresh in every product
  std::function<double(int64_t product, int64_t i, double y)> spoil;
  std::function<void(int64_t product)> onProduct;
  int64_t calls = 0;
  std::vector<double> firstInput;

  int64_t dim() const override { return values_.size(); }
  Precision precision() const override { return precision_; }
  void apply(const void* x, void* y, int64_t count, Task&) override {
    if (precision_ == Precision::F32)
      run(static_cast<const float*>(x), static_cast<float*>(y), count);
    else
      run(static_cast<const double*>(x), static_cast<double*>(y), count);
  }

 private:
  template <class T>
  void run(const T* x, T* y, int64_t count) {
    const int64_t size = dim();
    if (firstInput.empty()) firstInput.assign(x, x + size);
    for (int64_t j = 0; j < count; ++j, x += size, y += size) {
      ++calls;
      double squares = 0;
      for (int64_t i = 0; i < size; ++i) squares += values_[i] * values_[i] * x[i] * x[i];
      const double level = noise * std::sqrt(squares / size);
      for (int64_t i = 0; i < size; ++i) {
        double value = values_[i] * x[i];
        if (noise > 0) value += level * gaussianPair(77, calls, i)[0];
        if (spoil) value = spoil(calls, i, value);
        y[i] = static_cast<T>(value);
      }
      if (onProduct) onProduct(calls);
    }
  }

  std::vector<double> values_;
  Precision precision_;
};

// A reproducible source of test cases.
class Choice {
 public:
  explicit Choice(uint64_t seed) : seed_(seed) {}
  double uniform() { return randomUniform(seed_, RandomStream::Uniform, 0, at_++); }
  int64_t integer(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(uniform() * double(high - low + 1));
  }

 private:
  uint64_t seed_, at_ = 0;
};

inline EigshResult solve(LinearOperator& op, const EigshOptions& options) {
  Task task;
  return eigsh(op, options, task);
}

// What something that must fail in this way says.
template <class Work>
std::string messageOf(ErrorKind kind, Work&& work) {
  try {
    work();
  } catch (const Error& error) {
    CHECK(error.kind == kind);
    return error.what();
  }
  FAIL("no error was thrown");
  return {};
}

inline std::string messageOf(LinearOperator& op, const EigshOptions& options, ErrorKind kind) {
  return messageOf(kind, [&] { solve(op, options); });
}

inline bool mentions(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return true;
  MESSAGE("got: " << text);
  return false;
}

inline std::vector<double> vectorsOf(const LinearOperator& op, const EigshResult& r) {
  const std::size_t size = r.values.size() * op.dim();
  std::vector<double> v(size);
  if (op.precision() == Precision::F32) {
    const float* in = reinterpret_cast<const float*>(r.vectors.data());
    std::copy(in, in + size, v.begin());
  } else {
    std::memcpy(v.data(), r.vectors.data(), size * sizeof(double));
  }
  return v;
}

inline std::vector<double> expectedValues(const std::vector<double>& all, int64_t k, Which which) {
  std::vector<double> values;
  for (int64_t i : selectBest(all, k, which)) values.push_back(all[i]);
  return values;
}

// Slack relative to the largest Ritz value.
inline void checkValues(const EigshResult& r, const std::vector<double>& expected, double slack) {
  REQUIRE(r.values.size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CAPTURE(i);
    CHECK(std::abs(r.values[i] - expected[i]) <= slack * r.scale);
  }
}

// As checkValues; where LM has ties of opposite sign, by magnitude.
inline void checkMagnitudes(const EigshResult& r, const std::vector<double>& expected, double slack,
                            Which which) {
  REQUIRE(r.values.size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CAPTURE(i);
    const bool magnitude = which == Which::LM;
    const double got = magnitude ? std::abs(r.values[i]) : r.values[i];
    CHECK(std::abs(got - (magnitude ? std::abs(expected[i]) : expected[i])) <= slack * r.scale);
  }
}

// Sizes, order, orthonormal vectors with fixed sign, residuals that a product in the operator's
// precision reproduces, and `converged` meaning what it says.
inline void checkPairs(LinearOperator& op, const EigshResult& r, const EigshOptions& options) {
  const int64_t dim = op.dim(), k = options.k;
  const bool single = op.precision() == Precision::F32;
  REQUIRE(static_cast<int64_t>(r.values.size()) == k);
  REQUIRE(static_cast<int64_t>(r.residuals.size()) == k);
  REQUIRE(static_cast<int64_t>(r.vectors.size()) == k * dim * (single ? 4 : 8));
  for (int64_t i = 1; i < k; ++i) {
    const double a = r.values[i - 1], b = r.values[i];
    switch (options.which) {
      case Which::LM: CHECK(std::abs(a) >= std::abs(b)); break;
      case Which::SA: CHECK(a <= b); break;
      default: CHECK(a >= b);
    }
  }
  const std::vector<double> v = vectorsOf(op, r);
  std::vector<double> gram(k * k);
  gemm('T', 'N', k, k, dim, 1.0, v.data(), dim, v.data(), dim, 0.0, gram.data(), k);
  const double rounding = single ? 1e-7 : 1e-15;
  const double defect = std::max(100 * rounding, 10 * r.tol);
  for (int64_t j = 0; j < k; ++j)
    for (int64_t i = 0; i < k; ++i) CHECK(std::abs(gram[j * k + i] - (i == j)) < defect);
  std::vector<std::byte> product(r.vectors.size());
  Task task;
  op.apply(r.vectors.data(), product.data(), k, task);
  double worst = 0;
  for (int64_t j = 0; j < k; ++j) {
    double square = 0, largest = 0, signedLargest = 0;
    for (int64_t i = 0; i < dim; ++i) {
      const int64_t at = j * dim + i;
      const double y = single ? reinterpret_cast<const float*>(product.data())[at]
                              : reinterpret_cast<const double*>(product.data())[at];
      square += (y - r.values[j] * v[at]) * (y - r.values[j] * v[at]);
      if (std::abs(v[at]) > largest) largest = std::abs(v[at]), signedLargest = v[at];
    }
    CHECK(signedLargest > 0);
    CHECK(std::abs(std::sqrt(square) - r.residuals[j]) <= 20 * rounding * r.scale);
    worst = std::max(worst, r.residuals[j]);
  }
  CHECK(r.converged == (worst <= r.tol * r.scale));
  CHECK(r.converged == r.reason.empty());
  CHECK(r.products > 0);
}

}  // namespace eigenscope::spectra
