#pragma once

#include <set>
#include <vector>

#include "compile/program.h"

namespace eigenscope {

// The graph below the outputs, arranged for execution: which nodes are mere names of another's
// buffer, which add into a buffer that exists, which run together in one loop, and in what order.
class Units {
 public:
  Units(const Graph& graph, const std::vector<Id>& outputs);

  struct Unit {
    std::vector<Id> members;  // ascending; more than one only for fused elementwise nodes
  };

  Stage stageOf(Id id) const { return stage_[id]; }
  bool needed(Id id) const { return needed_[id]; }

  // The node whose buffer holds the value of `id`.
  Id root(Id id) const {
    while (alias_[id] != id) id = alias_[id];
    return id;
  }

  // The node (a Collect, or the first summand) into whose buffer `id` adds; kNone if it stores.
  Id target(Id id) const {
    Id t = target_[id];
    while (t != kNone && g_[t].op != Op::Collect && target_[t] != kNone) t = target_[t];
    return t;
  }

  // Collects whose sum is made by the producers themselves.
  bool collectedInPlace(Id collect) const { return inPlace_[collect]; }

  // In execution order, of all stages.
  const std::vector<Unit>& units() const { return units_; }

  // Nodes that read the buffer of root `id` directly, beside those of its own unit.
  const std::vector<Id>& readers(Id id) const { return readers_[id]; }

 private:
  void assignStages(const std::vector<Id>& outputs);
  void assignAliases();
  void accumulateCollects();
  bool canAdd(Id x, Id target) const;
  void addInto(Id x, Id target);
  void accumulateSums();
  void fuse();
  bool reaches(int from, int to, const std::vector<std::set<int>>& next,
               const std::vector<int>& place);
  void order();
  bool accumulates(Id id) const;
  std::vector<Id> dependencies(Id id) const;

  const Graph& g_;
  std::vector<Id> order_;
  std::vector<bool> needed_, varying_, output_, inPlace_;
  std::vector<Stage> stage_;
  std::vector<Id> alias_, target_;
  std::vector<std::vector<Id>> readers_;  // by root, before sums are merged
  std::vector<std::vector<Id>> after_;    // extra edges: must run after these
  std::vector<int> group_;                // fused group, -1 none
  std::vector<Unit> units_;
  std::vector<int> seen_;  // by unit: the last search that met it
  int search_ = 0;
};

bool isAlias(Op op);
bool isLeaf(Op op);

}  // namespace eigenscope
