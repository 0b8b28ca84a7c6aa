#include <functional>

#include "11-lower.h"

using namespace eigenscope;
using namespace eigenscope::onnx;
using namespace eigenscope::onnx::test;

namespace {

using Function = std::function<double(double)>;

double relu(double x) { return x > 0 ? x : 0; }
double clamp(double x, double low, double high) { return std::fmin(std::fmax(x, low), high); }

struct UnaryCase {
  std::string op;
  Function expected;
  Attributes attributes = {};
  bool positive = false;
  int64_t opset = 17;
};

const std::vector<UnaryCase>& unaryCases() {
  static const double kAlpha = 1.67326319217681884765625, kGamma = 1.05070102214813232421875;
  static const std::vector<UnaryCase> cases = {
      {"Abs", [](double x) { return std::fabs(x); }},
      {"Atan", [](double x) { return std::atan(x); }},
      {"Celu",
       [](double x) { return x > 0 ? x : 1.5 * std::expm1(x / 1.5); },
       {{"alpha", number(1.5)}}},
      {"Cos", [](double x) { return std::cos(x); }},
      {"Cosh", [](double x) { return std::cosh(x); }},
      {"Elu", [](double x) { return x > 0 ? x : 2 * std::expm1(x); }, {{"alpha", number(2)}}},
      {"Erf", [](double x) { return std::erf(x); }},
      {"Exp", [](double x) { return std::exp(x); }},
      {"Gelu", [](double x) { return x / 2 * (1 + std::erf(x / std::sqrt(2))); }, {}, false, 20},
      {"Gelu",
       [](double x) {
         return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
       },
       {{"approximate", text("tanh")}},
       false,
       20},
      {"HardSigmoid",
       [](double x) { return clamp(0.3 * x + 0.4, 0, 1); },
       {{"alpha", number(0.3)}, {"beta", number(0.4)}}},
      {"HardSwish", [](double x) { return x * clamp(x / 6 + 0.5, 0, 1); }},
      {"Identity", [](double x) { return x; }},
      {"LeakyRelu", [](double x) { return x > 0 ? x : 0.1 * x; }, {{"alpha", number(0.1)}}},
      {"Log", [](double x) { return std::log(x); }, {}, true},
      {"Mish", [](double x) { return x * std::tanh(std::log1p(std::exp(x))); }, {}, false, 18},
      {"Neg", [](double x) { return -x; }},
      {"Reciprocal", [](double x) { return 1 / x; }, {}, true},
      {"Relu", relu},
      {"Selu", [](double x) { return kGamma * (x > 0 ? x : kAlpha * std::expm1(x)); }},
      {"Shrink",
       [](double x) { return x > 0.5    ? x - 0.25
                             : x < -0.5 ? x + 0.25
                                        : 0; },
       {{"bias", number(0.25)}}},
      {"Sigmoid", [](double x) { return 1 / (1 + std::exp(-x)); }},
      {"Sin", [](double x) { return std::sin(x); }},
      {"Sinh", [](double x) { return std::sinh(x); }},
      {"Softplus", [](double x) { return std::log1p(std::exp(x)); }},
      {"Softsign", [](double x) { return x / (1 + std::fabs(x)); }},
      {"Sqrt", [](double x) { return std::sqrt(x); }, {}, true},
      {"Tan", [](double x) { return std::tan(x / 2); }},
      {"Tanh", [](double x) { return std::tanh(x); }},
      {"ThresholdedRelu", [](double x) { return x > 0.5 ? x : 0; }, {{"alpha", number(0.5)}}},
  };
  return cases;
}

// The second derivative of op's output times x, at one point: what the transforms make of a kink.
struct AtPoint {
  double value, slope;
};

AtPoint atPoint(const std::string& op, double x, const Attributes& attributes, int64_t opset,
                const std::vector<std::string>& more = {}) {
  Net net(opset);
  net.parameter("x", {1}, {x});
  std::vector<std::string> in = {"x"};
  for (const std::string& name : more) {
    in.push_back(name);
    net.constant(arrayOf(name, {}, {name == "low" ? -1.0 : 1.0}));
  }
  net.node(op, in, {"y"}, attributes);
  net.lower("y");
  const Id sum = net.graph.sumAll(net.lowered.output);
  const Id slope = vjp(net.graph, sum, net.graph.scalar(1), {net.graph.param(0, {1})})[0];
  return {net.value(net.lowered.output)[0], slope == kNone ? 0 : net.value(slope)[0]};
}

}  // namespace

