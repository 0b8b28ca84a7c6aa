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
}

// evaluateRisk(model, data, loss, options, gradient or undefined, onProgress): the gradient is
// written into a Float64Array of all parameters.
Napi::Value evaluateRiskCall(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    auto problem = problemOf(info[0], info[1], info[2], true);
    const RunOptions options = runOptionsOf(info[3]);
    const bool wantGradient = info[4].IsTypedArray();
    Call call;
    View gradient{};
    if (wantGradient) {
      gradient = viewOf(info[4], "gradient", napi_float64_array);
      call.holds.push_back(info[4]);
    }
    auto risk = std::make_shared<Risk>();
    call.work = [=](Task& task) {
      *risk = evaluateRisk(*problem, options, wantGradient, task);
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
  exports.Set("runtime", Napi::Function::New(env, runtime, "runtime"));
}

}  // namespace eigenscope::binding
