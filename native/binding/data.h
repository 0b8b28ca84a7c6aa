#pragma once

#include <napi.h>

#include <memory>

#include "data/data_set.h"

namespace eigenscope::binding {

// exports.openData(sources, arrays, options) -> {promise of a NativeData, cancel}.
void exportData(Napi::Env env, Napi::Object exports);

// The data set behind a NativeData. Throws Error (Option) for anything else, or once disposed of.
std::shared_ptr<const DataSet> dataOf(Napi::Value value);

}  // namespace eigenscope::binding
