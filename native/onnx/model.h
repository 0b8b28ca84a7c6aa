#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data/array.h"
#include "ir/graph.h"

namespace eigenscope::onnx {

struct Attribute {
  std::vector<int64_t> ints;         // INT, INTS
  std::vector<double> floats;        // FLOAT, FLOATS
  std::vector<std::string> strings;  // STRING, STRINGS
  std::optional<Array> tensor;       // TENSOR
};

// A node inside of a branch of an If: it is run only where the condition has this value.
struct Guard {
  std::string condition;
  bool when;
};

// "Gemm", "com.microsoft.FusedMatMul".
inline std::string qualified(const std::string& domain, const std::string& op) {
  return domain.empty() ? op : domain + "." + op;
}

// Numbers the mask of a Dropout node is drawn from.
struct MaskKey {
  uint64_t seed;
  int64_t node;
};

struct NodeDef {
  std::string op, domain, name;
  std::vector<std::string> in, out;  // "" = absent
  std::map<std::string, Attribute> attributes;
  std::vector<Guard> guards = {};  // the outermost first
  // Modes, see onnx/modes.h: a normalisation takes statistics of the batch; Dropout has a mask.
  bool ofBatch = false;
  std::optional<MaskKey> mask = std::nullopt;
};

struct ValueInfo {
  std::string name;
  ElementType type;
  Shape dims;                         // -1 where dynamic
  std::vector<std::string> dimNames;  // "" where fixed or unnamed
  bool anyRank = false;               // the file does not say; dims is empty then
};

// A decoded ONNX graph: functions inlined, external data mapped, names unique.
struct Model {
  int64_t opset = 0;
  std::vector<NodeDef> nodes;                 // topological order, as in the file
  std::map<std::string, Array> initializers;  // by name
  std::vector<std::string> initializerOrder;
  std::vector<ValueInfo> inputs;  // without initializers
  std::vector<ValueInfo> outputs;
  // What the exporter said of an initializer: "PARAMETER", "BUFFER", "CONSTANT_TENSOR"; "BOUND" for
  // an input that was given a constant.
  std::map<std::string, std::string> kinds;
  // Inputs that hold the same number everywhere, whatever their free lengths come to be.
  struct Fill {
    ValueInfo value;
    double number;
  };
  std::map<std::string, Fill> fills;
  int64_t statisticsBatch = 0;  // see Modes::batch
};

// Drops the outputs but one, and the nodes that it does not need. Throws Option when there is no
// such output.
void keepOutput(Model& model, const std::string& output);

// Makes `second` of each pair stand for `first`. Both are initializers or an Identity of one, of
// equal shape and values; Option otherwise.
void applyTies(Model& model, const std::vector<std::pair<std::string, std::string>>& ties);

// A float tensor that is differentiated. Order: graph.initializer, then parameter
// Constants in node order, then outputs of Identity that stand for merged initializers.
struct Parameter {
  std::string name;
  Array value;
  int64_t offset;  // in the flat parameter vector
  int64_t size;
};

// Buffer: stored statistics and masks. Constant: a number of the architecture. Unused: the outputs
// do not depend on it.
enum class Role { Parameter, Buffer, Constant, Unused };

// A float tensor that the file stores, and why it is no parameter ("" where it is one).
struct StoredTensor {
  std::string name;
  Array value;
  Role role;
  std::string reason;
};

// Every stored float tensor, in the order of parameters. ONNX does not say which tensors are
// trained: roles.cc has the rules. Names in `promote` are parameters wherever they are used.
struct Roles {
  std::vector<StoredTensor> tensors;
  std::vector<std::string> warnings;
};
Roles assignRoles(const Model& model, const std::vector<std::string>& promote = {});

// The tensors whose role is Parameter.
std::vector<Parameter> findParameters(const Model& model);
std::vector<Parameter> findParameters(const Roles& roles);

// Makes every parameter an initializer of its own, in place of the Constant or Identity node that
// carries it.
void hoist(Model& model, const std::vector<Parameter>& parameters);

// Nodes that no lowering takes, in file order; empty when the model is supported.
struct Unsupported {
  std::string op, node, reason;
};
std::vector<Unsupported> findUnsupported(const Model& model);

// How a graph of primitives holds an element type.
inline Type graphType(ElementType type) {
  if (isFloating(type)) return Type::Real;
  return type == ElementType::Bool ? Type::Bool : Type::Int;
}

struct InputBinding {
  std::string name;
  int64_t slot;  // of Graph::input
  Shape shape;   // all known
  Type type;
};

// The network as primitives. `output` is the chosen output. Where the output is the result of
// Softmax, LogSoftmax or Sigmoid as the last node, `activation` names it and `logits` is its input
// (moved so that the normalised axis is where the output has it).
struct Lowered {
  Id output = kNone;
  std::string activation;  // "", "Softmax", "LogSoftmax", "Sigmoid"
  int64_t activationAxis = -1;
  Id logits = kNone;
  std::vector<std::string> warnings;
};

// Adds the nodes that `output` needs to `graph`, for the given input shapes. Parameters become
// Graph::param(i, shape) with i the position in `parameters`. Throws UnsupportedOperator with every
// unsupported node, DataMismatch where shapes do not fit. With `fold`, normalisations by stored
// statistics go into the weights of the linear map before them.
Lowered lower(const Model& model, const std::vector<Parameter>& parameters, Graph& graph,
              const std::vector<InputBinding>& inputs, const std::string& output, bool fold = true);

}  // namespace eigenscope::onnx
