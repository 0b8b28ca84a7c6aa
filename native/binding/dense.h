#pragma once

#include <napi.h>

namespace eigenscope::binding {

// exports.denseAlgebra(what, options, onProgress): small dense problems on a thread of their own;
// see NativeDense in lib/native.ts.
void exportDense(Napi::Env env, Napi::Object exports);

}  // namespace eigenscope::binding
