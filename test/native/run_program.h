#pragma once

#include <cstring>
#include <vector>

#include "base/buffer.h"
#include "compile/program.h"
#include "reference_interpreter.h"
#include "run/executor.h"

namespace eigenscope::reference {

class LeafFeed : public Feed {
 public:
  explicit LeafFeed(const Leaves& leaves) : leaves_(leaves) {}
  void load(int64_t slot, int64_t, int64_t, Type type, Precision precision,
            void* out) const override {
    const Numbers& values = leaves_.inputs.at(slot);
    for (size_t i = 0; i < values.size(); ++i) {
      if (type == Type::Int)
        static_cast<int32_t*>(out)[i] = static_cast<int32_t>(values[i]);
      else if (type == Type::Bool)
        static_cast<uint8_t*>(out)[i] = values[i] != 0;
      else if (precision == Precision::F32)
        static_cast<float*>(out)[i] = static_cast<float>(values[i]);
      else
        static_cast<double*>(out)[i] = values[i];
    }
  }

 private:
  const Leaves& leaves_;
};

// Compiles the graph and runs it on one micro-batch; outputs are Collected.
template <class T>
std::vector<Numbers> runProgram(const Graph& graph, const std::vector<Id>& outputs,
                                const Leaves& leaves, int64_t k) {
  const Program program = compile(graph, outputs, precisionOf<T>(), k);
  const Executor executor(program, graph);
  Buffer buffers[kSpaces];
  Frame frame;
  for (int s = 0; s < kSpaces; ++s) {
    buffers[s] = Buffer(program.bytes[s]);
    // Stale memory must not matter.
    if (buffers[s].bytes()) std::memset(buffers[s].data(), 0x7f, buffers[s].bytes());
    frame.base[s] = buffers[s].data();
  }
  std::memset(buffers[static_cast<int>(Space::Partial)].data(), 0,
              buffers[static_cast<int>(Space::Partial)].bytes());
  Buffer scratch(executor.scratchBytes());
  frame.scratch = scratch.data();
  LeafFeed feed(leaves);
  frame.feed = &feed;
  auto place = [&](const Leaf& leaf, const Numbers& values) {
    T* to = frame.at<T>(leaf.place);
    for (size_t i = 0; i < values.size(); ++i) to[i] = static_cast<T>(values[i]);
  };
  for (const Leaf& leaf : program.parameters) place(leaf, leaves.parameters.at(leaf.number));
  for (const Leaf& leaf : program.tangents) place(leaf, leaves.tangents.at(leaf.number));
  for (Stage stage :
       {Stage::Constant, Stage::Setup, Stage::Direction, Stage::Primal, Stage::Tangent})
    executor.run(stage, frame);
  for (const Sum& sum : program.sums)
    std::copy_n(buffers[static_cast<int>(Space::Partial)].template as<T>() + sum.offset, sum.size,
                frame.at<T>(sum.collected));
  executor.run(Stage::Post, frame);
  std::vector<Numbers> results;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const T* from = frame.at<T>(program.outputs[i]);
    results.emplace_back(from, from + count(program.outputShapes[i]));
  }
  return results;
}

}  // namespace eigenscope::reference
