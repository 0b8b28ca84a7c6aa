#include "autodiff/transpose.h"

#include "autodiff/jvp.h"
#include "base/error.h"

namespace eigenscope {

namespace {

class Transposer {
 public:
  Transposer(Graph& graph, Id output, const std::vector<Id>& probes) : g_(graph) {
    linear_.assign(graph.size(), false);
    cotangents_.assign(graph.size(), kNone);
    for (Id probe : probes) linear_[probe] = true;
    order_ = reachable(graph, {output});
    for (Id id : order_)
      for (Id in : graph[id].in) linear_[id] = linear_[id] || linear_[in];
  }

  void run(Id output, Id cotangent) {
    add(output, cotangent);
    for (auto it = order_.rbegin(); it != order_.rend(); ++it) {
      Id c = cotangents_[*it];
      if (c == kNone || !linear_[*it]) continue;
      const Node node = g_[*it];
      for (size_t i = 0; i < node.in.size(); ++i)
        if (linear_[node.in[i]]) add(node.in[i], pull(node, i, c));
    }
  }

  Id of(Id probe) const { return cotangents_[probe]; }

 private:
  void add(Id id, Id c) {
    cotangents_[id] = cotangents_[id] == kNone ? c : g_.add(cotangents_[id], c);
  }

  // An elementwise operand that was broadcast receives the sum over what it was broadcast to.
  Id unbroadcast(Id c, Id operand) {
    const Shape shape = g_.shape(operand), full = g_.shape(c);
    std::vector<int64_t> axes;
    for (size_t i = 0; i < shape.size(); ++i)
      if (shape[i] == 1 && full[i] != 1) axes.push_back(static_cast<int64_t>(i));
    return g_.sum(c, axes);
  }

  // Cotangent of input i of `node`, given the node's own.
  Id pull(const Node& node, size_t i, Id c);

  Graph& g_;
  std::vector<bool> linear_;
  std::vector<Id> cotangents_;
  std::vector<Id> order_;
};

std::vector<int64_t> part(const std::vector<int64_t>& ints, bool second) {
  size_t n = ints.size() / 2;
  return {ints.begin() + (second ? n : 0), ints.begin() + (second ? 2 * n : n)};
}

Id Transposer::pull(const Node& node, size_t i, Id c) {
  const Shape in = g_.shape(node.in[i]);
  const auto& ints = node.attr.ints;
  const Window& window = node.attr.window;
  auto other = [&] {
    Id id = node.in[1 - i];
    if (linear_[id]) throw Error(ErrorKind::Internal, "transpose of a product that is not linear");
    return id;
  };
  switch (node.op) {
    case Op::Reshape: return g_.reshape(c, in);
    case Op::Barrier: return c;
    case Op::Permute: {
      std::vector<int64_t> inverse(ints.size());
      for (size_t a = 0; a < ints.size(); ++a) inverse[ints[a]] = static_cast<int64_t>(a);
      return g_.permute(c, inverse);
    }
    case Op::Broadcast: return unbroadcast(c, node.in[0]);
    case Op::Slice: return g_.unslice(c, part(ints, false), part(ints, true), in);
    case Op::Unslice: return g_.slice(c, part(ints, false), part(ints, true), in);
    case Op::Concat: {
      std::vector<int64_t> start(in.size(), 0), step(in.size(), 1);
      for (size_t before = 0; before < i; ++before)
        start[ints[0]] += g_.shape(node.in[before])[ints[0]];
      return g_.slice(c, start, step, in);
    }
    case Op::Gather: return g_.scatterAdd(c, node.in[1], ints[0], in[ints[0]]);
    case Op::ScatterAdd: return g_.gather(c, node.in[1], ints[0]);
    case Op::WindowSum: return g_.windowSpread(c, window, in[in.size() - 3], in[in.size() - 2]);
    case Op::WindowSpread: return g_.windowSum(c, window, in[in.size() - 3], in[in.size() - 2]);
    case Op::Add: return unbroadcast(c, node.in[i]);
    case Op::Sub: return unbroadcast(i == 0 ? c : g_.neg(c), node.in[i]);
    case Op::Neg: return g_.neg(c);
    case Op::Select: {
      Id zero = g_.scalar(0);
      return unbroadcast(i == 1 ? g_.select(node.in[0], c, zero) : g_.select(node.in[0], zero, c),
                         node.in[i]);
    }
    case Op::Sum: return g_.broadcast(c, in);
    case Op::Mul: return unbroadcast(g_.mul(c, other()), node.in[i]);
    case Op::Dot: {
      const std::string& l = node.attr.labels;
      size_t comma = l.find(','), arrow = l.find("->");
      std::string la = l.substr(0, comma), lb = l.substr(comma + 1, arrow - comma - 1),
                  lo = l.substr(arrow + 2);
      return i == 0 ? g_.dot(c, other(), lo + "," + lb + "->" + la)
                    : g_.dot(other(), c, la + "," + lo + "->" + lb);
    }
    case Op::Conv:  // (x, w) -> y
      return i == 0 ? g_.convInput(c, other(), window, in[1], in[2])
                    : g_.convWeight(other(), c, window);
    case Op::ConvInput:  // (y, w) -> x
      return i == 0 ? g_.conv(c, other(), window, in[1], in[2]) : g_.convWeight(c, other(), window);
    case Op::ConvWeight:  // (x, y) -> w
      return i == 0 ? g_.convInput(other(), c, window, in[1], in[2])
                    : g_.conv(other(), c, window, in[1], in[2]);
    case Op::Spread: return g_.collect(c);
    default: break;
  }
  throw Error(ErrorKind::Internal, std::string(name(node.op)) + " has no transpose");
}

}  // namespace

std::vector<Id> transpose(Graph& graph, Id output, Id cotangent, const std::vector<Id>& probes) {
  Transposer transposer(graph, output, probes);
  transposer.run(output, cotangent);
  std::vector<Id> images;
  for (Id probe : probes) images.push_back(transposer.of(probe));
  return images;
}

namespace {

// `place` gives a node its probe.
template <class Place>
std::vector<Id> throughProbes(Graph& graph, Id output, Id cotangent, const std::vector<Id>& nodes,
                              Place place) {
  Jvp jvp(graph, 0);
  std::vector<Id> probes;
  for (size_t i = 0; i < nodes.size(); ++i) {
    probes.push_back(
        graph.probe(static_cast<int64_t>(i), graph.shape(nodes[i]), graph[nodes[i]].scope));
    place(jvp, nodes[i], probes.back());
  }
  const Id image = jvp(output);
  if (image == kNone) return std::vector<Id>(nodes.size(), kNone);
  return transpose(graph, image, cotangent, probes);
}

}  // namespace

std::vector<Id> vjp(Graph& graph, Id output, Id cotangent, const std::vector<Id>& wrt) {
  return throughProbes(graph, output, cotangent, wrt,
                       [](Jvp& jvp, Id node, Id probe) { jvp.seed(node, probe); });
}

std::vector<Id> adjoints(Graph& graph, Id output, Id cotangent, const std::vector<Id>& nodes) {
  return throughProbes(graph, output, cotangent, nodes,
                       [](Jvp& jvp, Id node, Id probe) { jvp.inject(node, probe); });
}

}  // namespace eigenscope
