#pragma once

#include <unordered_map>
#include <vector>

#include "ir/graph.h"

namespace eigenscope {

// Forward differentiation as a graph transform: tangents of nodes, given tangents of some. With
// k > 0 a tangent has a leading axis of k directions, so that one program treats them together;
// with k = 0 it has the shape of its node.
// Every primitive is linear, linear in its first input, bilinear, or has a rule in jvp.cc.
class Jvp {
 public:
  Jvp(Graph& graph, int64_t k) : graph_(graph), k_(k) {}

  // `tangent` of `node`; kNone declares it zero, whatever the node depends on.
  void seed(Id node, Id tangent);

  // Adds `tangent`, of the node's full shape, to the tangent that the node has by its inputs.
  void inject(Id node, Id tangent);

  // The tangent of a node; kNone where it is zero.
  Id operator()(Id node);

 private:
  Id total(Id node);
  Id rule(Id node);
  Id own(Id node, Id tangent);
  Id whole(Id tangent, Id node);  // broadcast to the full shape of the node's tangent
  Id tangentOf(Id node) const { return tangents_[node]; }

  static constexpr Id kUnknown = -2;
  Graph& graph_;
  int64_t k_;
  std::vector<Id> tangents_;
  std::unordered_map<Id, Id> injected_;
};

}  // namespace eigenscope
