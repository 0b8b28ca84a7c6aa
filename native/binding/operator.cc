#include "binding/operator.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "binding/calls.h"
#include "binding/common.h"
#include "binding/job.h"
#include "binding/leaf.h"
#include "binding/problem.h"
#include "spectral/compose.h"

namespace eigenscope::binding {

namespace {

constexpr char kClass[] = "NativeOperator";
constexpr napi_type_tag kOperatorTag = {0x6569676e6f706572, 0x61746f722d3f9c11};

template <class T>
void requireFiniteVectors(const void* data, int64_t dim, int64_t count) {
  const T* values = static_cast<const T*>(data);
  for (int64_t i = 0; i < dim * count; ++i)
    if (!std::isfinite(values[i]))
      throw Error(ErrorKind::DataMismatch, "apply: vector " + std::to_string(i / dim) + " has " +
                                               std::to_string(values[i]) + " at coordinate " +
                                               std::to_string(i % dim) +
                                               "; every number must be finite");
}

class OperatorHandle : public Napi::ObjectWrap<OperatorHandle> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, kClass,
                       {InstanceAccessor<&OperatorHandle::dim>("dim"),
                        InstanceAccessor<&OperatorHandle::dtype>("dtype"),
                        InstanceAccessor<&OperatorHandle::sumsRows>("sumsRows"),
                        InstanceMethod<&OperatorHandle::apply>("apply"),
                        InstanceMethod<&OperatorHandle::call>("call"),
                        InstanceMethod<&OperatorHandle::report>("report"),
                        InstanceMethod<&OperatorHandle::plan>("plan"),
                        InstanceMethod<&OperatorHandle::restrictTensors>("restrictTensors"),
                        InstanceMethod<&OperatorHandle::dispose>("dispose")});
  }

  // Made by C++ only: JavaScript has no External to pass.
  explicit OperatorHandle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<OperatorHandle>(info) {
    guarded(info.Env(), [&] {
      if (info.Length() != 1 || !info[0].IsExternal())
        throw Error(ErrorKind::Option, "NativeOperator is made by hessian and its like");
      info.This().As<Napi::Object>().TypeTag(&kOperatorTag);
      composed_ = *info[0].As<Napi::External<Composed>>().Data();
    });
  }

  void Finalize(Napi::Env) override {
    if (auto function = std::dynamic_pointer_cast<FunctionLeaf>(composed_.op)) function->detach();
    composed_ = {};
  }

  const Composed& get() const {
    if (!composed_.op)
      throw Error(ErrorKind::Option, "the operator was disposed of; make it again to go on");
    return composed_;
  }

 private:
  Napi::Value dim(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      return Napi::Number::New(info.Env(), static_cast<double>(get().op->dim()));
    });
  }

  Napi::Value dtype(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const bool single = get().op->precision() == Precision::F32;
      return Napi::String::New(info.Env(), single ? "float32" : "float64");
    });
  }

  Napi::Value sumsRows(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const auto leaf = std::dynamic_pointer_cast<CurvatureLeaf>(get().op);
      return Napi::Boolean::New(info.Env(), leaf && leaf->sumsRows());
    });
  }

  // A call on this operator: holds it and what it is made of, and tells V8 what it came to hold.
  Call begin(const Napi::CallbackInfo& info) {
    const std::vector<LeafPtr> leaves = get().leaves;
    Call call;
    call.holds.push_back(info.This());
    call.after = [leaves](Napi::Env env) {
      for (const LeafPtr& leaf : leaves) leaf->account(env);
    };
    return call;
  }

  // apply(x, y, count, onProgress): both are Float32Array or Float64Array of count * dim.
  Napi::Value apply(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      Call call = begin(info);
      const OperatorPtr op = get().op;
      const bool single = op->precision() == Precision::F32;
      const napi_typedarray_type type = single ? napi_float32_array : napi_float64_array;
      const View x = viewOf(info[0], "apply: V", type);
      const View y = viewOf(info[1], "apply: the result", type);
      const int64_t count = integerOf(info[2], "apply: count");
      const int64_t dim = op->dim();
      const auto length = static_cast<int64_t>(x.length);
      if (count < 1 || length != count * dim || y.length != x.length)
        throw Error(ErrorKind::Option, "apply: expected vectors of " + std::to_string(dim) +
                                           " numbers, got " + std::to_string(length) + " for " +
                                           std::to_string(count));
      call.holds.push_back(info[0]);
      call.holds.push_back(info[1]);
      auto usage = std::make_shared<Usage>(get().leaves);
      call.work = [=](Task& task) {
        (void)usage;
        if (single)
          requireFiniteVectors<float>(x.data, dim, count);
        else
          requireFiniteVectors<double>(x.data, dim, count);
        op->apply(x.data, y.data, count, task);
        task.check();
      };
      call.result = [](Napi::Env env) -> Napi::Value { return env.Undefined(); };
      return start(info.Env(), std::move(call), info[3]);
    });
  }

  std::vector<std::shared_ptr<CurvatureLeaf>> curvatureLeaves() const {
    std::vector<std::shared_ptr<CurvatureLeaf>> found;
    for (const LeafPtr& leaf : get().leaves)
      if (auto curvature = std::dynamic_pointer_cast<CurvatureLeaf>(leaf))
        found.push_back(std::move(curvature));
    return found;
  }

  // report(): one for each curvature operator in it; compiles those not yet used.
  Napi::Value report(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      Call call = begin(info);
      const auto leaves = curvatureLeaves();
      auto usage = std::make_shared<Usage>(get().leaves);
      auto reports = std::make_shared<std::vector<OperatorReport>>();
      call.work = [=](Task& task) {
        (void)usage;
        for (const auto& leaf : leaves) reports->push_back(leaf->report(task));
      };
      call.result = [reports](Napi::Env env) -> Napi::Value {
        Napi::Array list = Napi::Array::New(env);
        for (uint32_t i = 0; i < reports->size(); ++i) list.Set(i, reportOf(env, (*reports)[i]));
        return list;
      };
      return start(info.Env(), std::move(call), info.Env().Undefined());
    });
  }

  // plan(): the compiled programs, as text.
  Napi::Value plan(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      Call call = begin(info);
      const auto leaves = curvatureLeaves();
      auto usage = std::make_shared<Usage>(get().leaves);
      auto text = std::make_shared<std::string>();
      call.work = [=](Task& task) {
        (void)usage;
        for (const auto& leaf : leaves) *text += leaf->plan(task);
      };
      call.result = [text](Napi::Env env) -> Napi::Value { return Napi::String::New(env, *text); };
      return start(info.Env(), std::move(call), info.Env().Undefined());
    });
  }

  Napi::Value call(const Napi::CallbackInfo& info) { return callOperator(info); }

  Napi::Value restrictTensors(const Napi::CallbackInfo& info);

  void dispose(const Napi::CallbackInfo&) {
    // A leaf ends with its own object; what is composed of it only lets go of its memory.
    if (auto leaf = std::dynamic_pointer_cast<Leaf>(composed_.op))
      leaf->dispose();
    else
      for (const LeafPtr& leaf : composed_.leaves) leaf->release();
    if (auto function = std::dynamic_pointer_cast<FunctionLeaf>(composed_.op)) {
      // Calls under way still ask it; it ends with its object.
      return;
    }
    composed_ = {};
  }

  Composed composed_;
};

