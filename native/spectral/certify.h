#pragma once

#include <string>

#include "spectral/ritz.h"

namespace eigenscope {

// Fills the intervals of a result from its values and residuals. Residuals count with the noise of
// a product on top.
void certify(const EigshPlan& plan, EigshResult& result);

// What a method on blocks of random vectors can say of missed eigenvalues.
std::string describeBlock(const EigshPlan& plan);

}  // namespace eigenscope
