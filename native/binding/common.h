#pragma once

#include <napi.h>

#include <array>
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/error.h"

namespace eigenscope::binding {

class Mailbox;

inline constexpr std::size_t kErrorKinds = 8;

// "ModelFormat" and so on: the key under which lib/native.ts registers the error class.
const char* nameOf(ErrorKind kind);

// What belongs to one Node environment, the main thread or a worker. Nothing in it is shared, and
// no reference to a JavaScript value lives anywhere else.
struct Instance {
  std::array<Napi::FunctionReference, kErrorKinds> errorClasses;
  std::map<std::string, Napi::FunctionReference> classes;  // constructors of wrapped objects
  std::shared_ptr<Mailbox> mailbox;                        // the way back from other threads
};
Instance& instanceOf(Napi::Env env);

// exports.setErrorClasses({ModelFormat: class, ...}); called once when the addon is loaded.
void exportCommon(Napi::Env env, Napi::Object exports);

// A JavaScript error of the class registered for the kind, with `kind` as a property. Only on the
// JavaScript thread. Anything that is no eigenscope::Error becomes Internal, and a failed
// allocation MemoryBudget.
Napi::Error errorOf(Napi::Env env, ErrorKind kind, const std::string& message);
Napi::Error errorOf(Napi::Env env, std::exception_ptr error);

// Runs f and turns C++ exceptions into JavaScript ones. The body of every function that JavaScript
// calls is wrapped in it: an exception that passed through Node's C frames would end the process.
template <class F>
auto guarded(Napi::Env env, F&& f) -> std::invoke_result_t<F> {
  try {
    return std::forward<F>(f)();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw errorOf(env, std::current_exception());
  }
}

// Memory of a typed array. It stays valid while JavaScript holds the array and does not transfer
// its buffer: for use after the call returns, keep a Napi::Reference and view it again.
struct View {
  napi_typedarray_type type;
  void* data;
  std::size_t length;  // elements
  std::size_t bytes;

  template <class T>
  std::span<T> as() const {
    return {static_cast<T*>(data), length};
  }
};

// Throws Error (Option) naming `name` unless the value is a typed array on a buffer of its own
// thread that cannot move: detached, resizable and shared buffers are refused.
View viewOf(Napi::Value value, const std::string& name);
View viewOf(Napi::Value value, const std::string& name, napi_typedarray_type type);

// The properties of an object, by type. An absent, undefined or null property gives the fallback;
// one of another type throws Error (Option) naming it, with what was expected and what came.
class Options {
 public:
  // `where` stands before the name in messages: "eigsh" gives "eigsh: k: ...".
  Options(Napi::Value object, std::string where);

  bool has(const char* name) const;
  Napi::Value get(const char* name) const;  // undefined where there is none

  double number(const char* name, double fallback) const;
  int64_t integer(const char* name, int64_t fallback) const;  // a whole number or a bigint
  uint64_t natural(const char* name, uint64_t fallback) const;
  bool boolean(const char* name, bool fallback) const;
  std::string string(const char* name, const std::string& fallback) const;
  std::string requiredString(const char* name) const;
  std::vector<double> numbers(const char* name) const;    // an array or typed array; absent: empty
  std::vector<int64_t> integers(const char* name) const;  // the same, of numbers or bigints
  std::vector<std::string> strings(const char* name) const;

  [[noreturn]] void fail(const char* name, const std::string& expected) const;

 private:
  Napi::Object object_;
  bool empty_ = false;
  std::string where_;
};

// "a string", "a Float32Array", "undefined": a value as messages show it.
std::string describe(Napi::Value value);

std::string stringOf(Napi::Value value, const std::string& name);
int64_t integerOf(Napi::Value value, const std::string& name);

Napi::Array arrayOf(Napi::Env env, const std::vector<std::string>& values);
Napi::Array arrayOf(Napi::Env env, std::span<const int64_t> values);  // as numbers

}  // namespace eigenscope::binding
