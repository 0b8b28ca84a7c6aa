#include <doctest.h>

#include "autodiff/jvp.h"
#include "autodiff/transpose.h"
#include "run_program.h"

// Axes of length 0, as caches and slices of sequences have them: nothing to compute, no crash, and
// sums over nothing are 0.
using namespace eigenscope;
using namespace eigenscope::reference;

namespace {

struct Case {
  const char* name;
  std::vector<Shape> parameters;
  std::function<Id(Graph&, const std::vector<Id>&)> build;
};

const std::vector<Case>& cases() {
  using P = const std::vector<Id>&;
  static const std::vector<Case> kCases = {
      {"elementwise",
       {{3, 0, 5}, {5}},
       [](Graph& g, P p) { return g.unary(Op::Exp, g.mul(p[0], p[1])); }},
      {"reshape",
       {{2, 0, 3}},
       [](Graph& g, P p) {
         return g.mul(g.reshape(p[0], {0, 6}), g.scalar(2));
       }},
      {"permute",
       {{2, 0, 3}},
       [](Graph& g, P p) {
         return g.permute(p[0], {2, 1, 0});
       }},
      {"broadcast",
       {{1, 3}},
       [](Graph& g, P p) {
         return g.concat({g.broadcast(p[0], {0, 3}), p[0]}, 0);
       }},
      {"slice to nothing",
       {{4, 3}},
       [](Graph& g, P p) {
         return g.concat({g.slice(p[0], {0, 0}, {1, 1}, {0, 3}), g.mul(p[0], p[0])}, 0);
       }},
      {"unslice of nothing",
       {{0, 3}, {2, 3}},
       [](Graph& g, P p) {
         return g.mul(g.unslice(p[0], {0, 0}, {1, 1}, {2, 3}), p[1]);
       }},
      {"concat with nothing",
       {{2, 0}, {2, 3}},
       [](Graph& g, P p) {
         return g.concat({p[0], g.mul(p[1], p[1])}, 1);
       }},
      {"sum over nothing",
       {{2, 0}, {2, 1}},
       [](Graph& g, P p) { return g.mul(g.add(g.sum(p[0], {1}), p[1]), p[1]); }},
      {"sum of no rows", {{0, 3}}, [](Graph& g, P p) { return g.sum(g.mul(p[0], p[0]), {1}); }},
      {"dot over nothing",
       {{2, 0}, {3, 0}, {2, 3}},
       [](Graph& g, P p) { return g.mul(g.add(g.dot(p[0], p[1], "bi,oi->bo"), p[2]), p[2]); }},
      {"dot of no rows",
       {{0, 4}, {3, 4}},
       [](Graph& g, P p) { return g.dot(p[0], p[1], "bi,oi->bo"); }},
      {"gather nothing",
       {{4, 3}},
       [](Graph& g, P p) {
         return g.gather(p[0], g.constant(std::make_shared<std::vector<double>>(), {0}, Type::Int),
                         0);
       }},
      {"softmax of no rows", {{0, 3}}, [](Graph& g, P p) { return g.softmax(p[0]); }},
      {"logSumExp of no rows", {{0, 3}}, [](Graph& g, P p) { return g.logSumExp(p[0]); }},
      {"select",
       {{0, 3}},
       [](Graph& g, P p) {
         return g.select(g.binary(Op::Less, p[0], g.scalar(0)), p[0], g.scalar(1));
       }},
      {"window sum of no samples",
       {{0, 4, 4, 2}},
       [](Graph& g, P p) {
         Window w;
         w.kernel[0] = w.kernel[1] = 2;
         return g.windowSum(p[0], w, 3, 3);
       }},
      {"convolution of no samples",
       {{0, 4, 4, 2}, {3, 2, 2, 2}},
       [](Graph& g, P p) {
         Window w;
         w.kernel[0] = w.kernel[1] = 2;
         return g.conv(p[0], p[1], w, 3, 3);
       }},
  };
  return kCases;
}

template <class T>
void check(const Graph& g, const std::vector<Id>& outputs, const Leaves& leaves, int64_t k) {
  Interpreter interpret(g, leaves);
  const auto got = runProgram<T>(g, outputs, leaves, k);
  for (size_t i = 0; i < outputs.size(); ++i) {
    CAPTURE(i);
    const Numbers& want = interpret(outputs[i]);
    REQUIRE(got[i].size() == want.size());
    for (size_t e = 0; e < want.size(); ++e) CHECK(got[i][e] == doctest::Approx(want[e]));
  }
}

}  // namespace

TEST_CASE("axes of length 0") {
  for (const Case& c : cases()) {
    CAPTURE(std::string(c.name));
    for (int64_t k : {1, 3}) {
      Graph g;
      Leaves leaves;
      std::vector<Id> parameters, local;
      Jvp jvp(g, k);
      for (size_t i = 0; i < c.parameters.size(); ++i) {
        parameters.push_back(g.param(static_cast<int64_t>(i), c.parameters[i]));
        local.push_back(g.spread(parameters.back()));
        leaves.parameters[i].assign(count(c.parameters[i]), 0.5);
        leaves.tangents[i].assign(count(c.parameters[i]) * k, 0.25);
      }
      const Id y = c.build(g, local);
      leaves.inputs[0].assign(count(g.shape(y)), 1.5);
      const std::vector<Id> gradient = vjp(g, y, g.input(0, g.shape(y), Type::Real), parameters);
      for (size_t i = 0; i < c.parameters.size(); ++i) {
        Shape shape = c.parameters[i];
        shape.insert(shape.begin(), k);
        jvp.seed(parameters[i], g.tangent(static_cast<int64_t>(i), shape));
      }
      std::vector<Id> outputs = {g.collect(y)};
      for (Id id : gradient) {
        if (id == kNone) continue;
        outputs.push_back(id);
        if (const Id t = jvp(id); t != kNone) outputs.push_back(t);
      }
      if (const Id t = jvp(y); t != kNone) outputs.push_back(g.collect(t));
      check<double>(g, outputs, leaves, k);
      check<float>(g, outputs, leaves, k);
    }
  }
}
