#pragma once

#include <cstdint>

namespace eigenscope {

// Our own matrix product for AVX-512: C[m, n] = A[m, k] B[k, n] (+ C) with row-major C and any
// operand of which one stride is 1. One thread's buffers (half a megabyte) are made at its first
// call.
bool hasBlockedGemm();  // whether the machine has AVX-512
template <class T>
void blockedGemm(int64_t m, int64_t n, int64_t k, const T* a, int64_t aRow, int64_t aCol,
                 const T* b, int64_t bRow, int64_t bCol, T* c, int64_t ldc, bool accumulate);

}  // namespace eigenscope
