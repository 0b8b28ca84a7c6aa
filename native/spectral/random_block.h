#pragma once

#include <cstdint>
#include <span>

#include "linalg/basis.h"

namespace eigenscope {

// Fills columns first .. first + count - 1 with orthonormal random vectors, orthogonal to the
// orthonormal columns before them: Gaussian numbers of (seed, column + j, index), see
// base/philox.h, made orthogonal. Needs first + count <= dim.
void appendRandom(Basis& basis, int64_t first, int64_t count, uint64_t seed, uint64_t column,
                  std::span<const int64_t> index);

// Fills columns 0 .. count - 1 with an orthonormal block to begin with: the given vectors (m x dim)
// first, at most `most` of them, or that many sums of all of them with random signs where there are
// more; then random ones as above.
void startBlock(Basis& basis, int64_t count, std::span<const double> given, int64_t most,
                uint64_t seed, uint64_t column, std::span<const int64_t> index);

}  // namespace eigenscope
