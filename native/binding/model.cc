#include "binding/model.h"

#include <map>
#include <optional>
#include <utility>

#include "binding/common.h"
#include "data/array.h"
#include "data/storage.h"
#include "onnx/modes.h"
#include "onnx/table.h"

namespace eigenscope::binding {

namespace {

constexpr napi_type_tag kModelTag = {0x6569676e6d6f6465, 0x6c2d74616700b1f3};

// A tensor description, copied or mapped. Files are mapped once.
class TensorReader {
 public:
  explicit TensorReader(std::string source) : source_(std::move(source)) {}

  Array read(const std::string& name, Napi::Value value) {
    Options tensor(value, source_ + ": tensor " + name);
    const std::optional<ElementType> type = elementTypeOf(tensor.requiredString("type"));
    if (!type) tensor.fail("type", "an element type");
    Shape shape = tensor.integers("dims");
    Bytes bytes = bytesOf(name, tensor.get("data"));
    const std::optional<int64_t> elements = elementsOf(shape);
    if (!elements || static_cast<std::size_t>(*elements) > SIZE_MAX / 8 ||
        static_cast<std::size_t>(*elements) * eigenscope::bytesOf(*type) != bytes.size())
      throw Error(ErrorKind::ModelFormat, source_ + ": tensor " + name + ": " + nameOf(*type) +
                                              " " + textOf(shape) + " does not fit its " +
                                              std::to_string(bytes.size()) + " bytes");
    return Array(name, *type, std::move(shape), std::move(bytes));
  }

  int64_t copied() const { return copied_; }

 private:
  Bytes bytesOf(const std::string& name, Napi::Value data) {
    if (data.IsTypedArray()) {
      const View view = viewOf(data, source_ + ": tensor " + name, napi_uint8_array);
      copied_ += static_cast<int64_t>(view.bytes);
      return copyBytes(source_, view.data, view.bytes);
    }
    Options range(data, source_ + ": tensor " + name);
    const std::string path = range.requiredString("path");
    const uint64_t offset = range.natural("offset", 0);
    const uint64_t length = range.natural("length", 0);
    auto known = files_.find(path);
    if (known == files_.end()) known = files_.emplace(path, map(name, path)).first;
    const Bytes& file = known->second;
    if (offset > file.size() || length > file.size() - offset)
      throw Error(ErrorKind::ModelFormat,
                  source_ + ": tensor " + name + ": expected bytes " + std::to_string(offset) +
                      " to " + std::to_string(offset + length) + " of " + path + ", which has " +
                      std::to_string(file.size()) + "; copy the whole file again");
    return file.sub(offset, length);
  }

  Bytes map(const std::string& name, const std::string& path) {
    try {
      return mapFile(path);
    } catch (const Error& error) {
      throw Error(ErrorKind::ModelFormat, source_ + ": tensor " + name + ": " + error.what());
    }
  }

  std::string source_;
  std::map<std::string, Bytes> files_;
  int64_t copied_ = 0;
};

// Calls f(element, index) for an array of descriptions.
template <class F>
void forEach(const Options& owner, const char* name, F f) {
  Napi::Value value = owner.get(name);
  if (!value.IsArray()) owner.fail(name, "an array");
  Napi::Array array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); ++i) {
    Napi::HandleScope scope(array.Env());
    f(array.Get(i), i);
  }
}

onnx::ValueInfo valueOf(Napi::Value value, const std::string& source) {
  Options description(value, source + ": a value");
  const std::string name = description.requiredString("name");
  const std::optional<ElementType> type = elementTypeOf(description.requiredString("type"));
  if (!type) description.fail("type", "an element type");
  return {name, *type, description.integers("dims"), description.strings("dimNames"),
          !description.has("dims")};
}

onnx::NodeDef nodeOf(Napi::Value value, TensorReader& reader, const std::string& source) {
  Options description(value, source + ": a node");
  onnx::NodeDef node;
  node.op = description.requiredString("op");
  node.domain = description.string("domain", "");
  node.name = description.string("name", "");
  node.in = description.strings("inputs");
  node.out = description.strings("outputs");
  if (description.has("guards"))
    forEach(description, "guards", [&](Napi::Value each, uint32_t) {
      Options guard(each, source + ": a guard of node " + node.name);
      node.guards.push_back({guard.requiredString("condition"), guard.boolean("when", false)});
    });
  Napi::Value attributes = description.get("attributes");
  if (!attributes.IsObject()) description.fail("attributes", "an object");
  Napi::Object object = attributes.As<Napi::Object>();
  Napi::Array names = object.GetPropertyNames();
  for (uint32_t i = 0; i < names.Length(); ++i) {
    const std::string name = names.Get(i).ToString().Utf8Value();
    Options fields(object.Get(name), source + ": attribute " + name + " of node " + node.name);
    onnx::Attribute attribute;
    attribute.ints = fields.integers("ints");
    attribute.floats = fields.numbers("floats");
    attribute.strings = fields.strings("strings");
    if (fields.has("tensor"))
      attribute.tensor =
          reader.read(node.out.empty() ? node.name : node.out[0], fields.get("tensor"));
    node.attributes.emplace(name, std::move(attribute));
  }
  return node;
}

