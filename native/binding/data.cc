#include "binding/data.h"

#include <utility>
#include <vector>

#include "binding/common.h"
#include "binding/job.h"

namespace eigenscope::binding {

namespace {

constexpr char kClass[] = "NativeData";
constexpr napi_type_tag kDataTag = {0x6569676e64617461, 0x2d736574a1c04e75};

struct Loaded {
  std::shared_ptr<const DataSet> data;
  int64_t held = 0;  // bytes of copied arrays, inflated files and tables
};

// The JavaScript object of a data set.
class DataHandle : public Napi::ObjectWrap<DataHandle> {
 public:
  explicit DataHandle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<DataHandle>(info) {
    guarded(info.Env(), [&] {
      if (info.Length() != 1 || !info[0].IsExternal())
        throw Error(ErrorKind::Option, "NativeData is made by loadData");
      info.This().As<Napi::Object>().TypeTag(&kDataTag);
      loaded_ = *info[0].As<Napi::External<Loaded>>().Data();
      Napi::MemoryManagement::AdjustExternalMemory(info.Env(), loaded_.held);
    });
  }

  void Finalize(Napi::Env env) override { drop(env); }

  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, kClass,
                       {InstanceAccessor<&DataHandle::arrays>("arrays"),
                        InstanceAccessor<&DataHandle::samples>("samples"),
                        InstanceAccessor<&DataHandle::description>("description"),
                        InstanceMethod<&DataHandle::read>("read"),
                        InstanceMethod<&DataHandle::dispose>("dispose")});
  }

  std::shared_ptr<const DataSet> get() const {
    if (!loaded_.data)
      throw Error(ErrorKind::Option, "the data set was disposed of; load it again to go on");
    return loaded_.data;
  }

 private:
  void drop(Napi::Env env) {
    if (!loaded_.data) return;
    Napi::MemoryManagement::AdjustExternalMemory(env, -loaded_.held);
    loaded_ = {};
  }

  Napi::Value arrays(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      Napi::Env env = info.Env();
      Napi::Array list = Napi::Array::New(env);
      uint32_t i = 0;
      for (const Array& array : get()->arrays()) {
        Napi::Object entry = Napi::Object::New(env);
        entry.Set("name", array.name());
        entry.Set("type", nameOf(array.type()));
        entry.Set("shape", arrayOf(env, array.shape()));
        entry.Set("source", array.source());
        list.Set(i++, entry);
      }
      return list;
    });
  }

  Napi::Value samples(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      return Napi::Number::New(info.Env(), static_cast<double>(get()->samples()));
    });
  }

  Napi::Value description(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      return Napi::String::New(info.Env(), get()->describe());
    });
  }

  // read(name, values): the array's numbers into a Float32Array or Float64Array.
  Napi::Value read(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const std::string name = stringOf(info[0], "name");
      const auto data = get();
      const Array* found = data->find(name);
      if (found == nullptr)
        throw Error(ErrorKind::DataMismatch, "no array " + name + " in " + data->describe());
      const View view = viewOf(info[1], "values");
      const bool single = view.type == napi_float32_array;
      if ((!single && view.type != napi_float64_array) ||
          static_cast<int64_t>(view.length) != found->size())
        throw Error(ErrorKind::Option, "values: expected a Float32Array or Float64Array of " +
                                           std::to_string(found->size()) + " numbers");
      Call call;
      call.holds = {info.This(), info[1]};
      call.work = [array = *found, view, single](Task&) {
        array.check();
        if (single)
          convertRows(array, 0, array.rows(), static_cast<float*>(view.data));
        else
          convertRows(array, 0, array.rows(), static_cast<double*>(view.data));
      };
      call.result = [](Napi::Env env) -> Napi::Value { return env.Undefined(); };
      return start(info.Env(), std::move(call), info.Env().Undefined());
    });
  }

  void dispose(const Napi::CallbackInfo& info) { drop(info.Env()); }

  Loaded loaded_;
};

// An array of the caller: {name, type, shape, data}.
struct GivenArray {
  std::string name;
  ElementType type;
  Shape shape;
  View view;
};

