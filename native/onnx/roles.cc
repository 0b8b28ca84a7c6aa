// Which stored float tensors are trained. ONNX does not say, so each is judged by what the exporter
// noted of it, by the inputs of nodes that it feeds, and last by its name.

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstring>
#include <map>
#include <set>
#include <string_view>

#include "onnx/model.h"

namespace eigenscope::onnx {

namespace {

using Slots = std::vector<std::size_t>;

// Inputs that hold weights: even a single number, and even a Constant, is a parameter there.
const std::map<std::string, Slots>& weightSlots() {
  static const std::map<std::string, Slots> table{
      {"BatchNormalization", {1, 2}},
      {"CausalConvWithState", {1, 2}},
      {"Conv", {1, 2}},
      {"ConvTranspose", {1, 2}},
      {"Einsum", {0, 1, 2, 3}},
      {"GRU", {1, 2, 3}},
      {"Gather", {0}},
      {"Gemm", {0, 1, 2}},
      {"GroupNormalization", {1, 2}},
      {"InstanceNormalization", {1, 2}},
      {"LSTM", {1, 2, 3, 7}},
      {"LayerNormalization", {1, 2}},
      {"MatMul", {0, 1}},
      {"PRelu", {1}},
      {"RMSNormalization", {1}},
      {"RNN", {1, 2, 3}},
      {"SimplifiedLayerNormalization", {1}},
      {"com.microsoft.BiasGelu", {1}},
      {"com.microsoft.FastGelu", {1}},
      {"com.microsoft.FusedConv", {1, 2}},
      {"com.microsoft.FusedGemm", {0, 1, 2}},
      {"com.microsoft.FusedMatMul", {0, 1}},
      {"com.microsoft.SkipLayerNormalization", {2, 3, 4}},
      {"com.microsoft.SkipSimplifiedLayerNormalization", {2, 3}},
  };
  return table;
}

// Inputs through which nothing is differentiated: shapes, axes, indices, conditions, bounds.
const std::map<std::string, Slots>& fixedSlots() {
  static const std::map<std::string, Slots> table{
      {"AffineGrid", {1}},
      {"CastLike", {1}},
      {"CenterCropPad", {1}},
      {"Clip", {1, 2}},
      {"Col2Im", {1, 2}},
      {"Compress", {1}},
      {"CumProd", {1}},
      {"CumSum", {1}},
      {"DequantizeLinear", {1, 2}},
      {"Dropout", {1, 2}},
      {"Expand", {1}},
      {"GRU", {4}},
      {"Gather", {1}},
      {"GatherElements", {1}},
      {"GatherND", {1}},
      {"If", {0}},
      {"LSTM", {4}},
      {"Loop", {0, 1}},
      {"MaxUnpool", {1, 2}},
      {"NegativeLogLikelihoodLoss", {1, 2}},
      {"OneHot", {0, 1, 2}},
      {"Pad", {1, 2, 3}},
      {"RNN", {4}},
      {"Reshape", {1}},
      {"Resize", {1, 2, 3}},
      {"RotaryEmbedding", {1, 2, 3}},
      {"Scatter", {1}},
      {"ScatterElements", {1}},
      {"ScatterND", {1}},
      {"Slice", {1, 2, 3, 4}},
      {"SoftmaxCrossEntropyLoss", {1, 2}},
      {"Split", {1}},
      {"Squeeze", {1}},
      {"TensorScatter", {2}},
      {"Tile", {1}},
      {"TopK", {1}},
      {"Trilu", {1}},
      {"Unsqueeze", {1}},
      {"Upsample", {1}},
      {"Where", {0}},
  };
  return table;
}

// Inputs that hold the state before the first step.
const std::map<std::string, Slots>& stateSlots() {
  static const std::map<std::string, Slots> table{
      {"CausalConvWithState", {3}}, {"GRU", {5}}, {"LSTM", {5, 6}},
      {"LinearAttention", {3}},     {"RNN", {5}},
  };
  return table;
}

// Inputs that hold the scale and shift of a normalisation.
const std::map<std::string, Slots>& affineSlots() {
  static const std::map<std::string, Slots> table{
      {"BatchNormalization", {1, 2}},    {"GroupNormalization", {1, 2}},
      {"InstanceNormalization", {1, 2}}, {"LayerNormalization", {1, 2}},
      {"RMSNormalization", {1}},
  };
  return table;
}

// Inputs that hold what new models have the same ones or zeros in, which exporters merge: scales,
// shifts, and biases into which normalisations were fused.
const std::map<std::string, Slots>& mergedSlots() {
  static const std::map<std::string, Slots> table = [] {
    std::map<std::string, Slots> slots = affineSlots();
    slots.insert({{"Conv", {2}}, {"ConvTranspose", {2}}, {"Gemm", {2}}});
    return slots;
  }();
  return table;
}

// Operators whose result does not change with small changes of any input.
const std::set<std::string>& flatOperators() {
  static const std::set<std::string> table{
      "And",
      "ArgMax",
      "ArgMin",
      "Bernoulli",
      "BitShift",
      "Ceil",
      "ConstantOfShape",
      "Equal",
      "EyeLike",
      "Floor",
      "Greater",
      "GreaterOrEqual",
      "IsInf",
      "IsNaN",
      "Less",
      "LessOrEqual",
      "Multinomial",
      "NonZero",
      "Not",
      "OneHot",
      "Or",
      "QuantizeLinear",
      "RandomNormal",
      "RandomNormalLike",
      "RandomUniform",
      "RandomUniformLike",
      "Range",
      "Round",
      "Shape",
      "Sign",
      "Size",
      "Xor",
  };
  return table;
}

// Operators that only move or convert numbers: what lies behind them decides.
const std::set<std::string>& movements() {
  static const std::set<std::string> table{"Cast",     "Concat",    "Expand",   "Flatten",
                                           "Identity", "Reshape",   "Slice",    "Split",
                                           "Squeeze",  "Transpose", "Unsqueeze"};
  return table;
}

const std::set<std::string>& arithmetic() {
  static const std::set<std::string> table{"Add", "Sub", "Mul", "Div"};
  return table;
}

bool listed(const std::map<std::string, Slots>& table, const NodeDef& node, std::size_t slot) {
  auto row = table.find(qualified(node.domain, node.op));
  return row != table.end() &&
         std::find(row->second.begin(), row->second.end(), slot) != row->second.end();
}

// ONNX's numbers for FLOAT, FLOAT16, DOUBLE and BFLOAT16.
bool isFloatCode(int64_t code) { return code == 1 || code == 10 || code == 11 || code == 16; }

bool passesDerivative(const NodeDef& node) {
  if (!node.domain.empty()) return true;  // unknown operator: reported elsewhere
  if (node.op == "Cast") {
    auto to = node.attributes.find("to");
    return to == node.attributes.end() || to->second.ints.empty() ||
           isFloatCode(to->second.ints[0]);
  }
  return flatOperators().count(node.op) == 0;
}

bool isStatistic(const NodeDef& node, std::size_t slot) {
  return node.op == "BatchNormalization" && (slot == 3 || slot == 4);
}

bool allDigits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(),
                                      [](unsigned char c) { return std::isdigit(c) != 0; });
}

