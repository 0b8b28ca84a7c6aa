#include "spectral/exact_spectrum.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/memory.h"
#include "linalg/lapack.h"
#include "spectral/sketch.h"

namespace eigenscope {

namespace {

constexpr int64_t kBlock = 16;

template <class T>
std::vector<double> columnsOf(ProductCounter& a, int64_t dim, bool tellsShare) {
  std::vector<double> matrix(static_cast<size_t>(dim * dim));
  const int64_t block = std::min(dim, kBlock);
  std::vector<T> x(static_cast<size_t>(dim * block)), y(x.size());
  for (int64_t j = 0; j < dim; j += block) {
    const int64_t width = std::min(block, dim - j);
    std::fill(x.begin(), x.end(), T{0});
    for (int64_t l = 0; l < width; ++l) x[static_cast<size_t>(l * dim + j + l)] = T{1};
    a.apply(x.data(), y.data(), width);
    std::copy_n(y.begin(), width * dim, matrix.begin() + j * dim);
    if (tellsShare && a.task().report)
      a.task().report({a.products(), -1, static_cast<double>(j + width) / double(dim)});
  }
  return matrix;
}

}  // namespace

std::vector<double> matrixOf(ProductCounter& a, bool tellsShare) {
  const int64_t dim = a.op().dim();
  return a.op().precision() == Precision::F32 ? columnsOf<float>(a, dim, tellsShare)
                                              : columnsOf<double>(a, dim, tellsShare);
}

double symmetricPart(std::vector<double>& matrix, int64_t order) {
  double largest = 0;
  for (int64_t j = 0; j < order; ++j)
    for (int64_t i = 0; i <= j; ++i)
      largest = std::max(largest, std::abs(matrix[static_cast<size_t>(j * order + i)]));
  const double gap = symmetrise(matrix, order);
  return largest > 0 ? gap / largest : 0;
}

void requireDense(int64_t order, int64_t matrices, int64_t memory, const std::string& what) {
  const double need =
      8.0 * static_cast<double>(matrices) * static_cast<double>(order) * static_cast<double>(order);
  const int64_t have = memory > 0 ? memory : availableMemory() * 4 / 5;
  if (need <= static_cast<double>(have)) return;
  throw Error(ErrorKind::MemoryBudget,
              what + " of order " + std::to_string(order) + " needs about " +
                  std::to_string(static_cast<int64_t>(need)) + " bytes, and " +
                  std::to_string(have) +
                  " are there: restrict the operator, use fewer samples (for the dual problem), "
                  "raise the memory limit, or estimate with eigsh and spectralDensity");
}

ExactSpectrum denseSpectrum(LinearOperator& op, int64_t vectors, int64_t memory, Task& task) {
  const int64_t dim = op.dim();
  requireDense(dim, vectors > 0 ? 3 : 2, memory, "the dense spectrum of an operator");
  ProductCounter a(op, task, std::numeric_limits<int64_t>::max());
  std::vector<double> matrix = matrixOf(a, true);
  ExactSpectrum found;
  found.method = "dense";
  found.order = dim;
  found.products = a.products();
  const double asymmetry = symmetricPart(matrix, dim);
  if (const std::string warning = asymmetryWarning(asymmetry, op.precision()); !warning.empty())
    found.warnings.push_back(warning);
  task.check();
  found.values = vectors > 0 ? symmetricEigen(dim, matrix.data(), dim)
                             : symmetricEigenvalues(dim, matrix.data(), dim);
  task.check();
  std::reverse(found.values.begin(), found.values.end());
  for (int64_t k = 0; k < vectors; ++k)
    found.vectors.insert(found.vectors.end(), matrix.begin() + (dim - 1 - k) * dim,
                         matrix.begin() + (dim - k) * dim);
  return found;
}

}  // namespace eigenscope
