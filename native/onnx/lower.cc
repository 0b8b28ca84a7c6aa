#include "onnx/lower.h"

#include <algorithm>
#include <limits>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "ir/sample_axes.h"
#include "onnx/intended.h"
#include "onnx/modes.h"
#include "onnx/table.h"

namespace eigenscope::onnx {

namespace {

// Nodes without a name are known by their output.
const std::string& labelOf(const NodeDef& node) {
  return !node.name.empty() || node.out.empty() ? node.name : node.out[0];
}

}  // namespace

std::string describe(const NodeDef& node) { return "\"" + labelOf(node) + "\" (" + node.op + ")"; }

// ---- what a lowering function asks ------------------------------------------------------------

const Value& Call::in(size_t i) const {
  if (!has(i)) throw Error(ErrorKind::ModelFormat, "input " + std::to_string(i) + " is missing");
  return inputs_[i];
}

namespace {

const Attribute* attributeOf(const NodeDef& node, const char* name) {
  auto at = node.attributes.find(name);
  return at == node.attributes.end() ? nullptr : &at->second;
}

template <class T>
T first(const std::vector<T>& values, const char* name) {
  if (values.empty())
    throw Error(ErrorKind::ModelFormat,
                std::string("attribute ") + name + " has another type than ONNX gives it");
  return values[0];
}

}  // namespace

int64_t Call::integer(const char* name, int64_t fallback) const {
  const Attribute* attribute = attributeOf(node, name);
  if (!attribute) return fallback;
  const int64_t value = first(attribute->ints, name);
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  if (value > kMost || value < -kMost)
    mismatch("attribute " + std::string(name) + " is out of range: " + std::to_string(value));
  return value;
}

double Call::number(const char* name, double fallback) const {
  const Attribute* attribute = attributeOf(node, name);
  return attribute ? intendedNumber(static_cast<float>(first(attribute->floats, name))) : fallback;
}

std::string Call::text(const char* name, const char* fallback) const {
  const Attribute* attribute = attributeOf(node, name);
  return attribute ? first(attribute->strings, name) : fallback;
}

Axes Call::ints(const char* name, const Axes& fallback) const {
  const Attribute* attribute = attributeOf(node, name);
  return attribute ? attribute->ints : fallback;
}

Axes Call::known(size_t i) const {
  const Value& value = in(i);
  if (!value.known())
    unsupported("its input " + std::to_string(i) + " (\"" + node.in[i] +
                "\") depends on data or parameters, where a constant is needed");
  return integers(*value.host);
}

std::optional<Axes> Call::setting(const char* attribute, size_t input) const {
  if (hasAttribute(attribute)) return ints(attribute);
  if (has(input)) return known(input);
  return std::nullopt;
}

std::optional<double> Call::knownNumber(size_t i) const {
  if (!has(i) || !in(i).known() || in(i).host->size() != 1) return std::nullopt;
  return in(i).host->at(0);
}

void Call::warn(const std::string& message) const {
  warnings_.push_back(describe(node) + ": " + message);
}

// ---- the walk over the graph --------------------------------------------------------------------

namespace {

// Why a node cannot be lowered, as far as that shows without shapes; "" where it can.
template <class IsUsed>
std::string reasonAgainst(const NodeDef& node, int64_t opset, IsUsed isUsed) {
  std::string reason;
  const Operator* row = findOperator(node, opset, reason);
  if (row)
    for (size_t o = row->outputs; o < node.out.size(); ++o)
      if (!node.out[o].empty() && isUsed(node.out[o]))
        reason = "its output " + std::to_string(o) + " is not supported";
  return reason;
}

class Lowering {
 public:
  Lowering(const Model& model, const std::vector<Parameter>& parameters, Graph& graph,
           const std::vector<InputBinding>& inputs, const std::string& output, bool fold)
      : model_(model), builder_(graph), output_(output), fold_(fold) {
    for (size_t i = 0; i < parameters.size(); ++i) parameters_[parameters[i].name] = i;
    for (size_t i = 0; i < parameters.size(); ++i)
      parameterShapes_.push_back(parameters[i].value.shape());
    for (size_t i = 0; i < model.nodes.size(); ++i)
      for (const std::string& name : model.nodes[i].out)
        if (!name.empty()) producer_[name] = i;
    findNeeded();
    refuseUnsupported();
    bindInputs(inputs);
  }

  Lowered run() {
    for (size_t i = 0; i < model_.nodes.size(); ++i)
      if (needed_[i]) lowerNode(i);
    if (!refused_.empty()) throwUnsupported();
    Lowered lowered;
    if (value(output_).items)
      throw Error(ErrorKind::UnsupportedOperator,
                  "output \"" + output_ + "\" is a sequence of tensors; choose a tensor");
    lowered.output = builder_.plain(value(output_));
    warnOfMixing(lowered.output);
    splitActivation(lowered);
    lowered.warnings = warnings_;
    return lowered;
  }

