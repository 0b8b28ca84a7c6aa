#include "spectral/probes.h"

#include <cstring>
#include <vector>

#include "base/philox.h"

namespace eigenscope {

namespace {

template <class T>
void fill(void* out, int64_t dim, Probes probes, uint64_t seed, uint64_t column,
          std::span<const int64_t> index) {
  if (probes == Probes::Rademacher)
    fillRademacher(static_cast<T*>(out), dim, 1, seed, column, index);
  else
    fillGaussian(static_cast<T*>(out), dim, 1, seed, column, index);
}

}  // namespace

void fillProbes(Basis& basis, int64_t first, int64_t count, Probes probes, uint64_t seed,
                uint64_t column, std::span<const int64_t> index) {
  for (int64_t j = 0; j < count; ++j) {
    basis.checkCancelled();
    if (basis.precision() == Precision::F32)
      fill<float>(basis.column(first + j), basis.dim(), probes, seed, column + j, index);
    else
      fill<double>(basis.column(first + j), basis.dim(), probes, seed, column + j, index);
  }
}

void DeflatedOperator::apply(const void* x, void* y, int64_t count, Task& task) {
  const int64_t size = dim(), known = vectors_.capacity();
  Basis work(size, count, precision());
  std::vector<double> block(size * count), taken(known * count);
  const auto project = [&] {
    work.load(0, count, block.data());
    vectors_.project(block.data(), count, known, taken.data());
    work.store(0, count, block.data());
  };
  const std::size_t bytes = size * count * bytesOf(precision());
  std::memcpy(work.column(0), x, bytes);
  project();
  op_.apply(work.column(0), y, count, task);
  std::memcpy(work.column(0), y, bytes);
  project();
  std::memcpy(y, work.column(0), bytes);
}

void PowerOperator::apply(const void* x, void* y, int64_t count, Task& task) {
  Basis work(dim(), count, precision());
  const std::size_t bytes = dim() * count * bytesOf(precision());
  std::memcpy(work.column(0), x, bytes);
  for (int64_t k = 0; k < power_; ++k) {
    task.check();
    op_.apply(work.column(0), y, count, task);
    std::memcpy(work.column(0), y, bytes);
    for (int64_t j = 0; j < count; ++j) work.scaleColumn(j, factor_);
  }
  std::memcpy(y, work.column(0), bytes);
}

}  // namespace eigenscope
