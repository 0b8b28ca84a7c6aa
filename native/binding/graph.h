#pragma once

#include <napi.h>

namespace eigenscope::binding {

// exports.lowerModel; see lib/native.ts.
void exportGraph(Napi::Env env, Napi::Object exports);

}  // namespace eigenscope::binding
