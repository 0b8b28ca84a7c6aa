#include "binding/problem.h"

#include <cstring>
#include <utility>

#include "binding/common.h"
#include "binding/data.h"
#include "binding/job.h"
#include "binding/model.h"
#include "data/data_set.h"
#include "run/onednn.h"

extern "C" {
char* openblas_get_config();
char* openblas_get_corename();
}

namespace eigenscope::binding {

namespace {

struct KindRow {
  const char* name;
  OperatorKind kind;
};
constexpr KindRow kKinds[] = {
    {"hessian", OperatorKind::Hessian},       {"ggn", OperatorKind::Ggn},
    {"functional", OperatorKind::Functional}, {"fisher-type2", OperatorKind::FisherType2},
    {"fisher-mc", OperatorKind::FisherMc},    {"fisher-empirical", OperatorKind::FisherEmpirical},
};

LossOptions lossOf(Napi::Value value) {
  Options given(value, "loss");
  LossOptions loss;
  loss.name = given.string("name", loss.name);
  loss.mean = given.string("reduction", "mean") == "mean";
  loss.labelSmoothing = given.number("labelSmoothing", loss.labelSmoothing);
  loss.ignoreIndex = given.integer("ignoreIndex", loss.ignoreIndex);
  loss.classWeights = given.numbers("classWeights");
  loss.posWeight = given.numbers("posWeight");
  loss.delta = given.number("delta", loss.delta);
  if (given.has("classAxis")) loss.classAxis = given.integer("classAxis", 1);
  return loss;
}

void readRunOptions(const Options& given, RunOptions& options) {
  const std::string precision = given.string("precision", "float32");
  if (precision != "float32" && precision != "float64")
    given.fail("precision", "\"float32\" or \"float64\"");
  options.precision = precision == "float64" ? Precision::F64 : Precision::F32;
  options.threads = static_cast<int>(given.integer("threads", 0));
  options.batch = given.integer("batch", 0);
  options.maxMemory = given.integer("maxMemory", 0);
  options.keepLinearisation = given.boolean("keepLinearisation", true);
}

// evaluateRisk(model, data, loss, options, gradient or undefined, onProgress): the gradient is
// written into a Float64Array of all parameters. options.direction, a Float64Array of all
// parameters, and options.step move the parameters first.
Napi::Value evaluateRiskCall(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    auto problem = problemOf(info[0], info[1], info[2], true);
    const RunOptions options = runOptionsOf(info[3]);
    const bool wantGradient = info[4].IsTypedArray();
    Call call;
    View gradient{}, direction{};
    Options given(info[3], "options");
    const double step = given.number("step", 0);
    if (given.has("direction")) {
      direction = viewOf(given.get("direction"), "direction", napi_float64_array);
      call.holds.push_back(given.get("direction"));
      std::size_t size = 0;
      for (const onnx::Parameter& parameter : problem->parameters)
        size += static_cast<std::size_t>(parameter.size);
      if (direction.length != size)
        throw Error(ErrorKind::Option, "direction: expected " + std::to_string(size) +
                                           " numbers, got " + std::to_string(direction.length));
    }
    if (wantGradient) {
      gradient = viewOf(info[4], "gradient", napi_float64_array);
      call.holds.push_back(info[4]);
    }
    auto risk = std::make_shared<Risk>();
    call.work = [=](Task& task) {
      *risk = RiskEvaluator(problem, options, wantGradient)
                  .at(static_cast<const double*>(direction.data), step, task);
      if (!wantGradient) return;
      if (risk->gradient.size() != gradient.length)
        throw Error(ErrorKind::Internal,
                    "the gradient has " + std::to_string(risk->gradient.size()) +
                        " numbers, room is for " + std::to_string(gradient.length));
      std::memcpy(gradient.data, risk->gradient.data(), gradient.bytes);
    };
    call.result = [risk](Napi::Env env) -> Napi::Value {
      Napi::Object result = Napi::Object::New(env);
      result.Set("loss", risk->loss);
      result.Set("gradientNorm", risk->gradientNorm);
      result.Set("report", reportOf(env, risk->report));
      return result;
    };
    return start(env, std::move(call), info[5]);
  });
}

// evaluateForward(model, data, options, samples, onProgress)
Napi::Value evaluateForwardCall(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    auto problem = problemOf(info[0], info[1], env.Undefined(), false);
    const RunOptions options = runOptionsOf(info[2]);
    const int64_t samples =
        info[3].IsUndefined() ? problem->samples : integerOf(info[3], "samples");
    if (samples < 1 || samples > problem->samples)
      throw Error(ErrorKind::Option, "samples: expected 1 to " + std::to_string(problem->samples) +
                                         ", got " + std::to_string(samples));
    auto forward = std::make_shared<Forward>();
    Call call;
    call.work = [=](Task& task) { *forward = evaluateForward(*problem, options, samples, task); };
    call.result = [forward](Napi::Env env) -> Napi::Value {
      Napi::Float64Array values = Napi::Float64Array::New(env, forward->values.size());
      std::memcpy(values.Data(), forward->values.data(), forward->values.size() * sizeof(double));
      Napi::Object result = Napi::Object::New(env);
      result.Set("values", values);
      result.Set("shape", arrayOf(env, std::span<const int64_t>(forward->shape)));
      return result;
    };
    return start(env, std::move(call), info[4]);
  });
}

