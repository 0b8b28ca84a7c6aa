#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

#include "base/error.h"

namespace eigenscope {

// Sizes go to the Fortran libraries as 32-bit integers.
inline int blasInt(int64_t value) {
  if (value < 0 || value > std::numeric_limits<int>::max())
    throw Error(ErrorKind::MemoryBudget,
                "linear algebra takes sizes from 0 to 2147483647, got " + std::to_string(value));
  return static_cast<int>(value);
}

}  // namespace eigenscope
