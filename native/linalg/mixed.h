#pragma once

#include <cstdint>

namespace eigenscope {

// Products of a tall block, stored in float or double, with one double vector; sums in double. The
// block is `count` columns of `rows` entries, column j at v + j * ld.

// sums[j] += v_j . w
void addDots(const float* v, int64_t ld, int64_t rows, int64_t count, const double* w,
             double* sums);
void addDots(const double* v, int64_t ld, int64_t rows, int64_t count, const double* w,
             double* sums);

// w -= sum_j factors[j] v_j
void subtractColumns(const float* v, int64_t ld, int64_t rows, int64_t count, const double* factors,
                     double* w);
void subtractColumns(const double* v, int64_t ld, int64_t rows, int64_t count,
                     const double* factors, double* w);

}  // namespace eigenscope
