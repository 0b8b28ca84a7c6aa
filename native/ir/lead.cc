#include "base/error.h"
#include "ir/graph.h"

// Primitives on operands that carry one more leading axis: the directions of a block of tangents.
namespace eigenscope {

namespace {

std::vector<int64_t> shifted(const std::vector<int64_t>& axes) {
  std::vector<int64_t> out(axes.size());
  for (size_t i = 0; i < axes.size(); ++i) out[i] = axes[i] + 1;
  return out;
}

Shape led(const Shape& shape, int64_t k) {
  Shape out = {k};
  out.insert(out.end(), shape.begin(), shape.end());
  return out;
}

std::vector<int64_t> half(const std::vector<int64_t>& ints, bool second, int64_t lead) {
  size_t n = ints.size() / 2;
  std::vector<int64_t> out = {lead};
  out.insert(out.end(), ints.begin() + (second ? n : 0), ints.begin() + (second ? 2 * n : n));
  return out;
}

}  // namespace

Id Graph::withLead(const Node& original, const std::vector<Id>& in, const std::vector<bool>& lead,
                   int64_t k) {
  const Node node = original;  // construction may move the nodes
  const auto& ints = node.attr.ints;
  switch (node.op) {
    case Op::Reshape: return reshape(in[0], led(node.shape, k));
    case Op::Permute: {
      std::vector<int64_t> perm = shifted(ints);
      perm.insert(perm.begin(), 0);
      return permute(in[0], perm);
    }
    case Op::Broadcast: return broadcast(in[0], led(node.shape, k));
    case Op::Slice:
      return slice(in[0], half(ints, false, 0), half(ints, true, 1), led(node.shape, k));
    case Op::Unslice:
      return unslice(in[0], half(ints, false, 0), half(ints, true, 1), led(node.shape, k));
    case Op::Concat: {
      std::vector<Id> all = in;
      for (size_t i = 0; i < all.size(); ++i)
        if (!lead[i]) all[i] = broadcast(all[i], led(shape(all[i]), k));
      return concat(all, ints[0] + 1);
    }
    case Op::Gather: return gather(in[0], in[1], ints[0] + 1);
    case Op::ScatterAdd: return scatterAdd(in[0], in[1], ints[0] + 1, node.shape[ints[0]]);
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
    case Op::Select: return select(in[0], in[1], in[2]);
    case Op::Sum: return sum(in[0], shifted(ints));
    case Op::Dot: {
      std::string l = node.attr.labels;
      if (lead[1]) l.insert(l.find(',') + 1, "K");
      if (lead[0]) l.insert(0, "K");
      l.insert(l.find("->") + 2, "K");
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
