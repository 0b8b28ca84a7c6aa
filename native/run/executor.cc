#include "run/executor.h"

#include <algorithm>
#include <memory>
#include <numeric>

#include "base/error.h"
#include "run/draw.h"
#include "run/fused.h"
#include "run/kernels/conv.h"
#include "run/kernels/dot.h"
#include "run/kernels/movement.h"
#include "run/kernels/reduce.h"
#include "run/kernels/window.h"

namespace eigenscope {

namespace {

int64_t product(const Shape& shape, size_t from, size_t to) {
  return std::accumulate(shape.begin() + static_cast<int64_t>(from),
                         shape.begin() + static_cast<int64_t>(to), int64_t{1}, std::multiplies<>());
}

std::vector<int64_t> half(const std::vector<int64_t>& ints, bool second) {
  size_t n = ints.size() / 2;
  return {ints.begin() + static_cast<int64_t>(second ? n : 0),
          ints.begin() + static_cast<int64_t>(second ? 2 * n : n)};
}

// Calls `run` with the element type of a movement.
template <class T, class F>
void withType(Type type, F run) {
  switch (type) {
    case Type::Real: return run(static_cast<T*>(nullptr));
    case Type::Int: return run(static_cast<int32_t*>(nullptr));
    case Type::Bool: return run(static_cast<uint8_t*>(nullptr));
  }
}

ConvShape convShape(const Shape& x, const Shape& w, const Shape& y, const Window& window) {
  auto back = [](const Shape& s, size_t i) { return s[s.size() - 1 - i]; };
  return {back(x, 3), back(x, 2), back(x, 1), back(x, 0),
          back(y, 2), back(y, 1), back(w, 3), window};
}

WindowShape windowShape(const Shape& x, const Shape& y, const Window& window) {
  const size_t r = x.size();
  return {product(x, 0, r - 3), x[r - 3], x[r - 2], x[r - 1], y[r - 3], y[r - 2], window};
}

}  // namespace

Executor::Executor(const Program& program, const Graph& graph) {
  for (int s = 0; s < kStages; ++s)
    for (const Step& step : program.stages[s])
      stages_[s].push_back(program.precision == Precision::F32 ? bind<float>(step, graph)
                                                               : bind<double>(step, graph));
}

template <class T>
Executor::Action Executor::bindLoad(const Step& step, const Graph& graph) {
  const Node& node = graph[step.node];
  const Place out = step.out[0];
  if (node.op == Op::Input) {
    const int64_t slot = node.attr.ints[0], rows = node.shape.empty() ? 1 : node.shape[0];
    const Type type = node.type;
    return [=](Frame& f) {
      f.feed->load(slot, f.begin, rows, type, precisionOf<T>(), f.at<std::byte>(out));
    };
  }
  // A constant: its values, all equal or one by one. A splat that is stored as one element has one.
  const Values values = graph.constantOf(step.node);
  const int64_t n = count(node.shape);
  const Type type = node.type;
  const bool whole = step.loop.iteration.empty();
  return [=](Frame& f) {
    withType<T>(type, [&]<class E>(E*) {
      E* to = f.at<E>(out);
      if (values->size() == 1)
        std::fill_n(to, whole ? n : 1, static_cast<E>((*values)[0]));
      else
        for (int64_t i = 0; i < n; ++i) to[i] = static_cast<E>((*values)[i]);
    });
  };
}

template <class T>
Executor::Action Executor::bindPrimitive(const Step& step, const Graph& graph) {
  const Node& node = graph[step.node];
  const Attr& attr = node.attr;
  const bool add = step.accumulate;
  const Place out = step.out[0];
  const Place a = step.in[0];
  const Place b = step.in.size() > 1 ? step.in[1] : Place{};
  const Shape& shapeA = graph.shape(node.in[0]);
  const Type type = node.type;

  auto copy = [&](CopyPlan plan) -> Action {
    return [plan = std::move(plan), type, a, out, add](Frame& f) {
      if (add)
        runCopyAdd(plan, f.at<T>(a), f.at<T>(out));
      else
        withType<T>(type, [&]<class E>(E*) { runCopy(plan, f.at<E>(a), f.at<E>(out)); });
    };
  };

  switch (node.op) {
    case Op::Permute: return copy(planPermute(shapeA, attr.ints));
    case Op::Broadcast: return copy(planBroadcast(shapeA, node.shape));
    case Op::Slice:
      return copy(planSlice(shapeA, half(attr.ints, false), half(attr.ints, true), node.shape));
    case Op::Unslice:
      return copy(planUnslice(node.shape, half(attr.ints, false), half(attr.ints, true), shapeA));
    case Op::Concat: {
      const size_t axis = static_cast<size_t>(attr.ints[0]);
      const int64_t outer = product(node.shape, 0, axis);
      std::vector<int64_t> inner;
      for (Id in : node.in) inner.push_back(product(graph.shape(in), axis, node.shape.size()));
      return [=, places = step.in](Frame& f) {
        withType<T>(type, [&]<class E>(E*) {
          constexpr size_t kFew = 16;
          const E* few[kFew];
          std::vector<const E*> many;
          const E** parts = few;
          if (places.size() > kFew) {
            many.resize(places.size());
            parts = many.data();
          }
          for (size_t i = 0; i < places.size(); ++i) parts[i] = f.at<E>(places[i]);
          concat<E>({parts, places.size()}, inner, outer, f.at<E>(out));
        });
      };
    }
    case Op::Gather: {
      const size_t axis = static_cast<size_t>(attr.ints[0]);
      const int64_t pre = product(shapeA, 0, axis), n = shapeA[axis],
                    post = product(shapeA, axis + 1, shapeA.size()),
                    m = count(graph.shape(node.in[1]));
      return [=](Frame& f) {
        withType<T>(type, [&]<class E>(E*) {
          gatherRows(f.at<E>(a), f.at<int32_t>(b), pre, n, m, post, f.at<E>(out));
        });
      };
    }
    case Op::ScatterAdd: {
      const size_t axis = static_cast<size_t>(attr.ints[0]);
      const int64_t pre = product(node.shape, 0, axis), n = node.shape[axis],
                    post = product(node.shape, axis + 1, node.shape.size()),
                    m = count(graph.shape(node.in[1]));
      return [=](Frame& f) {
        scatterAddRows(f.at<T>(a), f.at<int32_t>(b), pre, n, m, post, f.at<T>(out), add);
      };
    }
    case Op::WindowSum: {
      const WindowShape shape = windowShape(shapeA, node.shape, attr.window);
      return [=](Frame& f) { windowSum(shape, f.at<T>(a), f.at<T>(out), add); };
    }
    case Op::WindowSpread: {
      const WindowShape shape = windowShape(node.shape, shapeA, attr.window);
      return [=](Frame& f) { windowSpread(shape, f.at<T>(a), f.at<T>(out), add); };
    }
    case Op::WindowArgmax: {
      const WindowShape shape = windowShape(shapeA, node.shape, attr.window);
      return [=](Frame& f) { windowArgmax(shape, f.at<T>(a), f.at<int32_t>(out)); };
    }
    case Op::Sum: {
      ReducePlan plan = planReduce(shapeA, attr.ints);
      needScratch(eigenscope::scratchBytes(plan, sizeof(T)));
      return [=](Frame& f) {
        runSum(plan, f.at<T>(a), f.at<T>(out), add, reinterpret_cast<T*>(f.scratch));
      };
    }
    case Op::ReduceMax: {
      ReducePlan plan = planReduce(shapeA, attr.ints);
      needScratch(eigenscope::scratchBytes(plan, sizeof(T)));
      return [=](Frame& f) {
        runReduceMax(plan, f.at<T>(a), f.at<T>(out), reinterpret_cast<T*>(f.scratch));
      };
    }
    case Op::Softmax: {
      const int64_t n = node.shape.back(), rows = n ? count(node.shape) / n : 0;
      return [=](Frame& f) { softmax(f.at<T>(a), rows, n, f.at<T>(out)); };
    }
    case Op::LogSumExp: {
      const int64_t n = shapeA.back(), rows = n ? count(shapeA) / n : 0;
      return [=](Frame& f) { logSumExp(f.at<T>(a), rows, n, f.at<T>(out)); };
    }
    case Op::Dot: {
      DotPlan plan = planDot(attr.labels, shapeA, graph.shape(node.in[1]));
      needScratch(eigenscope::scratchBytes(plan, sizeof(T)));
      return [=](Frame& f) {
        runDot(plan, f.at<T>(a), f.at<T>(b), f.at<T>(out), add, reinterpret_cast<T*>(f.scratch));
      };
    }
    case Op::Conv:
    case Op::ConvInput:
    case Op::ConvWeight: {
      const Shape& shapeB = graph.shape(node.in[1]);
      const Lead lead = shapeA.size() == 5   ? Lead::First
                        : shapeB.size() == 5 ? Lead::Second
                                             : Lead::None;
      const int64_t k = lead == Lead::None ? 1 : node.shape[0];
      const ConvForm form = node.op == Op::Conv        ? ConvForm::Forward
                            : node.op == Op::ConvInput ? ConvForm::Input
                                                       : ConvForm::Weight;
      const ConvShape shape =
          form == ConvForm::Forward ? convShape(shapeA, shapeB, node.shape, attr.window)
          : form == ConvForm::Input ? convShape(node.shape, shapeB, shapeA, attr.window)
                                    : convShape(shapeA, node.shape, shapeB, attr.window);
      ConvPlan plan = planConv(form, shape, lead, k, precisionOf<T>(), add);
      needScratch(eigenscope::scratchBytes(plan));
      return [=](Frame& f) {
        runConv(plan, f.at<T>(a), f.at<T>(b), f.at<T>(out), add, reinterpret_cast<T*>(f.scratch));
      };
    }
    case Op::Draw: {
      DrawPlan plan = planDraw(attr, shapeA, node.shape);
      return [=](Frame& f) { runDraw(plan, f.begin, f.at<T>(a), f.at<T>(out)); };
    }
    default: break;
  }
  throw Error(ErrorKind::Internal, std::string(name(node.op)) + " has no kernel");
}

template <class T>
Executor::Action Executor::bind(const Step& step, const Graph& graph) {
  switch (step.what) {
    case Step::What::Load: return bindLoad<T>(step, graph);
    case Step::What::Primitive: return bindPrimitive<T>(step, graph);
    case Step::What::Accumulate: {
      const Place from = step.in[0], to = step.out[0];
      const int64_t n = count(graph.shape(step.node));
      return [=](Frame& f) {
        const T* x = f.at<T>(from);
        T* sum = f.at<T>(to);
        for (int64_t i = 0; i < n; ++i) sum[i] += x[i];
      };
    }
    case Step::What::Fused: {
      auto kernel = std::make_shared<FusedKernel<T>>(step.loop);
      needScratch(kernel->scratchBytes());
      return [kernel, in = step.in, out = step.out](Frame& f) {
        const void* from[kMaxOperands];
        void* to[kMaxOperands];
        for (size_t i = 0; i < in.size(); ++i) from[i] = f.at<std::byte>(in[i]);
        for (size_t i = 0; i < out.size(); ++i) to[i] = f.at<std::byte>(out[i]);
        kernel->run(from, to, f.scratch);
      };
    }
  }
  return {};
}

}  // namespace eigenscope
