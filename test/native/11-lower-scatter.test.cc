#include "11-lower.h"

using namespace eigenscope;
using namespace eigenscope::onnx;
using namespace eigenscope::onnx::test;

TEST_SUITE("lowering: scatter and the largest elements") {
  TEST_CASE("Scatter and ScatterElements place elements; the last write of a place stays") {
    for (const std::string op : {"Scatter", "ScatterElements"}) {
      Net net(op == "Scatter" ? 9 : 13);
      net.parameter("x", {3, 2}, {1, 2, 3, 4, 5, 6}).parameter("u", {2, 2}, {10, 20, 30, 40});
      net.constant(wholeOf("i", {2, 2}, {2, 0, 2, 1}));
      net.node(op, {"x", "i", "u"}, {"y"});
      checkClose(net.run("y"), {1, 20, 3, 40, 30, 6});
      checkDerivatives(net, "y");
    }
  }

  TEST_CASE("reductions of repeated places, by constants and by data") {
    auto run = [](const std::string& reduction, bool known) {
      auto net = std::make_unique<Net>(18);
      net->parameter("x", {4}, {1, 2, 3, 4}).parameter("u", {3}, {5, -7, 0.5});
      if (known)
        net->constant(wholeOf("i", {3}, {1, 1, -1}));
      else
        net->input("i", {3}, {1, 1, -1}, Type::Int);
      net->node("ScatterElements", {"x", "i", "u"}, {"y"}, {{"reduction", text(reduction)}});
      return net;
    };
    checkClose(run("add", true)->run("y"), {1, 0, 3, 4.5});
    checkClose(run("add", false)->run("y"), {1, 0, 3, 4.5});
    checkClose(run("mul", true)->run("y"), {1, -70, 3, 2});
    checkClose(run("max", true)->run("y"), {1, 5, 3, 4});
    checkClose(run("min", true)->run("y"), {1, -7, 3, 0.5});
    for (const std::string reduction : {"add", "mul", "max", "min"})
      checkDerivatives(*run(reduction, true), "y");
    checkDerivatives(*run("add", false), "y");
    auto mul = run("mul", false);
    const std::string message = messageOf(ErrorKind::UnsupportedOperator, [&] { mul->lower("y"); });
    CHECK(contains(message, "reduction mul"));
    CHECK(contains(message, "/ScatterElements_0"));
    auto other = run("median", true);
    CHECK(contains(messageOf(ErrorKind::UnsupportedOperator, [&] { other->lower("y"); }),
                   "reduction median"));
  }

  TEST_CASE("TensorScatter writes steps where each sample is, around the end where asked") {
    auto run = [](const Attributes& attributes, const Numbers& at) {
      Net net(24);
      net.parameter("cache", {2, 3, 1}, counting(6)).parameter("new", {2, 2, 1}, {10, 20, 30, 40});
      net.input("at", {2}, at, Type::Int);
      net.node("TensorScatter", {"cache", "new", "at"}, {"y"}, attributes);
      checkDerivatives(net, "y");
      return net.run("y");
    };
    const Numbers old = counting(6);
    checkClose(run({}, {0, 1}), {10, 20, old[2], old[3], 30, 40});
    checkClose(run({{"mode", text("circular")}}, {2, 4}), {20, old[1], 10, old[3], 30, 40});
    auto fail = [](const Attributes& attributes, Shape update, ErrorKind kind) {
      Net net(24);
      const Numbers values = counting(count(update));
      net.parameter("cache", {2, 3, 1}, counting(6)).parameter("new", update, values);
      net.node("TensorScatter", {"cache", "new"}, {"y"}, attributes);
      return messageOf(kind, [&] { net.lower("y"); });
    };
    CHECK(contains(fail({}, {2, 4, 1}, ErrorKind::DataMismatch),
                   "the update [2, 4, 1] does not fit the cache [2, 3, 1] along axis 1"));
    CHECK(contains(fail({{"axis", integer(0)}}, {2, 3, 1}, ErrorKind::DataMismatch), "axis 0"));
    CHECK(contains(fail({{"mode", text("ring")}}, {2, 1, 1}, ErrorKind::UnsupportedOperator),
                   "attribute mode = ring"));
  }

  TEST_CASE("ScatterND places rows, also at positions that come with the data") {
    for (const bool known : {true, false}) {
      Net net(16);
      net.parameter("x", {3, 2}, counting(6)).parameter("u", {2, 2}, {10, 20, 30, 40});
      if (known)
        net.constant(wholeOf("i", {2, 1}, {-1, 0}));
      else
        net.input("i", {2, 1}, {-1, 0}, Type::Int);
      net.node("ScatterND", {"x", "i", "u"}, {"y"});
      checkClose(net.run("y"), {30, 40, 3, 4, 10, 20});
      checkDerivatives(net, "y");
    }
    Net whole;
    whole.input("x", {3}, {1, 2, 3}, Type::Int).input("i", {1, 1}, {1}, Type::Int);
    whole.constant(wholeOf("u", {1}, {9})).node("ScatterND", {"x", "i", "u"}, {"y"});
    checkClose(whole.run("y"), {1, 9, 3});
  }

  TEST_CASE("positions and updates that do not fit are named") {
    auto fail = [](const std::vector<int64_t>& index, const Shape& updates) {
      Net net;
      net.parameter("x", {3, 2}, counting(6)).parameter("u", updates, counting(count(updates)));
      net.constant(wholeOf("i", {static_cast<int64_t>(index.size()), 1}, index));
      net.node("ScatterND", {"x", "i", "u"}, {"y"});
      return messageOf(ErrorKind::DataMismatch, [&] { net.lower("y"); });
    };
    CHECK(contains(fail({3}, {1, 2}), "index 3 is out of range for axis 0 of [3]"));
    CHECK(contains(fail({0, 1}, {2, 3}), "expected updates [2, 2]"));
  }

  TEST_CASE("TopK picks by value, the first of equals first, along any axis") {
    Net net;
    net.parameter("x", {2, 4}, {3, -1, 7, 5, -INFINITY, 0, -INFINITY, -INFINITY}).known("k", {3});
    net.node("TopK", {"x", "k"}, {"values", "places"});
    net.node("Cast", {"places"}, {"y"}, {{"to", integer(1)}});
    checkClose(net.run("y"), {2, 3, 0, 1, 0, 2});
    Net ties;
    ties.parameter("x", {3, 2}, {1, 4, 1, 5, 0, 6}).known("k", {2});
    ties.node("TopK", {"x", "k"}, {"values", "y"}, {{"axis", integer(0)}});
    checkClose(ties.run("y"), {0, 2, 1, 1});
    Net least;
    least.parameter("x", {1, 4}, {3, -1, 7, 5}).known("k", {2});
    least.node("TopK", {"x", "k"}, {"y", "places"}, {{"largest", integer(0)}});
    checkClose(least.run("y"), {-1, 3});
    checkDerivatives(least, "y");
    Net known;
    known.constant(wholeOf("x", {4}, {3, -1, 7, 5})).known("k", {2}).parameter("p", {2}, {1, 1});
    known.node("TopK", {"x", "k"}, {"values", "places"});
    known.node("Cast", {"places"}, {"r"}, {{"to", integer(1)}}).node("Mul", {"r", "p"}, {"y"});
    checkClose(known.run("y"), {2, 3});
    Net beyond;
    beyond.parameter("x", {1, 4}, counting(4)).known("k", {5});
    beyond.node("TopK", {"x", "k"}, {"y", "places"});
    CHECK(contains(messageOf(ErrorKind::DataMismatch, [&] { beyond.lower("y"); }),
                   "the 5 largest of 4 along axis 1 of [1, 4]"));
  }

  TEST_CASE("MeanVarianceNormalization of a sample; over the batch it is refused") {
    Net net;
    net.parameter("x", {2, 2}, {1, 3, -2, 6});
    net.node("MeanVarianceNormalization", {"x"}, {"y"}, {{"axes", ints({1})}});
    checkClose(net.run("y"), {-1, 1, -1, 1}, 1e-8);
    checkDerivatives(net, "y");
    Net batch;
    batch.parameter("x", {2, 2, 1, 1}, counting(4));
    batch.node("MeanVarianceNormalization", {"x"}, {"y"});
    CHECK(contains(messageOf(ErrorKind::UnsupportedOperator, [&] { batch.lower("y"); }),
                   "its axes contain the batch"));
  }
}