OperatorHandle& handleOf(Napi::Value value) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kOperatorTag))
    throw Error(ErrorKind::Option, "expected an operator, got " + describe(value));
  return *OperatorHandle::Unwrap(value.As<Napi::Object>());
}

Napi::Value OperatorHandle::restrictTensors(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto leaf = std::dynamic_pointer_cast<CurvatureLeaf>(get().op);
    if (!leaf) throw Error(ErrorKind::Internal, "restrictTensors: not a curvature operator");
    Napi::Object holder = Napi::Object::New(info.Env());
    holder.Set("tensors", info[0]);
    const LeafPtr part =
        leaf->restricted(info.Env(), Options(holder, "restrict").integers("tensors"));
    return wrapOperator(info.Env(), {part, {part}});
  });
}

// curvatureOperator(model, data, loss, options)
Napi::Value curvatureOperator(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto problem = problemOf(info[0], info[1], info[2], true);
    const LeafPtr leaf =
        std::make_shared<CurvatureLeaf>(info.Env(), problem, operatorOptionsOf(info[3]));
    return wrapOperator(info.Env(), {leaf, {leaf}});
  });
}

// functionOperator(dim, dtype, respond)
Napi::Value functionOperator(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Precision precision =
        stringOf(info[1], "dtype") == "float32" ? Precision::F32 : Precision::F64;
    auto leaf = std::make_shared<FunctionLeaf>(info.Env(), integerOf(info[0], "dim"), precision);
    Napi::Object object = wrapOperator(info.Env(), {leaf, {leaf}});
    object.Set("respond", info[2]);
    leaf->attach(object);
    return object;
  });
}

// An operator that no network is behind, over the parameters of what it is added to.
class Relabelled final : public LinearOperator {
 public:
  Relabelled(OperatorPtr part, std::span<const int64_t> index)
      : part_(std::move(part)), index_(index.begin(), index.end()) {}

  int64_t dim() const override { return part_->dim(); }
  Precision precision() const override { return part_->precision(); }
  std::span<const int64_t> index() const override { return index_; }
  void apply(const void* x, void* y, int64_t count, Task& task) override {
    part_->apply(x, y, count, task);
  }

 private:
  const OperatorPtr part_;
  const std::vector<int64_t> index_;
};

