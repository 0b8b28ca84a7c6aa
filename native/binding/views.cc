// Other views of a loaded model: with other tensors as parameters, or up to another of its values.
#include "binding/views.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "binding/common.h"
#include "binding/model.h"
#include "onnx/model.h"

namespace eigenscope::binding {

namespace {

std::vector<std::string> namesOf(Napi::Value value) {
  Napi::Object holder = Napi::Object::New(value.Env());
  holder.Set("names", value);
  return Options(holder, "chooseTensors").strings("names");
}

// chooseTensors(model, names): the same network with these stored tensors as its parameters, in the
// order given, whatever their roles; the others are constants.
Napi::Value chooseTensors(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    auto from = loadedModelOf(info[0]);
    auto chosen = std::make_shared<LoadedModel>(*from);
    chosen->parameters.clear();
    int64_t offset = 0;
    for (const std::string& name : namesOf(info[1])) {
      auto tensor = std::find_if(from->tensors.begin(), from->tensors.end(),
                                 [&](const onnx::StoredTensor& each) { return each.name == name; });
      if (tensor == from->tensors.end() || tensor->role == onnx::Role::Unused)
        throw Error(ErrorKind::Option, "names: expected tensors that the model stores and its " +
                                           std::string("output depends on, got \"") + name + "\"");
      const int64_t size = tensor->value.size();
      chosen->parameters.push_back({name, tensor->value, offset, size});
      offset += size;
    }
    auto model = std::make_shared<onnx::Model>(*from->model);
    onnx::hoist(*model, chosen->parameters);
    chosen->model = std::move(model);
    return wrapModel(info.Env(), std::move(chosen));
  });
}

// chooseOutput(model, name): the network up to the value of that name.
Napi::Value chooseOutput(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    auto from = loadedModelOf(info[0]);
    const std::string name = stringOf(info[1], "output");
    auto model = std::make_shared<onnx::Model>(*from->model);
    const bool made =
        std::any_of(model->nodes.begin(), model->nodes.end(), [&](const onnx::NodeDef& node) {
          return std::find(node.out.begin(), node.out.end(), name) != node.out.end();
        });
    if (!made)
      throw Error(
          ErrorKind::Option,
          "output: expected a value that a node of the network makes, got \"" + name + "\"");
    model->outputs.clear();
    onnx::ValueInfo value;
    value.name = name;
    value.type = ElementType::F32;
    value.anyRank = true;
    model->outputs.push_back(std::move(value));
    onnx::keepOutput(*model, name);
    auto chosen = std::make_shared<LoadedModel>(*from);
    chosen->unsupported = onnx::findUnsupported(*model);
    chosen->model = std::move(model);
    return wrapModel(info.Env(), std::move(chosen));
  });
}

// describeNodes(model): the nodes that the output needs, in topological order.
Napi::Value describeNodes(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    auto loaded = loadedModelOf(info[0]);
    Napi::Array nodes = Napi::Array::New(env, loaded->model->nodes.size());
    for (uint32_t i = 0; i < loaded->model->nodes.size(); ++i) {
      Napi::HandleScope scope(env);
      const onnx::NodeDef& node = loaded->model->nodes[i];
      Napi::Object object = Napi::Object::New(env);
      object.Set("op", onnx::qualified(node.domain, node.op));
      object.Set("inputs", arrayOf(env, node.in));
      object.Set("outputs", arrayOf(env, node.out));
      nodes.Set(i, object);
    }
    return nodes;
  });
}

}  // namespace

void exportViews(Napi::Env env, Napi::Object exports) {
  exports.Set("chooseTensors", Napi::Function::New(env, chooseTensors, "chooseTensors"));
  exports.Set("chooseOutput", Napi::Function::New(env, chooseOutput, "chooseOutput"));
  exports.Set("describeNodes", Napi::Function::New(env, describeNodes, "describeNodes"));
}

}  // namespace eigenscope::binding
