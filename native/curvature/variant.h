#pragma once

#include <memory>
#include <string>
#include <vector>

#include "curvature/engine.h"

namespace eigenscope {

// A program for one micro-batch size and number of directions, ready to run, with what it keeps.
struct Engine::Variant {
  ProductGraph product;
  Program program;
  std::unique_ptr<Executor> executor;
  Buffer shared[kSpaces];           // Constant, Global, Direction, Collected
  std::vector<int64_t> tensorSize;  // elements of each output, by direction
  std::vector<Sum> primalSums;      // made by the primal stage
  std::string layout;               // of the residuals and these sums

  int64_t bytes(Space space) const { return program.bytes[static_cast<int>(space)]; }
  bool hasTangent() const { return !program.stages[static_cast<int>(Stage::Tangent)].empty(); }
};

// What all workers read, or what is made once a product.
constexpr Space kShared[] = {Space::Constant, Space::Global, Space::Direction, Space::Collected};

inline Buffer* ensure(Buffer& buffer, int64_t bytes) {
  if (buffer.bytes() < bytes) buffer = Buffer(bytes);
  return &buffer;
}

}  // namespace eigenscope