onnx::Model modelOf(const Options& description, TensorReader& reader, const std::string& source) {
  onnx::Model model;
  model.opset = description.integer("opset", 0);
  forEach(description, "nodes", [&](Napi::Value value, uint32_t) {
    model.nodes.push_back(nodeOf(value, reader, source));
  });
  forEach(description, "initializers", [&](Napi::Value value, uint32_t) {
    Options initializer(value, source + ": an initializer");
    const std::string name = initializer.requiredString("name");
    if (model.initializers.emplace(name, reader.read(name, initializer.get("tensor"))).second)
      model.initializerOrder.push_back(name);
  });
  forEach(description, "inputs",
          [&](Napi::Value value, uint32_t) { model.inputs.push_back(valueOf(value, source)); });
  forEach(description, "outputs",
          [&](Napi::Value value, uint32_t) { model.outputs.push_back(valueOf(value, source)); });
  if (description.has("fills"))
    forEach(description, "fills", [&](Napi::Value value, uint32_t) {
      const onnx::ValueInfo info = valueOf(value, source);
      const double number = Options(value, source + ": a value").number("number", 0);
      model.fills.emplace(info.name, onnx::Model::Fill{info, number});
    });
  if (description.has("kinds")) {
    Napi::Object kinds = description.get("kinds").As<Napi::Object>();
    Napi::Array names = kinds.GetPropertyNames();
    for (uint32_t i = 0; i < names.Length(); ++i) {
      const std::string name = names.Get(i).ToString().Utf8Value();
      model.kinds.emplace(name, stringOf(kinds.Get(name), source + ": kind of " + name));
    }
  }
  return model;
}

std::vector<std::pair<std::string, std::string>> tiesOf(const Options& options) {
  std::vector<std::pair<std::string, std::string>> ties;
  if (!options.has("ties")) return ties;
  forEach(options, "ties", [&](Napi::Value value, uint32_t) {
    if (!value.IsArray() || value.As<Napi::Array>().Length() != 2)
      options.fail("ties", "an array of pairs of names");
    Napi::Array pair = value.As<Napi::Array>();
    ties.emplace_back(stringOf(pair.Get(0u), "ties"), stringOf(pair.Get(1u), "ties"));
  });
  return ties;
}

// {batchNorm: "running" | "batch", statisticsBatch, dropoutSeed}, none of them required.
onnx::Modes modesOf(const Options& options) {
  using Statistics = onnx::Modes::Statistics;
  onnx::Modes modes;
  const std::string batchNorm = options.string("batchNorm", "");
  if (batchNorm == "running") modes.batchNorm = Statistics::Running;
  if (batchNorm == "batch") modes.batchNorm = Statistics::Batch;
  modes.batch = options.integer("statisticsBatch", 0);
  if (options.has("dropoutSeed")) modes.dropout = options.natural("dropoutSeed", 0);
  return modes;
}

std::shared_ptr<const LoadedModel> load(Napi::Value value, Napi::Value optionsValue) {
  Options description(value, "model");
  Options options(optionsValue, "model");
  const std::string source = description.string("source", "model");
  TensorReader reader(source);
  auto model = std::make_shared<onnx::Model>(modelOf(description, reader, source));
  const onnx::Modes modes = modesOf(options);
  onnx::applyModes(*model, modes);
  onnx::keepOutput(*model, options.requiredString("output"));
  onnx::applyTies(*model, tiesOf(options));
  onnx::Roles roles = onnx::assignRoles(*model, options.strings("promote"));

  auto loaded = std::make_shared<LoadedModel>();
  loaded->parameters = onnx::findParameters(roles);
  loaded->tensors = std::move(roles.tensors);
  loaded->warnings = std::move(roles.warnings);
  if (modes.batchNorm == onnx::Modes::Statistics::Batch && !onnx::usesBatchStatistics(*model))
    loaded->warnings.emplace_back(
        "batchNorm: the output needs no BatchNormalization, so the option changes nothing; "
        "exporters "
        "fold it into the layer before unless told not to: training=TrainingMode.PRESERVE and "
        "do_constant_folding=False, or dynamo=True and optimize=False");
  if (modes.dropout && !onnx::usesDropout(*model))
    loaded->warnings.emplace_back(
        "dropout: the output needs no Dropout, so the option changes nothing; exporters leave it "
        "out of models in eval mode");
  // All that is stored: a merged statistic, too, is no alias of the parameter that it equals.
  std::vector<onnx::Parameter> stored;
  for (const onnx::StoredTensor& tensor : loaded->tensors)
    stored.push_back({tensor.name, tensor.value, 0, tensor.value.size()});
  onnx::hoist(*model, stored);
  loaded->unsupported = onnx::findUnsupported(*model);
  loaded->model = std::move(model);
  loaded->heldBytes = reader.copied();
  return loaded;
}

