#pragma once

#include <cstdint>

#include "linalg/basis.h"
#include "spectral/operator.h"

namespace eigenscope {

// Random test vectors z with E[z z^T] = I.
enum class Probes { Rademacher, Gaussian };

// Probe `column + j` of (seed, op.index()) goes to column first + j of the basis, j < count.
void fillProbes(Basis& basis, int64_t first, int64_t count, Probes probes, uint64_t seed,
                uint64_t column, std::span<const int64_t> index);

// Where the probes of each use begin, so that no two share numbers.
inline constexpr uint64_t kTraceSketch = uint64_t{1} << 40;
inline constexpr uint64_t kTraceProbes = uint64_t{2} << 40;
inline constexpr uint64_t kDiagonalProbes = uint64_t{3} << 40;
inline constexpr uint64_t kNormProbes = uint64_t{4} << 40;

// P A P, P being the projector onto the complement of some orthonormal vectors. Costs one product.
class DeflatedOperator : public LinearOperator {
 public:
  DeflatedOperator(LinearOperator& op, const Basis& vectors) : op_(op), vectors_(vectors) {}

  int64_t dim() const override { return op_.dim(); }
  Precision precision() const override { return op_.precision(); }
  std::span<const int64_t> index() const override { return op_.index(); }
  void apply(const void* x, void* y, int64_t count, Task& task) override;

 private:
  LinearOperator& op_;
  const Basis& vectors_;
};

// (factor A)^power. Costs `power` products.
class PowerOperator : public LinearOperator {
 public:
  PowerOperator(LinearOperator& op, int64_t power, double factor)
      : op_(op), power_(power), factor_(factor) {}

  int64_t dim() const override { return op_.dim(); }
  Precision precision() const override { return op_.precision(); }
  std::span<const int64_t> index() const override { return op_.index(); }
  void apply(const void* x, void* y, int64_t count, Task& task) override;

 private:
  LinearOperator& op_;
  int64_t power_;
  double factor_;
};

}  // namespace eigenscope
