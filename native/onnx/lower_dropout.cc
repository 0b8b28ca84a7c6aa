#include "base/philox.h"
#include "ir/sample_axes.h"
#include "onnx/table.h"
#include "run/draw.h"

// Dropout: the identity, or a fixed mask. A mask is drawn by seed, node, sample and element, so
// that the network stays one function of its parameters whatever the micro-batches are.
namespace eigenscope::onnx {

namespace {

double ratioOf(Call& c) {
  double ratio = 0.5;
  if (c.opset < 12)
    ratio = c.number("ratio", 0.5);
  else if (c.has(1)) {
    if (!c.knownNumber(1)) c.unsupported("its ratio depends on data or parameters");
    ratio = *c.knownNumber(1);
  }
  if (!(ratio >= 0 && ratio <= 1))
    c.mismatch("expected a ratio from 0 to 1, got " + std::to_string(ratio));
  return ratio;
}

// What the file says of the mode: nothing where it has no training_mode.
std::optional<bool> trains(Call& c) {
  if (c.opset < 7) {
    if (!c.hasAttribute("is_test")) return std::nullopt;
    return c.integer("is_test", 0) == 0;
  }
  if (c.opset < 12 || !c.has(2)) return std::nullopt;
  if (c.in(2).known() && c.in(2).host->size() == 1) return c.in(2).host->at(0) != 0;
  c.unsupported("its training_mode depends on data or parameters; bind a constant to it");
}

// 0 with probability `ratio`, otherwise 1 / (1 - ratio): of the same shape as x, in ONNX's order.
Value maskOf(Call& c, double ratio) {
  const MaskKey& key = *c.node.mask;
  const Shape shape = c.shape(0);
  Graph& g = c.b.graph;
  const Id x = c.in(0).known() ? kNone : c.b.plain(c.in(0));
  if (x == kNone || g[x].scope != Scope::Local) {
    // The same for all samples.
    std::vector<double> values(static_cast<size_t>(count(shape)));
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = dropoutAt(key.seed, key.node, static_cast<int64_t>(i), ratio);
    return Builder::known(tensorOf(std::move(values), shape, Type::Real));
  }
  const std::optional<SampleAxis> found = findSampleAxes(g, c.rows)[static_cast<size_t>(x)];
  if (!found) c.unsupported("where the samples lie in its input is not known, so it has no mask");
  // The axis of the samples is cut out and brought to the front, and back.
  const auto axis = static_cast<size_t>(found->axis);
  Shape cut(shape.begin(), shape.begin() + static_cast<int64_t>(axis));
  cut.insert(cut.end(), {found->outer, c.rows, found->inner});
  cut.insert(cut.end(), shape.begin() + static_cast<int64_t>(axis) + 1, shape.end());
  const size_t place = axis + 1;
  std::vector<int64_t> forth = {static_cast<int64_t>(place)}, back(cut.size());
  for (size_t a = 0; a < cut.size(); ++a)
    if (a != place) forth.push_back(static_cast<int64_t>(a));
  for (size_t a = 0; a < cut.size(); ++a) back[static_cast<size_t>(forth[a])] = a;
  const Id first = g.permute(g.reshape(x, cut), forth);
  const Id drawn = g.draw({first},
                          {.ints = {static_cast<int64_t>(DrawKind::Dropout), 1,
                                    static_cast<int64_t>(key.seed), key.node},
                           .number = ratio},
                          g.shape(first));
  return c.b.wrap(g.reshape(g.permute(drawn, back), shape));
}

Results dropout(Call& c) {
  const auto identity = [&] {
    return Results{c.in(0), Builder::known(splatOf(1, c.shape(0), Type::Bool))};
  };
  if (!c.node.mask) {
    const bool training = c.opset >= 12 && c.has(2) && c.knownNumber(2).value_or(1) != 0;
    if (training)
      c.warn(
          "was exported in training mode; it is taken as in inference, the identity, unless the "
          "model is loaded with dropout: { seed } (--dropout-seed)");
    return identity();
  }
  const double ratio = ratioOf(c);
  if (!trains(c).value_or(true) || ratio == 0) return identity();
  const Value mask = maskOf(c, ratio);
  return {c.b.mul(c.in(0), mask), c.b.binary(Op::Less, Builder::number(0), mask)};
}

const Operator kTable[] = {
    {.name = "Dropout",
     .lower = dropout,
     .outputs = 2,
     .limits = "the identity, or a fixed mask where asked for (dropout)"},
};

}  // namespace

std::span<const Operator> dropoutOperators() { return kTable; }

}  // namespace eigenscope::onnx
