#pragma once

#include <napi.h>

namespace eigenscope::binding {

// The class NativeOperator and what makes one; see lib/native.ts.
void exportOperator(Napi::Env env, Napi::Object exports);

}  // namespace eigenscope::binding