TEST_SUITE("lowering: elementwise operators") {
  TEST_CASE("each function of one operand: values, gradient and Hessian") {
    for (const UnaryCase& one : unaryCases()) {
      CAPTURE(one.op);
      Net net(one.opset);
      Numbers x = scattered(7);
      if (one.positive)
        for (double& v : x) v = 0.5 + v * v;
      if (one.op == "Tan")
        for (double& v : x) v /= 2;
      net.parameter("x", {7}, x);
      net.node(one.op, {"x"}, {"y"}, one.attributes);
      Numbers expected;
      for (double v : x) expected.push_back(one.expected(one.op == "Tan" ? 2 * v : v));
      checkClose(net.run("y"), expected);
      checkDerivatives(net, "y");
    }
  }

  TEST_CASE("each function of one operand folds on constants") {
    for (const UnaryCase& one : unaryCases()) {
      CAPTURE(one.op);
      Net net(one.opset);
      net.constant(arrayOf("x", {2}, {0.25, 1.75}));
      net.node(one.op, {"x"}, {"y"}, one.attributes);
      const double half = one.op == "Tan" ? 2 : 1;
      checkClose(net.run("y"), {one.expected(half * 0.25), one.expected(half * 1.75)});
      CHECK(net.graph[net.lowered.output].op == Op::Const);
    }
  }

  TEST_CASE("inverse sine and cosine: to rounding on the whole of [-1, 1], and their derivatives") {
    const Numbers x = {-1, -0.999999, -0.3, 0, 1e-9, 0.5, 0.999999, 1};
    for (const std::string op : {"Asin", "Acos"}) {
      CAPTURE(op);
      Numbers expected;
      for (double v : x) expected.push_back(op == "Asin" ? std::asin(v) : std::acos(v));
      Net net;
      net.input("x", {8}, x).node(op, {"x"}, {"y"});
      checkClose(net.run("y"), expected);
      Net inside;
      inside.parameter("x", {4}, {-0.75, -0.25, 0.125, 0.875}).node(op, {"x"}, {"y"});
      inside.run("y");
      checkDerivatives(inside, "y");
    }
  }

  TEST_CASE("kinks") {
    auto check = [](const std::string& op, double x, double value, double slope,
                    const Attributes& attributes = {}, int64_t opset = 17,
                    const std::vector<std::string>& more = {}) {
      CAPTURE(op);
      CAPTURE(x);
      const AtPoint got = atPoint(op, x, attributes, opset, more);
      CHECK(got.value == doctest::Approx(value));
      CHECK(got.slope == doctest::Approx(slope));
    };
    check("Relu", 0, 0, 0);
    check("LeakyRelu", 0, 0, 0.01);
    check("Abs", 0, 0, 0);
    check("Abs", -2, 2, -1);
    check("Elu", 0, 0, 1);
    check("Clip", -1, -1, 0, {}, 17, {"low", "high"});
    check("Clip", 1, 1, 0, {}, 17, {"low", "high"});
    check("Clip", 0.5, 0.5, 1, {}, 17, {"low", "high"});
    check("Clip", 6, 6, 0, {{"min", number(0)}, {"max", number(6)}}, 9);
    check("Sign", 3, 1, 0);
    check("Floor", 1.5, 1, 0);
    check("Ceil", 1.5, 2, 0);
    // exp(800) overflows in the branch that is not chosen.
    check("Elu", 800, 800, 1);
    check("Selu", 800, 800 * 1.05070102214813232421875, 1.05070102214813232421875);
  }

  TEST_CASE("a NaN is not hidden by Relu or Clip") {
    CHECK(std::isnan(atPoint("Relu", NAN, {}, 17).value));
    CHECK(std::isnan(atPoint("Clip", NAN, {}, 17, {"low", "high"}).value));
  }

  TEST_CASE("binary operators broadcast both ways") {
    struct Case {
      std::string op;
      std::function<double(double, double)> expected;
    };
    const std::vector<Case> cases = {
        {"Add", [](double a, double b) { return a + b; }},
        {"Sub", [](double a, double b) { return a - b; }},
        {"Mul", [](double a, double b) { return a * b; }},
        {"Div", [](double a, double b) { return a / b; }},
        {"Pow", [](double a, double b) { return std::pow(a, b); }},
        {"Max", [](double a, double b) { return std::fmax(a, b); }},
        {"Min", [](double a, double b) { return std::fmin(a, b); }},
        {"Sum", [](double a, double b) { return a + b; }},
        {"Mean", [](double a, double b) { return (a + b) / 2; }},
        {"Mod", [](double a, double b) { return std::fmod(a, b); }},
        {"PRelu", [](double a, double) { return a; }},
    };
    for (const Case& one : cases) {
      CAPTURE(one.op);
      Net net;
      Numbers a = scattered(3), b = scattered(4, 1), expected;
      for (double& v : a) v = 0.6 + v * v;
      for (double& v : b) v = 0.3 + v * v;
      for (double u : a)
        for (double v : b) expected.push_back(one.expected(u, v));
      net.parameter("a", {3, 1}, a).parameter("b", {1, 4}, b);
      net.node(one.op, {"a", "b"}, {"y"},
               one.op == "Mod" ? Attributes{{"fmod", integer(1)}} : Attributes{});
      checkClose(net.run("y"), expected);
      CHECK(net.shape() == Shape{3, 4});
      checkDerivatives(net, "y");
    }
  }

  TEST_CASE("PRelu has a slope for negative values, by channel") {
    Net net;
    net.parameter("x", {1, 2, 2}, {-1, 2, -3, 4}).parameter("slope", {2, 1}, {0.5, 0.25});
    net.node("PRelu", {"x", "slope"}, {"y"});
    checkClose(net.run("y"), {-0.5, 2, -0.75, 4});
    checkDerivatives(net, "y");
  }

  TEST_CASE("Pow with a constant exponent takes any base") {
    for (double p : {0.0, 1.0, 2.0, 3.0, 4.0, -1.0, -2.0}) {
      CAPTURE(p);
      Net net;
      net.parameter("x", {3}, {-1.5, 0.5, 2}).constant(arrayOf("p", {}, {p}));
      net.node("Pow", {"x", "p"}, {"y"});
      checkClose(net.run("y"), {std::pow(-1.5, p), std::pow(0.5, p), std::pow(2, p)});
      checkDerivatives(net, "y", 1e-6);
    }
    Net root;
    root.parameter("x", {2}, {0.25, 4}).constant(arrayOf("p", {1}, {0.5}));
    root.node("Pow", {"x", "p"}, {"y"});
    checkClose(root.run("y"), {0.5, 2});
    CHECK(root.countOf(Op::Sqrt, Scope::Global) == 1);
    // Integer exponents of float bases come from PyTorch.
    Net whole;
    whole.input("x", {2}, {-3, 2}).constant(wholeOf("p", {}, {2}));
    whole.node("Pow", {"x", "p"}, {"y"});
    checkClose(whole.run("y"), {9, 4});
  }

  TEST_CASE("Pow with known exponents by column, and with exponents that are parameters") {
    const Numbers x = {-1.5, 0.5, 0, 2};
    Net row;
    row.parameter("x", {4, 1}, x).constant(arrayOf("p", {3}, {2, 0, 1}));
    row.node("Pow", {"x", "p"}, {"y"});
    Numbers expected;
    for (double v : x) expected.insert(expected.end(), {v * v, 1, v});
    checkClose(row.run("y"), expected);
    checkDerivatives(row, "y");
    // A zero base meets an exponent of -1 only where it is not chosen.
    Net safe;
    safe.parameter("x", {2}, {0, 2}).constant(arrayOf("p", {2}, {1, -1}));
    safe.node("Pow", {"x", "p"}, {"y"});
    checkClose(safe.run("y"), {0, 0.5});
    checkDerivatives(safe, "y");
    Net any;
    any.parameter("x", {5}, {-2, -2, 0, 0, 2}).input("p", {5}, {3, 2, 2, 0, -0.5});
    any.node("Pow", {"x", "p"}, {"y"});
    checkClose(any.run("y"), {-8, 4, 0, 1, std::pow(2, -0.5)});
    Net both;
    both.parameter("x", {2}, {0.7, 2}).parameter("p", {2}, {2.5, -0.5});
    both.node("Pow", {"x", "p"}, {"y"});
    checkClose(both.run("y"), {std::pow(0.7, 2.5), std::pow(2, -0.5)});
    checkDerivatives(both, "y");
  }

  TEST_CASE("Where selects, and what it does not select does no harm") {
    Net net;
    net.input("m", {2}, {1, 0}, Type::Bool);
    net.parameter("x", {2}, {0.5, 0});
    net.node("Log", {"x"}, {"l"});
    net.constant(arrayOf("low", {}, {-7}));
    net.node("Where", {"m", "l", "low"}, {"y"});
    checkClose(net.run("y"), {std::log(0.5), -7});
    Net mask;
    mask.input("x", {1, 2, 2}, {1, 2, 3, 4});
    mask.constant(boolsOf("m", {2, 2}, {1, 0, 1, 1}));
    mask.constant(arrayOf("inf", {}, {-INFINITY}));
    mask.node("Where", {"m", "x", "inf"}, {"w"});
    mask.node("Softmax", {"w"}, {"y"}, {{"axis", integer(-1)}});
    checkClose(mask.run("y"), {1, 0, 1 / (1 + std::exp(1)), 1 / (1 + std::exp(-1))});
  }

  TEST_CASE("comparisons and logic on data") {
    auto check = [](const std::string& op, const Numbers& expected) {
      Net net;
      net.input("a", {3}, {1, 2, 3}).input("b", {3}, {2, 2, 2});
      net.node(op, {"a", "b"}, {"c"}).node("Cast", {"c"}, {"y"}, {{"to", integer(1)}});
      CAPTURE(op);
      checkClose(net.run("y"), expected);
    };
    check("Less", {1, 0, 0});
    check("LessOrEqual", {1, 1, 0});
    check("Greater", {0, 0, 1});
    check("GreaterOrEqual", {0, 1, 1});
    check("Equal", {0, 1, 0});
    auto logic = [](const std::string& op, const Numbers& expected) {
      Net net;
      net.input("a", {4}, {0, 0, 1, 1}, Type::Bool).input("b", {4}, {0, 1, 0, 1}, Type::Bool);
      net.node(op, {"a", "b"}, {"c"}).node("Cast", {"c"}, {"y"}, {{"to", integer(11)}});
      CAPTURE(op);
      checkClose(net.run("y"), expected);
    };
    logic("And", {0, 0, 0, 1});
    logic("Or", {0, 1, 1, 1});
    logic("Xor", {0, 1, 1, 0});
    Net no;
    no.input("a", {2}, {0, 1}, Type::Bool);
    no.node("Not", {"a"}, {"c"}).node("CastLike", {"c", "one"}, {"y"});
    no.constant(arrayOf("one", {}, {1}));
    checkClose(no.run("y"), {1, 0});
    Net infinite;
    infinite.input("a", {3}, {INFINITY, -INFINITY, 1});
    infinite.node("IsInf", {"a"}, {"c"}).node("Cast", {"c"}, {"y"}, {{"to", integer(1)}});
    checkClose(infinite.run("y"), {1, 1, 0});
    Net nan;
    nan.input("a", {2}, {NAN, 1});
    nan.node("IsNaN", {"a"}, {"c"}).node("Cast", {"c"}, {"y"}, {{"to", integer(1)}});
    checkClose(nan.run("y"), {1, 0});
  }

  TEST_CASE("rounding to even, with a warning that its derivative is zero") {
    Net net;
    net.input("x", {7}, {0.5, 1.5, 2.5, -0.5, -1.5, 0.4, -2.6});
    net.node("Round", {"x"}, {"y"});
    checkClose(net.run("y"), {0, 2, 2, 0, -2, 0, -3});
    REQUIRE(net.lowered.warnings.size() == 1);
    CHECK(contains(net.lowered.warnings[0], "/Round_0"));
  }

  TEST_CASE("Dropout is the identity, its mask is all ones, training mode warns") {
    Net net(13);
    net.input("x", {2}, {1, 2});
    net.constant(arrayOf("ratio", {}, {0.5})).constant(boolsOf("training", {}, {1}));
    net.node("Dropout", {"x", "ratio", "training"}, {"y", "mask"});
    checkClose(net.run("y"), {1, 2});
    CHECK(net.lowered.warnings.size() == 1);
  }

  TEST_CASE("an output that no lowering gives is refused only where it is used") {
    Net net;
    net.input("x", {1, 1, 2, 2}, counting(4));
    net.node("MaxPool", {"x"}, {"y", "where"}, {{"kernel_shape", ints({2, 2})}});
    checkClose(net.run("y"), {4});
    net.node("Cast", {"where"}, {"z"}, {{"to", integer(1)}});
    CHECK(contains(messageOf(ErrorKind::UnsupportedOperator, [&] { net.lower("z"); }), "output 1"));
  }
}
