#include "autodiff/jvp.h"

#include <cmath>
#include <numbers>

#include "base/error.h"

namespace eigenscope {

void Jvp::seed(Id node, Id tangent) {
  tangents_.resize(graph_.size(), kUnknown);
  tangents_[node] = tangent;
}

void Jvp::inject(Id node, Id tangent) { injected_[node] = tangent; }

Id Jvp::operator()(Id node) {
  // Nodes below a seed are not visited: the seed replaces what they would give.
  std::vector<Id> pending = {node};
  tangents_.resize(graph_.size(), kUnknown);
  while (!pending.empty()) {
    Id id = pending.back();
    if (tangents_[id] != kUnknown) {
      pending.pop_back();
      continue;
    }
    bool ready = true;
    for (Id in : graph_[id].in)
      if (tangents_[in] == kUnknown) {
        ready = false;
        pending.push_back(in);
      }
    if (!ready) continue;
    pending.pop_back();
    Id tangent = total(id);
    tangents_.resize(graph_.size(), kUnknown);
    tangents_[id] = tangent;
  }
  return tangents_[node];
}

Id Jvp::whole(Id tangent, Id node) {
  Shape shape = graph_.shape(node);
  if (k_) shape.insert(shape.begin(), k_);
  return graph_.broadcast(tangent, shape);
}

Id Jvp::total(Id node) {
  const Id own = rule(node);
  const auto injected = injected_.find(node);
  if (injected == injected_.end()) return own;
  return own == kNone ? injected->second : graph_.add(own, injected->second);
}

Id Jvp::rule(Id id) {
  Graph& g = graph_;
  const Node node = g[id];
  std::vector<Id> t;
  bool any = false;
  for (Id in : node.in) {
    t.push_back(tangentOf(in));
    any = any || t.back() != kNone;
  }
  if (!any) return kNone;

  switch (derivativeOf(node.op)) {
    case Derivative::None: return kNone;
    case Derivative::Linear: {
      if (node.op == Op::Add || node.op == Op::Sub) {
        if (t[1] == kNone) return whole(t[0], id);
        if (t[0] == kNone) return whole(node.op == Op::Add ? t[1] : g.neg(t[1]), id);
        return g.binary(node.op, t[0], t[1]);
      }
      std::vector<bool> lead(t.size(), k_ > 0);
      for (size_t i = 0; i < t.size(); ++i)
        if (t[i] == kNone) {
          t[i] = g.zerosLike(node.in[i]);
          lead[i] = false;
        }
      return g.withLead(node, t, lead, k_);
    }
    case Derivative::LinearFirst:
      if (t[0] == kNone) return kNone;
      return g.withLead(node, {t[0], node.in[1]}, {k_ > 0, false}, k_);
    case Derivative::Select: {
      Id zero = g.scalar(0);
      Id a = t[1] == kNone ? zero : t[1], b = t[2] == kNone ? zero : t[2];
      if (a == zero && b == zero) return kNone;
      return whole(g.select(node.in[0], a, b), id);
    }
    case Derivative::Bilinear: {
      const Id a = node.in[0], b = node.in[1];
      if (a == b && node.op == Op::Mul) return g.scale(g.mul(t[0], a), 2);
      Id left = kNone, right = kNone;
      if (t[0] != kNone) left = g.withLead(node, {t[0], b}, {k_ > 0, false}, k_);
      if (t[1] != kNone) right = g.withLead(node, {a, t[1]}, {false, k_ > 0}, k_);
      if (left == kNone) return right;
      if (right == kNone) return left;
      return g.add(left, right);
    }
    case Derivative::Own: return own(id, t[0]);
  }
  return kNone;
}

// Derivative factors are primal values, so they are computed once for all directions.
Id Jvp::own(Id id, Id t) {
  Graph& g = graph_;
  const Op op = g[id].op;
  const Id x = g[id].in[0], y = id;
  auto oneMinus = [&](Id v) { return g.sub(g.scalar(1), v); };
  switch (op) {
    case Op::Exp: return g.mul(t, y);
    case Op::Log: return g.mul(t, g.unary(Op::Recip, x));
    case Op::Sqrt: return g.mul(t, g.scale(g.unary(Op::Recip, y), 0.5));
    case Op::Recip: return g.mul(t, g.neg(g.mul(y, y)));
    case Op::Pow: {
      double p = g[id].attr.number;
      return g.mul(t, g.scale(g.pow(x, p - 1), p));
    }
    case Op::Tanh: return g.mul(t, oneMinus(g.mul(y, y)));
    case Op::Sigmoid: return g.mul(t, g.mul(y, oneMinus(y)));
    case Op::Softplus: return g.mul(t, g.unary(Op::Sigmoid, x));
    case Op::Erf: {
      Id bell = g.unary(Op::Exp, g.neg(g.mul(x, x)));
      return g.mul(t, g.scale(bell, 2 / std::sqrt(std::numbers::pi)));
    }
    case Op::Sin: return g.mul(t, g.unary(Op::Cos, x));
    case Op::Cos: return g.mul(t, g.neg(g.unary(Op::Sin, x)));
    case Op::Atan: return g.mul(t, g.unary(Op::Recip, g.shift(g.mul(x, x), 1)));
    case Op::Softmax: return g.mul(y, g.sub(t, g.sum(g.mul(y, t), {-1})));
    case Op::LogSumExp: return g.sum(g.mul(g.softmax(x), t), {-1});
    default: throw Error(ErrorKind::Internal, std::string(name(op)) + " has no derivative rule");
  }
}

}  // namespace eigenscope
