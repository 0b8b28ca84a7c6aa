#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "linalg/basis.h"
#include "spectral/ritz.h"

namespace eigenscope {

// The relation A V = V T + beta_m v_(m+1) e_m^T of one start vector, T tridiagonal.
struct Tridiagonal {
  std::vector<double> diagonal;     // m
  std::vector<double> offDiagonal;  // m: beta_1 .. beta_m; the last is 0 when `exact`
  bool exact = false;               // the Krylov space is exhausted, up to rounding
  double startNorm = 0;             // of the start vector before it was normalised

  int64_t steps() const { return static_cast<int64_t>(diagonal.size()); }
  double beta() const { return offDiagonal.back(); }
};

// Eigenvalues (ascending) and eigenvectors (steps x steps, one a column) of the leading m rows.
struct TridiagonalEigen {
  std::vector<double> values;
  std::vector<double> vectors;
  double first(int64_t j) const { return vectors[j * size()]; }
  double last(int64_t j) const { return vectors[j * size() + size() - 1]; }
  int64_t size() const { return static_cast<int64_t>(values.size()); }
};
TridiagonalEigen eigenOf(const Tridiagonal& t, int64_t m);

// Lanczos from several start vectors side by side, so that products are blocks, each with full
// reorthogonalisation in double against a basis of its own. Lanes do not see each other: results
// do not depend on which others run beside them, as far as the operator's products do not.
class LanczosBlock {
 public:
  LanczosBlock(ProductCounter& a, int64_t lanes, int64_t steps, int threads);

  // Bytes that it takes.
  static int64_t bytesOf(int64_t dim, Precision precision, int64_t lanes, int64_t steps);

  // The same lanes from other vectors: `count` of them, contiguous, in double.
  void begin(const double* vectors, int64_t count);

  // One product for each lane that is not exact; false when there is none, or no room.
  bool step();

  int64_t lanes() const { return static_cast<int64_t>(lanes_.size()); }
  const Tridiagonal& tridiagonal(int64_t lane) const { return lanes_[lane]; }
  const Basis& basis(int64_t lane) const { return *bases_[lane]; }
  void stop(int64_t lane) { running_[lane] = false; }

  // Largest share of a product that a symmetric operator would not have.
  double asymmetry() const { return asymmetry_; }

 private:
  // Returns the share of asymmetry.
  double advance(int64_t lane, double* w);

  ProductCounter& a_;
  int64_t dim_, steps_;
  int threads_;
  std::vector<Tridiagonal> lanes_;
  std::vector<bool> running_;
  std::vector<double> productNorms_;
  std::vector<std::unique_ptr<Basis>> bases_;  // kept from one begin to the next
  std::vector<std::byte> in_, out_;
  std::vector<double> work_;
  double asymmetry_ = 0;
};

// While it lives, the reports of a task tell the share done of `total` products.
class ShareDone {
 public:
  ShareDone(Task& task, int64_t total);
  ~ShareDone() { task_.report = plain_; }
  ShareDone(const ShareDone&) = delete;
  ShareDone& operator=(const ShareDone&) = delete;

 private:
  Task& task_;
  std::function<void(const Progress&)> plain_;
};

// Lanes that fit into the budget, at most `wanted`; without a budget (0), into 1 GiB, but at least
// one. Throws Error (MemoryBudget) where one does not fit into a given budget.
int64_t lanesFor(const LinearOperator& op, int64_t wanted, int64_t steps, int64_t budget,
                 const char* where);

// "" where the asymmetry is within rounding.
std::string lanczosWarning(double asymmetry, Precision precision);

}  // namespace eigenscope
