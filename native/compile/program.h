#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/precision.h"
#include "ir/graph.h"

namespace eigenscope {

// Where a buffer lives. Work is reused by liveness, the others keep their values.
enum class Space : uint8_t {
  Constant,   // once a program
  Global,     // functions of the parameters
  Direction,  // functions of the block of directions, once a product
  Residual,  // the linearisation: primal values that the tangent stage reads, one set a micro-batch
  Work,      // within one stage of one micro-batch
  Partial,   // sums over a chunk of micro-batches, in the computing precision
  Collected,  // totals and what follows from them
};
constexpr int kSpaces = 7;

struct Place {
  Space space = Space::Work;
  int64_t offset = -1;  // bytes
};

// A group of elementwise operations run tile by tile.
constexpr size_t kMaxMembers = 40;
constexpr size_t kMaxOperands = 3 * kMaxMembers;
struct FusedLoop {
  struct Input {
    Type type;
    std::vector<int64_t> strides;  // in elements, along `iteration`; 0 repeats
  };
  struct Code {
    Op op;
    int result;
    int operand[3];  // values: inputs first, then results of codes in order; -1 absent
    double number;
    Type type;
  };
  struct Output {
    int value;
    Type type;
  };
  Shape iteration;
  std::vector<Input> inputs;
  std::vector<Code> codes;
  std::vector<Output> outputs;
};

// One step: a primitive, a fused loop, or adding a buffer to a partial sum.
struct Step {
  enum class What : uint8_t { Primitive, Fused, Accumulate, Load };
  What what;
  Id node;  // of a fused loop: its last member
  std::vector<Place> in;
  std::vector<Place> out;  // one, or one for each output of a fused loop
  bool accumulate = false;
  FusedLoop loop;
};

// The stages of a product. Constant and setup run once; direction and post once a product; primal
// and tangent once a micro-batch.
enum class Stage : uint8_t { Constant, Setup, Direction, Primal, Tangent, Post };
constexpr int kStages = 6;

struct Leaf {
  int64_t number;
  Place place;
  Shape shape;
};

struct Sum {       // a Collect
  int64_t offset;  // elements into partial sums and totals
  int64_t size;
  Place collected;  // where the total goes before the post stage
};

struct Program {
  Precision precision;
  int64_t directions;  // K; 0 without directions
  std::vector<Step> stages[kStages];
  int64_t bytes[kSpaces] = {};  // Work: the larger of the two local stages
  int64_t sumElements = 0;      // of one set of partial sums
  std::vector<Leaf> parameters, tangents;
  std::vector<Sum> sums;
  std::vector<Place> outputs;  // as asked for
  std::vector<Shape> outputShapes;
  double tangentFlops = 0, primalFlops = 0;  // of matrix products, a micro-batch
};

// Turns the graph below `outputs` into steps: dead code falls away, elementwise operations are
// fused, sums of products accumulate in place, buffers are placed by liveness.
// Outputs are Collected or Local; a Local output is placed in Residual.
Program compile(const Graph& graph, const std::vector<Id>& outputs, Precision precision,
                int64_t directions);

// One line a step.
std::string print(const Program& program, const Graph& graph);

// Matrix-product flops of one node (2 x multiplications); 0 where it is none.
double flopsOf(const Graph& graph, Id id);

}  // namespace eigenscope
