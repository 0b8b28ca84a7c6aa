#pragma once

#include <vector>

#include "ir/graph.h"

namespace eigenscope {

// Given that `output` is linear in the probes, the image of `cotangent` under the transposed map:
// one node for each probe, kNone where output does not depend on it. Throws Error (Internal) where
// the map is not linear.
std::vector<Id> transpose(Graph& graph, Id output, Id cotangent, const std::vector<Id>& probes);

// Reverse differentiation: J^T cotangent for the Jacobian of `output` in each of `wrt`. It is
// jvp followed by transpose, so that no primitive has a reverse rule of its own.
std::vector<Id> vjp(Graph& graph, Id output, Id cotangent, const std::vector<Id>& wrt);

// The derivative of `output` by each of these nodes, however they depend on one another, applied to
// the cotangent: what reverse differentiation finds at them on its way. kNone: zero.
std::vector<Id> adjoints(Graph& graph, Id output, Id cotangent, const std::vector<Id>& nodes);

}  // namespace eigenscope
