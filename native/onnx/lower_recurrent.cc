#include <algorithm>

#include "onnx/table.h"

// RNN, GRU and LSTM, written out step by step: one product for the inputs of all steps, then each
// step from the one before. Weights stay packed as the file has them.
namespace eigenscope::onnx {

namespace {

// Steps times nodes a step is what a graph grows by; longer ones are meant for truncation.
constexpr int64_t kMostSteps = 4096;

using Activation = Value (*)(Builder& b, const Value& x);

Value relu(Builder& b, const Value& x) {
  const Value zero = Builder::number(0);
  return b.select(b.binary(Op::Less, zero, x), x, zero);
}

template <Op op>
Value smooth(Builder& b, const Value& x) {
  return b.unary(op, x);
}

Activation activationOf(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char ch) { return static_cast<char>(std::tolower(ch)); });
  if (name == "tanh") return smooth<Op::Tanh>;
  if (name == "sigmoid") return smooth<Op::Sigmoid>;
  if (name == "softplus") return smooth<Op::Softplus>;
  if (name == "relu") return relu;
  return nullptr;
}

// What one direction of a recurrent layer is made of.
struct Layer {
  int64_t steps, batch, hidden, gates;
  bool reverse;
  std::vector<Activation> activations;
  Value inputs;         // x W' + biases that may be added at once [steps, batch, gates * hidden]
  Value recurrent;      // R [gates * hidden, hidden]
  Value recurrentBias;  // of GRU's candidate, inside of the reset gate [hidden]; or nothing
  bool resetAfter = false;       // GRU: linear_before_reset
  std::vector<Value> peepholes;  // LSTM: [hidden] for i, o, f; or nothing
  Value state, cell;             // [batch, hidden]
};

Value rows(Call& c, const Value& x, int64_t axis, int64_t part, int64_t size) {
  return c.b.sliceAxis(x, axis, part * size, size);
}

Value recurrence(Call& c, const Value& state, const Value& weights) {
  return c.b.dot(state, "bh", weights, "gh", "bg");
}

void stepRnn(Call& c, Layer& layer, const Value& x) {
  layer.state = layer.activations[0](c.b, c.b.add(x, recurrence(c, layer.state, layer.recurrent)));
}

// Gates z, r, h. H = (1 - z) h~ + z H.
void stepGru(Call& c, Layer& layer, const Value& x) {
  const int64_t n = layer.hidden;
  const Activation f = layer.activations[0], g = layer.activations[1];
  const Value& state = layer.state;
  Value z, r, candidate;
  if (layer.resetAfter) {
    const Value h = recurrence(c, state, layer.recurrent);
    z = f(c.b, c.b.add(rows(c, x, 1, 0, n), rows(c, h, 1, 0, n)));
    r = f(c.b, c.b.add(rows(c, x, 1, 1, n), rows(c, h, 1, 1, n)));
    const Value inner = c.b.add(rows(c, h, 1, 2, n), layer.recurrentBias);
    candidate = c.b.add(rows(c, x, 1, 2, n), c.b.mul(r, inner));
  } else {
    const Value both = recurrence(c, state, c.b.sliceAxis(layer.recurrent, 0, 0, 2 * n));
    z = f(c.b, c.b.add(rows(c, x, 1, 0, n), rows(c, both, 1, 0, n)));
    r = f(c.b, c.b.add(rows(c, x, 1, 1, n), rows(c, both, 1, 1, n)));
    const Value inner = recurrence(c, c.b.mul(r, state), rows(c, layer.recurrent, 0, 2, n));
    candidate = c.b.add(rows(c, x, 1, 2, n), inner);
  }
  candidate = g(c.b, candidate);
  layer.state = c.b.add(candidate, c.b.mul(z, c.b.sub(state, candidate)));
}

