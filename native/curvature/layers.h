#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "ir/sample_axes.h"

namespace eigenscope {

// Rows of a layer's inputs or of the derivatives by its outputs, brought to one shape:
// [(K,) samples, positions, groups, width]. Where the axis of the samples is not known, all rows
// are positions of one sample (`bySample` is false).
struct Rowed {
  Id node = kNone;
  bool bySample = false;
};

// A linear map of the network with a part of a parameter: y = coefficient * W a for every sample,
// position and group; for a bias a = 1.
struct LinearLayer {
  int64_t parameter = 0;
  int64_t groups = 1, out = 1, in = 1;
  bool bias = false;
  double coefficient = 1;
  // Position in the parameter's tensor of entry [group][out][in].
  std::vector<int64_t> order;
  Id output = kNone;  // y

  Rowed inputs;          // a; none for a bias
  bool shared = true;    // more than one position
  double positions = 1;  // of a sample

  // How an output's derivative, of the shape of y with `k` directions before (0: none), becomes
  // rows.
  std::vector<int64_t> positionAxes, groupAxes, outAxes;  // of y, in the order of rows
  std::optional<SampleAxis> samplesOf;                    // of y
};

// Rows of the derivative by the layer's output.
Id outputRows(Graph& graph, const LinearLayer& layer, Id derivative, int64_t k, int64_t samples);

// A parameter that is not, or not only, the weight or bias of such maps.
struct OtherParameter {
  int64_t parameter;
  std::string reason;
};

struct Layers {
  std::vector<LinearLayer> layers;  // by parameter
  std::vector<OtherParameter> others;
};

// The linear maps that `output` is made of by the parameters 0 .. shapes.size() - 1 at `wanted`.
Layers findLayers(Graph& graph, Id output, const std::vector<Shape>& shapes,
                  const std::vector<int64_t>& wanted, int64_t samples);

}  // namespace eigenscope