std::vector<std::string_view> segmentsOf(std::string_view name) {
  std::vector<std::string_view> segments;
  for (std::size_t begin = 0;;) {
    const std::size_t end = name.find('.', begin);
    segments.push_back(name.substr(begin, end - begin));
    if (end == std::string_view::npos) return segments;
    begin = end + 1;
  }
}

bool endsWith(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

// Names that exporters and optimisers make up for what had none.
bool isGenerated(std::string_view name) {
  std::string lower(name);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  for (const char* start :
       {"val_", "lifted_tensor", "lift_fresh", "_tensor_constant", "tensor_constant", "constant",
        "const_", "scalar_tensor", "ortshared", "unnamed", "tmp_", "clone_"})
    if (lower.rfind(start, 0) == 0) return true;
  // "Mul_12", "Identity_3": an operator and a number.
  const std::size_t line = name.rfind('_');
  return line != std::string_view::npos && line > 0 && allDigits(name.substr(line + 1)) &&
         std::isupper(static_cast<unsigned char>(name[0])) != 0;
}

// Tensors that the code of the model wrote out, as torch.export names them.
bool isCodeConstant(std::string_view last) {
  for (const char* start : {"lifted_tensor_", "lift_fresh", "_tensor_constant"})
    if (last.rfind(start, 0) == 0) return true;
  return false;
}

// "layer4.1.bn2.weight", "0.bias", "scale"; not "onnx::Mul_7", "/fc/Constant_output_0", "input.4".
bool isStateDictName(const Model& model, const std::string& name) {
  const std::vector<std::string_view> segments = segmentsOf(name);
  for (std::string_view segment : segments) {
    if (segment.empty() || segment == "constant") return false;
    for (unsigned char c : segment)
      if (std::isalnum(c) == 0 && c != '_') return false;
  }
  if (isCodeConstant(segments.back())) return false;
  if (segments.size() == 1 && isGenerated(name)) return false;
  if (!allDigits(segments.back())) return true;
  // A member of a ParameterList has a number for its last name, and so have values of a trace; the
  // first has siblings that are stored.
  if (segments.size() == 1) return false;
  const std::string prefix = name.substr(0, name.rfind('.') + 1);
  return std::any_of(model.initializerOrder.begin(), model.initializerOrder.end(),
                     [&](const std::string& other) {
                       return other != name && other.rfind(prefix, 0) == 0 &&
                              allDigits(std::string_view(other).substr(prefix.size()));
                     });
}

// Only 0 and very large negative numbers, as added to attention scores.
bool isAdditiveMask(const Array& array) {
  array.check();
  bool masked = false;
  std::vector<double> row(static_cast<std::size_t>(array.rowSize()));
  for (int64_t r = 0; r < array.rows(); ++r) {
    convertRows(array, r, r + 1, row.data());
    for (double value : row) {
      if (value != 0 && !(value <= -1e4)) return false;
      masked = masked || value != 0;
    }
  }
  return masked;
}

// All 1 or all 0: a scale or shift that changes nothing.
bool isNeutral(const Array& array) {
  array.check();
  std::vector<double> row(static_cast<std::size_t>(array.rowSize()));
  double first = 0;
  for (int64_t r = 0; r < array.rows(); ++r) {
    convertRows(array, r, r + 1, row.data());
    if (r == 0) first = row[0];
    for (double value : row)
      if (value != first || (value != 0 && value != 1)) return false;
  }
  return true;
}

struct Use {
  const NodeDef* node;
  std::size_t slot;
};

class RoleFinder {
 public:
  RoleFinder(const Model& model, const std::vector<std::string>& promote)
      : model_(model), promote_(promote.begin(), promote.end()) {}

  Roles run() {
    for (const NodeDef& node : model_.nodes)
      for (std::size_t slot = 0; slot < node.in.size(); ++slot)
        if (!node.in[slot].empty()) uses_[node.in[slot]].push_back({&node, slot});
    for (const NodeDef& node : model_.nodes)
      if (const Array* source = mergedSource(node))
        merged_.emplace(node.out[0], source->renamed(node.out[0]));
    markActive();
    for (const std::string& name : model_.initializerOrder)
      judge(name, model_.initializers.at(name), false);
    addConstants();
    for (const NodeDef& node : model_.nodes)
      if (!node.out.empty())
        if (auto merged = merged_.find(node.out[0]); merged != merged_.end())
          judge(merged->first, merged->second, false);
    warn();
    return std::move(roles_);
  }

 private:
  // An Identity that stands for a tensor whose values equal those of another, which alone is
  // stored. As an alias it would add up the gradients of two parameters.
  const Array* mergedSource(const NodeDef& node) const {
    if (node.op != "Identity" || !node.domain.empty() || node.in.size() != 1 ||
        node.out.size() != 1)
      return nullptr;
    // "onnx::Conv_196" is what the exporter calls a weight that it has computed.
    if (!isStateDictName(model_, node.out[0]) && node.out[0].rfind("onnx::", 0) != 0)
      return nullptr;
    for (const ValueInfo& output : model_.outputs)
      if (output.name == node.out[0]) return nullptr;
    if (auto found = model_.initializers.find(node.in[0]); found != model_.initializers.end())
      return &found->second;
    auto found = merged_.find(node.in[0]);
    return found != merged_.end() ? &found->second : nullptr;
  }

  // Values of which the outputs are a differentiable function, and values that they need at all.
  void markActive() {
    for (const ValueInfo& output : model_.outputs) {
      active_.insert(output.name);
      needed_.insert(output.name);
    }
    for (auto node = model_.nodes.rbegin(); node != model_.nodes.rend(); ++node) {
      auto in = [&](const std::set<std::string>& set) {
        return std::any_of(node->out.begin(), node->out.end(),
                           [&](const std::string& name) { return set.count(name) > 0; });
      };
      if (!in(needed_)) continue;
      if (node->op == "Identity" && !node->out.empty() && merged_.count(node->out[0]) > 0) continue;
      needed_.insert(node->in.begin(), node->in.end());
      if (!in(active_) || !passesDerivative(*node)) continue;
      for (std::size_t slot = 0; slot < node->in.size(); ++slot)
        if (!listed(fixedSlots(), *node, slot) && !isStatistic(*node, slot))
          active_.insert(node->in[slot]);
    }
  }

  // Uses on the way to the output, seen through movements.
  void finalUses(const std::string& name, std::set<std::string>& seen,
                 std::vector<Use>& out) const {
    if (!seen.insert(name).second) return;
    auto found = uses_.find(name);
    if (found == uses_.end()) return;
    for (const Use& use : found->second) {
      const bool leads = std::any_of(use.node->out.begin(), use.node->out.end(),
                                     [&](const std::string& o) { return needed_.count(o) > 0; });
      if (!leads) continue;
      if (movements().count(use.node->op) > 0 && !listed(fixedSlots(), *use.node, use.slot)) {
        if (use.node->op == "Identity" && merged_.count(use.node->out[0]) > 0) continue;
        for (const std::string& moved : use.node->out)
          if (!moved.empty()) finalUses(moved, seen, out);
      } else {
        out.push_back(use);
      }
    }
  }

  template <class F>
  static bool any(const std::vector<Use>& uses, F matches) {
    return std::any_of(uses.begin(), uses.end(),
                       [&](const Use& use) { return matches(*use.node, use.slot); });
  }

  void judge(const std::string& name, const Array& value, bool constantNode) {
    if (!isFloating(value.type())) return;
    std::string reason;
    const Role role = roleOf(name, value, constantNode, reason);
    // Constants of the architecture are no news to anyone; stored ones are.
    if (constantNode && role != Role::Parameter) return;
    roles_.tensors.push_back({name, value, role, std::move(reason)});
  }

  Role roleOf(const std::string& name, const Array& value, bool constantNode,
              std::string& reason) const {
    auto because = [&](Role role, const char* text) {
      reason = text;
      return role;
    };
    if (needed_.count(name) == 0) return because(Role::Unused, "the output does not depend on it");
    if (value.size() == 0) return because(Role::Constant, "it is empty");
    if (promote_.count(name) > 0) return Role::Parameter;
    auto kind = model_.kinds.find(name);
    if (kind != model_.kinds.end() && kind->second == "BOUND")
      return because(Role::Constant, "it is an input with a bound value");
    if (kind != model_.kinds.end() && kind->second == "BUFFER")
      return because(Role::Buffer, "the exporter marked it as a buffer");
    if (kind != model_.kinds.end() && kind->second == "CONSTANT_TENSOR")
      return because(Role::Constant, "the exporter marked it as a constant");

    std::set<std::string> seen;
    std::vector<Use> uses;
    finalUses(name, seen, uses);
    if (active_.count(name) == 0)
      return any(uses, isStatistic)
                 ? because(Role::Buffer, "a stored statistic of BatchNormalization")
                 : because(Role::Constant,
                           "it is used as a shape, an index, a condition or a bound only");
    if (kind != model_.kinds.end() && kind->second == "PARAMETER") return Role::Parameter;

    const std::string_view last = segmentsOf(name).back();
    if (endsWith(last, "running_mean") || endsWith(last, "running_var"))
      return because(Role::Buffer, "its name is that of a stored statistic");
    auto isWeight = [](const NodeDef& node, std::size_t slot) {
      return listed(weightSlots(), node, slot);
    };
    // GroupNorm is written as InstanceNormalization without scale and shift, and its own after it.
    auto isAffineOfInstances = [](const NodeDef& node, std::size_t slot) {
      return node.op == "InstanceNormalization" && listed(affineSlots(), node, slot);
    };
    if (!isStateDictName(model_, name) && any(uses, isAffineOfInstances) && isNeutral(value))
      return because(Role::Constant, "ones or zeros that an exporter wrote for a normalisation");
    // A state of zeros that is spread over the batch, not a weight.
    const bool spreadNumber = value.rank() == 0 && !isStateDictName(model_, name);
    if (any(uses, isWeight) && !spreadNumber) {
      // As a lone factor or term a single number in a Constant belongs to the code.
      if (!constantNode || value.size() > 1) return Role::Parameter;
      return because(Role::Constant, "a single number written in the graph");
    }
    if (constantNode) {
      auto isTerm = [](const NodeDef& node, std::size_t) {
        return arithmetic().count(node.op) > 0;
      };
      if (constantsAreWeights_ && value.size() > 1 && any(uses, isTerm)) return Role::Parameter;
      return because(Role::Constant, "written in the graph, and not in the place of a weight");
    }
    if (value.size() == 1 && !isStateDictName(model_, name))
      return because(Role::Constant, "a single number under a generated name");
    if (isCodeConstant(last))
      return because(Role::Constant, "its name is that of a constant of the code");
    auto isState = [](const NodeDef& node, std::size_t slot) {
      return listed(stateSlots(), node, slot);
    };
    if (any(uses, isState) && !isStateDictName(model_, name))
      return because(Role::Constant, "an initial state under a generated name");
    if (isAdditiveMask(value)) return because(Role::Buffer, "it is a mask: 0 and -infinity only");
    return Role::Parameter;
  }

  // Some exporters store every weight in a Constant node; then terms and factors are weights too.
  void addConstants() {
    constantsAreWeights_ =
        std::none_of(roles_.tensors.begin(), roles_.tensors.end(),
                     [](const StoredTensor& tensor) { return tensor.role == Role::Parameter; });
    for (const NodeDef& node : model_.nodes) {
      if (node.op != "Constant" || !node.domain.empty() || node.out.empty()) continue;
      auto value = node.attributes.find("value");
      if (value == node.attributes.end() || !value->second.tensor) continue;
      judge(node.out[0], value->second.tensor->renamed(node.out[0]), true);
    }
  }

  void warn() {
    std::vector<const StoredTensor*> parameters;
    for (const StoredTensor& tensor : roles_.tensors)
      if (tensor.role == Role::Parameter) parameters.push_back(&tensor);

    // torch.export marks every parameter that it leaves as it is.
    const bool marked = std::any_of(model_.kinds.begin(), model_.kinds.end(),
                                    [](const auto& kind) { return kind.second == "PARAMETER"; });
    std::vector<std::string> merged, renamed, copies, transposes;
    for (const StoredTensor* tensor : parameters) {
      if (merged_.count(tensor->name) > 0) {
        for (const NodeDef& node : model_.nodes)
          if (node.op == "Identity" && !node.out.empty() && node.out[0] == tensor->name)
            merged.push_back(tensor->name + " = " + node.in[0]);
      } else if (tensor->name.find("::") != std::string::npos ||
                 (marked && model_.kinds.count(tensor->name) == 0)) {
        renamed.push_back(tensor->name);
      }
    }
    for (std::size_t i = 0; i < parameters.size(); ++i)
      for (std::size_t j = i + 1; j < parameters.size(); ++j)
        compare(*parameters[i], *parameters[j], copies, transposes);

    if (!merged.empty())
      roles_.warnings.push_back(
          "parameters were stored once, as their values were equal at export, and count as "
          "separate ones: " +
          few(merged) + "; name those that the trained model shares in `ties`");
    for (const StoredTensor* tensor : parameters)
      if (const std::size_t layers = layersOf(tensor->name); layers > 1)
        roles_.warnings.push_back(
            "parameter " + tensor->name + " is the scale, shift or bias of " +
            std::to_string(layers) +
            " layers: exporters merge tensors of equal values, as new models have "
            "them, and then the spectrum counts one tensor where the model has several; export "
            "after training, or with dynamo=True and optimize=False");
    if (!renamed.empty())
      roles_.warnings.push_back(
          "the exporter folded or fused weights into " + few(renamed) +
          ", so spectra are those of the folded model; export with "
          "training=TrainingMode.PRESERVE and do_constant_folding=False, or with dynamo=True and "
          "optimize=False, to keep every parameter");
    if (!copies.empty())
      roles_.warnings.push_back(
          "parameters hold equal numbers and count as separate ones: " + few(copies) +
          "; name those that the trained model shares in `ties`");
    if (!transposes.empty())
      roles_.warnings.push_back(
          "parameters are transposes of each other and count twice: " + few(transposes) +
          "; if the trained model shares them, export it without constant folding");
  }

  // How many layers take a tensor as it is stored for their scale, shift or bias. A layer that runs
  // several times shares its weight as well.
  std::size_t layersOf(const std::string& name) const {
    std::set<const NodeDef*> layers;
    std::set<std::string> weights;
    if (auto found = uses_.find(name); found != uses_.end())
      for (const Use& use : found->second) {
        if (listed(affineSlots(), *use.node, use.slot))
          layers.insert(use.node);
        else if (listed(mergedSlots(), *use.node, use.slot) &&
                 weights.insert(use.node->in[1]).second)
          layers.insert(use.node);
      }
    return layers.size();
  }

  static std::string few(const std::vector<std::string>& names) {
    constexpr std::size_t kShown = 5;
    std::string text;
    for (std::size_t i = 0; i < std::min(names.size(), kShown); ++i)
      text += (i > 0 ? ", " : "") + names[i];
    return names.size() <= kShown
               ? text
               : text + " and " + std::to_string(names.size() - kShown) + " more";
  }

  // A tie that the export broke leaves two tensors of equal numbers.
  void compare(const StoredTensor& a, const StoredTensor& b, std::vector<std::string>& copies,
               std::vector<std::string>& transposes) const {
    const Array& x = a.value;
    const Array& y = b.value;
    if (x.rank() != 2 || y.rank() != 2 || x.type() != y.type() || x.size() < 16 ||
        merged_.count(a.name) > 0 || merged_.count(b.name) > 0)
      return;
    x.check();
    y.check();
    const std::size_t width = bytesOf(x.type());
    const std::size_t rows = static_cast<std::size_t>(x.shape()[0]);
    const std::size_t columns = static_cast<std::size_t>(x.shape()[1]);
    const std::byte* p = x.bytes().data();
    const std::byte* q = y.bytes().data();
    // Equal constants, as fresh models have them, say nothing.
    bool varies = false;
    auto equal = [&](bool transposed) {
      for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t c = 0; c < columns; ++c) {
          const std::byte* here = p + (r * columns + c) * width;
          if (std::memcmp(here, q + (transposed ? c * rows + r : r * columns + c) * width, width))
            return false;
          varies = varies || std::memcmp(here, p, width) != 0;
        }
      return varies;
    };
    const bool same = x.shape() == y.shape() && equal(false);
    const bool transpose =
        !same && x.shape()[0] == y.shape()[1] && x.shape()[1] == y.shape()[0] && equal(true);
    if (same) copies.push_back(b.name + " = " + a.name);
    if (transpose) transposes.push_back(b.name + " = " + a.name);
  }

  const Model& model_;
  const std::set<std::string> promote_;
  std::map<std::string, std::vector<Use>> uses_;
  std::map<std::string, Array> merged_;  // by the lost name
  std::set<std::string> active_, needed_;
  bool constantsAreWeights_ = false;
  Roles roles_;
};

}  // namespace

Roles assignRoles(const Model& model, const std::vector<std::string>& promote) {
  return RoleFinder(model, promote).run();
}

}  // namespace eigenscope::onnx
