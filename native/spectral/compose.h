#pragma once

#include <cstdint>
#include <vector>

#include "spectral/operator.h"

namespace eigenscope {

// Operators made of operators. Each holds its parts alive, has their precision, and costs one
// product of each part a product. All throw Error (Option) where parts do not fit together.

// A + B + ...: equal dimensions, precisions and parameter indices.
OperatorPtr addOperators(std::vector<OperatorPtr> parts);

// factor A.
OperatorPtr scaleOperator(OperatorPtr part, double factor);

// A + amount I.
OperatorPtr shiftOperator(OperatorPtr part, double amount);

// The compressed operator S^T A S of dimension coordinates.size(): rows and columns of A at the
// given coordinates, each once, in their order. `index` is composed, so that restrictions of
// restrictions still name parameters.
OperatorPtr restrictOperator(OperatorPtr part, std::vector<int64_t> coordinates);

// The coordinates where mask is not 0, for restrictOperator; mask has an entry for each coordinate.
std::vector<int64_t> coordinatesOf(std::span<const uint8_t> mask);

// P A P in the full dimension, P zeroing the coordinates where mask is 0.
OperatorPtr projectOperator(OperatorPtr part, std::vector<uint8_t> mask);

// The dim x dim matrix (row-major) as an operator; rounded once for float. Products are computed in
// the precision. Not required to be symmetric; the solvers require it.
OperatorPtr denseOperator(std::vector<double> matrix, int64_t dim, Precision precision);

// The sum of weights[k] v_k v_k^T over vectors v_k of length dim, one after the other in `vectors`.
OperatorPtr lowRankOperator(std::vector<double> vectors, std::vector<double> weights, int64_t dim,
                            Precision precision);

}  // namespace eigenscope
