#include "binding/common.h"

#include <cmath>
#include <new>

namespace eigenscope::binding {

namespace {

struct KindRow {
  ErrorKind kind;
  const char* name;
};

// In the order of ErrorKind.
constexpr KindRow kKinds[kErrorKinds] = {
    {ErrorKind::Internal, "Internal"},
    {ErrorKind::Option, "Option"},
    {ErrorKind::ModelFormat, "ModelFormat"},
    {ErrorKind::UnsupportedOperator, "UnsupportedOperator"},
    {ErrorKind::DataMismatch, "DataMismatch"},
    {ErrorKind::MemoryBudget, "MemoryBudget"},
    {ErrorKind::NotConverged, "NotConverged"},
    {ErrorKind::Abort, "Abort"},
};

// Numbers of JavaScript hold integers exactly up to here.
constexpr double kSafeInteger = 9007199254740991.0;

Napi::Value setErrorClasses(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    if (info.Length() < 1 || !info[0].IsObject())
      throw Error(ErrorKind::Internal, "setErrorClasses: expected an object of classes");
    Napi::Object classes = info[0].As<Napi::Object>();
    Instance& instance = instanceOf(info.Env());
    for (const KindRow& row : kKinds) {
      Napi::Value value = classes.Get(row.name);
      if (!value.IsFunction())
        throw Error(ErrorKind::Internal, std::string("setErrorClasses: no class for ") + row.name);
      instance.errorClasses[static_cast<std::size_t>(row.kind)] =
          Napi::Persistent(value.As<Napi::Function>());
    }
    return info.Env().Undefined();
  });
}

[[noreturn]] void failValue(const std::string& name, const std::string& expected,
                            Napi::Value came) {
  throw Error(ErrorKind::Option, name + ": expected " + expected + ", got " + describe(came));
}

// The elements of an array or typed array, each handed to `take` with its index.
template <class F>
void forEach(Napi::Value value, const std::string& name, const char* expected, F take) {
  if (!value.IsArray() && !value.IsTypedArray()) failValue(name, expected, value);
  Napi::Object array = value.As<Napi::Object>();
  const uint32_t length = value.IsArray()
                              ? value.As<Napi::Array>().Length()
                              : static_cast<uint32_t>(value.As<Napi::TypedArray>().ElementLength());
  for (uint32_t i = 0; i < length; ++i) {
    Napi::HandleScope scope(value.Env());
    take(array.Get(i), name + "[" + std::to_string(i) + "]");
  }
}

}  // namespace

const char* nameOf(ErrorKind kind) { return kKinds[static_cast<std::size_t>(kind)].name; }

Instance& instanceOf(Napi::Env env) {
  auto* instance = env.GetInstanceData<Instance>();
  if (instance == nullptr) {
    instance = new Instance();
    env.SetInstanceData(instance);
  }
  return *instance;
}

void exportCommon(Napi::Env env, Napi::Object exports) {
  exports.Set("setErrorClasses", Napi::Function::New(env, setErrorClasses, "setErrorClasses"));
}

Napi::Error errorOf(Napi::Env env, ErrorKind kind, const std::string& message) {
  Napi::FunctionReference& errorClass =
      instanceOf(env).errorClasses[static_cast<std::size_t>(kind)];
  Napi::Error error = errorClass.IsEmpty()
                          ? Napi::Error::New(env, message)
                          : Napi::Error(env, errorClass.New({Napi::String::New(env, message)}));
  error.Set("kind", Napi::String::New(env, nameOf(kind)));
  return error;
}

Napi::Error errorOf(Napi::Env env, std::exception_ptr error) {
  try {
    std::rethrow_exception(error);
  } catch (const Napi::Error& known) {
    return known;
  } catch (const Error& known) {
    return errorOf(env, known.kind, known.what());
  } catch (const std::bad_alloc&) {
    return errorOf(env, ErrorKind::MemoryBudget, "the machine has no memory left for this call");
  } catch (const std::exception& unknown) {
    return errorOf(env, ErrorKind::Internal, unknown.what());
  } catch (...) {
    return errorOf(env, ErrorKind::Internal, "an exception of an unknown type");
  }
}

View viewOf(Napi::Value value, const std::string& name) {
  if (!value.IsTypedArray()) failValue(name, "a typed array", value);
  Napi::TypedArray array = value.As<Napi::TypedArray>();
  Napi::ArrayBuffer buffer = array.ArrayBuffer();
  if (!buffer.IsArrayBuffer())
    throw Error(ErrorKind::Option,
                name + ": shared buffers are not read, as they may change meanwhile; pass a copy");
  if (buffer.IsDetached())
    throw Error(ErrorKind::Option, name + ": its buffer was transferred and holds nothing now");
  Napi::Value resizable = buffer.Get("resizable");
  if (resizable.IsBoolean() && resizable.As<Napi::Boolean>().Value())
    throw Error(ErrorKind::Option, name + ": resizable buffers are not read; pass a copy");
  return {array.TypedArrayType(), static_cast<char*>(buffer.Data()) + array.ByteOffset(),
          array.ElementLength(), array.ByteLength()};
}

View viewOf(Napi::Value value, const std::string& name, napi_typedarray_type type) {
  // In the order of napi_typedarray_type.
  static constexpr const char* kNames[] = {
      "an Int8Array",   "a Uint8Array",    "a Uint8ClampedArray", "an Int16Array",
      "a Uint16Array",  "an Int32Array",   "a Uint32Array",       "a Float32Array",
      "a Float64Array", "a BigInt64Array", "a BigUint64Array"};
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type)
    failValue(name, kNames[type], value);
  return viewOf(value, name);
}

