#include "onnx/model.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "base/error.h"

namespace eigenscope::onnx {

namespace {

// The initializer behind a name: itself, or what a chain of Identity nodes copies.
const Array* storedBehind(const Model& model, std::string name) {
  for (std::size_t step = 0; step <= model.nodes.size(); ++step) {
    auto found = model.initializers.find(name);
    if (found != model.initializers.end()) return &found->second;
    auto node = std::find_if(model.nodes.begin(), model.nodes.end(), [&](const NodeDef& node) {
      return node.op == "Identity" && node.domain.empty() && !node.in.empty() &&
             !node.out.empty() && node.out[0] == name;
    });
    if (node == model.nodes.end()) return nullptr;
    name = node->in[0];
  }
  return nullptr;
}

bool sameBytes(const Array& a, const Array& b) {
  a.check();
  b.check();
  return a.type() == b.type() && a.shape() == b.shape() && a.bytes().size() == b.bytes().size() &&
         (a.bytes().empty() ||
          std::memcmp(a.bytes().data(), b.bytes().data(), a.bytes().size()) == 0);
}

void eraseIdentity(Model& model, const std::string& output) {
  std::erase_if(model.nodes, [&](const NodeDef& node) {
    return node.op == "Identity" && node.out.size() == 1 && node.out[0] == output;
  });
}

}  // namespace

void keepOutput(Model& model, const std::string& output) {
  auto chosen = std::find_if(model.outputs.begin(), model.outputs.end(),
                             [&](const ValueInfo& value) { return value.name == output; });
  if (chosen == model.outputs.end()) {
    std::string names;
    for (const ValueInfo& value : model.outputs) names += (names.empty() ? "" : ", ") + value.name;
    throw Error(ErrorKind::Option, "output: expected one of the model's outputs (" + names +
                                       "), got \"" + output + "\"");
  }
  model.outputs = {*chosen};
  std::set<std::string> needed{output};
  std::vector<NodeDef> kept;
  for (auto node = model.nodes.rbegin(); node != model.nodes.rend(); ++node) {
    if (std::none_of(node->out.begin(), node->out.end(),
                     [&](const std::string& name) { return needed.count(name) > 0; }))
      continue;
    needed.insert(node->in.begin(), node->in.end());
    kept.push_back(std::move(*node));
  }
  std::reverse(kept.begin(), kept.end());
  model.nodes = std::move(kept);
}

void applyTies(Model& model, const std::vector<std::pair<std::string, std::string>>& ties) {
  auto stored = [&](const std::string& name) -> const Array& {
    const Array* array = storedBehind(model, name);
    if (array == nullptr)
      throw Error(ErrorKind::Option,
                  "ties: \"" + name +
                      "\" is no tensor that the model stores; names are those of "
                      "its parameters");
    return *array;
  };
  for (const auto& [first, second] : ties) {
    const Array a = stored(first);
    const Array b = stored(second);
    for (const ValueInfo& value : model.outputs)
      if (value.name == first || value.name == second)
        throw Error(ErrorKind::Option, "ties: \"" + value.name + "\" is an output of the model");
    if (first == second) continue;
    if (!sameBytes(a, b))
      throw Error(ErrorKind::Option,
                  "ties: expected two tensors of the same type, shape and values, got " +
                      a.renamed(first).describe() + " and " + b.renamed(second).describe() +
                      (a.shape() == b.shape() ? " with other values" : ""));
    if (model.initializers.emplace(first, a.renamed(first)).second) {
      model.initializerOrder.push_back(first);
      eraseIdentity(model, first);
    }
    for (NodeDef& node : model.nodes) std::replace(node.in.begin(), node.in.end(), second, first);
    eraseIdentity(model, second);
    if (model.initializers.erase(second) > 0) std::erase(model.initializerOrder, second);
  }
}

std::vector<Parameter> findParameters(const Roles& roles) {
  std::vector<Parameter> parameters;
  int64_t offset = 0;
  for (const StoredTensor& tensor : roles.tensors) {
    if (tensor.role != Role::Parameter) continue;
    parameters.push_back({tensor.name, tensor.value, offset, tensor.value.size()});
    offset += tensor.value.size();
  }
  return parameters;
}

std::vector<Parameter> findParameters(const Model& model) {
  return findParameters(assignRoles(model));
}

void hoist(Model& model, const std::vector<Parameter>& parameters) {
  std::set<std::string> hoisted;
  for (const Parameter& parameter : parameters) {
    if (!model.initializers.emplace(parameter.name, parameter.value).second) continue;
    model.initializerOrder.push_back(parameter.name);
    hoisted.insert(parameter.name);
  }
  std::erase_if(model.nodes, [&](const NodeDef& node) {
    return (node.op == "Constant" || node.op == "Identity") && node.out.size() == 1 &&
           hoisted.count(node.out[0]) > 0;
  });
}

}  // namespace eigenscope::onnx
