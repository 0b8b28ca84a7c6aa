#include <numeric>

#include "onnx/table.h"

// Losses that were exported as part of the graph: scores [batch, classes, ...] and integer labels
// [batch, ...].
namespace eigenscope::onnx {

namespace {

Results negativeLogLikelihood(Call& c, const Value& logs) {
  const Shape shape = c.shape(0);
  Shape labelled = shape;
  if (shape.size() > 1) labelled.erase(labelled.begin() + 1);
  if (shape.size() < 2 || c.shape(1) != labelled)
    c.mismatch("labels " + show(c.shape(1)) + " do not fit scores " + show(shape));
  const int64_t classes = shape[1];
  Shape perClass(shape.size(), 1);
  perClass[1] = classes;
  std::vector<double> numbers(classes);
  std::iota(numbers.begin(), numbers.end(), 0.0);
  const Value labels = c.b.unsqueeze(c.in(1), {1});
  Value hit = c.b.binary(Op::Equal, labels, Builder::known(tensorOf(numbers, perClass, Type::Int)));
  if (c.hasAttribute("ignore_index")) {
    const auto ignored = static_cast<double>(c.integer("ignore_index", 0));
    const Value same = c.b.binary(Op::Equal, labels, Builder::number(ignored, Type::Int));
    hit = c.b.binary(Op::And, hit, c.b.unary(Op::Not, same));
  }
  const Value zero = Builder::number(0);
  const Value weights = c.has(2) ? c.b.reshape(c.in(2), perClass) : Builder::number(1);
  const Value chosen = c.b.select(hit, c.b.mul(logs, weights), zero);
  const Value each = c.b.neg(c.b.squeeze(c.b.sum(chosen, {1}), {1}));
  const std::string reduction = c.text("reduction", "mean");
  if (reduction == "none") return {each, logs};
  const Axes all = identity(c.b.rank(each));
  const Value total = c.b.squeeze(c.b.sum(each, all), all);
  if (reduction == "sum") return {total, logs};
  const Axes axes = identity(static_cast<int64_t>(shape.size()));
  const Value weight = c.b.broadcast(c.b.select(hit, weights, zero), shape);
  return {c.b.div(total, c.b.squeeze(c.b.sum(weight, axes), axes)), logs};
}

Results nllLoss(Call& c) { return {negativeLogLikelihood(c, c.in(0))[0]}; }

Results crossEntropyLoss(Call& c) {
  if (c.rank(0) < 2) c.mismatch("scores need a class axis, got " + show(c.shape(0)));
  return negativeLogLikelihood(c, c.b.sub(c.in(0), c.b.logSumExp(c.in(0), 1)));
}

const Operator kTable[] = {
    {.name = "NegativeLogLikelihoodLoss", .lower = nllLoss, .since = 12},
    {.name = "SoftmaxCrossEntropyLoss", .lower = crossEntropyLoss, .since = 12, .outputs = 2},
};

}  // namespace

std::span<const Operator> lossOperators() { return kTable; }

}  // namespace eigenscope::onnx
