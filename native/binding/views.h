#pragma once

#include <napi.h>

namespace eigenscope::binding {

// exports.chooseTensors, exports.chooseOutput, exports.describeNodes; see lib/native.ts.
void exportViews(Napi::Env env, Napi::Object exports);

}  // namespace eigenscope::binding
