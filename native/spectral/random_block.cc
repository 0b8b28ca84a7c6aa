#include "spectral/random_block.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "base/philox.h"
#include "linalg/blas.h"

namespace eigenscope {

namespace {

constexpr int64_t kBatch = 8;  // bounds the work space in double

constexpr uint64_t kSignColumns = uint64_t{1} << 48;

[[noreturn]] void outOfDirections() {
  throw Error(ErrorKind::Internal, "no random vector found outside the space spanned so far");
}

}  // namespace

void appendRandom(Basis& basis, int64_t first, int64_t count, uint64_t seed, uint64_t column,
                  std::span<const int64_t> index) {
  const int64_t dim = basis.dim();
  if (first == 0) {
    for (int64_t j = 0; j < count; ++j) {
      basis.checkCancelled();
      if (basis.precision() == Precision::F32)
        fillGaussian(static_cast<float*>(basis.column(j)), dim, 1, seed, column + j, index);
      else
        fillGaussian(static_cast<double*>(basis.column(j)), dim, 1, seed, column + j, index);
    }
    if (orthonormalise(basis, 0, count, 0.0, nullptr) < count) outOfDirections();
    return;
  }
  const int64_t most = std::min(count, kBatch);
  Basis work(dim, most, Precision::F64, basis.threads(), basis.task());
  double* w = static_cast<double*>(work.column(0));
  std::vector<double> taken((first + count) * most);
  for (int64_t done = 0; done < count; done += most) {
    const int64_t batch = std::min(most, count - done), before = first + done;
    fillGaussian(w, dim, batch, seed, column + done, index);
    // Twice, as little may be left of a vector when the space is nearly full.
    for (int pass = 0; pass < 2; ++pass) {
      basis.project(w, batch, before, taken.data());
      if (orthonormalise(work, 0, batch, 0.0, nullptr) < batch) outOfDirections();
    }
    basis.store(before, batch, w);
  }
}

void startBlock(Basis& basis, int64_t count, std::span<const double> given, int64_t most,
                uint64_t seed, uint64_t column, std::span<const int64_t> index) {
  const int64_t dim = basis.dim(), m = given.size() / dim, use = std::min({m, most, count});
  std::vector<double> sum(use > 0 ? dim : 0);
  for (int64_t j = 0; j < use; ++j) {
    std::fill(sum.begin(), sum.end(), 0.0);
    for (int64_t i = m > use ? 0 : j; i < (m > use ? m : j + 1); ++i) {
      const double* x = given.data() + i * dim;
      const double length = norm2(dim, x);
      if (!(length > 0)) continue;
      double sign = 1;
      if (m > use) fillRademacher(&sign, 1, 1, seed, kSignColumns + i * use + j);
      for (int64_t r = 0; r < dim; ++r) sum[r] += sign / length * x[r];
    }
    basis.store(j, 1, sum.data());
  }
  const int64_t rank = use > 0 ? orthonormalise(basis, 0, use, 1e-6, nullptr) : 0;
  appendRandom(basis, rank, count - rank, seed, column, index);
}

}  // namespace eigenscope
