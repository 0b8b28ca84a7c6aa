#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "ir/graph.h"
#include "run/kernels/movement.h"

namespace eigenscope {

// A labelled contraction "bi,oi->bo" of two dense row-major tensors, reduced to as few and as wide
// matrix products as the layouts allow. A label stands in at least two of a, b and out; one that
// stands in both operands and not in out is summed. 'K' is a label like any other.
// What runs depends on labels, shapes, element size and whether oneDNN is present, on nothing else.
struct DotPlan {
  // A loop around the matrix product; strides in elements.
  struct Loop {
    int64_t size, a, b, out;
    bool summed;
  };
  struct Pack {
    bool used = false;
    int64_t elements = 0;
    CopyPlan copy;
  };
  // out[m, n] += a[m, k] b[k, n] as strides: rows (M or N) and columns of each matrix.
  int64_t m = 1, n = 1, k = 1;
  int64_t aRow = 0, aCol = 0;  // strides of m and k in a
  int64_t bRow = 0, bCol = 0;  // strides of k and n in b
  int64_t oRow = 0, oCol = 0;  // strides of m and n in out
  bool swapped = false;        // a and b change places: the result is computed transposed
  std::vector<Loop> loops;     // outermost first; summed ones last
  // Rearrangements through scratch; `used` is false where a tensor is taken as it lies.
  Pack packA, packB, unpackOut;
  Shape outShape;
  int64_t outElements = 0;
  double flops = 0;  // 2 x multiplications
};

// Throws Error (Internal) when labels and shapes do not fit together.
DotPlan planDot(std::string_view labels, const Shape& a, const Shape& b);

int64_t scratchBytes(const DotPlan& plan, size_t elementSize);

// out = a . b, or out += a . b. `scratch` holds scratchBytes and may be null when that is 0.
// Thread-safe; single-threaded as long as OpenBLAS is set to one thread.
template <class T>
void runDot(const DotPlan& plan, const T* a, const T* b, T* out, bool accumulate, T* scratch);

}  // namespace eigenscope
