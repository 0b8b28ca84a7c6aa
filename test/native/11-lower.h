#pragma once

#include <doctest.h>

#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "autodiff/jvp.h"
#include "autodiff/transpose.h"
#include "base/error.h"
#include "onnx/model.h"
#include "reference_interpreter.h"

// Small ONNX models written in place, lowered, and evaluated by the reference interpreter.
namespace eigenscope::onnx::test {

using reference::Numbers;

inline Attribute ints(std::vector<int64_t> values) {
  return {.ints = std::move(values), .floats = {}, .strings = {}, .tensor = {}};
}
inline Attribute integer(int64_t value) { return ints({value}); }
inline Attribute number(double value) {
  return {.ints = {}, .floats = {value}, .strings = {}, .tensor = {}};
}
inline Attribute text(const std::string& value) {
  return {.ints = {}, .floats = {}, .strings = {value}, .tensor = {}};
}
using Attributes = std::map<std::string, Attribute>;

inline Array arrayOf(const std::string& name, const Shape& shape, const Numbers& values) {
  return {name, ElementType::F64, shape,
          copyBytes(name, values.data(), values.size() * sizeof(double))};
}

inline Array wholeOf(const std::string& name, const Shape& shape,
                     const std::vector<int64_t>& values) {
  return {name, ElementType::I64, shape,
          copyBytes(name, values.data(), values.size() * sizeof(int64_t))};
}

inline Array boolsOf(const std::string& name, const Shape& shape,
                     const std::vector<uint8_t>& values) {
  return {name, ElementType::Bool, shape, copyBytes(name, values.data(), values.size())};
}

inline Attribute tensor(const Array& array) {
  return {.ints = {}, .floats = {}, .strings = {}, .tensor = array};
}

// 1, 2, 3, ...
inline Numbers counting(int64_t n, double start = 1) {
  Numbers out(n);
  for (int64_t i = 0; i < n; ++i) out[i] = start + static_cast<double>(i);
  return out;
}

// Irregular, without ties, of either sign and in (-2, 2).
inline Numbers scattered(int64_t n, double seed = 0) {
  Numbers out(n);
  for (int64_t i = 0; i < n; ++i) out[i] = 2 * std::sin(1.7 * static_cast<double>(i) + 0.3 + seed);
  return out;
}

// Operators that some case has lowered; see 11-lower-table.test.cc.
inline std::set<std::string>& lowered() {
  static std::set<std::string> names;
  return names;
}

struct Net {
  explicit Net(int64_t opset = 17) { model.opset = opset; }

  Net& input(const std::string& name, const Shape& shape, const Numbers& values,
             Type type = Type::Real, Shape declared = {}) {
    const auto slot = static_cast<int64_t>(bindings.size());
    bindings.push_back({name, slot, shape, type});
    const ElementType element = type == Type::Real  ? ElementType::F32
                                : type == Type::Int ? ElementType::I64
                                                    : ElementType::Bool;
    if (declared.empty()) declared = Shape(shape.size(), -1);
    model.inputs.push_back({name, element, declared, std::vector<std::string>(shape.size())});
    leaves.inputs[slot] = values;
    return *this;
  }

  Net& parameter(const std::string& name, const Shape& shape, const Numbers& values) {
    const Array array = arrayOf(name, shape, values);
    constant(array);
    leaves.parameters[static_cast<int64_t>(parameters.size())] = values;
    parameters.push_back({name, array, 0, array.size()});
    return *this;
  }

  Net& constant(const Array& array) {
    model.initializers.emplace(array.name(), array);
    model.initializerOrder.push_back(array.name());
    return *this;
  }

  Net& known(const std::string& name, const std::vector<int64_t>& values) {
    return constant(wholeOf(name, {static_cast<int64_t>(values.size())}, values));
  }

  Net& node(const std::string& op, const std::vector<std::string>& in,
            const std::vector<std::string>& out, const Attributes& attributes = {},
            const std::string& domain = "") {
    model.nodes.push_back(
        {op, domain, "/" + op + "_" + std::to_string(model.nodes.size()), in, out, attributes});
    return *this;
  }

  Net& lower(const std::string& output) {
    lowered = onnx::lower(model, parameters, graph, bindings, output);
    for (const NodeDef& node : model.nodes) test::lowered().insert(qualified(node.domain, node.op));
    return *this;
  }

  const Numbers& value(Id id) {
    interpreter = std::make_unique<reference::Interpreter>(graph, leaves);
    return (*interpreter)(id);
  }

