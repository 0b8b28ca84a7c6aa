#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "compile/program.h"

namespace eigenscope {

// Where a micro-batch's data come from.
class Feed {
 public:
  virtual ~Feed() = default;
  // Samples [begin, begin + rows) of an input, converted to `type` (Real in `precision`).
  virtual void load(int64_t slot, int64_t begin, int64_t rows, Type type, Precision precision,
                    void* out) const = 0;
};

// What one worker works on: a base address for each space, and the samples at hand.
struct Frame {
  std::byte* base[kSpaces] = {};
  std::byte* scratch = nullptr;
  const Feed* feed = nullptr;
  int64_t begin = 0;  // first sample of the micro-batch

  template <class T>
  T* at(const Place& place) const {
    return reinterpret_cast<T*>(base[static_cast<int>(place.space)] + place.offset);
  }
};

// A program bound to the kernels of this machine's CPU: the back end behind the plan. A stage runs
// on one thread and allocates nothing; any number of frames may run at once.
class Executor {
 public:
  Executor(const Program& program, const Graph& graph);

  void run(Stage stage, Frame& frame) const {
    for (const auto& step : stages_[static_cast<int>(stage)]) step(frame);
  }

  int64_t scratchBytes() const { return scratchBytes_; }

 private:
  using Action = std::function<void(Frame&)>;

  template <class T>
  Action bind(const Step& step, const Graph& graph);
  template <class T>
  Action bindPrimitive(const Step& step, const Graph& graph);
  template <class T>
  Action bindLoad(const Step& step, const Graph& graph);

  void needScratch(int64_t bytes) { scratchBytes_ = std::max(scratchBytes_, bytes); }

  std::vector<Action> stages_[kStages];
  int64_t scratchBytes_ = 0;
};

}  // namespace eigenscope
