#include <napi.h>

#include "binding/common.h"
#include "binding/model.h"

// Each file of this folder adds its functions and classes to the addon.
static Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  using namespace eigenscope::binding;
  exportCommon(env, exports);
  exportModel(env, exports);
  return exports;
}

NODE_API_MODULE(eigenscope, initialise)