// Gates i, o, f, c.
void stepLstm(Call& c, Layer& layer, const Value& x) {
  const int64_t n = layer.hidden;
  const Activation f = layer.activations[0], g = layer.activations[1], h = layer.activations[2];
  const Value all = c.b.add(x, recurrence(c, layer.state, layer.recurrent));
  auto gate = [&](int64_t at) { return rows(c, all, 1, at, n); };
  auto peeped = [&](const Value& v, size_t at, const Value& cell) {
    return layer.peepholes.empty() ? v : c.b.add(v, c.b.mul(layer.peepholes[at], cell));
  };
  const Value in = f(c.b, peeped(gate(0), 0, layer.cell));
  const Value forget = f(c.b, peeped(gate(2), 2, layer.cell));
  const Value cell = c.b.add(c.b.mul(forget, layer.cell), c.b.mul(in, g(c.b, gate(3))));
  const Value out = f(c.b, peeped(gate(1), 1, cell));
  layer.cell = cell;
  layer.state = c.b.mul(out, h(c.b, cell));
}

struct Kind {
  int64_t gates;
  std::vector<std::string> activations;
  void (*step)(Call&, Layer&, const Value&);
};

const Kind& kindOf(const std::string& op) {
  static const Kind rnn{1, {"Tanh"}, stepRnn};
  static const Kind gru{3, {"Sigmoid", "Tanh"}, stepGru};
  static const Kind lstm{4, {"Sigmoid", "Tanh", "Tanh"}, stepLstm};
  return op == "RNN" ? rnn : op == "GRU" ? gru : lstm;
}

// The part of a packed tensor [directions, ...] that is this direction's.
Value ofDirection(Call& c, const Value& x, int64_t d) {
  return c.b.squeeze(c.b.sliceAxis(x, 0, d, 1), {0});
}

void expectShape(Call& c, size_t input, const char* what, const Shape& shape) {
  if (c.shape(input) != shape)
    c.mismatch("expected " + std::string(what) + " (\"" + c.node.in[input] + "\") of shape " +
               show(shape) + ", got " + show(c.shape(input)));
}

// An initial state [directions, batch, hidden], zeros where it is left out. What was stored for one
// batch size and is the same for every sample serves any.
Value initialState(Call& c, size_t input, int64_t d, int64_t directions, const Layer& layer,
                   bool batchFirst) {
  const Shape shape = {layer.batch, layer.hidden};
  if (!c.has(input)) return c.b.broadcast(Builder::number(0), shape);
  Value all = batchFirst ? c.b.transpose(c.in(input), {1, 0, 2}) : c.in(input);
  const Shape given = c.b.shape(all);
  if (all.known() && all.host->size() > 0 && Builder::isSplat(all, all.host->at(0)) &&
      given.size() == 3 && given[0] == directions && given[2] == layer.hidden)
    return c.b.broadcast(Builder::number(all.host->at(0)), shape);
  if (given != Shape{directions, layer.batch, layer.hidden})
    c.mismatch("expected an initial state (\"" + c.node.in[input] + "\") of shape " +
               show({directions, layer.batch, layer.hidden}) + ", got " + show(given));
  return ofDirection(c, all, d);
}

// Steps that are run: sequence_lens where all are equal.
int64_t stepsOf(Call& c, int64_t length, int64_t batch) {
  if (!c.has(4)) return length;
  const Axes lengths = c.known(4);
  const auto [least, most] = std::minmax_element(lengths.begin(), lengths.end());
  if (lengths.empty() || *least != *most)
    c.unsupported("sequence_lens (\"" + c.node.in[4] +
                  "\") differ from sample to sample; only equal ones are taken");
  if (*most < 1 || *most > length ||
      (static_cast<int64_t>(lengths.size()) != batch && !c.batch.active()))
    c.mismatch("sequence_lens " + show(lengths) + " do not fit " + std::to_string(batch) +
               " sequences of " + std::to_string(length) + " steps");
  return *most;
}

