#pragma once

#include <cstdint>
#include <vector>

#include "curvature/sample_rows.h"
#include "spectral/exact_spectrum.h"

namespace eigenscope {

// What follows exactly from the rows of the samples (see SampleRows), of which an operator is the
// sum of outer products A = scale R^T R. A pass over the rows costs perSample backward passes a
// sample.

// diag(A), and with it the trace. One pass.
std::vector<double> exactDiagonal(SampleRows& rows, Task& task);

// The Gram matrix scale R R^T of all rows, column-major: row sample * perSample + i. Weights of
// dense layers enter by their factors and are never multiplied out. Other parameters are taken in
// runs of as many as fit into `memory` bytes beside it (0: what is free); each run costs a pass
// over the layers it needs. Throws Error (MemoryBudget) where the matrix itself does not fit.
std::vector<double> gramMatrix(SampleRows& rows, int64_t memory, Task& task);

// The spectrum of A from that of its Gram matrix, which has the same eigenvalues but for zeros:
// all of them, with `vectors` eigenvectors R^T u / norm. For dimensions above the number of rows.
ExactSpectrum dualSpectrum(SampleRows& rows, int64_t vectors, int64_t memory, Task& task);

// A[block, block] for each block of coordinates, dense, one after the other. One pass. Throws Error
// (MemoryBudget).
std::vector<double> blockDiagonal(SampleRows& rows, const std::vector<std::vector<int64_t>>& blocks,
                                  int64_t memory, Task& task);

// Means of the rows of classes (Papyan 2019, 2020), for cross-entropy on labels without class
// weights, label smoothing or ignored items. With p the probabilities of sample i of class c, the
// row of (i, c') is delta = J^T (p - e_c'), with weight p_c' / N; the Gauss-Newton matrix is the
// sum of the weighted outer products of all of them.
struct ClassMeans {
  int64_t classes = 0;
  std::vector<double> weights;  // classes x classes: of the rows of (c, c')
  std::vector<double> means;    // classes x classes x dim: the weighted mean of these rows
  std::vector<double> squares;  // classes x classes: the weighted sum of their squared norms
};
ClassMeans classMeans(SampleRows& rows, Task& task);

}  // namespace eigenscope
