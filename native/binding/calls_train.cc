// Training of the network that an operator stands for.
#include <cmath>

#include "binding/calls.h"
#include "train/trainer.h"

namespace eigenscope::binding {

namespace {

constexpr NameRow kRules[] = {{"sgd", static_cast<int>(OptimizerOptions::Rule::Sgd)},
                              {"adam", static_cast<int>(OptimizerOptions::Rule::Adam)},
                              {"adamw", static_cast<int>(OptimizerOptions::Rule::AdamW)}};

}  // namespace

// {optimizer and its numbers, batchSize, shuffle, dropLast, seed, step, updates, rates: one a step,
// keep: a byte a parameter or none, theta, first, second: changed in place when all steps are
// made}: the losses of the minibatches. Progress: steps in `products`, a running mean loss in
// `residual`.
Work trainCall(CallInputs& inputs) {
  const Options& given = inputs.options();
  const auto leaf = std::dynamic_pointer_cast<CurvatureLeaf>(inputs.op());
  if (!leaf || leaf->dim() != leaf->parameterCount())
    throw Error(ErrorKind::Internal, "train: expected an operator on all parameters of a network");
  TrainOptions options;
  OptimizerOptions& rule = options.optimizer;
  rule.rule = oneOf<OptimizerOptions::Rule>(given, "optimizer", kRules, "sgd");
  rule.weightDecay = given.number("weightDecay", rule.weightDecay);
  rule.momentum = given.number("momentum", rule.momentum);
  rule.dampening = given.number("dampening", rule.dampening);
  rule.nesterov = given.boolean("nesterov", rule.nesterov);
  rule.beta1 = given.number("beta1", rule.beta1);
  rule.beta2 = given.number("beta2", rule.beta2);
  rule.epsilon = given.number("epsilon", rule.epsilon);
  options.shuffle = given.boolean("shuffle", true);
  options.dropLast = given.boolean("dropLast", false);
  options.seed = given.natural("seed", 0);
  const int64_t batchSize = given.integer("batchSize", 64);
  if (batchSize < 1) given.fail("batchSize", "a whole number of at least 1");

  const int64_t dim = leaf->dim();
  const int moments = momentsOf(rule);
  TrainState state;
  state.step = given.integer("step", 0);
  state.updates = given.integer("updates", 0);
  state.theta = inputs.doubles("theta", dim).as<double>();
  if (moments > 0) state.first = inputs.doubles("first", dim).as<double>();
  if (moments > 1) state.second = inputs.doubles("second", dim).as<double>();
  const auto rates = inputs.doubles("rates").as<double>();
  const auto keep =
      given.has("keep") ? inputs.bytes("keep", dim).as<uint8_t>() : std::span<uint8_t>();
  return [=](Task& task) mutable {
    return Fields{{"losses", leaf->train(batchSize, options, state, rates, keep, task)},
                  {"step", state.step},
                  {"updates", state.updates}};
  };
}

}  // namespace eigenscope::binding