Layer layerOf(Call& c, const Kind& kind, const Value& x, int64_t d, int64_t directions,
              bool batchFirst) {
  const int64_t hidden = c.shape(2)[2];
  Layer layer{.steps = 0,
              .batch = c.b.shape(x)[1],
              .hidden = hidden,
              .gates = kind.gates,
              .reverse = d == 1 || c.text("direction", "forward") == "reverse",
              .activations = {},
              .inputs = {},
              .recurrent = ofDirection(c, c.in(2), d),
              .recurrentBias = Builder::number(0),
              .peepholes = {},
              .state = {},
              .cell = {}};
  std::vector<std::string> names = kind.activations;
  if (auto given = c.node.attributes.find("activations"); given != c.node.attributes.end()) {
    const size_t first = d * kind.activations.size();
    for (size_t i = 0; i < names.size(); ++i) names[i] = given->second.strings[first + i];
  }
  for (const std::string& name : names) layer.activations.push_back(activationOf(name));
  layer.resetAfter = c.integer("linear_before_reset", 0) != 0;
  layer.inputs = c.b.dot(x, "tbi", ofDirection(c, c.in(1), d), "gi", "tbg");
  if (c.has(3)) {
    const Value both = ofDirection(c, c.in(3), d);
    const int64_t width = kind.gates * hidden;
    Value input = c.b.sliceAxis(both, 0, 0, width);
    Value inner = c.b.sliceAxis(both, 0, width, width);
    if (layer.resetAfter) {  // the candidate's is multiplied by the reset gate
      layer.recurrentBias = c.b.sliceAxis(inner, 0, 2 * hidden, hidden);
      const Value zero = c.b.broadcast(Builder::number(0), {hidden});
      inner = c.b.concat({c.b.sliceAxis(inner, 0, 0, 2 * hidden), zero}, 0);
    }
    layer.inputs = c.b.add(layer.inputs, c.b.add(input, inner));
  }
  layer.state = initialState(c, 5, d, directions, layer, batchFirst);
  if (c.node.op == "LSTM") {
    layer.cell = initialState(c, 6, d, directions, layer, batchFirst);
    if (c.has(7)) {
      const Value all = ofDirection(c, c.in(7), d);
      for (int64_t i = 0; i < 3; ++i) layer.peepholes.push_back(rows(c, all, 0, i, hidden));
    }
  }
  return layer;
}