OperatorPtr labelledLike(const Composed& operand, const LinearOperator& other) {
  const auto isCurvature = [](const LeafPtr& leaf) {
    return dynamic_cast<const CurvatureLeaf*>(leaf.get()) != nullptr;
  };
  const bool labelled = !operand.op->index().empty() ||
                        std::any_of(operand.leaves.begin(), operand.leaves.end(), isCurvature);
  if (labelled || operand.op->dim() != other.dim()) return operand.op;
  return std::make_shared<Relabelled>(operand.op, other.index());
}

// sumOperators(a, b): a + b
Napi::Value sumOperators(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Composed& a = handleOf(info[0]).get();
    const Composed& b = handleOf(info[1]).get();
    OperatorPtr sum = addOperators({labelledLike(a, *b.op), labelledLike(b, *a.op)});
    return wrapComposed(info.Env(), std::move(sum), {info[0], info[1]});
  });
}

// scaleOperator(a, factor), shiftOperator(a, amount)
template <auto make>
Napi::Value affineOperator(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const double number = info[1].As<Napi::Number>().DoubleValue();
    return wrapComposed(info.Env(), make(handleOf(info[0]).get().op, number), {info[0]});
  });
}

// lowRankOperator(vectors, weights, dim, dtype): a Float64Array of weights.length * dim, and one of
// weights; copied.
Napi::Value lowRank(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const View vectors = viewOf(info[0], "vectors", napi_float64_array);
    const View weights = viewOf(info[1], "weights", napi_float64_array);
    const auto v = vectors.as<const double>(), w = weights.as<const double>();
    const Precision precision =
        stringOf(info[3], "dtype") == "float32" ? Precision::F32 : Precision::F64;
    return wrapOperator(info.Env(), {lowRankOperator({v.begin(), v.end()}, {w.begin(), w.end()},
                                                     integerOf(info[2], "dim"), precision),
                                     {}});
  });
}

// A Uint8Array of 0 and 1 with an entry for each coordinate.
std::span<const uint8_t> maskOf(Napi::Value value, const LinearOperator& op) {
  const View view = viewOf(value, "mask", napi_uint8_array);
  if (static_cast<int64_t>(view.length) != op.dim())
    throw Error(ErrorKind::Option, "mask: expected " + std::to_string(op.dim()) +
                                       " entries, one a coordinate of the operator, got " +
                                       std::to_string(view.length));
  return view.as<const uint8_t>();
}

// restrictOperator(a, mask): the compressed operator
Napi::Value restricted(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const OperatorPtr op = handleOf(info[0]).get().op;
    OperatorPtr part = restrictOperator(op, coordinatesOf(maskOf(info[1], *op)));
    return wrapComposed(info.Env(), std::move(part), {info[0]});
  });
}

// projectOperator(a, mask): P a P
Napi::Value projected(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const OperatorPtr op = handleOf(info[0]).get().op;
    const auto mask = maskOf(info[1], *op);
    OperatorPtr part = projectOperator(op, {mask.begin(), mask.end()});
    return wrapComposed(info.Env(), std::move(part), {info[0]});
  });
}

}  // namespace

Usage::Usage(const std::vector<LeafPtr>& leaves) {
  try {
    for (const LeafPtr& leaf : leaves) {
      leaf->enterCall();
      leaves_.push_back(leaf);
    }
  } catch (...) {
    leaveAll();
    throw;
  }
}

void Usage::leaveAll() {
  for (const LeafPtr& leaf : leaves_) leaf->leaveCall();
}

const Composed& composedOf(Napi::Value value) { return handleOf(value).get(); }

Napi::Object wrapOperator(Napi::Env env, Composed composed) {
  return instanceOf(env).classes.at(kClass).New({Napi::External<Composed>::New(env, &composed)});
}

Napi::Object wrapComposed(Napi::Env env, OperatorPtr op, std::initializer_list<Napi::Value> parts) {
  Composed composed;
  composed.op = std::move(op);
  Napi::Array kept = Napi::Array::New(env);
  uint32_t i = 0;
  for (Napi::Value part : parts) {
    for (const LeafPtr& leaf : composedOf(part).leaves)
      if (std::find(composed.leaves.begin(), composed.leaves.end(), leaf) == composed.leaves.end())
        composed.leaves.push_back(leaf);
    kept.Set(i++, part);
  }
  Napi::Object object = wrapOperator(env, std::move(composed));
  object.Set("parts", kept);
  return object;
}

void exportOperator(Napi::Env env, Napi::Object exports) {
  instanceOf(env).classes[kClass] = Napi::Persistent(OperatorHandle::define(env));
  const auto add = [&](const char* name, Napi::Value (*f)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, f, name));
  };
  add("curvatureOperator", curvatureOperator);
  add("functionOperator", functionOperator);
  add("sumOperators", sumOperators);
  add("scaleOperator", affineOperator<&scaleOperator>);
  add("shiftOperator", affineOperator<&shiftOperator>);
  add("lowRankOperator", lowRank);
  add("restrictOperator", restricted);
  add("projectOperator", projected);
}

}  // namespace eigenscope::binding
