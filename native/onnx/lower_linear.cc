#include <algorithm>

#include "onnx/table.h"

// Matrix products.
namespace eigenscope::onnx {

namespace {

// C of Gemm against [rows, columns]: its value per column, or nothing where it varies by row.
bool perColumn(const Shape& shape) { return shape.size() < 2 || shape[shape.size() - 2] == 1; }

Value gemmOf(Call& c, const Value& weight, const Value* bias) {
  const bool transA = c.integer("transA", 0) != 0, transB = c.integer("transB", 0) != 0;
  const Value y = c.b.dot(c.in(0), transA ? "ib" : "bi", weight, transB ? "oi" : "io", "bo");
  return bias ? c.b.add(y, *bias) : y;
}

Results gemm(Call& c) {
  const Shape a = c.shape(0), w = c.shape(1);
  if (a.size() != 2 || w.size() != 2)
    c.mismatch("Gemm takes matrices, got " + show(a) + " and " + show(w));
  const bool transA = c.integer("transA", 0) != 0, transB = c.integer("transB", 0) != 0;
  const int64_t inner = a[transA ? 0 : 1], columns = w[transB ? 0 : 1];
  if (inner != w[transB ? 1 : 0])
    c.mismatch("inner sizes of " + show(a) + (transA ? " (transposed)" : "") + " and " + show(w) +
               (transB ? " (transposed)" : "") + " differ");
  const double alpha = c.number("alpha", 1), beta = c.number("beta", 1);
  // Scaling the smaller operand costs least, and weights are scaled once for all data.
  const Value weight = c.b.scale(c.in(1), alpha);
  Value bias;
  const bool biased = c.has(2) && beta != 0;
  if (biased) {
    bias = c.b.scale(c.in(2), beta);
    const Shape rows = {a[transA ? 1 : 0], columns};
    if (broadcastShapes(c.shape(2), rows) != rows)
      c.mismatch("the bias " + show(c.shape(2)) + " does not broadcast to " + show(rows));
  }
  Value y = gemmOf(c, weight, biased ? &bias : nullptr);
  if (!biased || perColumn(c.b.shape(bias))) {
    y.rescaled = [c, weight, bias, biased, transB, columns](const Value& scale,
                                                            const Value& shift) mutable {
      const Value w =
          c.b.mul(weight, c.b.reshape(scale, transB ? Shape{columns, 1} : Shape{columns}));
      const Value s = biased ? c.b.add(c.b.mul(bias, scale), shift) : shift;
      return gemmOf(c, w, &s);
    };
  }
  return {y};
}

Results matMul(Call& c) {
  const Shape a = c.shape(0), w = c.shape(1);
  if (a.empty() || w.empty()) c.mismatch("a scalar takes no part in MatMul");
  const int64_t inner = a.back(), other = w.size() == 1 ? w[0] : w[w.size() - 2];
  if (inner != other) c.mismatch("inner sizes of " + show(a) + " and " + show(w) + " differ");
  const size_t leadA = a.size() < 2 ? 0 : a.size() - 2, leadB = w.size() < 2 ? 0 : w.size() - 2;
  const size_t lead = std::max(leadA, leadB);
  if (lead > 20) c.unsupported("more than 20 batch axes");
  std::string batch;
  for (size_t i = 0; i < lead; ++i) batch += static_cast<char>('a' + i);
  const std::string la = batch.substr(lead - leadA) + (a.size() > 1 ? "xy" : "y");
  const std::string lb = batch.substr(lead - leadB) + (w.size() > 1 ? "yz" : "y");
  const std::string out = batch + (a.size() > 1 ? "x" : "") + (w.size() > 1 ? "z" : "");
  return {c.b.einsum({c.in(0), c.in(1)}, {la, lb}, out)};
}

std::string equationOf(const NodeDef& node) {
  auto at = node.attributes.find("equation");
  std::string equation =
      at == node.attributes.end() || at->second.strings.empty() ? "" : at->second.strings[0];
  std::erase(equation, ' ');
  return equation;
}

std::string refuseEinsum(const NodeDef& node) {
  const std::string equation = equationOf(node);
  const size_t arrow = equation.find("->");
  if (equation.empty() || node.in.size() > 2) return "einsum takes one or two operands here";
  if (equation.find("...") != equation.npos) return "einsum with an ellipsis";
  const std::string left = equation.substr(0, arrow);
  for (size_t start = 0; start <= left.size();) {
    size_t end = std::min(left.find(',', start), left.size());
    std::string part = left.substr(start, end - start);
    std::sort(part.begin(), part.end());
    if (std::adjacent_find(part.begin(), part.end()) != part.end())
      return "einsum with a label twice in one operand";
    start = end + 1;
  }
  return "";
}

Results einsum(Call& c) {
  const std::string equation = equationOf(c.node);
  const size_t arrow = equation.find("->");
  const std::string left = equation.substr(0, arrow);
  // Labels of the primitive are lower-case letters here, so that none is its reserved K.
  std::string seen;
  auto renamed = [&seen](const std::string& labels) {
    std::string out;
    for (char label : labels) {
      if (seen.find(label) == seen.npos) seen += label;
      out += static_cast<char>('a' + seen.find(label));
    }
    return out;
  };
  std::vector<std::string> labels;
  std::vector<Value> operands;
  for (size_t start = 0; start <= left.size() && operands.size() < c.inputs();) {
    const size_t end = std::min(left.find(',', start), left.size());
    labels.push_back(renamed(left.substr(start, end - start)));
    operands.push_back(c.in(operands.size()));
    if (static_cast<int64_t>(labels.back().size()) != c.b.rank(operands.back()))
      c.mismatch("equation " + equation + " does not fit the rank of " +
                 show(c.b.shape(operands.back())));
    start = end + 1;
  }
  const auto wanted = static_cast<size_t>(std::count(left.begin(), left.end(), ',')) + 1;
  if (operands.size() != c.inputs() || wanted != c.inputs())
    c.mismatch("equation " + equation + " is for " + std::to_string(wanted) + " operands, got " +
               std::to_string(c.inputs()));
  if (arrow != equation.npos && equation.find_first_not_of(left, arrow + 2) != equation.npos)
    c.mismatch("equation " + equation + " has a label in its result that no operand has");
  std::string out;
  if (arrow != equation.npos) {
    out = renamed(equation.substr(arrow + 2));
  } else {  // labels that occur once, in alphabetical order
    std::string once = seen;
    std::sort(once.begin(), once.end());
    std::erase_if(once,
                  [&](char label) { return std::count(left.begin(), left.end(), label) != 1; });
    out = renamed(once);
  }
  if (seen.size() > 26) c.unsupported("equation " + equation);
  return {c.b.einsum(operands, labels, out)};
}

const Operator kTable[] = {
    {.name = "Einsum",
     .lower = einsum,
     .since = 12,
     .limits = "one or two operands, no ellipsis, no diagonal",
     .refuse = refuseEinsum},
    {.name = "Gemm", .lower = gemm},
    {.name = "MatMul", .lower = matMul},
};

}  // namespace

std::span<const Operator> linearOperators() { return kTable; }

}  // namespace eigenscope::onnx
