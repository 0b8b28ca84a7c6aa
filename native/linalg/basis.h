#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/precision.h"
#include "base/task.h"

namespace eigenscope {

// A set of `capacity` vectors of length dim, each contiguous, stored in float or double. Inner
// products, projections and rotations are computed in double whatever the storage: rows are taken
// in chunks whose size depends on shapes only, converted, and handed to the BLAS.
class Basis {
 public:
  // `threads` share the row chunks; results do not depend on their number. With a task, sweeps over
  // the vectors stop with Error (Abort) when it is cancelled.
  Basis(int64_t dim, int64_t capacity, Precision precision, int threads = 1,
        const Task* task = nullptr);

  int64_t dim() const { return dim_; }
  int64_t capacity() const { return capacity_; }
  Precision precision() const { return precision_; }
  int threads() const { return threads_; }
  const Task* task() const { return task_; }
  void checkCancelled() const {
    if (task_) task_->check();
  }

  void* column(int64_t j) { return data_.get() + j * dim_ * bytesOf(precision_); }
  const void* column(int64_t j) const { return data_.get() + j * dim_ * bytesOf(precision_); }

  // Rounds `count` double vectors into columns j, j + 1, ...; `load` is the inverse.
  void store(int64_t j, int64_t count, const double* vectors);
  void load(int64_t j, int64_t count, double* vectors) const;

  void copyColumn(int64_t from, int64_t to);
  void swapColumns(int64_t a, int64_t b);

  // Makes the b vectors of w orthogonal to columns [0, m), which are orthonormal, and writes what
  // was taken away to `coefficients` (m x b): w_before = V coefficients + w_after. Classical
  // Gram-Schmidt, repeated until the remaining overlap is at rounding level relative to what is
  // left of w; the repetition that measures the overlap shares the memory sweep of the update.
  void project(double* w, int64_t b, int64_t m, double* coefficients) const;

  // w -= V[0 .. m - 1] coefficients, for one double vector.
  void subtract(double* w, int64_t m, const double* coefficients) const;

  // products (count x otherCount) = V[first ..]^T W[otherFirst ..].
  void innerProducts(int64_t first, int64_t count, const Basis& other, int64_t otherFirst,
                     int64_t otherCount, double* products) const;

  // Columns first .. first + keep - 1 become V[first .. first + m - 1] S, S of m x keep.
  void rotate(int64_t first, int64_t m, int64_t keep, const double* s);

  // The upper triangular R (count x count) of a QR factorisation of columns [first, first + count):
  // Householder QR down the row chunks, each stacked below the R so far. Not threaded.
  void triangle(int64_t first, int64_t count, double* r) const;

  double norm(int64_t j) const;
  void scaleColumn(int64_t j, double factor);

  // Gives the memory of the columns from `count` on back.
  void shrink(int64_t count);

 private:
  // One thread's share of a sweep: a run of rows, and where its sums go.
  struct Strip {
    int64_t begin, end;  // rows
    double* sums;
  };
  // Runs `work` over strips that depend on dim alone, and adds up the `sums` numbers each strip
  // produced, in order.
  void sweep(int64_t sums, double* total, const std::function<void(const Strip&)>& work) const;

  // Adds V^T w over the rows of a strip, after w -= V taken where that is given.
  void projectStrip(const Strip& strip, double* w, int64_t b, int64_t m, const double* taken) const;

  int64_t chunkRows(int64_t columns) const;
  // Rows [row, row + rows) of `count` columns in double: a view with its leading dimension, in
  // place where the storage is double, else converted into scratch.
  const double* chunk(int64_t row, int64_t rows, int64_t first, int64_t count,
                      std::vector<double>& scratch, int64_t& ld) const;

  struct Free {
    void operator()(std::byte* p) const;
  };

  int64_t dim_;
  int64_t capacity_;
  Precision precision_;
  int threads_;
  const Task* task_;
  std::unique_ptr<std::byte, Free> data_;
};

// Replaces columns [first, first + count) by orthonormal ones that span the same space, and returns
// their number, the numerical rank: directions of length at most `drop`, or below rounding
// relative to the longest, are left out. With `r` (count x count, may be null) the given columns
// equal Q r, r having `rank` rows and leading dimension count.
int64_t orthonormalise(Basis& basis, int64_t first, int64_t count, double drop, double* r);

}  // namespace eigenscope
