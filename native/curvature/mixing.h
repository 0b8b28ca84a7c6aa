#pragma once

#include <cstdint>

#include "curvature/problem.h"

namespace eigenscope {

// Samples whose statistics one normalisation takes, all batches alike; 0 where samples do not
// depend on each other. `fixedBatch`: see Prepared. Throws Option where two sizes were stated, or
// the samples do not make whole batches.
int64_t statisticsBatch(const Problem& problem, const RunOptions& options, int64_t fixedBatch);

// Throws Option where samples depend on each other, for what is made of single samples.
void refuseMixedSamples(const Problem& problem, const char* what);

}  // namespace eigenscope