GivenArray givenArray(Napi::Value value) {
  Options given(value, "data");
  GivenArray array;
  array.name = given.requiredString("name");
  const std::string type = given.requiredString("type");
  const auto known = elementTypeOf(type);
  if (!known) throw Error(ErrorKind::Option, array.name + ": no element type " + type);
  array.type = *known;
  array.shape = given.integers("shape");
  array.view = viewOf(given.get("data"), array.name);
  const auto elements = elementsOf(array.shape);
  if (!elements || static_cast<std::size_t>(*elements) * bytesOf(array.type) != array.view.bytes)
    throw Error(
        ErrorKind::DataMismatch,
        array.name + ": shape " + textOf(array.shape) + " of " + type + " needs " +
            (elements ? std::to_string(static_cast<std::size_t>(*elements) * bytesOf(array.type))
                      : std::string("an impossible number of")) +
            " bytes, the array has " + std::to_string(array.view.bytes));
  return array;
}

Normalize normalizeOf(const Options& given) {
  Normalize normalize;
  normalize.scale = given.number("scale", 1);
  if (given.has("mean")) normalize.mean = given.numbers("mean");
  if (given.has("std")) normalize.std = given.numbers("std");
  return normalize;
}

DataOptions dataOptions(Napi::Value value) {
  Options given(value, "loadData");
  DataOptions options;
  options.target = given.string("target", options.target);
  options.select = given.strings("select");
  options.first = given.integer("first", options.first);
  options.last = given.integer("last", options.last);
  options.read.targets = given.strings("targetColumns");
  if (given.has("header")) options.read.header = given.boolean("header", true);
  options.read.whole = given.boolean("whole", false);
  if (given.has("normalize")) {
    Napi::Array rows = given.get("normalize").As<Napi::Array>();
    for (uint32_t i = 0; i < rows.Length(); ++i) {
      Options row(rows.Get(i), "normalize");
      options.normalize.emplace_back(row.string("name", ""), normalizeOf(row));
    }
  }
  return options;
}

// openData([{name, path}], [{name, type, shape, data}], options): opening maps and inflates files,
// so it runs on a thread. Arrays at hand are copied, as their buffers may be transferred later.
Napi::Value openData(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    std::vector<DataSource> sources;
    Napi::Array files = info[0].As<Napi::Array>();
    for (uint32_t i = 0; i < files.Length(); ++i) {
      Options file(files.Get(i), "data");
      sources.push_back({file.string("name", ""), file.requiredString("path")});
    }
    Call call;
    std::vector<GivenArray> given;
    Napi::Array arrays = info[1].As<Napi::Array>();
    for (uint32_t i = 0; i < arrays.Length(); ++i) {
      given.push_back(givenArray(arrays.Get(i)));
      call.holds.push_back(arrays.Get(i));
    }
    DataOptions options = dataOptions(info[2]);

    auto made = std::make_shared<Loaded>();
    call.work = [=](Task& task) {
      std::vector<Array> copies;
      for (const GivenArray& array : given) {
        task.check();
        copies.emplace_back(array.name, array.type, array.shape,
                            copyBytes(array.name, array.view.data, array.view.bytes));
      }
      made->data =
          std::make_shared<const DataSet>(DataSet::open(sources, std::move(copies), options));
      made->held = made->data->heldBytes();
    };
    call.result = [made](Napi::Env env) -> Napi::Value {
      return instanceOf(env).classes.at(kClass).New({Napi::External<Loaded>::New(env, made.get())});
    };
    return start(env, std::move(call), env.Undefined());
  });
}

}  // namespace

void exportData(Napi::Env env, Napi::Object exports) {
  instanceOf(env).classes[kClass] = Napi::Persistent(DataHandle::define(env));
  exports.Set("openData", Napi::Function::New(env, openData, "openData"));
}

std::shared_ptr<const DataSet> dataOf(Napi::Value value) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kDataTag))
    throw Error(ErrorKind::Option, "data: expected a data set of loadData, got " + describe(value));
  return DataHandle::Unwrap(value.As<Napi::Object>())->get();
}

}  // namespace eigenscope::binding
