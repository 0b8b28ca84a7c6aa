#include "ir/graph.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "base/error.h"

namespace eigenscope {

namespace {

struct Row {
  const char* name;
  Kind kind;
  Derivative derivative;
};

constexpr Row kTable[] = {
#define X(op, kind, derivative) {#op, Kind::kind, Derivative::derivative},
    EIGENSCOPE_PRIMITIVES(X)
#undef X
};

void require(bool holds, Op op, const std::string& what) {
  if (!holds) throw Error(ErrorKind::Internal, std::string(name(op)) + ": " + what);
}

size_t normalAxis(int64_t axis, size_t rank, Op op) {
  if (axis < 0) axis += static_cast<int64_t>(rank);
  require(axis >= 0 && axis < static_cast<int64_t>(rank), op,
          "axis out of range for rank " + std::to_string(rank));
  return static_cast<size_t>(axis);
}

Shape broadcastShape(const Shape& a, const Shape& b, Op op) {
  Shape out(std::max(a.size(), b.size()), 1);
  for (size_t i = 0; i < out.size(); ++i) {
    int64_t da = i < a.size() ? a[a.size() - 1 - i] : 1;
    int64_t db = i < b.size() ? b[b.size() - 1 - i] : 1;
    require(da == db || da == 1 || db == 1, op,
            "shapes " + show(a) + " and " + show(b) + " do not broadcast");
    out[out.size() - 1 - i] = da == 1 ? db : da;
  }
  return out;
}

void append(std::string& key, const void* bytes, size_t size) {
  key.append(static_cast<const char*>(bytes), size);
}

template <class T>
void append(std::string& key, const std::vector<T>& values) {
  uint32_t n = static_cast<uint32_t>(values.size());
  append(key, &n, sizeof n);
  append(key, values.data(), values.size() * sizeof(T));
}

std::string keyOf(Op op, Type type, const Shape& shape, const std::vector<Id>& in,
                  const Attr& attr) {
  std::string key;
  key.push_back(static_cast<char>(op));
  key.push_back(static_cast<char>(type));
  append(key, shape);
  append(key, in);
  append(key, attr.ints);
  key += attr.labels;
  append(key, &attr.number, sizeof attr.number);
  append(key, &attr.window, sizeof attr.window);
  return key;
}

}  // namespace

const char* name(Op op) { return kTable[static_cast<size_t>(op)].name; }
Kind kindOf(Op op) { return kTable[static_cast<size_t>(op)].kind; }
Derivative derivativeOf(Op op) { return kTable[static_cast<size_t>(op)].derivative; }

int64_t count(const Shape& shape) {
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  int64_t n = 1;
  for (int64_t length : shape)
    if (__builtin_mul_overflow(n, length, &n)) return std::numeric_limits<int64_t>::max();
  return n;
}

std::string show(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

// ---- construction -------------------------------------------------------------------------

Id Graph::make(Op op, Type type, Shape shape, std::vector<Id> in, Attr attr) {
  constexpr int64_t kMost = int64_t{1} << 50;  // sums of sizes in bytes stay far from overflow
  if (std::any_of(shape.begin(), shape.end(), [](int64_t length) { return length < 0; }))
    throw Error(ErrorKind::DataMismatch, "a length is negative in the shape " + show(shape));
  if (count(shape) > kMost)
    throw Error(ErrorKind::MemoryBudget,
                "a value of shape " + show(shape) + " does not fit memory");
  Scope scope = Scope::Const;
  for (Id id : in) scope = std::max(scope, nodes_[id].scope);
  if (scope == Scope::Local)
    for (Id& id : in)
      if (nodes_[id].scope == Scope::Global) id = spread(id);
  if (scope == Scope::Collected)
    for (Id id : in)
      require(nodes_[id].scope != Scope::Local, op, "mixes a micro-batch with a collected value");
  std::string key = keyOf(op, type, shape, in, attr);
  auto [at, isNew] = known_.try_emplace(std::move(key), size());
  if (isNew) nodes_.push_back({op, type, scope, std::move(shape), std::move(in), std::move(attr)});
  return at->second;
}

Id Graph::leaf(Op op, Type type, Scope scope, Shape shape, Attr attr) {
  std::string key = keyOf(op, type, shape, {static_cast<Id>(scope)}, attr);
  auto [at, isNew] = known_.try_emplace(std::move(key), size());
  if (isNew) nodes_.push_back({op, type, scope, std::move(shape), {}, std::move(attr)});
  return at->second;
}

Id Graph::param(int64_t number, const Shape& shape) {
  return leaf(Op::Param, Type::Real, Scope::Global, shape, {.ints = {number}});
}

Id Graph::tangent(int64_t number, const Shape& shape) {
  return leaf(Op::Tangent, Type::Real, Scope::Global, shape, {.ints = {number}});
}

Id Graph::probe(int64_t number, const Shape& shape, Scope scope) {
  return leaf(Op::Probe, Type::Real, scope, shape, {.ints = {number}});
}

Id Graph::input(int64_t slot, const Shape& shape, Type type) {
  return leaf(Op::Input, type, Scope::Local, shape, {.ints = {slot}});
}

Id Graph::constant(Values values, const Shape& shape, Type type) {
  require(values->size() == 1 || static_cast<int64_t>(values->size()) == count(shape), Op::Const,
          "values do not fill the shape " + show(shape));
  size_t at = 0;
  // Small constants are compared by value, large ones by identity.
  constexpr size_t kSmall = 256;
  for (; at < constants_.size(); ++at) {
    if (constants_[at] == values) break;
    if (values->size() <= kSmall && constants_[at]->size() == values->size() &&
        std::memcmp(constants_[at]->data(), values->data(), values->size() * sizeof(double)) == 0)
      break;
  }
  if (at == constants_.size()) constants_.push_back(std::move(values));
  return leaf(Op::Const, type, Scope::Const, shape, {.ints = {static_cast<int64_t>(at)}});
}

Id Graph::scalar(double value, Type type) {
  return constant(std::make_shared<std::vector<double>>(1, value), {}, type);
}

Id Graph::iota(int64_t n, Type type) {
  auto values = std::make_shared<std::vector<double>>(n);
  std::iota(values->begin(), values->end(), 0.0);
  return constant(values, {n}, type);
}

Id Graph::zerosLike(Id x) {
  return constant(std::make_shared<std::vector<double>>(1, 0.0), shape(x), nodes_[x].type);
}

bool Graph::isSplat(Id id, double value) const {
  const Node* node = &nodes_[id];
  while (node->op == Op::Reshape || node->op == Op::Broadcast || node->op == Op::Spread)
    node = &nodes_[node->in[0]];
  if (node->op != Op::Const) return false;
  const auto& values = *constants_[node->attr.ints[0]];
  return values.size() == 1 && values[0] == value;
}

// ---- movement -----------------------------------------------------------------------------

Id Graph::reshape(Id x, const Shape& target) {
  require(count(target) == count(shape(x)), Op::Reshape,
          show(shape(x)) + " has another size than " + show(target));
  while (nodes_[x].op == Op::Reshape) x = nodes_[x].in[0];
  if (shape(x) == target) return x;
  if (nodes_[x].op == Op::Const) return constant(constantOf(x), target, nodes_[x].type);
  return make(Op::Reshape, nodes_[x].type, target, {x});
}

Id Graph::permute(Id x, const std::vector<int64_t>& perm) {
  const Shape from = shape(x);
  require(perm.size() == from.size(), Op::Permute, "the permutation has another rank");
  if (nodes_[x].op == Op::Permute) {
    std::vector<int64_t> composed(perm.size());
    for (size_t i = 0; i < perm.size(); ++i) composed[i] = nodes_[x].attr.ints[perm[i]];
    return permute(nodes_[x].in[0], composed);
  }
  Shape to(perm.size());
  for (size_t i = 0; i < perm.size(); ++i) to[i] = from[perm[i]];
  // Moving axes of size 1 moves no element.
  int64_t last = -1;
  bool ordered = true;
  for (int64_t axis : perm)
    if (from[axis] != 1) {
      ordered = ordered && axis > last;
      last = axis;
    }
  if (ordered) return reshape(x, to);
  if (nodes_[x].op == Op::Const && constantOf(x)->size() == 1)
    return constant(constantOf(x), to, nodes_[x].type);
  return make(Op::Permute, nodes_[x].type, to, {x}, {.ints = perm});
}

Id Graph::alignRank(Id x, size_t rank) {
  if (shape(x).size() == rank) return x;
  Shape to(rank - shape(x).size(), 1);
  to.insert(to.end(), shape(x).begin(), shape(x).end());
  return reshape(x, to);
}

Id Graph::broadcast(Id x, const Shape& target) {
  require(broadcastShape(shape(x), target, Op::Broadcast) == target, Op::Broadcast,
          show(shape(x)) + " does not broadcast to " + show(target));
  x = alignRank(x, target.size());
  if (shape(x) == target) return x;
  if (nodes_[x].op == Op::Broadcast) return broadcast(nodes_[x].in[0], target);
  if (nodes_[x].op == Op::Const && constantOf(x)->size() == 1)
    return constant(constantOf(x), target, nodes_[x].type);
  return make(Op::Broadcast, nodes_[x].type, target, {x});
}

Id Graph::slice(Id x, const std::vector<int64_t>& start, const std::vector<int64_t>& step,
                const Shape& sizes) {
  const Shape& from = shape(x);
  require(start.size() == from.size() && step.size() == from.size() && sizes.size() == from.size(),
          Op::Slice, "start, step and sizes must have the rank of the operand");
  bool whole = sizes == from;
  for (size_t i = 0; i < from.size(); ++i) {
    int64_t last = start[i] + step[i] * (sizes[i] - 1);
    require(sizes[i] == 0 || (start[i] >= 0 && start[i] < from[i] && last >= 0 && last < from[i]),
            Op::Slice, "out of range");
    whole = whole && (step[i] == 1 || sizes[i] <= 1);
  }
  if (whole) return x;
  if (nodes_[x].op == Op::Const && constantOf(x)->size() == 1)
    return constant(constantOf(x), sizes, nodes_[x].type);
  std::vector<int64_t> ints = start;
  ints.insert(ints.end(), step.begin(), step.end());
  return make(Op::Slice, nodes_[x].type, sizes, {x}, {.ints = ints});
}

Id Graph::unslice(Id x, const std::vector<int64_t>& start, const std::vector<int64_t>& step,
                  const Shape& full) {
  const Shape& from = shape(x);
  require(start.size() == from.size() && step.size() == from.size() && full.size() == from.size(),
          Op::Unslice, "start, step and full must have the rank of the operand");
  for (size_t i = 0; i < from.size(); ++i) {
    int64_t last = start[i] + step[i] * (from[i] - 1);
    require(from[i] == 0 || (start[i] >= 0 && start[i] < full[i] && last >= 0 && last < full[i]),
            Op::Unslice, "out of range");
  }
  if (from == full) {
    bool identity = true;
    for (size_t i = 0; i < from.size(); ++i) identity = identity && (step[i] == 1 || from[i] <= 1);
    if (identity) return x;
  }
  if (isSplat(x, 0)) {
    const Shape to = full;  // nodes may move below
    return constant(constantOf(scalar(0)), to, nodes_[x].type);
  }
  std::vector<int64_t> ints = start;
  ints.insert(ints.end(), step.begin(), step.end());
  return make(Op::Unslice, nodes_[x].type, full, {x}, {.ints = ints});
}

Id Graph::concat(const std::vector<Id>& xs, int64_t axisSigned) {
  require(!xs.empty(), Op::Concat, "needs an operand");
  if (xs.size() == 1) return xs[0];
  Shape to = shape(xs[0]);
  size_t axis = normalAxis(axisSigned, to.size(), Op::Concat);
  for (size_t i = 1; i < xs.size(); ++i) {
    Shape next = shape(xs[i]);
    require(next.size() == to.size(), Op::Concat, "ranks differ");
    for (size_t d = 0; d < to.size(); ++d)
      require(d == axis || next[d] == to[d], Op::Concat,
              "shapes " + show(to) + " and " + show(next) + " differ beside the axis");
    to[axis] += next[axis];
  }
  return make(Op::Concat, nodes_[xs[0]].type, to, xs, {.ints = {static_cast<int64_t>(axis)}});
}

Id Graph::gather(Id x, Id index, int64_t axisSigned) {
  const Shape from = shape(x);
  size_t axis = normalAxis(axisSigned, from.size(), Op::Gather);
  require(nodes_[index].type == Type::Int, Op::Gather, "the index must be Int");
  Shape to(from.begin(), from.begin() + axis);
  to.insert(to.end(), shape(index).begin(), shape(index).end());
  to.insert(to.end(), from.begin() + axis + 1, from.end());
  return make(Op::Gather, nodes_[x].type, to, {x, index}, {.ints = {static_cast<int64_t>(axis)}});
}

Id Graph::scatterAdd(Id y, Id index, int64_t axisSigned, int64_t n) {
  const Shape from = shape(y);
  const Shape at = shape(index);
  require(nodes_[index].type == Type::Int, Op::ScatterAdd, "the index must be Int");
  require(at.size() <= from.size(), Op::ScatterAdd, "the index has a higher rank than the operand");
  size_t axis = axisSigned < 0 ? axisSigned + from.size() - at.size() + 1 : axisSigned;
  require(axis + at.size() <= from.size() && std::equal(at.begin(), at.end(), from.begin() + axis),
          Op::ScatterAdd, "the index does not fit the operand");
  Shape to(from.begin(), from.begin() + axis);
  to.push_back(n);
  to.insert(to.end(), from.begin() + axis + at.size(), from.end());
  return make(Op::ScatterAdd, nodes_[y].type, to, {y, index},
              {.ints = {static_cast<int64_t>(axis), static_cast<int64_t>(at.size())}});
}

// ---- windows ------------------------------------------------------------------------------

Id Graph::windowSum(Id x, const Window& window, int64_t outH, int64_t outW) {
  Shape to = shape(x);
  require(to.size() >= 3, Op::WindowSum, "needs [..., H, W, C]");
  to[to.size() - 3] = outH;
  to[to.size() - 2] = outW;
  return make(Op::WindowSum, Type::Real, to, {x}, {.window = window});
}

Id Graph::windowSpread(Id y, const Window& window, int64_t inH, int64_t inW) {
  Shape to = shape(y);
  require(to.size() >= 3, Op::WindowSpread, "needs [..., H, W, C]");
  to[to.size() - 3] = inH;
  to[to.size() - 2] = inW;
  return make(Op::WindowSpread, Type::Real, to, {y}, {.window = window});
}

Id Graph::windowArgmax(Id x, const Window& window, int64_t outH, int64_t outW) {
  Shape to = shape(x);
  require(to.size() == 4, Op::WindowArgmax, "needs [B, H, W, C]");
  to[1] = outH;
  to[2] = outW;
  return make(Op::WindowArgmax, Type::Int, to, {x}, {.window = window});
}

// ---- elementwise --------------------------------------------------------------------------

// An elementwise operation broadcasts by itself, so a Broadcast operand is taken as it was, unless
// the result would lose size by it.
Id Graph::withoutBroadcast(Id x, const Shape& result, const std::vector<Id>& others) {
  if (nodes_[x].op != Op::Broadcast) return x;
  Shape without = shape(nodes_[x].in[0]);
  for (Id other : others)
    if (other != x) without = broadcastShape(without, shape(other), Op::Broadcast);
  return without == result ? nodes_[x].in[0] : x;
}

Id Graph::unary(Op op, Id x) {
  if (op == Op::Neg) {
    if (nodes_[x].op == Op::Neg) return nodes_[x].in[0];
    if (isSplat(x, 0)) return x;
  }
  if (op == Op::StopGradient && nodes_[x].op == Op::StopGradient) return x;
  const Node node = nodes_[x];
  if (node.op == Op::Const && constantOf(x)->size() == 1 && node.type == Type::Real) {
    double v = (*constantOf(x))[0];
    double folded;
    switch (op) {
      case Op::Neg: folded = -v; break;
      case Op::Recip: folded = 1 / v; break;
      case Op::Sqrt: folded = std::sqrt(v); break;
      case Op::Exp: folded = std::exp(v); break;
      case Op::Log: folded = std::log(v); break;
      case Op::StopGradient:
      case Op::Barrier: return x;
      default: return make(op, node.type, node.shape, {x});
    }
    return constant(std::make_shared<std::vector<double>>(1, folded), node.shape, Type::Real);
  }
  Type type = op == Op::Not ? Type::Bool : nodes_[x].type;
  return make(op, type, shape(x), {x});
}

Id Graph::pow(Id x, double exponent) {
  if (exponent == 1) return x;
  if (exponent == 2) return mul(x, x);
  if (exponent == 3) return mul(mul(x, x), x);
  if (exponent == -1) return unary(Op::Recip, x);
  if (exponent == 0.5) return unary(Op::Sqrt, x);
  const Shape to = shape(x);  // nodes may move below
  if (exponent == 0) return constant(constantOf(scalar(1)), to);
  return make(Op::Pow, Type::Real, to, {x}, {.number = exponent});
}

Id Graph::binary(Op op, Id a, Id b) {
  const bool compares =
      op == Op::Less || op == Op::LessEqual || op == Op::Equal || op == Op::And || op == Op::Or;
  Shape to = broadcastShape(shape(a), shape(b), op);
  Type type = compares ? Type::Bool : nodes_[a].type;
  require(nodes_[a].type == nodes_[b].type, op, "operands have different types");

  const bool constA = nodes_[a].op == Op::Const && constantOf(a)->size() == 1;
  const bool constB = nodes_[b].op == Op::Const && constantOf(b)->size() == 1;
  if (constA && constB && (op == Op::Add || op == Op::Sub || op == Op::Mul)) {
    double u = (*constantOf(a))[0], v = (*constantOf(b))[0];
    double folded = op == Op::Add ? u + v : op == Op::Sub ? u - v : u * v;
    return constant(std::make_shared<std::vector<double>>(1, folded), to, type);
  }
  if (type == Type::Real) {
    auto same = [&](Id x) { return alignRank(x, to.size()); };
    if ((op == Op::Add || op == Op::Sub) && isSplat(b, 0) && shape(same(a)) == to) return same(a);
    if (op == Op::Add && isSplat(a, 0) && shape(same(b)) == to) return same(b);
    if (op == Op::Sub && isSplat(a, 0) && shape(same(b)) == to) return neg(same(b));
    if (op == Op::Mul) {
      if (isSplat(a, 1) && shape(same(b)) == to) return same(b);
      if (isSplat(b, 1) && shape(same(a)) == to) return same(a);
      if (isSplat(a, -1) && shape(same(b)) == to) return neg(same(b));
      if (isSplat(b, -1) && shape(same(a)) == to) return neg(same(a));
      if (isSplat(a, 0) || isSplat(b, 0)) return constant(constantOf(scalar(0)), to);
    }
    if (op == Op::Add && nodes_[b].op == Op::Neg) return sub(a, nodes_[b].in[0]);
    if (op == Op::Add && nodes_[a].op == Op::Neg) return sub(b, nodes_[a].in[0]);
    if (op == Op::Sub && nodes_[b].op == Op::Neg) return add(a, nodes_[b].in[0]);
  }
  std::vector<Id> in = {a, b};
  in[0] = withoutBroadcast(in[0], to, in);
  in[1] = withoutBroadcast(in[1], to, in);
  if ((op == Op::Add || op == Op::Mul) && in[0] > in[1]) std::swap(in[0], in[1]);
  for (Id& x : in) x = alignRank(x, to.size());
  return make(op, type, to, in);
}

Id Graph::select(Id mask, Id a, Id b) {
  require(nodes_[mask].type == Type::Bool, Op::Select, "the mask must be Bool");
  require(nodes_[a].type == nodes_[b].type, Op::Select, "branches have different types");
  Shape to =
      broadcastShape(broadcastShape(shape(mask), shape(a), Op::Select), shape(b), Op::Select);
  if (a == b) return broadcast(a, to);
  if (isSplat(a, 0) && isSplat(b, 0)) return constant(constantOf(scalar(0)), to, nodes_[a].type);
  std::vector<Id> in = {mask, a, b};
  for (Id& x : in) x = withoutBroadcast(x, to, in);
  for (Id& x : in) x = alignRank(x, to.size());
  return make(Op::Select, nodes_[a].type, to, in);
}

Id Graph::cast(Id x, Type type) {
  if (nodes_[x].type == type) return x;
  if (nodes_[x].op == Op::Const) {
    auto values = std::make_shared<std::vector<double>>(*constantOf(x));
    for (double& v : *values)
      v = type == Type::Bool ? v != 0 : type == Type::Int ? std::trunc(v) : v;
    return constant(values, shape(x), type);
  }
  return make(Op::Cast, type, shape(x), {x});
}

// ---- reductions, contractions, the rest -----------------------------------------------------

Id Graph::sum(Id x, std::vector<int64_t> axes) {
  Shape to = shape(x);
  for (int64_t& axis : axes) axis = static_cast<int64_t>(normalAxis(axis, to.size(), Op::Sum));
  std::erase_if(axes, [&](int64_t axis) { return to[axis] == 1; });
  std::sort(axes.begin(), axes.end());
  axes.erase(std::unique(axes.begin(), axes.end()), axes.end());
  if (axes.empty()) return x;
  if (nodes_[x].op == Op::Sum) {
    axes.insert(axes.end(), nodes_[x].attr.ints.begin(), nodes_[x].attr.ints.end());
    return sum(nodes_[x].in[0], axes);
  }
  for (int64_t axis : axes) to[axis] = 1;
  if (isSplat(x, 0)) return constant(constantOf(scalar(0)), to);
  return make(Op::Sum, Type::Real, to, {x}, {.ints = axes});
}

Id Graph::sumAll(Id x) {
  std::vector<int64_t> axes(rank(x));
  std::iota(axes.begin(), axes.end(), 0);
  return reshape(sum(x, axes), {});
}

Id Graph::reduceMax(Id x, std::vector<int64_t> axes) {
  Shape to = shape(x);
  for (int64_t& axis : axes) {
    axis = static_cast<int64_t>(normalAxis(axis, to.size(), Op::ReduceMax));
    to[axis] = 1;
  }
  std::sort(axes.begin(), axes.end());
  return make(Op::ReduceMax, Type::Real, to, {x}, {.ints = axes});
}

Id Graph::dot(Id a, Id b, std::string_view labels) {
  size_t comma = labels.find(','), arrow = labels.find("->");
  require(comma != labels.npos && arrow != labels.npos, Op::Dot, "labels need the form bi,io->bo");
  std::string la(labels.substr(0, comma)), lb(labels.substr(comma + 1, arrow - comma - 1)),
      lo(labels.substr(arrow + 2));
  // A permutation of an operand is a renaming of its labels.
  auto absorb = [&](Id& x, std::string& l) {
    require(l.size() == shape(x).size(), Op::Dot, "labels do not fit the operand's rank");
    if (nodes_[x].op != Op::Permute) return;
    std::string before(l.size(), ' ');
    for (size_t i = 0; i < l.size(); ++i) before[nodes_[x].attr.ints[i]] = l[i];
    l = before;
    x = nodes_[x].in[0];
  };
  auto absorbSpread = [&](Id& x, std::string& l) {
    absorb(x, l);
    if (nodes_[x].op == Op::Spread && nodes_[nodes_[x].in[0]].op == Op::Permute) {
      x = nodes_[x].in[0];
      absorb(x, l);
      x = spread(x);
    }
  };
  absorbSpread(a, la);
  absorbSpread(b, lb);
  std::unordered_map<char, int64_t> sizes;
  auto learn = [&](Id x, const std::string& l) {
    for (size_t i = 0; i < l.size(); ++i) {
      auto [at, isNew] = sizes.try_emplace(l[i], shape(x)[i]);
      require(isNew || at->second == shape(x)[i], Op::Dot,
              std::string("label ") + l[i] + " has two sizes in " + std::string(labels));
    }
  };
  learn(a, la);
  learn(b, lb);
  Shape to;
  for (char c : lo) to.push_back(sizes.at(c));
  for (auto [c, n] : sizes) {
    int places = (la.find(c) != la.npos) + (lb.find(c) != lb.npos) + (lo.find(c) != lo.npos);
    require(places >= 2, Op::Dot, std::string("label ") + c + " stands in one place only");
  }
  if (isSplat(a, 0) || isSplat(b, 0)) return constant(constantOf(scalar(0)), to);
  return make(Op::Dot, Type::Real, to, {a, b}, {.labels = la + "," + lb + "->" + lo});
}

namespace {

// Leading K of the operands of a convolution primitive: at most one has it.
Shape withK(const Shape& a, const Shape& b, Shape to, Op op) {
  require(
      a.size() >= 4 && a.size() <= 5 && b.size() >= 4 && b.size() <= 5 && a.size() + b.size() <= 9,
      op, "operands need rank 4, one of them 5 with a leading axis of directions");
  if (a.size() == 5) to.insert(to.begin(), a[0]);
  if (b.size() == 5) to.insert(to.begin(), b[0]);
  return to;
}

int64_t fromBack(const Shape& shape, size_t i) { return shape[shape.size() - 1 - i]; }

}  // namespace

Id Graph::conv(Id x, Id w, const Window& window, int64_t outH, int64_t outW) {
  require(fromBack(shape(x), 0) == fromBack(shape(w), 0) * window.groups, Op::Conv,
          "channels of " + show(shape(x)) + " and " + show(shape(w)) + " do not fit");
  Shape to = withK(shape(x), shape(w), {fromBack(shape(x), 3), outH, outW, fromBack(shape(w), 3)},
                   Op::Conv);
  return make(Op::Conv, Type::Real, to, {x, w}, {.window = window});
}

Id Graph::convInput(Id y, Id w, const Window& window, int64_t inH, int64_t inW) {
  require(fromBack(shape(y), 0) == fromBack(shape(w), 3), Op::ConvInput,
          "channels of " + show(shape(y)) + " and " + show(shape(w)) + " do not fit");
  Shape to = withK(shape(y), shape(w),
                   {fromBack(shape(y), 3), inH, inW, fromBack(shape(w), 0) * window.groups},
                   Op::ConvInput);
  return make(Op::ConvInput, Type::Real, to, {y, w}, {.window = window});
}

Id Graph::convWeight(Id x, Id y, const Window& window) {
  require(fromBack(shape(x), 3) == fromBack(shape(y), 3), Op::ConvWeight, "batches differ");
  Shape to = withK(shape(x), shape(y),
                   {fromBack(shape(y), 0), window.kernel[0], window.kernel[1],
                    fromBack(shape(x), 0) / window.groups},
                   Op::ConvWeight);
  return make(Op::ConvWeight, Type::Real, to, {x, y}, {.window = window});
}

Id Graph::softmax(Id x) { return make(Op::Softmax, Type::Real, shape(x), {x}); }

Id Graph::logSumExp(Id x) {
  Shape to = shape(x);
  to.back() = 1;
  return make(Op::LogSumExp, Type::Real, to, {x});
}

Id Graph::draw(std::vector<Id> in, const Attr& attr, const Shape& to) {
  return make(Op::Draw, Type::Real, to, std::move(in), attr);
}

Id Graph::spread(Id x) {
  const Node& node = nodes_[x];
  if (node.scope == Scope::Const || node.scope == Scope::Local) return x;
  require(node.scope == Scope::Global, Op::Spread, "a collected value cannot go back");
  std::string key = keyOf(Op::Spread, node.type, node.shape, {x}, {});
  auto [at, isNew] = known_.try_emplace(std::move(key), size());
  if (isNew) {
    Node spreadNode{Op::Spread, node.type, Scope::Local, node.shape, {x}, {}};
    nodes_.push_back(std::move(spreadNode));
  }
  return at->second;
}

Id Graph::collect(Id x) {
  require(nodes_[x].scope != Scope::Collected, Op::Collect, "is collected already");
  // Movement commutes with the sum: done once after it, not in every micro-batch.
  const Op op = nodes_[x].op;
  if (op == Op::Reshape) {
    Shape to = shape(x);
    return reshape(collect(nodes_[x].in[0]), to);
  }
  if (op == Op::Permute) {
    std::vector<int64_t> perm = nodes_[x].attr.ints;
    return permute(collect(nodes_[x].in[0]), perm);
  }
  std::string key = keyOf(Op::Collect, nodes_[x].type, nodes_[x].shape, {x}, {});
  auto [at, isNew] = known_.try_emplace(std::move(key), size());
  if (isNew) {
    Node node{Op::Collect, nodes_[x].type, Scope::Collected, nodes_[x].shape, {x}, {}};
    nodes_.push_back(std::move(node));
  }
  return at->second;
}

// ---- printing, reachability -----------------------------------------------------------------

std::string Graph::print(Id id) const {
  static const char* const kScopes[] = {"const", "global", "local", "collected"};
  static const char* const kTypes[] = {"", "int", "bool"};
  const Node& node = nodes_[id];
  std::string text = "%" + std::to_string(id) + " = " + name(node.op);
  if (!node.attr.labels.empty()) text += " " + node.attr.labels;
  if (node.op == Op::Param || node.op == Op::Tangent || node.op == Op::Input ||
      node.op == Op::Sum || node.op == Op::Permute)
    text += " " + show(node.attr.ints);
  for (Id in : node.in) text += " %" + std::to_string(in);
  text += " : " + std::string(kTypes[static_cast<size_t>(node.type)]) + show(node.shape) + " " +
          kScopes[static_cast<size_t>(node.scope)];
  return text;
}

std::vector<Id> reachable(const Graph& graph, const std::vector<Id>& outputs) {
  std::vector<char> needed(graph.size(), 0);
  for (Id id : outputs) needed[id] = 1;
  for (Id id = graph.size() - 1; id >= 0; --id)
    if (needed[id])
      for (Id in : graph[id].in) needed[in] = 1;
  std::vector<Id> order;
  for (Id id = 0; id < graph.size(); ++id)
    if (needed[id]) order.push_back(id);
  return order;
}

}  // namespace eigenscope