 private:
  void findNeeded() {
    needed_.assign(model_.nodes.size(), false);
    std::vector<std::string> pending = {output_};
    ++uses_[output_];
    while (!pending.empty()) {
      const std::string name = pending.back();
      pending.pop_back();
      auto at = producer_.find(name);
      if (at == producer_.end() || parameters_.count(name) || needed_[at->second]) continue;
      needed_[at->second] = true;
      for (const std::string& in : model_.nodes[at->second].in)
        if (!in.empty()) {
          ++uses_[in];
          pending.push_back(in);
        }
    }
  }

  void refuse(const NodeDef& node, const std::string& reason) {
    refused_.push_back({qualified(node.domain, node.op), labelOf(node), reason});
  }

  void refuseUnsupported() {
    for (size_t i = 0; i < model_.nodes.size(); ++i) {
      const NodeDef& node = model_.nodes[i];
      // Whether a branch is taken shows later.
      if (!needed_[i] || isParameter(node) || !node.guards.empty()) continue;
      const std::string reason = reasonAgainst(
          node, model_.opset, [this](const std::string& name) { return uses_.count(name) > 0; });
      if (!reason.empty()) refuse(node, reason);
    }
    if (!refused_.empty()) throwUnsupported();
  }

  [[noreturn]] void throwUnsupported() const {
    std::string text = std::to_string(refused_.size()) +
                       (refused_.size() == 1 ? " operator of the model is not supported:"
                                             : " operators of the model are not supported:");
    for (const Unsupported& one : refused_)
      text += "\n  \"" + one.node + "\" (" + one.op + "): " + one.reason;
    throw Error(ErrorKind::UnsupportedOperator, text);
  }

  bool isParameter(const NodeDef& node) const {
    return !node.out.empty() && parameters_.count(node.out[0]) > 0;
  }

  void bindInputs(const std::vector<InputBinding>& inputs) {
    for (const InputBinding& input : inputs) {
      inputs_[input.name] = input;
      if (!input.shape.empty()) rows_ = input.shape[0];
      for (const ValueInfo& info : model_.inputs) {
        if (info.name != input.name || info.anyRank) continue;
        if (info.dims.size() != input.shape.size())
          throw Error(ErrorKind::DataMismatch, "input \"" + input.name + "\": the model expects " +
                                                   show(info.dims) + ", got " + show(input.shape));
        for (size_t d = 0; d < info.dims.size(); ++d) {
          if (info.dims[d] < 0 && d < info.dimNames.size() && !info.dimNames[d].empty())
            lengths_[info.dimNames[d]] = input.shape[d];
          if (info.dims[d] < 0 || info.dims[d] == input.shape[d]) continue;
          if (d > 0)
            throw Error(ErrorKind::DataMismatch, "input \"" + input.name +
                                                     "\": the model expects " + show(info.dims) +
                                                     ", got " + show(input.shape));
          batch_ = {info.dims[0], input.shape[0]};
        }
      }
    }
  }

  // Free lengths are those of the same name among the data; those without, the samples.
  Tensor filled(const Model::Fill& fill) const {
    const ValueInfo& info = fill.value;
    Shape shape = info.dims;
    for (size_t d = 0; d < shape.size(); ++d) {
      if (shape[d] >= 0) continue;
      auto known = d < info.dimNames.size() ? lengths_.find(info.dimNames[d]) : lengths_.end();
      shape[d] = known == lengths_.end() ? rows_ : known->second;
    }
    return splatOf(fill.number, shape, graphType(info.type));
  }

  // A tensor by name: computed, parameter, initializer or input.
  const Value& value(const std::string& name) {
    auto at = values_.find(name);
    if (at != values_.end()) return at->second;
    Value value;
    auto parameter = parameters_.find(name);
    auto initializer = model_.initializers.find(name);
    auto input = inputs_.find(name);
    auto fill = model_.fills.find(name);
    if (parameter != parameters_.end()) {
      const auto number = static_cast<int64_t>(parameter->second);
      value = builder_.wrap(builder_.graph.param(number, parameterShapes_[number]));
    } else if (initializer != model_.initializers.end()) {
      Tensor tensor = tensorOf(initializer->second);
      const bool large = tensor.size() > kFoldLimit;
      value = large
                  ? builder_.wrap(builder_.graph.constant(tensor.values, tensor.shape, tensor.type))
                  : Builder::known(std::move(tensor));
    } else if (input != inputs_.end()) {
      const InputBinding& binding = input->second;
      value = builder_.wrap(builder_.graph.input(binding.slot, binding.shape, binding.type));
    } else if (fill != model_.fills.end()) {
      value = Builder::known(filled(fill->second));
    } else {
      const bool isInput = std::any_of(model_.inputs.begin(), model_.inputs.end(),
                                       [&](const ValueInfo& info) { return info.name == name; });
      if (isInput)
        throw Error(ErrorKind::DataMismatch, "the model's input \"" + name + "\" has no data");
      throw Error(ErrorKind::ModelFormat, "no node, initializer or input gives \"" + name + "\"");
    }
    return values_.emplace(name, std::move(value)).first->second;
  }

