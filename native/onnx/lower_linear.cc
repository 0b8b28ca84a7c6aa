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
  return equationOf(node).empty() ? "attribute equation is empty" : "";
}

// One operand of an einsum: its value, and a label for each of its axes.
struct Term {
  Value value;
  std::string labels;
};

// "...": axes that broadcast from the right. They are labelled by digits, the last with 0.
std::string expanded(Call& c, const std::string& labels, int64_t rank) {
  const size_t dots = labels.find("...");
  const auto named = static_cast<int64_t>(labels.size()) - (dots == labels.npos ? 0 : 3);
  const int64_t hidden = rank - named;
  if (hidden < 0 || (dots == labels.npos && hidden != 0) || hidden > 9)
    c.mismatch("equation " + equationOf(c.node) + " does not fit rank " + std::to_string(rank));
  if (dots == labels.npos) return labels;
  std::string digits;
  for (int64_t i = hidden; i-- > 0;) digits += static_cast<char>('0' + i);
  return labels.substr(0, dots) + digits + labels.substr(dots + 3);
}

// A label twice in one operand takes the diagonal.
Term withoutRepetition(Call& c, Term term) {
  for (size_t j = term.labels.size(); j-- > 0;) {
    const size_t i = term.labels.find(term.labels[j]);
    if (i == j) continue;
    const Shape shape = c.b.shape(term.value);
    const int64_t n = shape[i];
    if (n != shape[j])
      c.mismatch("equation " + equationOf(c.node) + " takes a diagonal of " + show(shape));
    Axes perm;
    Shape flat;
    std::string labels;
    for (size_t axis = 0; axis < shape.size(); ++axis)
      if (axis != i && axis != j) {
        perm.push_back(static_cast<int64_t>(axis));
        flat.push_back(shape[axis]);
        labels += term.labels[axis];
      }
    perm.push_back(static_cast<int64_t>(i));
    perm.push_back(static_cast<int64_t>(j));
    flat.push_back(n * n);
    const auto last = static_cast<int64_t>(flat.size()) - 1;
    const Value square = c.b.reshape(c.b.transpose(term.value, perm), flat);
    term = {c.b.sliceAxis(square, last, 0, n, n + 1), labels + term.labels[j]};
    j = term.labels.size();
  }
  return term;
}

Results einsum(Call& c) {
  const std::string equation = equationOf(c.node);
  const size_t arrow = equation.find("->");
  const std::string left = equation.substr(0, arrow);
  const auto wanted = static_cast<size_t>(std::count(left.begin(), left.end(), ',')) + 1;
  if (wanted != c.inputs())
    c.mismatch("equation " + equation + " is for " + std::to_string(wanted) + " operands, got " +
               std::to_string(c.inputs()));
  std::vector<Term> terms;
  std::string seen;  // every label, at the place that renames it
  int64_t hidden = 0;
  for (size_t start = 0; start <= left.size();) {
    const size_t end = std::min(left.find(',', start), left.size());
    const Value& x = c.in(terms.size());
    const std::string labels = expanded(c, left.substr(start, end - start), c.b.rank(x));
    for (char label : labels) {
      if (seen.find(label) == seen.npos) seen += label;
      if (label >= '0' && label <= '9') hidden = std::max<int64_t>(hidden, label - '0' + 1);
    }
    terms.push_back(withoutRepetition(c, {x, labels}));
    start = end + 1;
  }
  std::string out;
  if (arrow != equation.npos) {
    out = equation.substr(arrow + 2);
    const bool dotted = out.find("...") != out.npos;
    out = expanded(c, out, static_cast<int64_t>(out.size()) + (dotted ? hidden - 3 : 0));
    if (out.find_first_not_of(seen) != out.npos)
      c.mismatch("equation " + equation + " has a label in its result that no operand has");
  } else {  // what the dots stand for, then labels that occur once, in alphabetical order
    for (int64_t i = hidden; i-- > 0;) out += static_cast<char>('0' + i);
    std::string once = seen;
    std::sort(once.begin(), once.end());
    std::erase_if(once, [&](char label) {
      return (label >= '0' && label <= '9') || std::count(left.begin(), left.end(), label) != 1;
    });
    out += once;
  }
  if (seen.size() > 26) c.unsupported("equation " + equation + " has more than 26 labels");
  // Labels of the primitive are lower-case letters here, so that none is its reserved K.
  auto renamed = [&seen](const std::string& labels) {
    std::string to;
    for (char label : labels) to += static_cast<char>('a' + seen.find(label));
    return to;
  };
  Term product = terms[0];
  for (size_t i = 1; i < terms.size(); ++i) {
    std::string later = out, kept;
    for (size_t j = i + 1; j < terms.size(); ++j) later += terms[j].labels;
    if (i + 1 == terms.size()) {
      kept = out;
    } else {
      for (char label : product.labels + terms[i].labels)
        if (later.find(label) != later.npos && kept.find(label) == kept.npos) kept += label;
    }
    product = {c.b.einsum({product.value, terms[i].value},
                          {renamed(product.labels), renamed(terms[i].labels)}, renamed(kept)),
               kept};
  }
  if (terms.size() > 1) return {product.value};
  return {c.b.einsum({product.value}, {renamed(product.labels)}, renamed(out))};
}

// (x - zero point) * scale, each for all elements or along an axis.
Results dequantizeLinear(Call& c) {
  const Shape shape = c.shape(0);
  auto along = [&](size_t input) {
    const Shape own = c.shape(input);
    if (count(own) == 1) return c.b.reshape(c.in(input), {});
    const int64_t axis = normalAxis(c.integer("axis", 1), c.rank(0));
    if (own != Shape{shape[axis]})
      c.mismatch("scale or zero point " + show(own) + " do not fit axis " + std::to_string(axis) +
                 " of " + show(shape));
    Shape to(shape.size(), 1);
    to[axis] = shape[axis];
    return c.b.reshape(c.in(input), to);
  };
  Value x = c.b.cast(c.in(0), Type::Real);
  if (c.has(2)) x = c.b.sub(x, c.b.cast(along(2), Type::Real));
  return {c.b.mul(x, along(1))};
}

std::string refuseBlocks(const NodeDef& node) {
  auto at = node.attributes.find("block_size");
  const bool blocks =
      at != node.attributes.end() && !at->second.ints.empty() && at->second.ints[0] != 0;
  return blocks ? "attribute block_size is not supported" : "";
}

const Operator kTable[] = {
    {.name = "DequantizeLinear",
     .lower = dequantizeLinear,
     .since = 10,
     .limits = "no blocks",
     .refuse = refuseBlocks},
    {.name = "Einsum", .lower = einsum, .since = 12, .refuse = refuseEinsum},
    {.name = "Gemm", .lower = gemm},
    {.name = "MatMul", .lower = matMul},
};

}  // namespace

std::span<const Operator> linearOperators() { return kTable; }

}  // namespace eigenscope::onnx
