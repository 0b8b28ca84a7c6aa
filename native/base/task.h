#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "base/error.h"

namespace eigenscope {

struct Progress {
  int64_t products = 0;  // operator applications so far, counted in single vectors
  double residual =
      -1;  // worst residual of the wanted pairs relative to the largest Ritz value; -1 unknown
  double fraction = -1;  // done share of the current call in [0, 1]; -1 unknown
};

// One long call, shared between the thread that computes and the one that asked for it.
struct Task {
  std::atomic<bool> cancelled{false};
  std::function<void(const Progress&)> report;  // may be empty; called on the computing thread

  void check() const {
    if (cancelled.load(std::memory_order_relaxed))
      throw Error(ErrorKind::Abort, "the operation was aborted");
  }
};

}  // namespace eigenscope
