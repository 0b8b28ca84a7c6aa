#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "ir/graph.h"
#include "onnx/fold.h"

namespace eigenscope::onnx {

using Axes = std::vector<int64_t>;

// An ONNX tensor while its graph is lowered: known (`host`), or a node of the graph whose axes may
// lie in another order in memory than ONNX has them. ONNX axis i is axis perm[i] of the node, so a
// Transpose costs nothing until something needs ONNX's order, and convolutions stay channels-last.
struct Value {
  std::shared_ptr<const Tensor> host;
  Id node = kNone;
  Axes perm;

  // y -> scale y + shift with one number a channel (ONNX axis 1), done on the weights of the linear
  // map that made this value. Empty for other values. Both operands have shape [channels].
  std::function<Value(const Value& scale, const Value& shift)> rescaled;

  // A sequence of tensors, for the operators that take one apart again; then nothing else is set.
  std::shared_ptr<const std::vector<Value>> items;

  bool known() const { return host != nullptr; }
  bool empty() const { return !host && node == kNone && !items; }
};

// Operations on values: on known ones at once, on the rest by adding nodes to the graph. Shapes and
// axes are ONNX's; axes are not negative. Throws Error (DataMismatch) where shapes do not fit.
class Builder {
 public:
  explicit Builder(Graph& graph) : graph(graph) {}
  Graph& graph;

  static Value known(Tensor tensor);
  static Value number(double value, Type type = Type::Real);
  Value wrap(Id node) const;  // in ONNX's order
  Value wrap(Id node, const Axes& perm) const;

  Type type(const Value& x) const;
  Shape shape(const Value& x) const;
  int64_t rank(const Value& x) const { return static_cast<int64_t>(shape(x).size()); }
  // Known, and all elements are this number.
  static bool isSplat(const Value& x, double value);

  Id plain(const Value& x);                       // the node in ONNX's order
  Id arranged(const Value& x, const Axes& perm);  // the node whose axis perm[i] is ONNX's axis i
  // x with `axis` last in memory, so that primitives along the last axis apply.
  Value withLast(const Value& x, int64_t axis);

  Value reshape(const Value& x, const Shape& shape);
  Value squeeze(const Value& x, const Axes& axes);
  Value unsqueeze(const Value& x, const Axes& axes);  // positions in the result, ascending
  Value transpose(const Value& x, const Axes& perm);
  Value broadcast(const Value& x, const Shape& shape);
  Value slice(const Value& x, const Axes& start, const Axes& step, const Shape& sizes);
  Value sliceAxis(const Value& x, int64_t axis, int64_t start, int64_t size, int64_t step = 1);
  Value unslice(const Value& x, const Axes& start, const Axes& step, const Shape& full);
  Value concat(const std::vector<Value>& xs, int64_t axis);
  Value gather(const Value& x, const Value& index, int64_t axis);  // negative indices from the end

  Value unary(Op op, const Value& x);
  Value binary(Op op, const Value& a, const Value& b);
  Value select(const Value& mask, const Value& a, const Value& b);
  Value cast(const Value& x, Type type);
  Value pow(const Value& x, double exponent);
  Value pow(const Value& x, const Value& exponent);
  Value add(const Value& a, const Value& b) { return binary(Op::Add, a, b); }
  Value sub(const Value& a, const Value& b) { return binary(Op::Sub, a, b); }
  Value mul(const Value& a, const Value& b) { return binary(Op::Mul, a, b); }
  Value div(const Value& a, const Value& b);  // integers truncate
  Value abs(const Value& x);                  // 0 with slope 0 at 0
  Value neg(const Value& x) { return unary(Op::Neg, x); }
  Value scale(const Value& x, double c) { return c == 1 ? x : mul(x, number(c, type(x))); }
  Value shift(const Value& x, double c) { return c == 0 ? x : add(x, number(c, type(x))); }
  // At ties the first: its value and its slope.
  Value max(const Value& a, const Value& b);
  Value min(const Value& a, const Value& b);

  // Reductions keep their axes with size 1. Integers that come with the data are reduced, and
  // contracted below, as floating-point numbers.
  Value sum(const Value& x, const Axes& axes);
  Value mean(const Value& x, const Axes& axes);
  Value max(const Value& x, const Axes& axes);  // differentiable, the first maximum wins
  Value softmax(const Value& x, int64_t axis);
  Value logSumExp(const Value& x, int64_t axis);

  // Graph::dot with labels of ONNX's axes.
  Value dot(const Value& a, const std::string& labelsA, const Value& b, const std::string& labelsB,
            const std::string& labelsOut);
  // At most two operands, any labels.
  Value einsum(const std::vector<Value>& xs, std::vector<std::string> labels,
               const std::string& labelsOut);

 private:
  Value variablePower(const Value& x, const Value& exponent);
  // Operands as nodes that broadcast together in one order of axes, which `perm` receives.
  std::vector<Id> aligned(const std::vector<const Value*>& xs, Axes& perm);
  Id constant(const Tensor& tensor) {
    return graph.constant(tensor.values, tensor.shape, tensor.type);
  }
};

Axes identity(int64_t rank);
// Negative axes counted from the end. Throws Error (DataMismatch) beyond the rank.
int64_t normalAxis(int64_t axis, int64_t rank);
// Normalised, ascending, without repetition.
Axes normalAxes(Axes axes, int64_t rank);

}  // namespace eigenscope::onnx
