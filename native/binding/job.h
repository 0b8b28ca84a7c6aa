#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/task.h"
#include "binding/mailbox.h"

namespace eigenscope::binding {

// An error that JavaScript threw inside a call of ours; it comes out again as the same object.
class ScriptError : public Error {
 public:
  ScriptError(HeldPtr value, const std::string& message)
      : Error(ErrorKind::Option, message), value(std::move(value)) {}
  const HeldPtr value;
};

// A long call: `work` runs on a thread of its own, never on Node's thread pool, then `result` on
// the JavaScript thread. `holds` are kept alive until the thread is done, which may be after the
// caller has given up.
struct Call {
  std::function<void(Task&)> work;
  std::function<Napi::Value(Napi::Env)> result;
  std::function<void(Napi::Env)> after;  // in any case, before the promise settles; may be empty
  std::vector<Napi::Value> holds;
};

// Starts it and returns {promise, cancel}. The promise settles when the thread is done; `cancel()`
// only tells the thread to stop at its next boundary and no longer keeps Node alive for it.
// `onProgress` (a function or undefined) is called with {products, residual, fraction}, at most ten
// times a second.
Napi::Object start(Napi::Env env, Call call, Napi::Value onProgress);

}  // namespace eigenscope::binding