  const Numbers& run(const std::string& output) { return value(lower(output).lowered.output); }
  const Shape& shape() const { return graph.shape(lowered.output); }

  // Reachable nodes of one primitive.
  int64_t countOf(Op op, Scope scope) const {
    int64_t n = 0;
    for (Id id : reachable(graph, {lowered.output}))
      n += graph[id].op == op && graph[id].scope == scope;
    return n;
  }

  Model model;
  std::vector<InputBinding> bindings;
  std::vector<Parameter> parameters;
  reference::Leaves leaves;
  Graph graph;
  Lowered lowered;
  std::unique_ptr<reference::Interpreter> interpreter;
};

inline void checkClose(const Numbers& got, const Numbers& expected, double tolerance = 1e-12) {
  REQUIRE(got.size() == expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    CAPTURE(i);
    CHECK(got[i] == doctest::Approx(expected[i]).epsilon(tolerance).scale(1));
  }
}

// Gradient and Hessian products of a weighted sum of the output, in all parameters, against central
// differences of the reference interpreter. Points must lie away from kinks.
inline void checkDerivatives(Net& net, const std::string& output, double tolerance = 2e-7) {
  Graph& graph = net.graph;
  net.lower(output);
  const Shape shape = graph.shape(net.lowered.output);
  const auto weights = std::make_shared<Numbers>(scattered(count(shape), 0.7));
  const Id sum = graph.sumAll(graph.mul(net.lowered.output, graph.constant(weights, shape)));
  const auto n = static_cast<int64_t>(net.parameters.size());
  std::vector<Id> leaves;
  for (int64_t i = 0; i < n; ++i) leaves.push_back(graph.param(i, net.parameters[i].value.shape()));
  const std::vector<Id> gradient = vjp(graph, sum, graph.scalar(1), leaves);
  constexpr int64_t kDirections = 2;
  Jvp jvp(graph, kDirections);
  std::vector<std::vector<Numbers>> directions(kDirections);
  for (int64_t i = 0; i < n; ++i) {
    Shape led = graph.shape(leaves[i]);
    led.insert(led.begin(), kDirections);
    Numbers& both = net.leaves.tangents[i];
    both.clear();
    for (int64_t k = 0; k < kDirections; ++k) {
      directions[k].push_back(scattered(count(led) / kDirections, 3.1 * k + i));
      both.insert(both.end(), directions[k][i].begin(), directions[k][i].end());
    }
    jvp.seed(leaves[i], graph.tangent(i, led));
  }
  std::vector<Id> products;
  for (int64_t i = 0; i < n; ++i)
    products.push_back(gradient[i] == kNone ? kNone : jvp(gradient[i]));

  auto at = [&](int64_t k, double step) {
    reference::Leaves moved = net.leaves;
    for (int64_t i = 0; i < n; ++i)
      for (size_t j = 0; j < moved.parameters[i].size(); ++j)
        moved.parameters[i][j] += step * directions[k][i][j];
    return moved;
  };
  reference::Interpreter here(graph, net.leaves);
  constexpr double kStep = 1e-5;
  for (int64_t k = 0; k < kDirections; ++k) {
    reference::Interpreter after(graph, at(k, kStep)), before(graph, at(k, -kStep));
    double slope = 0;
    for (int64_t i = 0; i < n; ++i)
      if (gradient[i] != kNone)
        for (size_t j = 0; j < directions[k][i].size(); ++j)
          slope += here(gradient[i])[j] * directions[k][i][j];
    CHECK(slope == doctest::Approx((after(sum)[0] - before(sum)[0]) / (2 * kStep))
                       .epsilon(tolerance)
                       .scale(1));
    for (int64_t i = 0; i < n; ++i) {
      if (gradient[i] == kNone) continue;
      const Numbers up = after(gradient[i]), down = before(gradient[i]);
      for (size_t j = 0; j < up.size(); ++j) {
        const double product = products[i] == kNone ? 0 : here(products[i])[k * up.size() + j];
        CAPTURE(net.parameters[i].name);
        CHECK(product ==
              doctest::Approx((up[j] - down[j]) / (2 * kStep)).epsilon(tolerance).scale(1));
      }
    }
  }
}

// The message of the Error of this kind that `action` throws.
template <class Action>
std::string messageOf(ErrorKind kind, Action action) {
  try {
    action();
  } catch (const Error& error) {
    CHECK(error.kind == kind);
    return error.what();
  }
  FAIL("expected an error");
  return "";
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != text.npos;
}

}  // namespace eigenscope::onnx::test