Options::Options(Napi::Value object, std::string where)
    : object_(object.IsObject() ? object.As<Napi::Object>() : Napi::Object()),
      where_(std::move(where)) {
  empty_ = object.IsEmpty() || object.IsUndefined() || object.IsNull();
  if (!empty_ && !object.IsObject())
    throw Error(ErrorKind::Option,
                where_ + ": expected an object of options, got " + describe(object));
}

Napi::Value Options::get(const char* name) const {
  return empty_ ? Napi::Value() : object_.Get(name);
}

bool Options::has(const char* name) const {
  Napi::Value value = get(name);
  return !value.IsEmpty() && !value.IsUndefined() && !value.IsNull();
}

void Options::fail(const char* name, const std::string& expected) const {
  failValue(where_ + ": " + name, expected, get(name));
}

double Options::number(const char* name, double fallback) const {
  if (!has(name)) return fallback;
  Napi::Value value = get(name);
  if (!value.IsNumber()) fail(name, "a number");
  return value.As<Napi::Number>().DoubleValue();
}

int64_t Options::integer(const char* name, int64_t fallback) const {
  return has(name) ? integerOf(get(name), where_ + ": " + name) : fallback;
}

uint64_t Options::natural(const char* name, uint64_t fallback) const {
  if (!has(name)) return fallback;
  Napi::Value value = get(name);
  if (value.IsBigInt()) {
    bool lossless = false;
    const uint64_t number = value.As<Napi::BigInt>().Uint64Value(&lossless);
    if (!lossless) fail(name, "a whole number from 0 to 2^64 - 1");
    return number;
  }
  const int64_t number = integerOf(value, where_ + ": " + name);
  if (number < 0) fail(name, "a whole number of at least 0");
  return static_cast<uint64_t>(number);
}

bool Options::boolean(const char* name, bool fallback) const {
  if (!has(name)) return fallback;
  if (!get(name).IsBoolean()) fail(name, "true or false");
  return get(name).As<Napi::Boolean>().Value();
}

std::string Options::string(const char* name, const std::string& fallback) const {
  return has(name) ? stringOf(get(name), where_ + ": " + name) : fallback;
}

std::string Options::requiredString(const char* name) const {
  if (!has(name)) fail(name, "a string");
  return string(name, "");
}

std::vector<double> Options::numbers(const char* name) const {
  std::vector<double> values;
  if (!has(name)) return values;
  forEach(get(name), where_ + ": " + name, "an array of numbers",
          [&](Napi::Value value, const std::string& at) {
            if (!value.IsNumber()) failValue(at, "a number", value);
            values.push_back(value.As<Napi::Number>().DoubleValue());
          });
  return values;
}

std::vector<int64_t> Options::integers(const char* name) const {
  std::vector<int64_t> values;
  if (!has(name)) return values;
  forEach(
      get(name), where_ + ": " + name, "an array of whole numbers",
      [&](Napi::Value value, const std::string& at) { values.push_back(integerOf(value, at)); });
  return values;
}

std::vector<std::string> Options::strings(const char* name) const {
  std::vector<std::string> values;
  if (!has(name)) return values;
  forEach(get(name), where_ + ": " + name, "an array of strings",
          [&](Napi::Value value, const std::string& at) { values.push_back(stringOf(value, at)); });
  return values;
}

std::string describe(Napi::Value value) {
  if (value.IsEmpty() || value.IsUndefined()) return "undefined";
  if (value.IsNull()) return "null";
  if (value.IsNumber() || value.IsBoolean() || value.IsBigInt())
    return value.ToString().Utf8Value();
  if (value.IsString()) {
    std::string text = value.As<Napi::String>().Utf8Value();
    return "\"" + (text.size() > 60 ? text.substr(0, 60) + "..." : text) + "\"";
  }
  if (value.IsFunction()) return "a function";
  if (value.IsArray())
    return "an array of length " + std::to_string(value.As<Napi::Array>().Length());
  if (value.IsObject()) {
    Napi::Value constructor = value.As<Napi::Object>().Get("constructor");
    if (constructor.IsFunction())
      return "an object of class " +
             constructor.As<Napi::Object>().Get("name").ToString().Utf8Value();
    return "an object";
  }
  return "a symbol";
}

std::string stringOf(Napi::Value value, const std::string& name) {
  if (!value.IsString()) failValue(name, "a string", value);
  return value.As<Napi::String>().Utf8Value();
}

int64_t integerOf(Napi::Value value, const std::string& name) {
  if (value.IsBigInt()) {
    bool lossless = false;
    const int64_t number = value.As<Napi::BigInt>().Int64Value(&lossless);
    if (!lossless) failValue(name, "a whole number of 64 bits", value);
    return number;
  }
  if (!value.IsNumber()) failValue(name, "a whole number", value);
  const double number = value.As<Napi::Number>().DoubleValue();
  if (std::floor(number) != number || std::abs(number) > kSafeInteger)
    failValue(name, "a whole number", value);
  return static_cast<int64_t>(number);
}

Napi::Array arrayOf(Napi::Env env, const std::vector<std::string>& values) {
  Napi::Array array = Napi::Array::New(env, values.size());
  for (uint32_t i = 0; i < values.size(); ++i) array.Set(i, Napi::String::New(env, values[i]));
  return array;
}

Napi::Array arrayOf(Napi::Env env, std::span<const int64_t> values) {
  Napi::Array array = Napi::Array::New(env, values.size());
  for (uint32_t i = 0; i < values.size(); ++i)
    array.Set(i, Napi::Number::New(env, static_cast<double>(values[i])));
  return array;
}

}  // namespace eigenscope::binding