  void lowerNode(size_t i) {
    const NodeDef& node = model_.nodes[i];
    if (isParameter(node)) return;
    if (!isTaken(node)) {
      withoutValue_.insert(node.out.begin(), node.out.end());
      return;
    }
    if (node.op != "If" &&
        std::any_of(node.in.begin(), node.in.end(),
                    [this](const std::string& name) { return withoutValue_.count(name) > 0; })) {
      withoutValue_.insert(node.out.begin(), node.out.end());
      return;
    }
    try {
      Results results = call(node);
      for (size_t o = 0; o < results.size() && o < node.out.size(); ++o) {
        if (node.out[o].empty()) continue;
        if (results[o].empty())
          withoutValue_.insert(node.out[o]);
        else
          values_[node.out[o]] = std::move(results[o]);
      }
    } catch (const Error& error) {
      // All unsupported nodes are reported together; what needs them is passed over.
      if (error.kind != ErrorKind::UnsupportedOperator) rethrow(node, error);
      refuse(node, error.what());
      withoutValue_.insert(node.out.begin(), node.out.end());
    }
  }

  // Whether all the conditions that a node in a branch stands under are met.
  bool isTaken(const NodeDef& node) {
    return std::all_of(node.guards.begin(), node.guards.end(), [this](const Guard& guard) {
      if (withoutValue_.count(guard.condition)) return false;
      const Value& condition = value(guard.condition);
      return condition.known() && condition.host->size() == 1 &&
             (condition.host->at(0) != 0) == guard.when;
    });
  }

  Results call(const NodeDef& node) {
    std::string reason;
    const Operator* row = findOperator(node, model_.opset, reason);
    if (!row) throw Error(ErrorKind::UnsupportedOperator, reason);
    std::vector<Value> in(node.in.size());
    std::vector<bool> present(node.in.size());
    for (size_t i = 0; i < in.size(); ++i) {
      present[i] = !node.in[i].empty() && withoutValue_.count(node.in[i]) == 0;
      if (present[i]) in[i] = value(node.in[i]);
      if (in[i].items && !row->sequences)
        throw Error(ErrorKind::UnsupportedOperator, "its input is a sequence of tensors");
      const bool shapeOnly = node.op == "Shape" || node.op == "Size";
      if (row->grade == Grade::Fold && present[i] && !in[i].known() && !shapeOnly)
        throw Error(ErrorKind::UnsupportedOperator,
                    "its input " + std::to_string(i) + " (\"" + node.in[i] +
                        "\") depends on data or parameters; it is only supported on constants");
    }
    const bool onlyUse = !node.in.empty() && uses_[node.in[0]] == 1;
    Call call(builder_, node, model_.opset, std::move(in), std::move(present), onlyUse, fold_,
              batch_, rows_, warnings_);
    return row->lower(call);
  }

  [[noreturn]] void rethrow(const NodeDef& node, const Error& error) const {
    std::string text = "node " + describe(node) + ": " + error.what();
    if (batch_.active() && error.kind == ErrorKind::DataMismatch)
      text += ". The model was exported for batches of exactly " + std::to_string(batch_.declared) +
              " and got " + std::to_string(batch_.bound) +
              ": export it with a dynamic batch axis, or use batches of " +
              std::to_string(batch_.declared);
    throw Error(error.kind, text);
  }

  // A normalisation by the statistics of the batch may be written out, and then nothing tells it
  // from other sums but its axis. A number for the whole batch is a loss, which is no such case.
  void warnOfMixing(Id output) {
    const Graph& g = builder_.graph;
    const Shape& shape = g.shape(output);
    if (rows_ < 2 || shape.empty() || shape[0] != rows_ || usesBatchStatistics(model_)) return;
    const auto axes = findSampleAxes(g, rows_);
    for (Id id : reachable(g, {output})) {
      const Node& node = g[id];
      if (node.op != Op::Sum && node.op != Op::ReduceMax) continue;
      const auto& axis = axes[static_cast<size_t>(node.in[0])];
      const auto& over = node.attr.ints;
      if (!axis || std::find(over.begin(), over.end(), axis->axis) == over.end()) continue;
      warnings_.push_back(
          "the network sums or compares values of all samples of a micro-batch, so samples depend "
          "on each other: results are those of batches of the option `batch`, which must be "
          "stated, "
          "and quantities of single samples mean nothing");
      return;
    }
  }

