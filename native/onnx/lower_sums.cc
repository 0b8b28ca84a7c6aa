#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "onnx/lower_value.h"

// Values: reductions, normalisation along an axis, contractions.
namespace eigenscope::onnx {

namespace {

Axes placed(const Value& x, const Axes& axes) {
  Axes out;
  for (int64_t axis : axes) out.push_back(x.perm[axis]);
  return out;
}

int64_t countOf(const Shape& shape, const Axes& axes) {
  int64_t n = 1;
  for (int64_t axis : axes) n *= shape[axis];
  return n;
}

}  // namespace

Value Builder::sum(const Value& x, const Axes& axes) {
  if (x.known())
    return known(fold::reduce(*x.host, axes, 0, [](double a, double b) { return a + b; }));
  if (type(x) != Type::Real) return cast(sum(cast(x, Type::Real), axes), type(x));
  return wrap(graph.sum(x.node, placed(x, axes)), x.perm);
}

Value Builder::mean(const Value& x, const Axes& axes) {
  const double n = static_cast<double>(countOf(shape(x), axes));
  return div(sum(x, axes), number(n, type(x)));
}

Value Builder::max(const Value& x, const Axes& axes) {
  if (countOf(shape(x), axes) == 0)
    throw Error(ErrorKind::DataMismatch, "the maximum over no elements of " + show(shape(x)));
  if (x.known())
    return known(
        fold::reduce(*x.host, axes, -INFINITY, [](double a, double b) { return b <= a ? a : b; }));
  if (countOf(shape(x), axes) == 1) return x;
  if (type(x) != Type::Real) return cast(max(cast(x, Type::Real), axes), type(x));
  // The reduced axes as the W of a window that covers them: [kept, 1, reduced, 1].
  Axes kept;
  for (int64_t i = 0; i < rank(x); ++i)
    if (!std::binary_search(axes.begin(), axes.end(), i)) kept.push_back(i);
  Axes perm = kept;
  perm.insert(perm.end(), axes.begin(), axes.end());
  const Id front = plain(transpose(x, perm));
  const int64_t reduced = countOf(shape(x), axes), rows = count(shape(x)) / reduced;
  Window window;
  window.kernel[1] = reduced;
  const Id at = graph.windowArgmax(graph.reshape(front, {rows, 1, reduced, 1}), window, 1, 1);
  Shape to = shape(x);
  for (int64_t axis : axes) to[axis] = 1;
  const Id picked =
      graph.gather(graph.reshape(front, {rows * reduced}), graph.reshape(at, {rows}), 0);
  return wrap(graph.reshape(picked, to));
}

Value Builder::softmax(const Value& x, int64_t axis) {
  const Value last = withLast(x, axis);
  return wrap(graph.softmax(last.node), last.perm);
}

Value Builder::logSumExp(const Value& x, int64_t axis) {
  if (shape(x)[axis] == 0)
    throw Error(ErrorKind::DataMismatch,
                "the logarithm of a sum over no elements of " + show(shape(x)));
  const Value last = withLast(x, axis);
  return wrap(graph.logSumExp(last.node), last.perm);
}

Value Builder::dot(const Value& a, const std::string& labelsA, const Value& b,
                   const std::string& labelsB, const std::string& labelsOut) {
  if (const Type kind = type(a); kind != Type::Real)
    return cast(dot(cast(a, Type::Real), labelsA, cast(b, Type::Real), labelsB, labelsOut), kind);
  auto operand = [this](const Value& x, const std::string& labels, std::string& spec) {
    const Axes perm = x.known() ? identity(rank(x)) : x.perm;
    std::string inMemory(labels.size(), ' ');
    for (size_t i = 0; i < labels.size(); ++i) inMemory[perm[i]] = labels[i];
    spec += inMemory;
    return arranged(x, perm);
  };
  std::string spec;
  const Id left = operand(a, labelsA, spec);
  spec += ",";
  const Id right = operand(b, labelsB, spec);
  return wrap(graph.dot(left, right, spec + "->" + labelsOut));
}

Value Builder::einsum(const std::vector<Value>& operands, std::vector<std::string> labels,
                      const std::string& labelsOut) {
  std::vector<Value> xs = operands;
  auto drop = [&](size_t i, size_t at) {  // an axis of size 1
    xs[i] = squeeze(xs[i], {static_cast<int64_t>(at)});
    labels[i].erase(at, 1);
  };
  // What only one operand sums over is summed first; axes of size 1 that broadcast are dropped.
  for (size_t i = 0; i < xs.size(); ++i)
    for (size_t at = labels[i].size(); at-- > 0;) {
      const char label = labels[i][at];
      const size_t other = xs.size() == 2 ? labels[1 - i].find(label) : std::string::npos;
      const bool inOther = xs.size() == 2 && other != std::string::npos;
      const int64_t size = shape(xs[i])[at];
      if (inOther) {
        const int64_t otherSize = shape(xs[1 - i])[other];
        if (size != otherSize && size != 1 && otherSize != 1)
          throw Error(ErrorKind::DataMismatch, "operands " + show(shape(operands[0])) + " and " +
                                                   show(shape(operands[1])) +
                                                   " do not fit: " + std::to_string(size) +
                                                   " against " + std::to_string(otherSize));
        if (size == 1 && otherSize != 1) drop(i, at);
      } else if (labelsOut.find(label) == std::string::npos) {
        xs[i] = sum(xs[i], {static_cast<int64_t>(at)});
        drop(i, at);
      }
    }
  // Once more: dropping a broadcast axis can leave a label that one operand alone sums over.
  for (size_t i = 0; i < xs.size(); ++i)
    for (size_t at = labels[i].size(); at-- > 0;) {
      const char label = labels[i][at];
      if (labelsOut.find(label) != std::string::npos) continue;
      if (xs.size() == 2 && labels[1 - i].find(label) != std::string::npos) continue;
      xs[i] = sum(xs[i], {static_cast<int64_t>(at)});
      drop(i, at);
    }
  if (xs.size() == 1) {
    Axes perm;
    for (char label : labelsOut) perm.push_back(static_cast<int64_t>(labels[0].find(label)));
    return transpose(xs[0], perm);
  }
  return dot(xs[0], labels[0], xs[1], labels[1], labelsOut);
}

}  // namespace eigenscope::onnx
