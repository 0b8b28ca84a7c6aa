#pragma once

#include <napi.h>

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "binding/common.h"
#include "binding/job.h"
#include "binding/operator.h"

namespace eigenscope::binding {

// What a call gives to JavaScript: named values, in order. Numbers become numbers, vectors of
// double Float64Arrays, other vectors arrays.
struct Fields;
using Field = std::variant<bool, int64_t, double, std::string, std::vector<double>,
                           std::vector<int64_t>, std::vector<std::string>, std::vector<Fields>>;
struct Fields : std::vector<std::pair<std::string, Field>> {
  using std::vector<std::pair<std::string, Field>>::vector;
  void add(std::string name, Field value) { emplace_back(std::move(name), std::move(value)); }
};
Napi::Object objectOf(Napi::Env env, const Fields& fields);

// What a call was given, read on the JavaScript thread. Everything asked for here lives until the
// call is done.
class CallInputs {
 public:
  CallInputs(const char* name, Napi::Value handle, Napi::Value options);

  const Options& options() const { return options_; }
  const OperatorPtr& op() const { return op_; }
  // That its products run on; for the work on vectors.
  int threads() const { return threads_; }

  // A property that is a typed array of the operator's precision, and of float64; throws Error
  // (Option) where it is another type, or has not `length` entries (a negative length: any).
  View vectors(const char* name, int64_t length = -1);
  View doubles(const char* name, int64_t length = -1);
  View bytes(const char* name, int64_t length = -1);  // a Uint8Array
  // A property that is another operator; null where it is absent.
  OperatorPtr operand(const char* name);

  const std::vector<LeafPtr>& leaves() const { return leaves_; }
  const std::vector<Napi::Value>& holds() const { return holds_; }

 private:
  View viewAs(const char* name, napi_typedarray_type type, int64_t length);
  Options options_;
  OperatorPtr op_;
  std::vector<LeafPtr> leaves_;
  std::vector<Napi::Value> holds_;
  int threads_ = 1;
};

// The part that runs on a thread of its own.
using Work = std::function<Fields(Task&)>;

// A computation on an operator: reads its options, refuses what does not fit, and gives the work.
struct CallRow {
  const char* name;
  Work (*prepare)(CallInputs& inputs);
};

// NativeOperator.call(name, options, onProgress), by the table in calls.cc.
Napi::Value callOperator(const Napi::CallbackInfo& info);

// Names of an option's values.
struct NameRow {
  const char* name;
  int value;
};

template <class T, std::size_t N>
T oneOf(const Options& given, const char* key, const NameRow (&rows)[N], const char* fallback) {
  const std::string name = given.string(key, fallback);
  std::string names;
  for (const NameRow& row : rows) {
    if (name == row.name) return static_cast<T>(row.value);
    names += std::string(names.empty() ? "\"" : ", \"") + row.name + "\"";
  }
  given.fail(key, "one of " + names);
}

// Rows of the table, a file a family.
Work eigshCall(CallInputs& inputs);
Work solveCall(CallInputs& inputs);
Work exactSpectrumCall(CallInputs& inputs);
Work exactDiagonalCall(CallInputs& inputs);
Work gramCall(CallInputs& inputs);
Work rowsShapeCall(CallInputs& inputs);
Work sampleRowsCall(CallInputs& inputs);
Work jacobianCall(CallInputs& inputs);
Work riskCall(CallInputs& inputs);
Work outputsCall(CallInputs& inputs);
Work blockDiagonalCall(CallInputs& inputs);
Work classMeansCall(CallInputs& inputs);
Work quadratureCall(CallInputs& inputs);
Work momentsCall(CallInputs& inputs);
Work functionProductCall(CallInputs& inputs);
Work traceCall(CallInputs& inputs);
Work diagonalCall(CallInputs& inputs);
Work evenNormCall(CallInputs& inputs);
Work structuredBlocksCall(CallInputs& inputs);
Work structuredEigenvaluesCall(CallInputs& inputs);
Work structuredDeterminantCall(CallInputs& inputs);
Work structuredPartsCall(CallInputs& inputs);
Work trainCall(CallInputs& inputs);

// inverseOperator, beside the call "solve"; see lib/native.ts.
void exportSolve(Napi::Env env, Napi::Object exports);

}  // namespace eigenscope::binding
