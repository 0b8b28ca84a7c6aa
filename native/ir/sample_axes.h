#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "ir/graph.h"

namespace eigenscope {

// Where the samples of a micro-batch lie in a node: along one axis, whose length is
// outer * samples * inner.
struct SampleAxis {
  int64_t axis = 0, outer = 1, inner = 1;
};

// By node; nothing where samples are mixed, or have no axis, or it is not known.
std::vector<std::optional<SampleAxis>> findSampleAxes(const Graph& graph, int64_t samples);

}  // namespace eigenscope
