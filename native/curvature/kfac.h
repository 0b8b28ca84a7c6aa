#pragma once

#include <memory>
#include <string>
#include <vector>

#include "curvature/problem.h"
#include "spectral/structured.h"

namespace eigenscope {

enum class Sharing { Expand, Reduce };
// What stands for parameters that are no weight or bias of a linear map.
enum class OthersBlock { Refuse, Identity, Diagonal };

struct KfacOptions : RunOptions {
  OperatorKind kind = OperatorKind::FisherType2;  // or FisherMc, FisherEmpirical
  std::vector<int64_t> tensors;                   // positions in Problem::parameters; empty = all
  int64_t draws = 1;                              // FisherMc: per sample
  uint64_t seed = 0;                              // FisherMc
  Sharing sharing = Sharing::Expand;
  bool corrected = false;  // eigenvalues corrected: EKFAC
  bool joint = false;      // a layer's weight and bias in one block
  OthersBlock others = OthersBlock::Refuse;
};

struct Kfac {
  std::shared_ptr<StructuredOperator> op;
  OperatorReport report;
};

// The Kronecker-factored approximation of a Fisher matrix (Martens and Grosse 2015, Grosse and
// Martens 2016; with shared weights as in Eschenhagen et al. 2023), block by block
//   A x B,  A = mean of a a^T over samples and positions,  B = scale * sum of delta delta^T
// with a the inputs of a layer and delta the derivatives by its outputs. `corrected`: in the
// eigenvectors of the factors, with the mean squares of the gradients' entries there as eigenvalues
// (George et al. 2018). Formulas: docs/methods.md.
// Throws as makeOperator; Option where a parameter has no such block and `others` is Refuse.
Kfac kfac(const std::shared_ptr<const Problem>& problem, const KfacOptions& options, Task& task);

}  // namespace eigenscope
