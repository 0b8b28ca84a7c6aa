#pragma once

#include <napi.h>

#include <memory>

#include "curvature/problem.h"

namespace eigenscope::binding {

// Model, data and loss from their JavaScript values; null data only where `wantTargets` is false
// and the model has no inputs. Throws Error (Option, DataMismatch).
std::shared_ptr<const Problem> problemOf(Napi::Value model, Napi::Value data, Napi::Value loss,
                                         bool wantTargets);

// {precision, threads, batch, maxMemory}
RunOptions runOptionsOf(Napi::Value value);
OperatorOptions operatorOptionsOf(Napi::Value value);

Napi::Object reportOf(Napi::Env env, const OperatorReport& report);

// exports.evaluateRisk, exports.evaluateForward, exports.runtime
void exportProblem(Napi::Env env, Napi::Object exports);

}  // namespace eigenscope::binding
