#include <doctest.h>

#include <cmath>
#include <set>

#include "autodiff/jvp.h"
#include "autodiff/transpose.h"
#include "run_program.h"

// One row a primitive: compiled against interpreted, jvp against differences, vjp against jvp,
// second derivatives against differences of first ones. A primitive without a row fails.
using namespace eigenscope;
using namespace eigenscope::reference;

namespace {

struct Case {
  const char* name;
  Op covers;
  std::vector<Shape> parameters;
  std::function<Id(Graph&, const std::vector<Id>&)> build;
  double offset = 0;   // added to parameter values, to stay in a domain
  bool smooth = true;  // differences make sense
};

Window window2d(int64_t k, int64_t stride, int64_t dilation, int64_t pad, int64_t groups = 1) {
  Window w;
  for (int i = 0; i < 2; ++i) {
    w.kernel[i] = k;
    w.stride[i] = stride;
    w.dilation[i] = dilation;
    w.pad[i] = pad;
  }
  w.groups = groups;
  return w;
}

Id indices(Graph& g, std::vector<double> values, Shape shape) {
  return g.constant(std::make_shared<std::vector<double>>(std::move(values)), shape, Type::Int);
}

const std::vector<Case>& cases() {
  using P = const std::vector<Id>&;
  // clang-format off
  static const std::vector<Case> kCases = {
      {"reshape", Op::Reshape, {{2, 6}}, [](Graph& g, P p) { return g.mul(g.reshape(g.mul(p[0], p[0]), {3, 4}), g.reshape(p[0], {3, 4})); }},
      {"permute", Op::Permute, {{2, 3, 4}}, [](Graph& g, P p) { return g.mul(g.permute(g.mul(p[0], p[0]), {2, 0, 1}), g.permute(p[0], {2, 0, 1})); }},
      {"broadcast", Op::Broadcast, {{3, 1}}, [](Graph& g, P p) { return g.concat({g.broadcast(g.mul(p[0], p[0]), {3, 4})}, 0); }},
      {"slice", Op::Slice, {{5, 6}}, [](Graph& g, P p) { return g.slice(g.mul(p[0], p[0]), {4, 1}, {-2, 2}, {3, 2}); }},
      {"unslice", Op::Unslice, {{3, 2}}, [](Graph& g, P p) { return g.unslice(g.mul(p[0], p[0]), {4, 1}, {-2, 2}, {5, 6}); }},
      {"concat", Op::Concat, {{2, 3}, {2, 2}}, [](Graph& g, P p) { return g.concat({g.mul(p[0], p[0]), p[1], p[1]}, 1); }},
      {"gather", Op::Gather, {{4, 3}}, [](Graph& g, P p) { return g.gather(g.mul(p[0], p[0]), indices(g, {3, 0, 0, 2}, {2, 2}), 0); }},
      {"gather last", Op::Gather, {{2, 4}}, [](Graph& g, P p) { return g.gather(g.mul(p[0], p[0]), indices(g, {3, 1}, {2}), 1); }},
      {"scatterAdd", Op::ScatterAdd, {{2, 2, 3}}, [](Graph& g, P p) { return g.scatterAdd(g.mul(p[0], p[0]), indices(g, {3, 0, 0, 2}, {2, 2}), 0, 4); }},
      {"windowSum", Op::WindowSum, {{2, 5, 4, 3}}, [](Graph& g, P p) { return g.windowSum(g.mul(p[0], p[0]), window2d(3, 2, 1, 1), 3, 2); }},
      {"windowSpread", Op::WindowSpread, {{2, 3, 2, 3}}, [](Graph& g, P p) { return g.windowSpread(g.mul(p[0], p[0]), window2d(3, 2, 1, 1), 5, 4); }},
      {"windowArgmax", Op::WindowArgmax, {{2, 4, 4, 3}}, [](Graph& g, P p) {
         Id x = g.mul(p[0], p[0]);
         Id at = g.windowArgmax(x, window2d(2, 2, 1, 0), 2, 2);
         return g.gather(g.reshape(x, {2 * 4 * 4 * 3}), at, 0); }},
      {"add", Op::Add, {{2, 3}, {3}}, [](Graph& g, P p) { return g.mul(g.add(p[0], p[1]), g.add(p[0], p[1])); }},
      {"sub", Op::Sub, {{2, 3}, {2, 1}}, [](Graph& g, P p) { return g.mul(g.sub(p[0], p[1]), g.sub(p[1], p[0])); }},
      {"neg", Op::Neg, {{5}}, [](Graph& g, P p) { return g.unary(Op::Exp, g.neg(p[0])); }},
      {"select", Op::Select, {{4, 3}, {3}}, [](Graph& g, P p) { return g.mul(g.select(g.binary(Op::Less, p[0], p[1]), p[0], p[1]), p[0]); }},
      {"mul", Op::Mul, {{2, 3}, {3}}, [](Graph& g, P p) { return g.mul(g.mul(p[0], p[1]), p[1]); }},
      {"square", Op::Mul, {{7}}, [](Graph& g, P p) { return g.mul(p[0], p[0]); }},
      {"exp", Op::Exp, {{3, 3}}, [](Graph& g, P p) { return g.unary(Op::Exp, p[0]); }},
      {"log", Op::Log, {{6}}, [](Graph& g, P p) { return g.unary(Op::Log, p[0]); }, 2.5},
      {"sqrt", Op::Sqrt, {{6}}, [](Graph& g, P p) { return g.unary(Op::Sqrt, p[0]); }, 2.5},
      {"recip", Op::Recip, {{6}}, [](Graph& g, P p) { return g.unary(Op::Recip, p[0]); }, 2.5},
      {"pow", Op::Pow, {{6}}, [](Graph& g, P p) { return g.pow(p[0], 2.5); }, 2.5},
      {"pow 0", Op::Pow, {{6}}, [](Graph& g, P p) { return g.add(g.pow(p[0], 0), g.mul(p[0], p[0])); }},
      {"tanh", Op::Tanh, {{700}}, [](Graph& g, P p) { return g.unary(Op::Tanh, p[0]); }},
      {"sigmoid", Op::Sigmoid, {{6}}, [](Graph& g, P p) { return g.unary(Op::Sigmoid, p[0]); }},
      {"softplus", Op::Softplus, {{6}}, [](Graph& g, P p) { return g.unary(Op::Softplus, p[0]); }},
      {"erf", Op::Erf, {{6}}, [](Graph& g, P p) { return g.unary(Op::Erf, p[0]); }},
      {"sin", Op::Sin, {{6}}, [](Graph& g, P p) { return g.unary(Op::Sin, p[0]); }},
      {"cos", Op::Cos, {{6}}, [](Graph& g, P p) { return g.unary(Op::Cos, p[0]); }},
      {"atan", Op::Atan, {{6}}, [](Graph& g, P p) { return g.unary(Op::Atan, p[0]); }},
      {"floor", Op::Floor, {{6}}, [](Graph& g, P p) { return g.mul(g.unary(Op::Floor, p[0]), p[0]); }},
      {"less", Op::Less, {{6}}, [](Graph& g, P p) { return g.mul(g.cast(g.binary(Op::Less, p[0], g.scalar(0.2)), Type::Real), p[0]); }},
      {"lessEqual", Op::LessEqual, {{6}}, [](Graph& g, P p) { return g.mul(g.cast(g.binary(Op::LessEqual, p[0], g.scalar(0.2)), Type::Real), p[0]); }},
      {"equal", Op::Equal, {{6}}, [](Graph& g, P p) {
         Id hit = g.binary(Op::Equal, g.iota(6, Type::Int), g.scalar(3, Type::Int));
         return g.select(hit, g.mul(p[0], p[0]), p[0]); }},
      {"logic", Op::And, {{6}}, [](Graph& g, P p) {
         Id a = g.binary(Op::Less, p[0], g.scalar(0.2)), b = g.binary(Op::Less, g.scalar(-1), p[0]);
         return g.select(g.binary(Op::And, a, b), g.mul(p[0], p[0]), p[0]); }},
      {"or", Op::Or, {{6}}, [](Graph& g, P p) {
         Id a = g.binary(Op::Less, p[0], g.scalar(-0.2)), b = g.binary(Op::Less, g.scalar(0.7), p[0]);
         return g.select(g.binary(Op::Or, a, b), g.mul(p[0], p[0]), p[0]); }},
      {"not", Op::Not, {{6}}, [](Graph& g, P p) { return g.select(g.unary(Op::Not, g.binary(Op::Less, p[0], g.scalar(0))), g.mul(p[0], p[0]), p[0]); }},
      {"cast", Op::Cast, {{6}}, [](Graph& g, P p) { return g.mul(g.cast(g.cast(g.scale(p[0], 3), Type::Int), Type::Real), p[0]); }},
      {"stopGradient", Op::StopGradient, {{6}}, [](Graph& g, P p) { return g.mul(g.unary(Op::StopGradient, p[0]), p[0]); }, 0, false},
      {"barrier", Op::Barrier, {{6}}, [](Graph& g, P p) { return g.mul(g.unary(Op::Barrier, p[0]), p[0]); }},
      {"sum", Op::Sum, {{2, 3, 4}}, [](Graph& g, P p) { return g.mul(g.sum(p[0], {0, 2}), g.sum(p[0], {0, 2})); }},
      {"sum rows", Op::Sum, {{5, 40}}, [](Graph& g, P p) { return g.mul(g.sum(p[0], {-1}), p[0]); }},
      {"reduceMax", Op::ReduceMax, {{3, 4}}, [](Graph& g, P p) { return g.unary(Op::Exp, g.sub(p[0], g.unary(Op::StopGradient, g.reduceMax(p[0], {-1})))); }, 0, false},
      {"dot", Op::Dot, {{3, 4}, {5, 4}}, [](Graph& g, P p) { return g.dot(p[0], p[1], "bi,oi->bo"); }},
      {"dot of attention", Op::Dot, {{2, 3, 2, 4}, {2, 5, 2, 4}}, [](Graph& g, P p) { return g.dot(p[0], p[1], "bthd,bshd->bhts"); }},
      {"dot permuted", Op::Dot, {{4, 3}, {4, 5}}, [](Graph& g, P p) { return g.dot(g.permute(p[0], {1, 0}), p[1], "bi,io->ob"); }},
      {"outer product", Op::Dot, {{3}, {4}}, [](Graph& g, P p) { return g.dot(p[0], p[1], "a,b->ab"); }},
      {"sum of dots", Op::Dot, {{3, 4}, {4, 5}, {3, 5}}, [](Graph& g, P p) { return g.add(g.add(g.dot(p[0], p[1], "bi,io->bo"), p[2]), g.dot(g.mul(p[0], p[0]), p[1], "bi,io->bo")); }},
      {"conv", Op::Conv, {{2, 5, 4, 3}, {4, 3, 3, 3}}, [](Graph& g, P p) { return g.conv(p[0], p[1], window2d(3, 2, 1, 1), 3, 2); }},
      {"conv groups", Op::Conv, {{2, 5, 5, 4}, {6, 2, 2, 2}}, [](Graph& g, P p) { return g.conv(p[0], p[1], window2d(2, 1, 2, 0, 2), 3, 3); }},
      {"conv depthwise", Op::Conv, {{2, 5, 5, 4}, {4, 3, 3, 1}}, [](Graph& g, P p) { return g.conv(p[0], p[1], window2d(3, 1, 1, 1, 4), 5, 5); }},
      {"convInput", Op::ConvInput, {{2, 3, 2, 4}, {4, 3, 3, 3}}, [](Graph& g, P p) { return g.convInput(p[0], p[1], window2d(3, 2, 1, 1), 5, 4); }},
      {"convWeight", Op::ConvWeight, {{2, 5, 4, 3}, {2, 3, 2, 4}}, [](Graph& g, P p) { return g.convWeight(p[0], p[1], window2d(3, 2, 1, 1)); }},
      {"softmax", Op::Softmax, {{3, 5}}, [](Graph& g, P p) { return g.softmax(p[0]); }},
      {"logSumExp", Op::LogSumExp, {{3, 5}}, [](Graph& g, P p) { return g.logSumExp(p[0]); }},
  };
  // clang-format on
  return kCases;
}

Numbers scattered(int64_t n, double seed) {
  Numbers out(n);
  for (int64_t i = 0; i < n; ++i) out[i] = 1.3 * std::sin(1.7 * static_cast<double>(i + 1) + seed);
  return out;
}

double dotOf(const Numbers& a, const Numbers& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

double worst(const Numbers& got, const Numbers& want) {
  REQUIRE(got.size() == want.size());
  double error = 0, scale = 1e-12;
  for (size_t i = 0; i < got.size(); ++i) {
    error = std::isfinite(got[i]) ? std::max(error, std::abs(got[i] - want[i])) : INFINITY;
    scale = std::max(scale, std::abs(want[i]));
  }
  return error / scale;
}

// y = f(theta), its jvp and the tangent of its vjp for K directions, all collected.
struct Derivatives {
  Graph g;
  Id y = kNone;
  std::vector<Id> outputs;  // y, ydot, then cotangents, then their tangents (without kNone)
  std::vector<Id> cotangents, tangentsOfCotangents;
  Id ydot = kNone;

  Derivatives(const Case& c, int64_t k) {
    std::vector<Id> parameters, local;
    for (size_t i = 0; i < c.parameters.size(); ++i) {
      parameters.push_back(g.param(static_cast<int64_t>(i), c.parameters[i]));
      local.push_back(g.spread(parameters.back()));
    }
    y = c.build(g, local);
    Id weight = g.input(0, g.shape(y), Type::Real);
    cotangents = vjp(g, y, weight, parameters);
    Jvp jvp(g, k);
    for (size_t i = 0; i < parameters.size(); ++i) {
      Shape shape = c.parameters[i];
      if (k) shape.insert(shape.begin(), k);
      jvp.seed(parameters[i], g.tangent(static_cast<int64_t>(i), shape));
    }
    ydot = jvp(y);
    outputs = {g.collect(y)};
    if (ydot != kNone) outputs.push_back(g.collect(ydot));
    for (Id id : cotangents) {
      Id t = id == kNone ? kNone : jvp(id);
      tangentsOfCotangents.push_back(t);
      if (id != kNone) outputs.push_back(id);
      if (t != kNone) outputs.push_back(t);
    }
  }
};

}  // namespace

TEST_CASE("every primitive has a row") {
  std::set<Op> covered;
  for (const Case& c : cases()) covered.insert(c.covers);
  const std::set<Op> leavesAndStaging = {
      Op::Param, Op::Tangent, Op::Probe,   Op::Input,
      Op::Const, Op::Spread,  Op::Collect, Op::Draw};  // tested by its distribution elsewhere
  for (int i = 0; i <= static_cast<int>(Op::Collect); ++i) {
    Op op = static_cast<Op>(i);
    CAPTURE(name(op));
    CHECK((covered.count(op) || leavesAndStaging.count(op)));
  }
}

TEST_CASE("compiled programs compute what the primitives mean, and derivatives are derivatives") {
  for (const Case& c : cases()) {
    CAPTURE(std::string(c.name));
    for (int64_t k : {0, 1, 3}) {
      CAPTURE(k);
      Derivatives d(c, k);
      Leaves leaves;
      for (size_t i = 0; i < c.parameters.size(); ++i) {
        const int64_t n = count(c.parameters[i]);
        leaves.parameters[i] = scattered(n, 0.1 * static_cast<double>(i));
        for (double& v : leaves.parameters[i]) v += c.offset;
        leaves.tangents[i] = scattered(n * std::max<int64_t>(k, 1), 2.0 + static_cast<double>(i));
      }
      leaves.inputs[0] = scattered(count(d.g.shape(d.y)), 5.0);

      Interpreter interpret(d.g, leaves);
      const auto exact = runProgram<double>(d.g, d.outputs, leaves, k);
      const auto single = runProgram<float>(d.g, d.outputs, leaves, k);
      for (size_t i = 0; i < d.outputs.size(); ++i) {
        CAPTURE(i);
        CHECK(worst(exact[i], interpret(d.outputs[i])) < 1e-13);
        CHECK(worst(single[i], interpret(d.outputs[i])) < 2e-5);
      }
      if (!c.smooth) continue;

      // Direction j of everything, by central differences along it, and by adjointness.
      const int64_t directions = std::max<int64_t>(k, 1);
      for (int64_t j = 0; j < directions; ++j) {
        const double h = 1e-6;
        auto moved = [&](double step) {
          Leaves at = leaves;
          for (auto& [i, values] : at.parameters)
            for (size_t e = 0; e < values.size(); ++e)
              values[e] += step * leaves.tangents[i][j * values.size() + e];
          return at;
        };
        Interpreter plus(d.g, moved(h)), minus(d.g, moved(-h));
        auto difference = [&](Id id) {
          Numbers a = plus(id), b = minus(id);
          for (size_t e = 0; e < a.size(); ++e) a[e] = (a[e] - b[e]) / (2 * h);
          return a;
        };
        auto part = [&](Id id) {
          const Numbers& all = interpret(id);
          const size_t n = all.size() / directions;
          return Numbers(all.begin() + j * n, all.begin() + (j + 1) * n);
        };
        Numbers ydot = d.ydot == kNone ? Numbers(count(d.g.shape(d.y)), 0.0) : part(d.ydot);
        CHECK(worst(ydot, difference(d.y)) < 1e-7);
        double left = dotOf(leaves.inputs[0], ydot), right = 0;
        for (size_t i = 0; i < d.cotangents.size(); ++i) {
          if (d.cotangents[i] == kNone) continue;
          const Numbers& cotangent = interpret(d.cotangents[i]);
          Numbers along(leaves.tangents[i].begin() + j * cotangent.size(),
                        leaves.tangents[i].begin() + (j + 1) * cotangent.size());
          right += dotOf(cotangent, along);
          Numbers second = d.tangentsOfCotangents[i] == kNone ? Numbers(cotangent.size(), 0.0)
                                                              : part(d.tangentsOfCotangents[i]);
          CHECK(worst(second, difference(d.cotangents[i])) < 1e-6);
        }
        CHECK(left == doctest::Approx(right).epsilon(1e-11));
      }
    }
  }
}
