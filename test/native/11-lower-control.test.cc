#include "11-lower.h"

using namespace eigenscope;
using namespace eigenscope::onnx;
using namespace eigenscope::onnx::test;

namespace {

// y = x doubled where `hit`, and x negated elsewhere, as an If is written out.
std::unique_ptr<Net> branchNet() {
  auto net = std::make_unique<Net>();
  net->parameter("x", {2}, {1, -2}).constant(arrayOf("two", {}, {2}));
  net->node("Mul", {"x", "two"}, {"doubled"}).node("Neg", {"x"}, {"negated"});
  net->model.nodes[0].guards = {{"hit", true}};
  net->model.nodes[1].guards = {{"hit", false}};
  net->node("If", {"hit", "doubled", "negated"}, {"y"});
  return net;
}

}  // namespace

TEST_SUITE("lowering: control flow") {
  TEST_CASE("If takes one branch, and the other is not looked at") {
    auto then = branchNet();
    then->constant(boolsOf("hit", {}, {1}));
    then->model.nodes[1].op = "Quux";
    checkClose(then->run("y"), {2, -4});
    checkDerivatives(*then, "y");
    auto other = branchNet();
    other->constant(boolsOf("hit", {1}, {0}));
    checkClose(other->run("y"), {-1, 2});
  }

  TEST_CASE("a branch within one that is not taken is not looked at either") {
    auto net = branchNet();
    net->constant(boolsOf("hit", {}, {1}));
    net->model.nodes[1].op = "Not";  // would be wrong for numbers
    NodeDef inner{.op = "Neg",
                  .domain = "",
                  .name = "inner",
                  .in = {"x"},
                  .out = {"deep"},
                  .attributes = {},
                  .guards = {{"hit", false}, {"negated", true}}};
    net->model.nodes.insert(net->model.nodes.begin() + 2, inner);
    net->model.nodes.back().in = {"hit", "doubled", "deep"};
    checkClose(net->run("y"), {2, -4});
  }

  TEST_CASE("conditions that depend on data, and what the taken branch lacks, are named") {
    auto data = branchNet();
    data->input("hit", {}, {1}, Type::Bool);
    CHECK(contains(messageOf(ErrorKind::UnsupportedOperator, [&] { data->lower("y"); }),
                   "\"/If_2\" (If): its condition (\"hit\") depends on data"));
    auto lacking = branchNet();
    lacking->constant(boolsOf("hit", {}, {1}));
    lacking->model.nodes[0].op = "Quux";
    const std::string message =
        messageOf(ErrorKind::UnsupportedOperator, [&] { lacking->lower("y"); });
    CHECK(contains(message, "1 operator of the model is not supported"));
    CHECK(contains(message, "\"/Mul_0\" (Quux): no lowering exists"));
  }

  TEST_CASE("a loop that was not written out says why") {
    for (const std::string op : {"Loop", "Scan"}) {
      Net net;
      net.parameter("x", {1}, {1}).node(op, {"x"}, {"y"}, {{"refused", text("it is endless")}});
      CHECK(contains(messageOf(ErrorKind::UnsupportedOperator, [&] { net.lower("y"); }),
                     "(" + op + "): it is endless"));
    }
  }
}
