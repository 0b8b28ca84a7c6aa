#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "spectral/lanczos_block.h"

namespace eigenscope {

// Functions of a symmetric matrix, f(A) = sum_i f(lambda_i) u_i u_i^T.
struct MatrixFunction {
  const char* name;
  double (*value)(double x);
  // What of the spectrum it takes.
  enum Domain { Any, NonNegative, Positive, NonZero } domain;
};
// By name; null where there is none.
const MatrixFunction* matrixFunction(const std::string& name);
std::vector<std::string> matrixFunctionNames();

struct FunctionOptions {
  const MatrixFunction* function = nullptr;  // null: only the bases, for f of the caller's
  int64_t steps = 0;                         // most products a vector; 0: 200, at most dim
  double tol = 0;         // of the estimated error over the length of f(A) v; 0: 1e-5 in float32,
                          // 1e-10 in float64
  int64_t blockSize = 0;  // vectors side by side; 0: up to 16, within the memory
  int64_t memoryBudget = 0;  // bytes for bases; 0: 1 GiB, and one vector whatever it takes
  int threads = 1;
};

struct FunctionProduct {
  Tridiagonal t;
  double error = 0;     // estimated, over the length of f(A) v
  double residual = 0;  // beta_m |e_m^T f(T) e_1|, over that length and the largest |Ritz value|
  bool converged = false;
};

struct FunctionResult {
  std::vector<FunctionProduct> vectors;
  int64_t products = 0;
  double tol = 0;
  double scale = 0;  // max |Ritz value|
  std::vector<std::string> warnings;
};

// y_k = f(A) v_k by Lanczos from each v_k, ||v_k|| V_m f(T_m) e_1, for `count` vectors of the
// operator's precision, dim numbers each (Saad 1992; Higham 2008, chapter 13). Steps are added
// until the estimated error passes tol: the change between iterates, extrapolated by the pace at
// which it falls.
//
// With `bases` (count x steps x dim numbers, or null) the orthonormal vectors go there, and every
// step is taken.
//
// Throws Error: Option (a Ritz value outside the domain of f, numbers out of range), MemoryBudget,
// DataMismatch, Abort.
FunctionResult functionProduct(LinearOperator& op, const void* v, void* y, int64_t count,
                               const FunctionOptions& options, void* bases, Task& task);

}  // namespace eigenscope