// Y [steps, directions, batch, hidden], Y_h and Y_c [directions, batch, hidden]; with layout = 1
// the batch comes first.
Results recurrent(Call& c) {
  const Kind& kind = kindOf(c.node.op);
  const bool batchFirst = c.integer("layout", 0) != 0;
  if (c.rank(0) != 3) c.mismatch("takes [steps, batch, inputs], got " + show(c.shape(0)));
  const Value x = batchFirst ? c.b.transpose(c.in(0), {1, 0, 2}) : c.in(0);
  const Shape shape = c.b.shape(x), w = c.shape(1), r = c.shape(2);
  const int64_t directions = c.text("direction", "forward") == "bidirectional" ? 2 : 1;
  if (r.size() != 3) c.mismatch("expected recurrent weights of rank 3, got " + show(r));
  const int64_t hidden = r[2], width = kind.gates * hidden;
  expectShape(c, 1, "weights", {directions, width, shape[2]});
  expectShape(c, 2, "recurrent weights", {directions, width, hidden});
  if (c.has(3)) expectShape(c, 3, "biases", {directions, 2 * width});
  if (c.has(7)) expectShape(c, 7, "peepholes", {directions, 3 * hidden});
  if (c.integer("hidden_size", hidden) != hidden)
    c.mismatch("hidden_size is " + std::to_string(c.integer("hidden_size", 0)) +
               ", but the recurrent weights have " + std::to_string(hidden));
  const int64_t steps = stepsOf(c, shape[0], shape[1]);
  if (steps > kMostSteps)
    c.unsupported(std::to_string(steps) + " steps; at most " + std::to_string(kMostSteps) +
                  " are written out");
  std::vector<Value> outputs, states, cells;
  for (int64_t d = 0; d < directions; ++d) {
    Layer layer = layerOf(c, kind, x, d, directions, batchFirst);
    std::vector<Value> each(steps);
    for (int64_t i = 0; i < steps; ++i) {
      const int64_t t = layer.reverse ? steps - 1 - i : i;
      kind.step(c, layer, c.b.squeeze(c.b.sliceAxis(layer.inputs, 0, t, 1), {0}));
      each[t] = c.b.unsqueeze(layer.state, {0, 1});
    }
    Value y = steps > 0 ? c.b.concat(each, 0)
                        : c.b.broadcast(Builder::number(0), {0, 1, layer.batch, hidden});
    if (steps < shape[0])  // shorter sequences end in zeros
      y = c.b.unslice(y, {0, 0, 0, 0}, {1, 1, 1, 1}, {shape[0], 1, layer.batch, hidden});
    outputs.push_back(y);
    states.push_back(c.b.unsqueeze(layer.state, {0}));
    if (layer.cell.known() || layer.cell.node != kNone)
      cells.push_back(c.b.unsqueeze(layer.cell, {0}));
  }
  auto joined = [&](const std::vector<Value>& parts, int64_t axis) {
    return parts.size() == 1 ? parts[0] : c.b.concat(parts, axis);
  };
  Results results = {joined(outputs, 1), joined(states, 0)};
  if (!cells.empty()) results.push_back(joined(cells, 0));
  if (batchFirst) {
    results[0] = c.b.transpose(results[0], {2, 0, 1, 3});
    for (size_t i = 1; i < results.size(); ++i) results[i] = c.b.transpose(results[i], {1, 0, 2});
  }
  return results;
}

// ---- what is not taken -----------------------------------------------------------------------

std::string textOf(const NodeDef& node, const char* name, const std::string& fallback) {
  auto at = node.attributes.find(name);
  return at == node.attributes.end() || at->second.strings.empty() ? fallback
                                                                   : at->second.strings[0];
}

std::string refuseRecurrent(const NodeDef& node) {
  const std::string direction = textOf(node, "direction", "forward");
  if (direction != "forward" && direction != "reverse" && direction != "bidirectional")
    return "attribute direction = " + direction + " is not one of ONNX's";
  if (node.attributes.count("clip"))
    return "attribute clip is not supported; export the layer without clipping";
  if (auto forget = node.attributes.find("input_forget");
      forget != node.attributes.end() && !forget->second.ints.empty() && forget->second.ints[0])
    return "attribute input_forget = 1 is not supported";
  auto given = node.attributes.find("activations");
  if (given == node.attributes.end()) return "";
  const std::vector<std::string>& names = given->second.strings;
  const size_t wanted = kindOf(node.op).activations.size() * (direction == "bidirectional" ? 2 : 1);
  if (names.size() != wanted)
    return "attribute activations needs " + std::to_string(wanted) + " names, got " +
           std::to_string(names.size());
  for (const std::string& name : names)
    if (!activationOf(name)) return "attribute activations: " + name + " is not supported";
  return "";
}

constexpr std::string_view kLimits =
    "equal constant sequence_lens; activations Tanh, Sigmoid, Relu, Softplus; no clip";

const Operator kTable[] = {
    {.name = "GRU", .lower = recurrent, .outputs = 2, .limits = kLimits, .refuse = refuseRecurrent},
    {.name = "LSTM",
     .lower = recurrent,
     .outputs = 3,
     .limits = "equal constant sequence_lens; activations Tanh, Sigmoid, Relu, Softplus; no clip, "
               "no input_forget",
     .refuse = refuseRecurrent},
    {.name = "RNN", .lower = recurrent, .outputs = 2, .limits = kLimits, .refuse = refuseRecurrent},
};

}  // namespace

std::span<const Operator> recurrentOperators() { return kTable; }

}  // namespace eigenscope::onnx
