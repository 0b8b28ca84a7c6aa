#include <algorithm>
#include <numeric>

#include "onnx/table.h"

// Normalisations, all said by sums and products: their derivatives are those of the formula.
namespace eigenscope::onnx {

namespace {

// ---- softmax --------------------------------------------------------------------------------

Value logSoftmax(Call& c, const Value& x, int64_t axis) {
  return c.b.sub(x, c.b.logSumExp(x, axis));
}

template <bool logarithm>
Results softmax(Call& c) {
  const Shape shape = c.shape(0);
  const int64_t rank = static_cast<int64_t>(shape.size());
  if (c.b.type(c.in(0)) != Type::Real) c.unsupported("integers have no softmax");
  const int64_t axis = normalAxis(c.integer("axis", c.opset < 13 ? 1 : -1), rank);
  // Before opset 13 the axis cuts the shape in two, and all of the second part is normalised.
  const bool flat = c.opset < 13 && axis + 1 < rank;
  const int64_t rows = count(Shape(shape.begin(), shape.begin() + axis));
  const int64_t columns = count(Shape(shape.begin() + axis, shape.end()));
  const Value x = flat ? c.b.reshape(c.in(0), {rows, columns}) : c.in(0);
  const int64_t along = flat ? 1 : axis;
  const Value y = logarithm ? logSoftmax(c, x, along) : c.b.softmax(x, along);
  return {c.b.reshape(y, shape)};
}

// ---- by statistics of the sample ------------------------------------------------------------

struct Standardised {
  Value value, mean, inverseDeviation;
};

// (x - mean) / sqrt(variance + epsilon) over these axes; biased variance.
Standardised standardise(Call& c, const Value& x, const Axes& axes, double epsilon) {
  const Value mean = c.b.mean(x, axes), centred = c.b.sub(x, mean);
  const Value variance = c.b.mean(c.b.mul(centred, centred), axes);
  const Value inverse = c.b.unary(Op::Recip, c.b.unary(Op::Sqrt, c.b.shift(variance, epsilon)));
  return {c.b.mul(centred, inverse), mean, inverse};
}

Axes from(int64_t first, int64_t rank) {
  Axes axes(rank - first);
  std::iota(axes.begin(), axes.end(), first);
  return axes;
}

// [channels] against [batch, channels, ...].
Value perChannel(Call& c, const Value& v, int64_t rank) {
  Shape shape(rank - 1, 1);
  shape[0] = count(c.b.shape(v));
  return c.b.reshape(v, shape);
}

Results layerNormalization(Call& c) {
  const int64_t rank = c.rank(0), axis = normalAxis(c.integer("axis", -1), rank);
  const Standardised s = standardise(c, c.in(0), from(axis, rank), c.number("epsilon", 1e-5));
  Value y = c.b.mul(s.value, c.in(1));
  if (c.has(2)) y = c.b.add(y, c.in(2));
  return {y, s.mean, s.inverseDeviation};
}

Results rmsNormalization(Call& c) {
  const int64_t rank = c.rank(0), axis = normalAxis(c.integer("axis", -1), rank);
  const Value& x = c.in(0);
  const Value power = c.b.mean(c.b.mul(x, x), from(axis, rank));
  const Value root = c.b.unary(Op::Sqrt, c.b.shift(power, c.number("epsilon", 1e-5)));
  return {c.b.mul(c.b.div(x, root), c.in(1))};
}

// What ONNX Runtime writes for it in older opsets.
Results simplifiedLayerNormalization(Call& c) {
  const Axes axes = from(normalAxis(c.integer("axis", -1), c.rank(0)), c.rank(0));
  const Value& x = c.in(0);
  const Value power = c.b.mean(c.b.mul(x, x), axes);
  const Value root = c.b.unary(Op::Sqrt, c.b.shift(power, c.number("epsilon", 1e-5)));
  const Value inverse = c.b.unary(Op::Recip, root);
  return {c.b.mul(c.b.mul(x, inverse), c.in(1)), inverse};
}

Results instanceNormalization(Call& c) {
  const int64_t rank = c.rank(0);
  if (rank < 3) c.mismatch("needs [batch, channels, ...], got " + show(c.shape(0)));
  const Standardised s = standardise(c, c.in(0), from(2, rank), c.number("epsilon", 1e-5));
  return {c.b.add(c.b.mul(s.value, perChannel(c, c.in(1), rank)), perChannel(c, c.in(2), rank))};
}

Results groupNormalization(Call& c) {
  const Shape shape = c.shape(0);
  const int64_t rank = c.rank(0), groups = c.integer("num_groups", 0);
  if (rank < 2 || groups <= 0 || shape[1] % groups)
    c.mismatch(std::to_string(groups) + " groups do not divide the channels of " + show(shape));
  Shape grouped = shape;
  grouped[1] = shape[1] / groups;
  grouped.insert(grouped.begin() + 1, groups);
  const Standardised s =
      standardise(c, c.b.reshape(c.in(0), grouped), from(2, rank + 1), c.number("epsilon", 1e-5));
  // The form of opset 18 has one scale a group, that of 21 one a channel.
  const bool byGroup = c.opset < 21;
  Value y = byGroup ? s.value : c.b.reshape(s.value, shape);
  const int64_t r = byGroup ? rank + 1 : rank;
  y = c.b.add(c.b.mul(y, perChannel(c, c.in(1), r)), perChannel(c, c.in(2), r));
  return {c.b.reshape(y, shape)};
}

Results lpNormalization(Call& c) {
  const Value& x = c.in(0);
  const Axes axes = {normalAxis(c.integer("axis", -1), c.rank(0))};
  const bool euclidean = c.integer("p", 2) == 2;
  const Value total = c.b.sum(euclidean ? c.b.mul(x, x) : c.b.abs(x), axes);
  // Nothing but zeros stays so.
  const Value nothing = c.b.binary(Op::LessEqual, total, Builder::number(0));
  const Value safe = c.b.select(nothing, Builder::number(1), total);
  return {c.b.div(x, euclidean ? c.b.unary(Op::Sqrt, safe) : safe)};
}

constexpr std::string_view kBatchStatistics =
    "normalises with the statistics of each batch, so samples depend on each other: load the model "
    "with batchNorm \"batch\" (--batch-norm batch) for that, with \"running\" for the statistics "
    "that are stored, or export it in eval mode (model.eval())";

// Over all axes but the channels; epsilon stands outside of the root.
Results meanVarianceNormalization(Call& c) {
  const int64_t rank = c.rank(0);
  const Axes axes = normalAxes(c.ints("axes", {0, 2, 3}), rank);
  if (std::binary_search(axes.begin(), axes.end(), 0) && !c.node.ofBatch)
    c.unsupported("its axes contain the batch (axis 0), and it " + std::string(kBatchStatistics));
  const Value& x = c.in(0);
  const Value centred = c.b.sub(x, c.b.mean(x, axes));
  const Value variance = c.b.mean(c.b.mul(centred, centred), axes);
  return {c.b.div(centred, c.b.shift(c.b.unary(Op::Sqrt, variance), 1e-9))};
}

// ---- by stored statistics -------------------------------------------------------------------

std::string refuseTraining(const NodeDef& node) {
  auto mode = node.attributes.find("training_mode");
  if (mode != node.attributes.end() && !mode->second.ints.empty() && mode->second.ints[0] != 0)
    return "training_mode = 1 " + std::string(kBatchStatistics);
  return "";
}

// All axes but that of the channels, with PyTorch's biased variance.
Results batchStatistics(Call& c) {
  const Shape shape = c.shape(0);
  const auto rank = static_cast<int64_t>(shape.size());
  Axes axes = from(1, rank);
  axes[0] = 0;
  if (count(shape) == shape[1])
    c.warn("takes the statistics of a single number, so that its output is its bias");
  const Standardised s = standardise(c, c.in(0), axes, c.number("epsilon", 1e-5));
  const Value scaled = c.b.mul(s.value, perChannel(c, c.in(1), rank));
  return {c.b.add(scaled, perChannel(c, c.in(2), rank))};
}

// y = scale x + shift. Where x is the output of a linear map that nothing else reads, scale and
// shift go into its weights: the same function of the same parameters, so that derivatives are
// right by themselves, and no pass over the activations.
Results batchNormalization(Call& c) {
  const Value& x = c.in(0);
  const Shape shape = c.shape(0);
  if (shape.size() < 2) c.mismatch("needs [batch, channels, ...], got " + show(shape));
  for (size_t i = 1; i < 5; ++i)
    if (c.shape(i) != Shape{shape[1]})
      c.mismatch("input " + std::to_string(i) + " has shape " + show(c.shape(i)) + " for " +
                 std::to_string(shape[1]) + " channels");
  if (c.opset < 7 && c.integer("is_test", 0) == 0 && !c.node.ofBatch)
    c.unsupported("attribute is_test = 0 " + std::string(kBatchStatistics));
  if (c.integer("spatial", 1) == 0)
    c.unsupported("attribute spatial = 0: statistics of every element are not supported");
  if (c.node.ofBatch) return batchStatistics(c);
  const Value &gamma = c.in(1), &beta = c.in(2), &mean = c.in(3), &variance = c.in(4);
  const Value deviation = c.b.unary(Op::Sqrt, c.b.shift(variance, c.number("epsilon", 1e-5)));
  const Value scale = c.b.div(gamma, deviation);
  const Value shift = c.b.sub(beta, c.b.mul(mean, scale));
  if (x.rescaled && c.onlyUse && c.fold) return {x.rescaled(scale, shift)};
  const int64_t rank = c.rank(0);
  if (!c.fold) {  // beta stays a bias of its own
    const Value centred = c.b.sub(x, perChannel(c, mean, rank));
    return {c.b.add(c.b.mul(centred, perChannel(c, scale, rank)), perChannel(c, beta, rank))};
  }
  return {c.b.add(c.b.mul(x, perChannel(c, scale, rank)), perChannel(c, shift, rank))};
}

const Operator kTable[] = {
    {.name = "BatchNormalization",
     .lower = batchNormalization,
     .limits = "statistics of the batch where asked for (batchNorm)",
     .refuse = refuseTraining},
    {.name = "GroupNormalization", .lower = groupNormalization, .since = 18},
    {.name = "InstanceNormalization", .lower = instanceNormalization},
    {.name = "LayerNormalization", .lower = layerNormalization, .since = 17, .outputs = 3},
    {.name = "LogSoftmax", .lower = softmax<true>},
    {.name = "LpNormalization", .lower = lpNormalization},
    {.name = "MeanVarianceNormalization",
     .lower = meanVarianceNormalization,
     .limits = "the batch (0) among its axes where asked for (batchNorm)"},
    {.name = "RMSNormalization", .lower = rmsNormalization, .since = 23},
    {.name = "SimplifiedLayerNormalization", .lower = simplifiedLayerNormalization, .outputs = 2},
    {.name = "Softmax", .lower = softmax<false>},
};

}  // namespace

std::span<const Operator> normalizationOperators() { return kTable; }

}  // namespace eigenscope::onnx
