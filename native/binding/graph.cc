// The network as primitives, for analyses of its structure in TypeScript.
#include "binding/graph.h"

#include <unordered_map>
#include <utility>
#include <vector>

#include "binding/common.h"
#include "binding/model.h"
#include "data/array.h"
#include "ir/graph.h"
#include "onnx/model.h"

namespace eigenscope::binding {

namespace {

// What the graph may depend on by name: parameters, then stored buffers, which are then not folded
// into constants that nobody recognises.
std::vector<onnx::Parameter> leavesOf(const LoadedModel& loaded) {
  std::vector<onnx::Parameter> leaves = loaded.parameters;
  for (const onnx::StoredTensor& tensor : loaded.tensors)
    if (tensor.role == onnx::Role::Buffer)
      leaves.push_back({tensor.name, tensor.value, 0, count(tensor.value.shape())});
  return leaves;
}

std::vector<onnx::InputBinding> bindingsOf(const onnx::Model& model, const Options& shapes) {
  std::vector<onnx::InputBinding> bindings;
  for (const onnx::ValueInfo& input : model.inputs)
    if (shapes.has(input.name.c_str()))
      bindings.push_back({input.name, static_cast<int64_t>(bindings.size()),
                          shapes.integers(input.name.c_str()), onnx::graphType(input.type)});
  return bindings;
}

Napi::Value numbers(Napi::Env env, const std::vector<int64_t>& values) {
  return arrayOf(env, std::span<const int64_t>(values));
}

Napi::Object windowOf(Napi::Env env, const Window& window) {
  auto pair = [&](const int64_t(&values)[2]) { return numbers(env, {values[0], values[1]}); };
  Napi::Object object = Napi::Object::New(env);
  object.Set("kernel", pair(window.kernel));
  object.Set("stride", pair(window.stride));
  object.Set("dilation", pair(window.dilation));
  object.Set("pad", pair(window.pad));
  object.Set("groups", Napi::Number::New(env, static_cast<double>(window.groups)));
  return object;
}

Napi::Object nodeOf(Napi::Env env, const Graph& graph, Id id,
                    const std::unordered_map<Id, int64_t>& places) {
  static constexpr const char* kTypes[] = {"real", "int", "bool"};  // in the order of Type
  const Node& node = graph[id];
  Napi::Object object = Napi::Object::New(env);
  object.Set("op", name(node.op));
  object.Set("type", kTypes[static_cast<std::size_t>(node.type)]);
  object.Set("shape", numbers(env, node.shape));
  std::vector<int64_t> in;
  for (Id each : node.in) in.push_back(places.at(each));
  object.Set("in", numbers(env, in));
  object.Set("ints", numbers(env, node.op == Op::Const ? Shape{} : node.attr.ints));
  object.Set("labels", node.attr.labels);
  object.Set("number", Napi::Number::New(env, node.attr.number));
  if (kindOf(node.op) == Kind::W || node.op == Op::Conv || node.op == Op::ConvInput)
    object.Set("window", windowOf(env, node.attr.window));
  if (node.op == Op::Const) {
    const std::vector<double>& values = *graph.constantOf(id);
    Napi::Float64Array array = Napi::Float64Array::New(env, values.size());
    std::copy(values.begin(), values.end(), array.Data());
    object.Set("values", array);
  }
  return object;
}

Napi::Value lowerModel(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    auto loaded = loadedModelOf(info[0]);
    const std::vector<onnx::Parameter> leaves = leavesOf(*loaded);
    onnx::Model model = *loaded->model;
    onnx::hoist(model, leaves);
    const Options shapes(info[1], "lowerModel");
    Graph graph;
    const onnx::Lowered lowered = onnx::lower(model, leaves, graph, bindingsOf(model, shapes),
                                              model.outputs.at(0).name, false);

    std::vector<Id> ends = {lowered.output};
    if (lowered.logits != kNone) ends.push_back(lowered.logits);
    const std::vector<Id> order = reachable(graph, ends);
    std::unordered_map<Id, int64_t> places;
    Napi::Array nodes = Napi::Array::New(env, order.size());
    for (uint32_t i = 0; i < order.size(); ++i) {
      Napi::HandleScope scope(env);
      places.emplace(order[i], i);
      nodes.Set(i, nodeOf(env, graph, order[i], places));
    }
    Napi::Object result = Napi::Object::New(env);
    result.Set("nodes", nodes);
    std::vector<std::string> names;
    for (const onnx::Parameter& leaf : leaves) names.push_back(leaf.name);
    result.Set("leaves", arrayOf(env, names));
    Napi::Array buffers = Napi::Array::New(env);
    for (std::size_t i = loaded->parameters.size(); i < leaves.size(); ++i) {
      const Array& value = leaves[i].value;
      value.check();
      Napi::Float64Array array =
          Napi::Float64Array::New(env, static_cast<std::size_t>(value.size()));
      convertRows(value, 0, value.rows(), array.Data());
      buffers.Set(buffers.Length(), array);
    }
    result.Set("buffers", buffers);
    auto place = [&](Id id) {
      return Napi::Number::New(env, id == kNone ? -1 : static_cast<double>(places.at(id)));
    };
    result.Set("output", place(lowered.output));
    result.Set("logits", place(lowered.logits));
    result.Set("activation", lowered.activation);
    result.Set("activationAxis",
               Napi::Number::New(env, static_cast<double>(lowered.activationAxis)));
    return result;
  });
}

}  // namespace

void exportGraph(Napi::Env env, Napi::Object exports) {
  exports.Set("lowerModel", Napi::Function::New(env, lowerModel, "lowerModel"));
}

}  // namespace eigenscope::binding
