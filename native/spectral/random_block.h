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

}  // namespace eigenscope