  // Where the output is a Softmax, LogSoftmax or Sigmoid, perhaps moved: the same with its input.
  void splitActivation(Lowered& lowered) {
    static const std::set<std::string> kMoves = {"Identity", "Transpose", "Dropout"};
    static const std::set<std::string> kReshapes = {"Reshape", "Flatten", "Squeeze", "Unsqueeze"};
    std::vector<const NodeDef*> after;
    std::string name = output_;
    bool reshaped = false;
    const NodeDef* activation = nullptr;
    while (!activation) {
      auto at = producer_.find(name);
      if (at == producer_.end() || parameters_.count(name)) return;
      const NodeDef& node = model_.nodes[at->second];
      if (node.mask) return;
      if (node.op == "Softmax" || node.op == "LogSoftmax" || node.op == "Sigmoid") {
        activation = &node;
      } else if (kMoves.count(node.op) || kReshapes.count(node.op)) {
        reshaped = reshaped || kReshapes.count(node.op);
        after.push_back(&node);
        name = node.in[0];
      } else {
        return;
      }
    }
    const bool pointwise = activation->op == "Sigmoid";
    if (reshaped && !pointwise) return;
    const Shape shape = builder_.shape(value(activation->in[0]));
    int64_t axis = -1;
    if (!pointwise) {
      const int64_t rank = static_cast<int64_t>(shape.size());
      auto given = activation->attributes.find("axis");
      axis = given == activation->attributes.end() ? (model_.opset < 13 ? 1 : -1)
                                                   : first(given->second.ints, "axis");
      axis = normalAxis(axis, rank);
      // Before opset 13 everything from the axis on is normalised together.
      if (model_.opset < 13 && count(Shape(shape.begin() + axis + 1, shape.end())) != 1) return;
    }
    values_[activation->out[0]] = value(activation->in[0]);
    for (auto node = after.rbegin(); node != after.rend(); ++node) {
      if ((*node)->op == "Transpose" && axis >= 0) {
        Axes perm =
            (*node)->attributes.count("perm") ? (*node)->attributes.at("perm").ints : Axes{};
        const int64_t rank = static_cast<int64_t>(shape.size());
        if (perm.empty())
          for (int64_t i = rank; i-- > 0;) perm.push_back(i);
        axis = std::find(perm.begin(), perm.end(), axis) - perm.begin();
      }
      values_[(*node)->out[0]] = call(**node)[0];
    }
    lowered.activation = activation->op;
    lowered.activationAxis = axis;
    lowered.logits = builder_.plain(value(output_));
  }

  const Model& model_;
  Builder builder_;
  const std::string output_;
  const bool fold_;
  std::unordered_map<std::string, size_t> producer_, parameters_;
  std::vector<Shape> parameterShapes_;
  std::unordered_map<std::string, InputBinding> inputs_;
  std::vector<bool> needed_;
  std::unordered_map<std::string, int> uses_;
  std::unordered_map<std::string, Value> values_;
  std::unordered_set<std::string> withoutValue_;
  std::vector<Unsupported> refused_;
  std::vector<std::string> warnings_;
  StaticBatch batch_;
  int64_t rows_ = 1;
  std::map<std::string, int64_t> lengths_;  // of free axes, by name
};

}  // namespace

Lowered lower(const Model& model, const std::vector<Parameter>& parameters, Graph& graph,
              const std::vector<InputBinding>& inputs, const std::string& output, bool fold) {
  return Lowering(model, parameters, graph, inputs, output, fold).run();
}

std::vector<Unsupported> findUnsupported(const Model& model) {
  std::unordered_set<std::string> used;
  for (const ValueInfo& output : model.outputs) used.insert(output.name);
  std::vector<Unsupported> found;
  for (size_t i = model.nodes.size(); i-- > 0;) {
    const NodeDef& node = model.nodes[i];
    const bool needed = std::any_of(node.out.begin(), node.out.end(), [&](const std::string& name) {
      return !name.empty() && used.count(name) > 0;
    });
    if (!needed) continue;
    // Whether a branch is taken shows with the shapes.
    const std::string reason =
        !node.guards.empty() ? "" : reasonAgainst(node, model.opset, [&](const std::string& name) {
          return used.count(name) > 0;
        });
    if (!reason.empty())
      found.insert(found.begin(), {qualified(node.domain, node.op), labelOf(node), reason});
    used.insert(node.in.begin(), node.in.end());
  }
  return found;
}

}  // namespace eigenscope::onnx
