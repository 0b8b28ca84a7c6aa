#pragma once

#include <vector>

#include "curvature/kfac.h"
#include "curvature/layers.h"
#include "curvature/prepare.h"
#include "curvature/programs.h"

namespace eigenscope {

// A layer's block: its weight, or its bias, or both, where `bias` is one of the layers too.
struct KfacLayer {
  int64_t layer = -1, bias = -1;  // positions in Layers::layers
};

// Derivatives by the output of the network, of which the matrix is the sum of outer products:
// columns [first, first + count) of them for each sample.
struct Columns {
  int64_t first = 0, count = 0;
};

// What every program for the factors is built of.
struct KfacPlan {
  const Problem& problem;
  const TargetPlan& targets;
  const KfacOptions& options;
  std::vector<int64_t> tensors;
};

// The layers of the network, and which go together.
struct KfacLayers {
  std::vector<LinearLayer> layers;
  std::vector<OtherParameter> others;
  std::vector<KfacLayer> blocks;
};
KfacLayers kfacLayers(const KfacPlan& plan, int64_t rows);

// Columns that there are for a sample.
int64_t kfacColumns(const KfacPlan& plan, int64_t rows);

// Sums over the data: for each block, A (groups x in x in; none for a bias, nor without
// `withInputs`) and B (groups x out x out).
ProductGraph buildFactors(const KfacPlan& plan, const Rows& rows, const Columns& columns,
                          bool withInputs);

// The eigenvectors of a block's factors, one a column, groups one after the other; no `in` for a
// bias.
struct KfacBasis {
  Values in, out;
};

// Sums over the data: for each block, the squares of the entries of the samples' gradients in the
// bases, groups x out x in.
ProductGraph buildCorrections(const KfacPlan& plan, const Rows& rows, const Columns& columns,
                              const std::vector<KfacBasis>& bases);

}  // namespace eigenscope
