#include <napi.h>

#include "binding/calls.h"
#include "binding/common.h"
#include "binding/data.h"
#include "binding/dense.h"
#include "binding/graph.h"
#include "binding/mailbox.h"
#include "binding/model.h"
#include "binding/operator.h"
#include "binding/problem.h"
#include "binding/structured.h"
#include "binding/views.h"
#include "linalg/blas.h"

// Each file of this folder adds its functions and classes to the addon.
static Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  using namespace eigenscope::binding;
  keepLoaded();
  eigenscope::useSingleThreadedBlas();
  exportCommon(env, exports);
  exportModel(env, exports);
  exportGraph(env, exports);
  exportViews(env, exports);
  exportData(env, exports);
  exportDense(env, exports);
  exportProblem(env, exports);
  exportOperator(env, exports);
  exportSolve(env, exports);
  exportStructured(env, exports);
  exports.Set("stopBeforeExit",
              Napi::Function::New(
                  env, [](const Napi::CallbackInfo&) { stopBeforeExit(); }, "stopBeforeExit"));
  return exports;
}

NODE_API_MODULE(eigenscope, initialise)
