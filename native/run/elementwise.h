#pragma once

#include <cstdint>

#include "ir/graph.h"

namespace eigenscope {

// r[i] = op(a[i], b[i], c[i]) for i < n. Truth values are 0 and 1. r may be one of the operands.
template <class T>
using TileOperation = void (*)(const T* a, const T* b, const T* c, T* r, int64_t n, double number);

// Throws Error (Internal) where `op` is not elementwise. `type` is that of the result.
template <class T>
TileOperation<T> tileOperation(Op op, Type type);

}  // namespace eigenscope
