#include "base/error.h"
#include "ir/graph.h"

// Primitives on operands that carry one more leading axis: the directions of a block of tangents.
namespace eigenscope {

namespace {

// How attributes move when a leading axis of size k arrives (k = 0: none does).
struct Shift {
  int64_t k;

  int64_t axis(int64_t axis) const { return k ? axis + 1 : axis; }

  std::vector<int64_t> axes(std::vector<int64_t> all) const {
    for (int64_t& a : all) a = axis(a);
    return all;
  }

  std::vector<int64_t> with(int64_t first, std::vector<int64_t> rest) const {
    if (k) rest.insert(rest.begin(), first);
    return rest;
  }

  Shape shape(const Shape& shape) const { return with(k, shape); }
};

std::vector<int64_t> firstHalf(const std::vector<int64_t>& ints) {
  return {ints.begin(), ints.begin() + ints.size() / 2};
}

std::vector<int64_t> secondHalf(const std::vector<int64_t>& ints) {
  return {ints.begin() + ints.size() / 2, ints.end()};
}

}  // namespace

Id Graph::withLead(const Node& original, const std::vector<Id>& in, const std::vector<bool>& lead,
                   int64_t k) {
  const Node node = original;  // construction may move the nodes
  const auto& ints = node.attr.ints;
  const Shift to{k};
  switch (node.op) {
    case Op::Reshape: return reshape(in[0], to.shape(node.shape));
    case Op::Permute: return permute(in[0], to.with(0, to.axes(ints)));
    case Op::Broadcast: return broadcast(in[0], to.shape(node.shape));
    case Op::Slice:
      return slice(in[0], to.with(0, firstHalf(ints)), to.with(1, secondHalf(ints)),
                   to.shape(node.shape));
    case Op::Unslice:
      return unslice(in[0], to.with(0, firstHalf(ints)), to.with(1, secondHalf(ints)),
                     to.shape(node.shape));
    case Op::Concat: {
      std::vector<Id> all = in;
      for (size_t i = 0; i < all.size(); ++i)
        if (!lead[i]) all[i] = broadcast(all[i], to.shape(shape(all[i])));
      return concat(all, to.axis(ints[0]));
    }
    case Op::Gather: return gather(in[0], in[1], to.axis(ints[0]));
    case Op::ScatterAdd: return scatterAdd(in[0], in[1], to.axis(ints[0]), node.shape[ints[0]]);
    case Op::WindowSum: {
      size_t r = node.shape.size();
      return windowSum(in[0], node.attr.window, node.shape[r - 3], node.shape[r - 2]);
    }
    case Op::WindowSpread: {
      size_t r = node.shape.size();
      return windowSpread(in[0], node.attr.window, node.shape[r - 3], node.shape[r - 2]);
    }
    case Op::Add:
    case Op::Sub:
    case Op::Mul: return binary(node.op, in[0], in[1]);
    case Op::Neg: return neg(in[0]);
    case Op::Barrier: return in[0];
    case Op::Select: return select(in[0], in[1], in[2]);
    case Op::Sum: return sum(in[0], to.axes(ints));
    case Op::Dot: {
      std::string l = node.attr.labels;
      if (lead[1]) l.insert(l.find(',') + 1, "K");
      if (lead[0]) l.insert(0, "K");
      if (lead[0] || lead[1]) l.insert(l.find("->") + 2, "K");
      return dot(in[0], in[1], l);
    }
    case Op::Conv: return conv(in[0], in[1], node.attr.window, node.shape[1], node.shape[2]);
    case Op::ConvInput:
      return convInput(in[0], in[1], node.attr.window, node.shape[1], node.shape[2]);
    case Op::ConvWeight: return convWeight(in[0], in[1], node.attr.window);
    case Op::Spread: return spread(in[0]);
    case Op::Collect: return collect(in[0]);
    default: break;
  }
  throw Error(ErrorKind::Internal, std::string(name(node.op)) + " takes no leading axis");
}

}  // namespace eigenscope