Napi::Array shapeOf(Napi::Env env, const Shape& shape) {
  return arrayOf(env, std::span<const int64_t>(shape));
}

class ModelWrap : public Napi::ObjectWrap<ModelWrap> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "NativeModel",
                       {InstanceAccessor<&ModelWrap::parameters>("parameters"),
                        InstanceAccessor<&ModelWrap::tensors>("tensors"),
                        InstanceAccessor<&ModelWrap::unsupported>("unsupported"),
                        InstanceAccessor<&ModelWrap::warnings>("warnings"),
                        InstanceAccessor<&ModelWrap::heldBytes>("heldBytes"),
                        InstanceMethod<&ModelWrap::values>("values"),
                        InstanceMethod<&ModelWrap::dispose>("dispose")});
  }

  // Made by C++ only: JavaScript has no External to pass.
  explicit ModelWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ModelWrap>(info) {
    guarded(info.Env(), [&] {
      if (info.Length() != 1 || !info[0].IsExternal())
        throw Error(ErrorKind::Option, "NativeModel is made by loadModel");
      info.This().As<Napi::Object>().TypeTag(&kModelTag);
      loaded_ = *info[0].As<Napi::External<std::shared_ptr<const LoadedModel>>>().Data();
      Napi::MemoryManagement::AdjustExternalMemory(info.Env(), loaded_->heldBytes);
    });
  }

  void Finalize(Napi::Env env) override { release(env); }

  std::shared_ptr<const LoadedModel> loaded() const {
    if (!loaded_)
      throw Error(ErrorKind::Option, "the model was disposed; load it again to go on using it");
    return loaded_;
  }

 private:
  void release(Napi::Env env) {
    if (!loaded_) return;
    Napi::MemoryManagement::AdjustExternalMemory(env, -loaded_->heldBytes);
    loaded_.reset();
  }

  Napi::Value parameters(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      auto model = loaded();
      Napi::Array array = Napi::Array::New(env, model->parameters.size());
      for (uint32_t i = 0; i < model->parameters.size(); ++i) {
        const onnx::Parameter& parameter = model->parameters[i];
        Napi::Object object = Napi::Object::New(env);
        object.Set("name", parameter.name);
        object.Set("shape", shapeOf(env, parameter.value.shape()));
        object.Set("offset", Napi::Number::New(env, static_cast<double>(parameter.offset)));
        object.Set("size", Napi::Number::New(env, static_cast<double>(parameter.size)));
        array.Set(i, object);
      }
      return array;
    });
  }

  Napi::Value tensors(const Napi::CallbackInfo& info) {
    // In the order of Role.
    static constexpr const char* kRoles[] = {"parameter", "buffer", "constant", "unused"};
    Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      auto model = loaded();
      Napi::Array array = Napi::Array::New(env, model->tensors.size());
      for (uint32_t i = 0; i < model->tensors.size(); ++i) {
        const onnx::StoredTensor& tensor = model->tensors[i];
        Napi::Object object = Napi::Object::New(env);
        object.Set("name", tensor.name);
        object.Set("shape", shapeOf(env, tensor.value.shape()));
        object.Set("role", kRoles[static_cast<std::size_t>(tensor.role)]);
        object.Set("reason", tensor.reason);
        array.Set(i, object);
      }
      return array;
    });
  }

  Napi::Value unsupported(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      auto model = loaded();
      Napi::Array array = Napi::Array::New(env, model->unsupported.size());
      for (uint32_t i = 0; i < model->unsupported.size(); ++i) {
        Napi::Object object = Napi::Object::New(env);
        object.Set("op", model->unsupported[i].op);
        object.Set("node", model->unsupported[i].node);
        object.Set("reason", model->unsupported[i].reason);
        array.Set(i, object);
      }
      return array;
    });
  }

  Napi::Value warnings(const Napi::CallbackInfo& info) {
    return guarded(info.Env(),
                   [&]() -> Napi::Value { return arrayOf(info.Env(), loaded()->warnings); });
  }

  Napi::Value heldBytes(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), loaded_ ? static_cast<double>(loaded_->heldBytes) : 0.0);
  }

  Napi::Value values(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      auto model = loaded();
      const int64_t index = integerOf(info[0], "index");
      if (index < 0 || index >= static_cast<int64_t>(model->parameters.size()))
        throw Error(ErrorKind::Option,
                    "index: expected the position of a parameter, got " + std::to_string(index));
      const Array& value = model->parameters[static_cast<std::size_t>(index)].value;
      value.check();
      Napi::Float64Array out = Napi::Float64Array::New(env, static_cast<std::size_t>(value.size()));
      convertRows(value, 0, value.rows(), out.Data());
      return out;
    });
  }

  Napi::Value dispose(const Napi::CallbackInfo& info) {
    release(info.Env());
    return info.Env().Undefined();
  }

  std::shared_ptr<const LoadedModel> loaded_;
};