template <class T, class JsArray>
Napi::Value rowsOf(Napi::Env env, const Array& array, int64_t count) {
  JsArray out = JsArray::New(env, static_cast<std::size_t>(count * array.rowSize()));
  array.check();
  convertRows(array, 0, count, reinterpret_cast<T*>(out.Data()));
  return out;
}

// inputRows(model, data, samples): [{name, type, shape, values}], the first rows of each input as
// the model declares it: what another engine is fed with.
Napi::Value inputRows(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const auto loaded = loadedModelOf(info[0]);
    const auto problem = problemOf(info[0], info[1], env.Undefined(), false);
    const int64_t count = integerOf(info[2], "samples");
    if (count < 1 || count > problem->samples)
      throw Error(ErrorKind::Option, "samples: expected 1 to " + std::to_string(problem->samples) +
                                         ", got " + std::to_string(count));
    Napi::Array list = Napi::Array::New(env);
    for (const onnx::ValueInfo& input : loaded->model->inputs) {
      const Array& array = problem->inputs.at(input.name);
      Shape shape = array.shape();
      shape[0] = count;
      Napi::Object row = Napi::Object::New(env);
      row.Set("name", input.name);
      row.Set("type", nameOf(input.type));
      row.Set("shape", arrayOf(env, std::span<const int64_t>(shape)));
      Napi::Value values;
      if (input.type == ElementType::F32)
        values = rowsOf<float, Napi::Float32Array>(env, array, count);
      else if (isFloating(input.type))
        values = rowsOf<double, Napi::Float64Array>(env, array, count);
      else if (input.type == ElementType::I64)
        values = rowsOf<int64_t, Napi::BigInt64Array>(env, array, count);
      else if (input.type == ElementType::Bool)
        values = rowsOf<uint8_t, Napi::Uint8Array>(env, array, count);
      else
        values = rowsOf<int32_t, Napi::Int32Array>(env, array, count);
      row.Set("values", values);
      list.Set(list.Length(), row);
    }
    return list;
  });
}

// runtime(): the libraries below.
Napi::Value runtime(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    Napi::Object result = Napi::Object::New(env);
    result.Set("version", EIGENSCOPE_VERSION);
    result.Set("compiler", __VERSION__);
    result.Set("blas", openblas_get_config());
    result.Set("blasCore", openblas_get_corename());
    result.Set("onednn", onednn::available() ? onednn::version() : std::string());
    result.Set("onednnRefusal", onednn::refusal());
    return result;
  });
}

}  // namespace

std::shared_ptr<const Problem> problemOf(Napi::Value model, Napi::Value data, Napi::Value loss,
                                         bool wantTargets) {
  const auto loaded = loadedModelOf(model);
  auto problem = std::make_shared<Problem>();
  problem->model = loaded->model;
  problem->parameters = loaded->parameters;
  problem->loss = lossOf(loss);

  std::vector<InputSpec> specs;
  for (const onnx::ValueInfo& input : loaded->model->inputs)
    specs.push_back({input.name, input.type, input.dims, !input.dims.empty()});
  BoundData bound = bindInputs(*dataOf(data), specs, wantTargets && problem->loss.name != "output");
  for (std::size_t i = 0; i < specs.size(); ++i)
    problem->inputs.emplace(specs[i].name, std::move(bound.inputs[i]));
  problem->targets = std::move(bound.target);
  problem->samples = bound.samples;
  return problem;
}

RunOptions runOptionsOf(Napi::Value value) {
  RunOptions options;
  readRunOptions(Options(value, "options"), options);
  return options;
}

OperatorOptions operatorOptionsOf(Napi::Value value) {
  Options given(value, "options");
  OperatorOptions options;
  readRunOptions(given, options);
  const std::string name = given.requiredString("kind");
  bool known = false;
  for (const KindRow& row : kKinds)
    if (name == row.name) options.kind = row.kind, known = true;
  if (!known) given.fail("kind", "the name of an operator");
  options.tensors = given.integers("tensors");
  options.draws = given.integer("draws", options.draws);
  options.seed = given.natural("seed", options.seed);
  return options;
}

Napi::Object reportOf(Napi::Env env, const OperatorReport& report) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("split", report.split);
  result.Set("batch", static_cast<double>(report.batch));
  result.Set("microBatches", static_cast<double>(report.microBatches));
  result.Set("cachedMicroBatches", static_cast<double>(report.cachedMicroBatches));
  result.Set("peakBytes", static_cast<double>(report.peakBytes));
  result.Set("threads", report.threads);
  result.Set("warnings", arrayOf(env, report.warnings));
  return result;
}

void exportProblem(Napi::Env env, Napi::Object exports) {
  exports.Set("evaluateRisk", Napi::Function::New(env, evaluateRiskCall, "evaluateRisk"));
  exports.Set("evaluateForward", Napi::Function::New(env, evaluateForwardCall, "evaluateForward"));
  exports.Set("inputRows", Napi::Function::New(env, inputRows, "inputRows"));
  exports.Set("runtime", Napi::Function::New(env, runtime, "runtime"));
}

}  // namespace eigenscope::binding
