#pragma once

#include <cstdint>

#include "curvature/loss.h"
#include "curvature/problem.h"

namespace eigenscope {

// What every engine on a problem needs to know.
struct Prepared {
  int64_t fixedBatch = 0;  // samples that the graph takes, exactly; 0: any number
  TargetPlan targets;
};

// Reads data, targets and parameters once. Throws as makeOperator.
Prepared prepare(const Problem& problem);

}  // namespace eigenscope
