#pragma once

#include <memory>
#include <string>
#include <vector>

#include "spectral/operator.h"

namespace eigenscope {

// How the inverse of a Kronecker product A x B is damped by d.
//   Exact      (A x B + d I)^-1, by the eigenvectors of the factors
//   Heuristic  (A + p sqrt(d) I)^-1 x (B + sqrt(d) / p I)^-1 with p^2 the ratio of the factors'
//              mean eigenvalues (Martens and Grosse 2015, section 6.3)
// Blocks that are no such product are damped exactly.
enum class Damping { Exact, Heuristic };

// One block of a block-diagonal matrix: symmetric, held in a form in which its spectrum and its
// inverse cost little. Numbers are in double.
class Block {
 public:
  virtual ~Block() = default;

  virtual const char* kind() const = 0;
  virtual int64_t size() const = 0;
  virtual int64_t bytes() const = 0;

  // y = A x for one vector.
  virtual void apply(const double* x, double* y) const = 0;

  virtual double trace() const = 0;
  virtual double squares() const = 0;  // of the Frobenius norm
  virtual std::vector<double> eigenvalues() const = 0;

  // Throws Error (Option) where the damped block is singular, with `name` in the message.
  virtual std::shared_ptr<const Block> inverse(double damping, Damping how,
                                               const std::string& name) const = 0;

  // What it is made of, for export; empty where it has no such part. Row-major.
  struct Part {
    std::string name;
    std::vector<int64_t> shape;
    std::vector<double> values;
  };
  virtual std::vector<Part> parts() const = 0;
};
using BlockPtr = std::shared_ptr<const Block>;

// V -> left V right for a matrix V of rows x columns, row-major: the Kronecker product of two
// symmetric factors. `semiDefinite`: both are Gram matrices, so that what is negative in their
// spectra is rounding and counts as 0.
BlockPtr kroneckerBlock(int64_t rows, int64_t columns, std::vector<double> left,
                        std::vector<double> right, bool semiDefinite);

// The same in given orthonormal bases, the columns of each (in column-major order), with any
// eigenvalues (rows x columns, row-major): V -> L ((L^T V R) * values) R^T.
using Matrix = std::shared_ptr<const std::vector<double>>;
BlockPtr eigenBlock(int64_t rows, int64_t columns, Matrix left, Matrix right,
                    std::vector<double> values);

// A symmetric matrix.
BlockPtr denseBlock(int64_t size, std::vector<double> matrix, bool semiDefinite);

BlockPtr diagonalBlock(std::vector<double> values);
BlockPtr scaledIdentityBlock(int64_t size, double value);

// A block-diagonal operator. Each block acts on the coordinates it names; every coordinate of the
// operator belongs to one block.
class StructuredOperator : public LinearOperator {
 public:
  struct Entry {
    std::string name;
    std::vector<int64_t> coordinates;  // of the operator, in the block's own order
    BlockPtr block;
  };

  // `index`: see LinearOperator. Throws Error (Option) where blocks overlap or leave a coordinate
  // out.
  StructuredOperator(std::vector<Entry> entries, int64_t dim, Precision precision,
                     std::vector<int64_t> index, int threads);

  int64_t dim() const override { return dim_; }
  Precision precision() const override { return precision_; }
  std::span<const int64_t> index() const override { return index_; }
  int threads() const { return threads_; }
  int64_t heldBytes() const;

  void apply(const void* x, void* y, int64_t count, Task& task) override;

  const std::vector<Entry>& entries() const { return entries_; }

  double trace() const;
  double frobenius() const;

  // Of each block, descending. The decompositions are kept, so that they cost once.
  std::vector<std::vector<double>> eigenvalues(Task& task) const;

  // Of A + damping I: the sign of the determinant and the logarithm of its absolute value, which
  // is -infinity where it is singular (the sign is 0 then).
  struct Determinant {
    int sign = 1;
    double logAbs = 0;
  };
  Determinant determinant(double damping, Task& task) const;

  std::shared_ptr<StructuredOperator> inverse(double damping, Damping how, Task& task) const;

 private:
  template <class T>
  void applyAs(const T* x, T* y, int64_t count, Task& task);

  std::vector<Entry> entries_;
  int64_t dim_;
  Precision precision_;
  std::vector<int64_t> index_;
  int threads_;
};

}  // namespace eigenscope
