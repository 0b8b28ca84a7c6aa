#pragma once

#include <cstdint>

namespace eigenscope {

// One matrix product with row-major C: C[m, n] = A[m, k] B[k, n] (+ C). Of each operand one stride
// is 1; the other is the leading dimension. Picks among plain loops, our own kernel, OpenBLAS and
// oneDNN by shape.
template <class T>
void gemm(int64_t m, int64_t n, int64_t k, const T* a, int64_t aRow, int64_t aCol, const T* b,
          int64_t bRow, int64_t bCol, T* c, int64_t ldc, bool accumulate);

}  // namespace eigenscope
