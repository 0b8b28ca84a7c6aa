#include "onnx/lower_value.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"

namespace eigenscope::onnx {

namespace {

[[noreturn]] void mismatch(const std::string& message) {
  throw Error(ErrorKind::DataMismatch, message);
}

// The axes that hold more than one element, in the order of memory.
bool inOrder(const Shape& physical, const Axes& perm) {
  int64_t last = -1;
  for (int64_t axis : perm) {
    if (physical[axis] == 1) continue;
    if (axis < last) return false;
    last = axis;
  }
  return true;
}

Shape permuted(const Shape& shape, const Axes& perm) {
  Shape out(perm.size());
  for (size_t i = 0; i < perm.size(); ++i) out[i] = shape[perm[i]];
  return out;
}

Axes inverse(const Axes& perm) {
  Axes out(perm.size());
  for (size_t i = 0; i < perm.size(); ++i) out[perm[i]] = static_cast<int64_t>(i);
  return out;
}

// values[i] of ONNX's axis i, in the order of memory.
Axes physical(const Axes& values, const Axes& perm) {
  Axes out(values.size());
  for (size_t i = 0; i < values.size(); ++i) out[perm[i]] = values[i];
  return out;
}

bool small(const Shape& shape) { return count(shape) <= kFoldLimit; }

bool comparison(Op op) {
  return op == Op::Less || op == Op::LessEqual || op == Op::Equal || op == Op::And || op == Op::Or;
}

}  // namespace

Axes identity(int64_t rank) {
  Axes out(rank);
  std::iota(out.begin(), out.end(), 0);
  return out;
}

int64_t normalAxis(int64_t axis, int64_t rank) {
  const int64_t normal = axis < 0 ? axis + rank : axis;
  if (normal < 0 || normal >= rank)
    mismatch("axis " + std::to_string(axis) + " is out of range for rank " + std::to_string(rank));
  return normal;
}

Axes normalAxes(Axes axes, int64_t rank) {
  for (int64_t& axis : axes) axis = normalAxis(axis, rank);
  std::sort(axes.begin(), axes.end());
  axes.erase(std::unique(axes.begin(), axes.end()), axes.end());
  return axes;
}

// ---- making and asking ----------------------------------------------------------------------

Value Builder::known(Tensor tensor) {
  Value value;
  value.host = std::make_shared<const Tensor>(std::move(tensor));
  return value;
}

Value Builder::number(double value, Type type) { return known(splatOf(value, {}, type)); }

Value Builder::wrap(Id node) const { return wrap(node, identity(graph.rank(node))); }

Value Builder::wrap(Id node, const Axes& perm) const {
  Value value;
  // Where only axes of size 1 are out of place the order in memory is ONNX's.
  const bool plain = inOrder(graph.shape(node), perm);
  value.node = plain ? graph.reshape(node, permuted(graph.shape(node), perm)) : node;
  value.perm = plain ? identity(static_cast<int64_t>(perm.size())) : perm;
  return value;
}

Type Builder::type(const Value& x) const { return x.known() ? x.host->type : graph[x.node].type; }

Shape Builder::shape(const Value& x) const {
  return x.known() ? x.host->shape : permuted(graph.shape(x.node), x.perm);
}

bool Builder::isSplat(const Value& x, double value) {
  return x.known() && x.host->size() > 0 &&
         std::all_of(x.host->values->begin(), x.host->values->end(),
                     [value](double v) { return v == value; });
}

Id Builder::plain(const Value& x) { return arranged(x, identity(rank(x))); }

Id Builder::arranged(const Value& x, const Axes& perm) {
  if (x.known()) return constant(fold::permute(*x.host, inverse(perm)));
  Axes source(perm.size());
  for (size_t i = 0; i < perm.size(); ++i) source[perm[i]] = x.perm[i];
  return graph.permute(x.node, source);
}

Value Builder::withLast(const Value& x, int64_t axis) {
  Axes perm = x.known() ? identity(rank(x)) : x.perm;
  const int64_t at = perm[axis];
  for (int64_t& p : perm)
    if (p > at) --p;
  perm[axis] = static_cast<int64_t>(perm.size()) - 1;
  Value out;
  out.node = arranged(x, perm);
  out.perm = perm;
  return out;
}

// ---- movement -------------------------------------------------------------------------------

Value Builder::reshape(const Value& x, const Shape& target) {
  const Shape from = shape(x);
  if (count(from) != count(target))
    mismatch("cannot reshape " + show(from) + " to " + show(target) + ": " +
             std::to_string(count(from)) + " elements against " + std::to_string(count(target)));
  if (from == target) return x;
  if (x.known()) return known(fold::reshape(*x.host, target));
  // Splitting or merging axes that are neighbours in memory leaves the memory as it is. Runs of
  // axes with equal products are matched; each run must lie together, in order.
  struct Run {
    int64_t at;  // where the run starts in memory
    Axes to;     // target axes
  };
  std::vector<Run> runs;
  bool together = count(from) > 0;
  for (size_t i = 0, j = 0; together && (i < from.size() || j < target.size());) {
    int64_t a = 1, b = 1, last = -1, first = -1;
    Axes to;
    do {
      if (i < from.size() && (a <= b || j == target.size())) {
        if (from[i] != 1) {
          int64_t between = last + 1;
          while (last >= 0 && between < x.perm[i] && graph.shape(x.node)[between] == 1) ++between;
          together = together && (last < 0 || between == x.perm[i]);
          last = x.perm[i];
          if (first < 0) first = last;
        }
        a *= from[i++];
      } else {
        to.push_back(static_cast<int64_t>(j));
        b *= target[j++];
      }
    } while (a != b);
    runs.push_back({first, to});
  }
  if (!together) return wrap(graph.reshape(plain(x), target));
  std::stable_sort(runs.begin(), runs.end(),
                   [](const Run& left, const Run& right) { return left.at < right.at; });
  Shape memory;
  Axes perm(target.size());
  for (const Run& run : runs)
    for (int64_t axis : run.to) {
      perm[axis] = static_cast<int64_t>(memory.size());
      memory.push_back(target[axis]);
    }
  return wrap(graph.reshape(x.node, memory), perm);
}

Value Builder::squeeze(const Value& x, const Axes& axes) {
  Shape to;
  const Shape from = shape(x);
  for (int64_t i = 0; i < static_cast<int64_t>(from.size()); ++i) {
    const bool dropped = std::binary_search(axes.begin(), axes.end(), i);
    if (dropped && from[i] != 1)
      mismatch("axis " + std::to_string(i) + " of " + show(from) + " has more than one element");
    if (!dropped) to.push_back(from[i]);
  }
  return reshape(x, to);
}

Value Builder::unsqueeze(const Value& x, const Axes& axes) {
  Shape to = shape(x);
  for (int64_t axis : axes) to.insert(to.begin() + axis, 1);
  return reshape(x, to);
}

Value Builder::transpose(const Value& x, const Axes& perm) {
  if (x.known()) return known(fold::permute(*x.host, perm));
  return wrap(x.node, permuted(x.perm, perm));
}

Value Builder::broadcast(const Value& x, const Shape& target) {
  if (broadcastShapes(shape(x), target) != target)
    mismatch("shape " + show(shape(x)) + " does not broadcast to " + show(target));
  if (shape(x) == target) return x;
  if (x.known() && (x.host->splat() || small(target)))
    return known(fold::broadcast(*x.host, target));
  Axes lead(target.size() - rank(x));
  std::iota(lead.begin(), lead.end(), 0);
  const Value full = unsqueeze(x, lead);
  const Axes perm = full.known() ? identity(rank(full)) : full.perm;
  return wrap(graph.broadcast(arranged(full, perm), physical(target, perm)), perm);
}

Value Builder::slice(const Value& x, const Axes& start, const Axes& step, const Shape& sizes) {
  if (x.known()) return known(fold::slice(*x.host, start, step, sizes));
  return wrap(
      graph.slice(x.node, physical(start, x.perm), physical(step, x.perm), physical(sizes, x.perm)),
      x.perm);
}

Value Builder::sliceAxis(const Value& x, int64_t axis, int64_t start, int64_t size, int64_t step) {
  Shape sizes = shape(x);
  Axes starts(sizes.size(), 0), steps(sizes.size(), 1);
  starts[axis] = start;
  steps[axis] = step;
  sizes[axis] = size;
  return slice(x, starts, steps, sizes);
}

Value Builder::unslice(const Value& x, const Axes& start, const Axes& step, const Shape& full) {
  if (x.known() && small(full)) return known(fold::unslice(*x.host, start, step, full));
  const Axes perm = x.known() ? identity(rank(x)) : x.perm;
  return wrap(graph.unslice(arranged(x, perm), physical(start, perm), physical(step, perm),
                            physical(full, perm)),
              perm);
}

Value Builder::concat(const std::vector<Value>& xs, int64_t axis) {
  Shape whole = shape(xs[0]);
  const Value* largest = nullptr;
  bool allKnown = true;
  whole[axis] = 0;
  for (const Value& x : xs) {
    Shape next = shape(x);
    if (next.size() != whole.size())
      mismatch("cannot join " + show(shape(xs[0])) + " and " + show(next) + ": ranks differ");
    for (size_t d = 0; d < whole.size(); ++d)
      if (static_cast<int64_t>(d) != axis && next[d] != whole[d])
        mismatch("cannot join " + show(shape(xs[0])) + " and " + show(next) + " along axis " +
                 std::to_string(axis));
    whole[axis] += next[axis];
    allKnown = allKnown && x.known();
    if (!x.known() && (!largest || count(next) > count(shape(*largest)))) largest = &x;
  }
  if (allKnown && small(whole)) {
    std::vector<Tensor> tensors;
    for (const Value& x : xs) tensors.push_back(*x.host);
    return known(fold::concat(tensors, axis));
  }
  const Axes perm = largest ? largest->perm : identity(static_cast<int64_t>(whole.size()));
  std::vector<Id> nodes;
  for (const Value& x : xs)
    if (shape(x)[axis] > 0) nodes.push_back(arranged(x, perm));
  return wrap(graph.concat(nodes, perm[axis]), perm);
}

Value Builder::gather(const Value& x, const Value& index, int64_t axis) {
  const Shape from = shape(x), at = shape(index);
  const int64_t n = from[axis];
  if (index.known()) {
    Tensor positions = *index.host;
    positions = fold::map(positions, Type::Int, [n](double v) { return v < 0 ? v + n : v; });
    const std::vector<int64_t> list = integers(positions);
    for (size_t i = 0; i < list.size(); ++i)
      if (list[i] < 0 || list[i] >= n)
        mismatch("index " + std::to_string(integers(*index.host)[i]) +
                 " is out of range for axis " + std::to_string(axis) + " of " + show(from));
    if (x.known()) {
      Tensor picked = fold::gather(*x.host, positions, axis);
      return known(std::move(picked));
    }
    // An arithmetic progression is a slice, which moves less.
    const int64_t step = list.size() > 1 ? list[1] - list[0] : 1;
    bool regular = !list.empty() && step != 0;
    for (size_t i = 1; i < list.size(); ++i) regular = regular && list[i] - list[i - 1] == step;
    if (regular && static_cast<int64_t>(list.size()) == positions.size()) {
      const Value run = sliceAxis(x, axis, list[0], static_cast<int64_t>(list.size()), step);
      Shape to(from.begin(), from.begin() + axis);
      to.insert(to.end(), at.begin(), at.end());
      to.insert(to.end(), from.begin() + axis + 1, from.end());
      return reshape(run, to);
    }
    return gather(x, wrap(constant(positions)), axis);
  }
  const Axes perm = x.known() ? identity(rank(x)) : x.perm;
  const Id data = arranged(x, perm);
  // Constants were counted from the front above; what comes with the data may be negative.
  Value positions = index;
  if (graph[index.node].op != Op::Const)
    positions = select(binary(Op::Less, index, number(0, Type::Int)),
                       add(index, number(static_cast<double>(n), Type::Int)), index);
  const int64_t place = perm[axis], m = static_cast<int64_t>(at.size());
  Axes out;
  for (int64_t i = 0; i < static_cast<int64_t>(from.size()); ++i) {
    if (i == axis)
      for (int64_t j = 0; j < m; ++j) out.push_back(place + j);
    else
      out.push_back(perm[i] > place ? perm[i] + m - 1 : perm[i]);
  }
  return wrap(graph.gather(data, plain(positions), place), out);
}

// ---- elementwise ----------------------------------------------------------------------------

std::vector<Id> Builder::aligned(const std::vector<const Value*>& xs, Axes& perm) {
  Shape to;
  for (const Value* x : xs) to = broadcastShapes(to, shape(*x));
  const int64_t r = static_cast<int64_t>(to.size());
  const Value* lead = nullptr;
  for (const Value* x : xs)
    if (!x->known() && rank(*x) == r && (!lead || count(shape(*x)) > count(shape(*lead)))) lead = x;
  perm = lead ? lead->perm : identity(r);
  std::vector<Id> nodes;
  for (const Value* x : xs) {
    if (count(shape(*x)) == 1 && rank(*x) < r) {
      nodes.push_back(plain(reshape(*x, {})));
      continue;
    }
    Axes missing(r - rank(*x));
    std::iota(missing.begin(), missing.end(), 0);
    nodes.push_back(arranged(unsqueeze(*x, missing), perm));
  }
  return nodes;
}

Value Builder::unary(Op op, const Value& x) {
  if (x.known())
    return known(fold::map(*x.host, op == Op::Not ? Type::Bool : type(x), fold::unaryOf(op)));
  return wrap(graph.unary(op, x.node), x.perm);
}

Value Builder::binary(Op op, const Value& a, const Value& b) {
  const Shape to = broadcastShapes(shape(a), shape(b));
  if (type(a) != type(b)) mismatch("operands have different element types");
  if (a.known() && b.known() && small(to))
    return known(
        fold::zip(*a.host, *b.host, comparison(op) ? Type::Bool : type(a), fold::binaryOf(op)));
  Axes perm;
  const std::vector<Id> in = aligned({&a, &b}, perm);
  return wrap(graph.binary(op, in[0], in[1]), perm);
}

Value Builder::select(const Value& mask, const Value& a, const Value& b) {
  const Shape to = broadcastShapes(shape(mask), broadcastShapes(shape(a), shape(b)));
  if (type(a) != type(b)) mismatch("branches have different element types");
  if (mask.known() && a.known() && b.known() && small(to))
    return known(fold::select(*mask.host, *a.host, *b.host));
  if (mask.known() && mask.host->size() > 0 && isSplat(mask, mask.host->at(0))) {
    return broadcast(mask.host->at(0) != 0 ? a : b, to);
  }
  Axes perm;
  const std::vector<Id> in = aligned({&mask, &a, &b}, perm);
  return wrap(graph.select(in[0], in[1], in[2]), perm);
}

Value Builder::cast(const Value& x, Type to) {
  if (type(x) == to) return x;
  if (x.known())
    return known(fold::map(*x.host, to, [to](double v) {
      return to == Type::Bool ? (v != 0 ? 1.0 : 0.0) : to == Type::Int ? std::trunc(v) : v;
    }));
  return wrap(graph.cast(x.node, to), x.perm);
}

Value Builder::pow(const Value& x, double exponent) {
  if (x.known())
    return known(fold::map(*x.host, type(x), [=](double v) { return std::pow(v, exponent); }));
  if (exponent == 0) return broadcast(number(1), shape(x));
  return wrap(graph.pow(x.node, exponent), x.perm);
}

// x^p = e^(p log |x|), with the sign of an odd p where x is negative. Only the slope at x = 0 is
// not that of the power: it is 0 for every p.
Value Builder::variablePower(const Value& x, const Value& p) {
  const Value zero = number(0), one = number(1), half = scale(p, 0.5);
  const Value atZero = binary(Op::Equal, x, zero), negative = binary(Op::Less, x, zero);
  const Value size = unary(Op::Exp, mul(p, unary(Op::Log, select(atZero, one, abs(x)))));
  const Value whole = binary(Op::Equal, p, unary(Op::Floor, p));
  const Value even = binary(Op::Equal, half, unary(Op::Floor, half));
  const Value sign = select(even, one, select(whole, number(-1), number(std::nan(""))));
  const Value power = mul(size, select(negative, sign, one));
  return select(atZero, select(binary(Op::Equal, p, zero), one, zero), power);
}

Value Builder::pow(const Value& x, const Value& exponent) {
  if (type(x) != Type::Real) return cast(pow(cast(x, Type::Real), exponent), type(x));
  const Value p = cast(exponent, Type::Real);
  if (p.known() && x.known())
    return known(
        fold::zip(*x.host, *p.host, type(x), [](double a, double b) { return std::pow(a, b); }));
  if (p.known() && p.host->size() > 0 && isSplat(p, p.host->at(0)))
    return broadcast(pow(x, p.host->at(0)), broadcastShapes(shape(x), shape(p)));
  // A known exponent with a few different numbers: each on its own elements. Elsewhere the base is
  // 1, so that no infinite slope meets a zero.
  std::vector<double> different;
  if (p.known()) {
    different = *p.host->values;
    std::sort(different.begin(), different.end());
    different.erase(std::unique(different.begin(), different.end()), different.end());
  }
  constexpr size_t kFew = 16;
  if (!different.empty() && different.size() <= kFew) {
    const Shape to = broadcastShapes(shape(x), shape(p));
    Value y = broadcast(number(0), to);
    for (double one : different) {
      const Value here = binary(Op::Equal, p, number(one));
      y = select(here, pow(select(here, x, number(1)), one), y);
    }
    return y;
  }
  return variablePower(x, p);
}

Value Builder::div(const Value& a, const Value& b) {
  const bool whole = type(a) == Type::Int;
  if (a.known() && b.known() && type(a) == type(b))
    return known(fold::zip(*a.host, *b.host, type(a), [whole](double u, double v) {
      if (whole && v == 0) mismatch("integer division by zero");
      return whole ? std::trunc(u / v) : u / v;
    }));
  if (whole)
    throw Error(ErrorKind::UnsupportedOperator,
                "division of integers that come with the data is not supported");
  return mul(a, unary(Op::Recip, b));
}

Value Builder::abs(const Value& x) {
  const Value zero = number(0, type(x));
  const Value negative = select(binary(Op::Less, x, zero), neg(x), zero);
  return select(binary(Op::Less, zero, x), x, negative);
}

Value Builder::max(const Value& a, const Value& b) { return select(binary(Op::Less, a, b), b, a); }

Value Builder::min(const Value& a, const Value& b) { return select(binary(Op::Less, b, a), b, a); }

}  // namespace eigenscope::onnx
