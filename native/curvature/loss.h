#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "curvature/problem.h"
#include "ir/graph.h"
#include "run/draw.h"

namespace eigenscope {

enum class TargetKind { None, Labels, Values };

// What a loss adds to a network's graph. All sums are without the denominator of the mean.
struct LossGraph {
  Id split = kNone;   // z, where the Gauss-Newton split lies (a Barrier)
  Id total = kNone;   // sum of the items of the micro-batch, rank 0
  std::string where;  // the split in words
  // Why there is no such matrix; empty where there is.
  std::string noGgn, noLikelihood, noSamples;
  // Columns s [draws, shape of z] with E[s s^T] = d2 total / dz2, for Fisher "mc".
  Id draws = kNone;
  // S u for a block u of [K, shape of z], where S S^T = d2 total / dz2; empty where that is
  // diagonal.
  std::function<Id(Graph& graph, Id u)> factor;
  std::vector<std::string> warnings;
};

// How the targets enter: as class labels, as numbers, or not at all; what an element of them may
// be; and D, the denominator of the mean (1 for `sum`).
struct TargetPlan {
  TargetKind kind = TargetKind::None;
  Shape perSample;  // shape of one sample's target in the graph
  double denominator = 1;
  int64_t items = 0;  // items that count (not ignored)
};

// Compares the targets with the shape of the network's output [N, ...] and reads all of them once:
// labels in range, numbers finite. Throws Option for an unknown or unsuitable loss, DataMismatch
// for targets that do not fit.
TargetPlan planTargets(const Problem& problem, const Shape& output);

struct DrawOptions {
  int64_t draws;
  uint64_t seed;
};

// Samples of one run of the graph. Where the graph fixes its batch, the last micro-batch is padded:
// only the first `valid` of its `rows` samples count.
struct Rows {
  int64_t rows, valid;
};

// `y` is the target input of the graph (kNone without targets).
LossGraph buildLoss(Graph& graph, const Problem& problem, const onnx::Lowered& network, Id y,
                    const Rows& rows, const TargetPlan& targets,
                    const std::optional<DrawOptions>& draws);

}  // namespace eigenscope
