#include "binding/calls.h"

#include <algorithm>

namespace eigenscope::binding {

namespace {

constexpr CallRow kCalls[] = {
    {"eigsh", eigshCall},
    {"solve", solveCall},
    {"exactSpectrum", exactSpectrumCall},
    {"exactDiagonal", exactDiagonalCall},
    {"gram", gramCall},
    {"rowsShape", rowsShapeCall},
    {"sampleRows", sampleRowsCall},
    {"jacobian", jacobianCall},
    {"risk", riskCall},
    {"outputs", outputsCall},
    {"blockDiagonal", blockDiagonalCall},
    {"classMeans", classMeansCall},
    {"quadrature", quadratureCall},
    {"moments", momentsCall},
    {"functionProduct", functionProductCall},
    {"trace", traceCall},
    {"diagonal", diagonalCall},
    {"evenNorm", evenNormCall},
    {"structuredBlocks", structuredBlocksCall},
    {"structuredEigenvalues", structuredEigenvaluesCall},
    {"structuredDeterminant", structuredDeterminantCall},
    {"structuredParts", structuredPartsCall},
    {"train", trainCall},
};

Napi::Value valueOf(Napi::Env env, const Field& field) {
  struct Visitor {
    Napi::Env env;
    Napi::Value operator()(bool value) const { return Napi::Boolean::New(env, value); }
    Napi::Value operator()(int64_t value) const {
      return Napi::Number::New(env, static_cast<double>(value));
    }
    Napi::Value operator()(double value) const { return Napi::Number::New(env, value); }
    Napi::Value operator()(const std::string& value) const { return Napi::String::New(env, value); }
    Napi::Value operator()(const std::vector<double>& values) const {
      Napi::Float64Array array = Napi::Float64Array::New(env, values.size());
      std::copy(values.begin(), values.end(), array.Data());
      return array;
    }
    Napi::Value operator()(const std::vector<int64_t>& values) const {
      return arrayOf(env, std::span<const int64_t>(values));
    }
    Napi::Value operator()(const std::vector<std::string>& values) const {
      return arrayOf(env, values);
    }
    Napi::Value operator()(const std::vector<Fields>& values) const {
      Napi::Array list = Napi::Array::New(env);
      for (uint32_t i = 0; i < values.size(); ++i) list.Set(i, objectOf(env, values[i]));
      return list;
    }
  };
  return std::visit(Visitor{env}, field);
}

}  // namespace

Napi::Object objectOf(Napi::Env env, const Fields& fields) {
  Napi::Object object = Napi::Object::New(env);
  for (const auto& [name, field] : fields) object.Set(name, valueOf(env, field));
  return object;
}

CallInputs::CallInputs(const char* name, Napi::Value handle, Napi::Value options)
    : options_(options, name), op_(composedOf(handle).op), leaves_(composedOf(handle).leaves) {
  holds_.push_back(handle);
  holds_.push_back(options);
  for (const LeafPtr& leaf : leaves_) threads_ = std::max(threads_, leaf->threads());
}

View CallInputs::viewAs(const char* name, napi_typedarray_type type, int64_t length) {
  const Napi::Value value = options_.get(name);
  const View view = viewOf(value, name, type);
  if (length >= 0 && static_cast<int64_t>(view.length) != length)
    options_.fail(name, std::to_string(length) + " numbers");
  holds_.push_back(value);
  return view;
}

View CallInputs::vectors(const char* name, int64_t length) {
  const bool single = op_->precision() == Precision::F32;
  return viewAs(name, single ? napi_float32_array : napi_float64_array, length);
}

View CallInputs::doubles(const char* name, int64_t length) {
  return viewAs(name, napi_float64_array, length);
}

View CallInputs::bytes(const char* name, int64_t length) {
  return viewAs(name, napi_uint8_array, length);
}

OperatorPtr CallInputs::operand(const char* name) {
  if (!options_.has(name)) return nullptr;
  const Napi::Value value = options_.get(name);
  const Composed& other = composedOf(value);
  for (const LeafPtr& leaf : other.leaves)
    if (std::find(leaves_.begin(), leaves_.end(), leaf) == leaves_.end()) leaves_.push_back(leaf);
  holds_.push_back(value);
  return other.op;
}

Napi::Value callOperator(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::string name = stringOf(info[0], "call");
    const auto* row =
        std::find_if(std::begin(kCalls), std::end(kCalls),
                     [&](const CallRow& candidate) { return name == candidate.name; });
    if (row == std::end(kCalls))
      throw Error(ErrorKind::Internal, "there is no computation called " + name);
    CallInputs inputs(row->name, info.This(), info[1]);
    const Work work = row->prepare(inputs);
    const std::vector<LeafPtr> leaves = inputs.leaves();
    auto usage = std::make_shared<Usage>(leaves);
    auto result = std::make_shared<Fields>();
    Call call;
    call.holds = inputs.holds();
    call.after = [leaves](Napi::Env env) {
      for (const LeafPtr& leaf : leaves) leaf->account(env);
    };
    call.work = [work, usage, result](Task& task) { *result = work(task); };
    call.result = [result](Napi::Env env) -> Napi::Value { return objectOf(env, *result); };
    return start(info.Env(), std::move(call), info[2]);
  });
}

}  // namespace eigenscope::binding
