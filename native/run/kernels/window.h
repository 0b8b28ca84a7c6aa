#pragma once

#include <cstdint>

#include "ir/graph.h"

namespace eigenscope {

// Pooling windows over x [outer, H, W, C] -> y [outer, OH, OW, C], channels last. Positions outside
// of x count as absent. `outer` is the product of all axes before H.
struct WindowShape {
  int64_t outer, H, W, C, OH, OW;
  Window window;  // groups unused
};

// y = sum over the window.
template <class T>
void windowSum(const WindowShape& shape, const T* x, T* y, bool accumulate);

// Its transpose: every x receives the y of all windows that hold it.
template <class T>
void windowSpread(const WindowShape& shape, const T* y, T* x, bool accumulate);

// Flat index into the whole of x of the first maximum (row-major order within the window). NaN and
// -inf never lose to padding: the index always is one inside the window. A NaN wins, as in PyTorch.
// Throws Error (Internal) when x has more elements than Int holds or a window lies in padding
// alone.
template <class T>
void windowArgmax(const WindowShape& shape, const T* x, int32_t* index);

}  // namespace eigenscope