Napi::Value createModel(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return wrapModel(info.Env(), load(info[0], info[1])); });
}

Napi::Value selectParameters(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    Napi::Object holder = Napi::Object::New(info.Env());
    holder.Set("positions", info[1]);
    auto whole = loadedModelOf(info[0]);
    auto part = std::make_shared<LoadedModel>(*whole);
    part->parameters.clear();
    int64_t offset = 0;
    for (int64_t position : Options(holder, "selectParameters").integers("positions")) {
      if (position < 0 || position >= static_cast<int64_t>(whole->parameters.size()))
        throw Error(ErrorKind::Option, "positions: no parameter " + std::to_string(position));
      onnx::Parameter parameter = whole->parameters[static_cast<std::size_t>(position)];
      parameter.offset = offset;
      offset += parameter.size;
      part->parameters.push_back(std::move(parameter));
    }
    return wrapModel(info.Env(), std::move(part));
  });
}

// withParameters(model, values): the same graph, and the tensors that are no parameters, with the
// numbers of a Float64Array for all parameters in their order.
Napi::Value withParameters(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    auto from = loadedModelOf(info[0]);
    const View values = viewOf(info[1], "parameters", napi_float64_array);
    std::size_t total = 0;
    for (const onnx::Parameter& parameter : from->parameters)
      total += static_cast<std::size_t>(parameter.size);
    if (values.length != total)
      throw Error(ErrorKind::Option, "parameters: expected " + std::to_string(total) +
                                         " numbers, got " + std::to_string(values.length));
    auto model = std::make_shared<onnx::Model>(*from->model);
    auto moved = std::make_shared<LoadedModel>(*from);
    moved->heldBytes = static_cast<int64_t>(values.bytes);
    const double* next = static_cast<const double*>(values.data);
    for (onnx::Parameter& parameter : moved->parameters) {
      const std::size_t size = static_cast<std::size_t>(parameter.size);
      parameter.value = Array(parameter.name, ElementType::F64, parameter.value.shape(),
                              copyBytes(parameter.value.source(), next, size * sizeof(double)));
      model->initializers.insert_or_assign(parameter.name, parameter.value);
      for (onnx::StoredTensor& tensor : moved->tensors)
        if (tensor.name == parameter.name) tensor.value = parameter.value;
      next += size;
    }
    moved->model = std::move(model);
    return wrapModel(info.Env(), std::move(moved));
  });
}

// operatorTable(): the operators that models may have.
Napi::Value operatorTable(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    Napi::Array table = Napi::Array::New(env);
    for (const onnx::Operator& row : onnx::operators()) {
      Napi::Object object = Napi::Object::New(env);
      object.Set("op", row.fullName());
      object.Set("since", row.since);
      object.Set("until", row.until);
      object.Set("derivative", onnx::nameOf(row.grade));
      object.Set("limits", std::string(row.limits));
      table.Set(table.Length(), object);
    }
    return table;
  });
}

}  // namespace

Napi::Value wrapModel(Napi::Env env, std::shared_ptr<const LoadedModel> loaded) {
  return instanceOf(env)
      .classes.at("NativeModel")
      .New({Napi::External<std::shared_ptr<const LoadedModel>>::New(env, &loaded)});
}

std::shared_ptr<const LoadedModel> loadedModelOf(Napi::Value value) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kModelTag))
    throw Error(ErrorKind::Option, "model: expected a model of loadModel, got " + describe(value));
  return ModelWrap::Unwrap(value.As<Napi::Object>())->loaded();
}

void exportModel(Napi::Env env, Napi::Object exports) {
  instanceOf(env).classes["NativeModel"] = Napi::Persistent(ModelWrap::define(env));
  exports.Set("createModel", Napi::Function::New(env, createModel, "createModel"));
  exports.Set("selectParameters", Napi::Function::New(env, selectParameters, "selectParameters"));
  exports.Set("withParameters", Napi::Function::New(env, withParameters, "withParameters"));
  exports.Set("operatorTable", Napi::Function::New(env, operatorTable, "operatorTable"));
}

}  // namespace eigenscope::binding
