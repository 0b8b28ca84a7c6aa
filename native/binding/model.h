#pragma once

#include <napi.h>

#include <memory>
#include <string>
#include <vector>

#include "onnx/model.h"

namespace eigenscope::binding {

// A model and what was found out about it once. Immutable, and shared with the operators made
// from it, which may outlive the JavaScript object.
struct LoadedModel {
  std::shared_ptr<const onnx::Model> model;  // the chosen output only
  std::vector<onnx::Parameter> parameters;   // those that are differentiated
  std::vector<onnx::StoredTensor> tensors;
  std::vector<onnx::Unsupported> unsupported;
  std::vector<std::string> warnings;
  int64_t heldBytes = 0;
};

// The model behind a JavaScript value. Throws Error (Option) where there is none or it is disposed.
std::shared_ptr<const LoadedModel> loadedModelOf(Napi::Value value);

// The JavaScript object that holds a model.
Napi::Value wrapModel(Napi::Env env, std::shared_ptr<const LoadedModel> loaded);

// exports.createModel, exports.selectParameters, exports.withParameters, exports.operatorTable; see
// lib/native.ts.
void exportModel(Napi::Env env, Napi::Object exports);

}  // namespace eigenscope::binding
