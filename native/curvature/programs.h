#pragma once

#include <string>
#include <vector>

#include "curvature/loss.h"
#include "curvature/problem.h"
#include "ir/graph.h"

namespace eigenscope {

// A graph for one micro-batch size, and what to compute of it.
struct ProductGraph {
  Graph graph;
  std::vector<Id> outputs;     // kNone: zero
  std::vector<int64_t> sizes;  // elements of each, by direction; empty: those of the tensors
  std::string split;           // where the Gauss-Newton split lies
  std::vector<std::string> warnings;
};

// The network alone. `output` is Local, [rows, ...]. `fold`: see onnx::lower.
struct Network {
  Graph graph;
  onnx::Lowered lowered;
};
Network buildNetwork(const Problem& problem, int64_t rows, bool fold = true);

// Throws Error (Option) where the loss has no such matrix.
void refuseMissing(const LossGraph& loss, OperatorKind kind);

// outputs[0]: the loss without its denominator; then, if asked for, the gradient by each parameter.
ProductGraph buildRisk(const Problem& problem, const TargetPlan& targets, const Rows& rows,
                       bool gradient);

// outputs[i]: the product's part for tensor options.tensors[i], [directions, shape], without the
// denominator. Costs and derivation: docs/methods.md.
ProductGraph buildProduct(const Problem& problem, const TargetPlan& targets,
                          const OperatorOptions& options, const Rows& rows, int64_t directions);

// The rows that a sum of outer products is made of, by sample. With J the Jacobian of the split:
//   Jacobian   rows of J
//   Ggn        rows of S^T J, S S^T the second derivative of the loss's items by the split
//   Mc         s^T J for the draws s of the mc Fisher
//   Empirical  the gradient of the sample's share of the total
enum class RowKind { Jacobian, Ggn, Mc, Empirical };

// The rows of one sample, the first of `rows`: outputs[i], [k, shape], for tensor
// options.tensors[i]. Jacobian and Ggn take directions: k vectors u of the split's shape for one
// sample, and give u^T J or u^T S^T J; for the others k is the number of rows that there are.
ProductGraph buildRows(const Problem& problem, const TargetPlan& targets,
                       const OperatorOptions& options, RowKind kind, const Rows& rows, int64_t k);

// The row of a dense layer's weight for a single sample without further positions is an outer
// product. One such tensor, by its position in options.tensors.
struct OuterTensor {
  int64_t at;
  int64_t left, right;  // lengths of the factors; `right` has the directions
  // How the tensor's elements are laid out, row-major.
  enum class Layout { LeftRight, RightLeft, Other } layout;
};

// The same for the tensors whose rows are outer products: outputs are pairs, the factor that all
// rows of the sample share and, for each of the k rows, the other. Fills `found`.
ProductGraph buildOuterRows(const Problem& problem, const TargetPlan& targets,
                            const OperatorOptions& options, RowKind kind, const Rows& rows,
                            int64_t k, std::vector<OuterTensor>* found);

// outputs[0]: J v for k directions v of the tensors, [k, rows, split], Local.
ProductGraph buildImages(const Problem& problem, const TargetPlan& targets,
                         const OperatorOptions& options, const Rows& rows, int64_t k);

// outputs[i]: the part of J^T u, or of J^T S u, for tensor options.tensors[i], [k, shape]; u comes
// from input slot `cotangentSlot`, a row of [k, split] for each sample. Kind: Jacobian or Ggn.
ProductGraph buildPullback(const Problem& problem, const TargetPlan& targets,
                           const OperatorOptions& options, RowKind kind, const Rows& rows,
                           int64_t k);
int64_t cotangentSlot(const Problem& problem);

// The shape of the split for one sample.
Shape splitShape(const Problem& problem, const TargetPlan& targets, int64_t rows);

// What the sums of buildProduct are multiplied with.
double productScale(const Problem& problem, const TargetPlan& targets, OperatorKind kind);

}  // namespace eigenscope
