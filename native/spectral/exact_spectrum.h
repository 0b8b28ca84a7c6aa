#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "spectral/ritz.h"

namespace eigenscope {

// The whole spectrum of an operator.
struct ExactSpectrum {
  std::vector<double> values;   // all dim of them, largest first
  std::vector<double> vectors;  // of the first so many, each contiguous
  std::string method;           // dense: LAPACK on the matrix; dual: on the Gram matrix of its rows
  int64_t order = 0;            // of the matrix that was decomposed; the other values are zero
  int64_t products = 0;         // with single vectors, or rows that were made
  std::vector<std::string> warnings;
};

// The matrix of the operator, column-major in double, from dim products in blocks. Reports the
// share of the columns that are done where it is all there is to wait for.
std::vector<double> matrixOf(ProductCounter& a, bool tellsShare);

// Largest difference between a square matrix and its transpose, over its largest entry; the matrix
// becomes its symmetric part.
double symmetricPart(std::vector<double>& matrix, int64_t order);

// LAPACK on the matrix of the operator, with `vectors` eigenvectors: dim products. Throws Error
// (MemoryBudget) where memory, in bytes, is not enough for three (without vectors two) matrices; 0
// stands for what is free. LAPACK cannot be interrupted.
ExactSpectrum denseSpectrum(LinearOperator& op, int64_t vectors, int64_t memory, Task& task);

// Throws Error (MemoryBudget) unless `matrices` square matrices of double fit.
void requireDense(int64_t order, int64_t matrices, int64_t memory, const std::string& what);

}  // namespace eigenscope
