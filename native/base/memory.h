#pragma once

#include <cstdint>

namespace eigenscope {

// Bytes of memory that this process may still take.
int64_t availableMemory();

}  // namespace eigenscope
