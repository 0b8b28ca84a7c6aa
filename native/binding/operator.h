#pragma once

#include <napi.h>

#include <initializer_list>
#include <vector>

#include "binding/leaf.h"

namespace eigenscope::binding {

// An operator and the leaves that its products reach.
struct Composed {
  OperatorPtr op;
  std::vector<LeafPtr> leaves;
};

// Registers a call with the leaves for as long as it lives.
class Usage {
 public:
  explicit Usage(const std::vector<LeafPtr>& leaves);
  ~Usage() { leaveAll(); }
  Usage(const Usage&) = delete;
  Usage& operator=(const Usage&) = delete;

 private:
  void leaveAll();
  std::vector<LeafPtr> leaves_;
};

// Of an object of the class NativeOperator; throws Error (Option) for another or a disposed one.
const Composed& composedOf(Napi::Value value);

// Objects of the class NativeOperator. The second keeps the objects of its parts alive, since a
// function is found through its own, and reaches their leaves.
Napi::Object wrapOperator(Napi::Env env, Composed composed);
Napi::Object wrapComposed(Napi::Env env, OperatorPtr op, std::initializer_list<Napi::Value> parts);

// The class NativeOperator and what makes one; see lib/native.ts.
void exportOperator(Napi::Env env, Napi::Object exports);

}  // namespace eigenscope::binding
