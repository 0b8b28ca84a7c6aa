#include <functional>

#include "11-lower.h"

using namespace eigenscope;
using namespace eigenscope::onnx;
using namespace eigenscope::onnx::test;

TEST_SUITE("lowering: indexing, padding, reductions") {
  TEST_CASE("Gather from a parameter by indices that come with the data") {
    Net net;
    net.parameter("table", {3, 2}, {1, 2, 3, 4, 5, 6});
    net.input("ids", {2, 2}, {0, 2, -1, 1}, Type::Int);
    net.node("Gather", {"table", "ids"}, {"y"});
    checkClose(net.run("y"), {1, 2, 5, 6, 5, 6, 3, 4});
    CHECK(net.shape() == Shape{2, 2, 2});
    checkDerivatives(net, "y");
  }

  TEST_CASE("Gather by constants: a slice where they are regular, negative from the end") {
    auto build = [](const std::vector<int64_t>& index, const Shape& shape) {
      auto net = std::make_unique<Net>();
      net->parameter("x", {2, 3}, counting(6)).constant(wholeOf("i", shape, index));
      net->node("Gather", {"x", "i"}, {"y"}, {{"axis", integer(1)}});
      return net;
    };
    auto last = build({-1}, {});
    checkClose(last->run("y"), {3, 6});
    CHECK(last->shape() == Shape{2});
    CHECK(last->countOf(Op::Gather, Scope::Global) == 0);
    auto backwards = build({2, 1, 0}, {3});
    checkClose(backwards->run("y"), {3, 2, 1, 6, 5, 4});
    CHECK(backwards->countOf(Op::Gather, Scope::Global) == 0);
    auto any = build({0, 2, 2, 1}, {2, 2});
    checkClose(any->run("y"), {1, 3, 3, 2, 4, 6, 6, 5});
    CHECK(any->shape() == Shape{2, 2, 2});
    checkDerivatives(*any, "y");
    auto beyond = build({3}, {1});
    const std::string message = messageOf(ErrorKind::DataMismatch, [&] { beyond->lower("y"); });
    CHECK(contains(message, "index 3"));
    CHECK(contains(message, "[2, 3]"));
  }

  TEST_CASE("Gather along an axis of a transposed value keeps its memory order") {
    Net net;
    net.input("x", {2, 3, 4}, counting(24)).input("i", {2}, {2, -3}, Type::Int);
    net.node("Transpose", {"x"}, {"t"}, {{"perm", ints({2, 0, 1})}});
    net.node("Gather", {"t", "i"}, {"g"}, {{"axis", integer(2)}});
    net.node("Transpose", {"g"}, {"y"}, {{"perm", ints({1, 2, 0})}});
    // x[:, [2, 0], :]
    checkClose(net.run("y"), {9, 10, 11, 12, 1, 2, 3, 4, 21, 22, 23, 24, 13, 14, 15, 16});
    CHECK(net.countOf(Op::Permute, Scope::Local) == 0);
  }

  TEST_CASE("GatherElements, GatherND, OneHot and Trilu") {
    Net elements;
    elements.parameter("x", {2, 2}, {1, 2, 3, 4}).input("i", {2, 2}, {0, 0, 1, -2}, Type::Int);
    elements.node("GatherElements", {"x", "i"}, {"y"}, {{"axis", integer(1)}});
    checkClose(elements.run("y"), {1, 1, 4, 3});
    checkDerivatives(elements, "y");
    Net first;
    first.parameter("x", {2, 2}, {1, 2, 3, 4}).constant(wholeOf("i", {1, 2}, {1, 0}));
    first.node("GatherElements", {"x", "i"}, {"y"});
    checkClose(first.run("y"), {3, 2});
    Net nd;
    nd.parameter("x", {2, 2, 2}, counting(8)).constant(wholeOf("i", {2, 2}, {0, 1, 1, -2}));
    nd.node("GatherND", {"x", "i"}, {"y"});
    checkClose(nd.run("y"), {3, 4, 5, 6});
    checkDerivatives(nd, "y");
    Net batched;
    batched.parameter("x", {2, 2, 2}, counting(8)).input("i", {2, 1}, {1, 0}, Type::Int);
    batched.node("GatherND", {"x", "i"}, {"y"}, {{"batch_dims", integer(1)}});
    checkClose(batched.run("y"), {3, 4, 5, 6});
    Net hot;
    hot.input("i", {3}, {1, -1, 5}, Type::Int).known("depth", {3});
    hot.constant(arrayOf("values", {2}, {-1, 2}));
    hot.node("OneHot", {"i", "depth", "values"}, {"y"});
    checkClose(hot.run("y"), {-1, 2, -1, -1, -1, 2, -1, -1, -1});
    for (const bool upper : {false, true}) {
      Net tri;
      tri.parameter("x", {1, 2, 3}, counting(6)).constant(wholeOf("k", {}, {upper ? 1 : 0}));
      tri.node("Trilu", {"x", "k"}, {"y"}, {{"upper", integer(upper)}});
      checkClose(tri.run("y"), upper ? Numbers{0, 2, 3, 0, 0, 6} : Numbers{1, 0, 0, 4, 5, 0});
      checkDerivatives(tri, "y");
    }
  }

  TEST_CASE("Pad with constants, edges, reflections and wraps; negative pads cut") {
    auto run = [](const std::string& mode, const std::vector<int64_t>& pads, double fill = 0) {
      Net net(19);
      net.parameter("x", {1, 4}, {1, 2, 3, 4}).known("pads", pads);
      net.constant(arrayOf("fill", {}, {fill}));
      net.node("Pad", {"x", "pads", "fill"}, {"y"}, {{"mode", text(mode)}});
      checkDerivatives(net, "y");
      return net.run("y");
    };
    checkClose(run("constant", {0, 1, 0, 2}), {0, 1, 2, 3, 4, 0, 0});
    checkClose(run("constant", {0, 1, 1, 0}, 9), {9, 1, 2, 3, 4, 9, 9, 9, 9, 9});
    checkClose(run("constant", {0, -1, 0, 1}, 9), {2, 3, 4, 9});
    checkClose(run("edge", {0, 2, 0, 1}), {1, 1, 1, 2, 3, 4, 4});
    checkClose(run("reflect", {0, 2, 0, 3}), {3, 2, 1, 2, 3, 4, 3, 2, 1});
    checkClose(run("wrap", {0, 1, 0, 2}), {4, 1, 2, 3, 4, 1, 2});
    Net axes(18);
    axes.input("x", {1, 2}, {1, 2}).known("pads", {1, 0}).known("axes", {-1});
    axes.node("Pad", {"x", "pads", "", "axes"}, {"y"});
    checkClose(axes.run("y"), {0, 1, 2});
    Net old(9);
    old.input("x", {1, 2}, {1, 2});
    old.node("Pad", {"x"}, {"y"}, {{"pads", ints({0, 1, 0, 0})}, {"value", number(5)}});
    checkClose(old.run("y"), {5, 1, 2});
  }

  TEST_CASE("CenterCropPad takes the middle, or puts zeros around it") {
    auto run = [](const std::vector<int64_t>& lengths, const Attributes& attributes = {}) {
      Net net(18);
      net.parameter("x", {1, 4}, {1, 2, 3, 4}).known("shape", lengths);
      net.node("CenterCropPad", {"x", "shape"}, {"y"}, attributes);
      checkDerivatives(net, "y");
      return net.run("y");
    };
    checkClose(run({1, 2}), {2, 3});
    checkClose(run({1, 1}), {2});
    checkClose(run({1, 7}), {0, 1, 2, 3, 4, 0, 0});
    checkClose(run({2, 3}), {1, 2, 3, 0, 0, 0});
    checkClose(run({5}, {{"axes", ints({-1})}}), {1, 2, 3, 4, 0});
    Net wrong(18);
    wrong.parameter("x", {1, 4}, counting(4)).known("shape", {1, 2, 3});
    wrong.node("CenterCropPad", {"x", "shape"}, {"y"});
    CHECK(contains(messageOf(ErrorKind::DataMismatch, [&] { wrong.lower("y"); }),
                   "expected a length for each of 2 axes, got 3"));
  }

  TEST_CASE("reductions over some, all and no axes") {
    struct Case {
      std::string op;
      std::function<double(const Numbers&)> expected;
    };
    auto fold = [](double start, std::function<double(double, double)> f) {
      return [=](const Numbers& v) {
        double total = start;
        for (double x : v) total = f(total, x);
        return total;
      };
    };
    const auto sum = fold(0, [](double a, double b) { return a + b; });
    const auto squares = fold(0, [](double a, double b) { return a + b * b; });
    const auto powers = fold(0, [](double a, double b) { return a + std::exp(b); });
    const std::vector<Case> cases = {
        {"ReduceSum", sum},
        {"ReduceMean", [&](const Numbers& v) { return sum(v) / static_cast<double>(v.size()); }},
        {"ReduceMax", fold(-INFINITY, [](double a, double b) { return std::fmax(a, b); })},
        {"ReduceMin", fold(INFINITY, [](double a, double b) { return std::fmin(a, b); })},
        {"ReduceProd", fold(1, [](double a, double b) { return a * b; })},
        {"ReduceL1", fold(0, [](double a, double b) { return a + std::fabs(b); })},
        {"ReduceL2", [&](const Numbers& v) { return std::sqrt(squares(v)); }},
        {"ReduceSumSquare", squares},
        {"ReduceLogSum", [&](const Numbers& v) { return std::log(sum(v)); }},
        {"ReduceLogSumExp", [&](const Numbers& v) { return std::log(powers(v)); }},
    };
    for (const Case& one : cases) {
      CAPTURE(one.op);
      Numbers x = scattered(12);
      if (one.op == "ReduceLogSum")
        for (double& v : x) v = std::fabs(v);
      auto at = [&](int64_t i, int64_t j, int64_t k) { return x[(i * 3 + j) * 2 + k]; };
      // Axis 1 of [2, 3, 2], as attribute or as input.
      Numbers middle;
      for (int64_t i = 0; i < 2; ++i)
        for (int64_t k = 0; k < 2; ++k)
          middle.push_back(one.expected({at(i, 0, k), at(i, 1, k), at(i, 2, k)}));
      for (const int64_t opset : {11, 18}) {
        Net net(opset);
        net.parameter("x", {2, 3, 2}, x).known("axes", {-2});
        if (opset == 11)
          net.node(one.op, {"x"}, {"y"}, {{"axes", ints({1})}});
        else
          net.node(one.op, {"x", "axes"}, {"y"}, {{"keepdims", integer(0)}});
        checkClose(net.run("y"), middle);
        CHECK(net.shape() == (opset == 11 ? Shape{2, 1, 2} : Shape{2, 2}));
        checkDerivatives(net, "y", 1e-6);
      }
      Net all(18);
      all.parameter("x", {2, 3, 2}, x);
      all.node(one.op, {"x"}, {"y"}, {{"keepdims", integer(0)}});
      checkClose(all.run("y"), {one.expected(x)});
      CHECK(all.shape() == Shape{});
      // The outer axes together, of a transposed value.
      Net outer(18);
      outer.parameter("x", {2, 3, 2}, x).known("axes", {0, 2});
      outer.node("Transpose", {"x"}, {"t"}, {{"perm", ints({0, 2, 1})}});
      outer.node(one.op, {"t", "axes"}, {"y"});
      Numbers ends;
      for (int64_t k = 0; k < 2; ++k)
        ends.push_back(one.expected(
            {at(0, 0, k), at(0, 1, k), at(0, 2, k), at(1, 0, k), at(1, 1, k), at(1, 2, k)}));
      checkClose(outer.run("y"), ends);
      Net none(18);
      none.parameter("x", {2, 3, 2}, x);
      none.node(one.op, {"x"}, {"y"}, {{"noop_with_empty_axes", integer(1)}});
      CHECK(none.run("y").size() == 12);
      Net known(18);
      known.constant(arrayOf("x", {2, 3, 2}, x)).known("axes", {1});
      known.node(one.op, {"x", "axes"}, {"y"});
      checkClose(known.run("y"), middle);
    }
  }

  TEST_CASE("what has no value over no elements is an error") {
    for (const char* op : {"ReduceMax", "ReduceMin", "ReduceLogSumExp"}) {
      CAPTURE(std::string(op));
      Net net;
      net.parameter("x", {2, 0, 3}, {}).node(op, {"x"}, {"y"}, {{"axes", ints({1})}});
      CHECK(contains(messageOf(ErrorKind::DataMismatch, [&] { net.lower("y"); }), "no elements"));
    }
    Net net;
    net.parameter("x", {2, 0, 3}, {}).node("ReduceSum", {"x"}, {"y"}, {{"axes", ints({1})}});
    checkClose(net.run("y"), {0, 0, 0, 0, 0, 0});
  }

  TEST_CASE("running sums, forwards and backwards") {
    for (const bool exclusive : {false, true})
      for (const bool reverse : {false, true}) {
        Numbers expected = {1, 3, 6};
        if (exclusive) expected = {0, 1, 3};
        if (reverse) expected = exclusive ? Numbers{5, 3, 0} : Numbers{6, 5, 3};
        for (const bool parameter : {false, true}) {
          Net net;
          if (parameter)
            net.parameter("x", {1, 3}, {1, 2, 3});
          else
            net.constant(arrayOf("x", {1, 3}, {1, 2, 3}));
          net.constant(wholeOf("axis", {}, {1}));
          net.node("CumSum", {"x", "axis"}, {"y"},
                   {{"exclusive", integer(exclusive)}, {"reverse", integer(reverse)}});
          checkClose(net.run("y"), expected);
          if (parameter) checkDerivatives(net, "y");
        }
      }
  }

  TEST_CASE("CumProd, also through zeros") {
    for (const bool exclusive : {false, true})
      for (const bool reverse : {false, true}) {
        Numbers expected = exclusive ? Numbers{1, 2, 0} : Numbers{2, 0, 0};
        if (reverse) expected = exclusive ? Numbers{0, 3, 1} : Numbers{0, 0, 3};
        Net net(26);
        net.parameter("x", {1, 3}, {2, 0, 3}).constant(wholeOf("axis", {}, {-1}));
        net.node("CumProd", {"x", "axis"}, {"y"},
                 {{"exclusive", integer(exclusive)}, {"reverse", integer(reverse)}});
        checkClose(net.run("y"), expected);
        checkDerivatives(net, "y");
      }
    Net large(26);
    large.parameter("x", {5000}, Numbers(5000, 1)).constant(wholeOf("axis", {}, {0}));
    large.node("CumProd", {"x", "axis"}, {"y"});
    CHECK(contains(messageOf(ErrorKind::UnsupportedOperator, [&] { large.lower("y"); }),
                   "running products of 5000 elements"));
  }

  TEST_CASE("Compress along an axis and of all elements, ReverseSequence, Hardmax") {
    Net rows;
    rows.parameter("x", {2, 3}, counting(6)).constant(boolsOf("m", {3}, {1, 0, 1}));
    rows.node("Compress", {"x", "m"}, {"y"}, {{"axis", integer(-1)}});
    checkClose(rows.run("y"), {1, 3, 4, 6});
    CHECK(rows.shape() == Shape{2, 2});
    checkDerivatives(rows, "y");
    Net flat;
    flat.parameter("x", {2, 3}, counting(6)).constant(boolsOf("m", {5}, {0, 1, 0, 0, 1}));
    flat.node("Compress", {"x", "m"}, {"y"});
    checkClose(flat.run("y"), {2, 5});

    for (const bool known : {true, false}) {
      Net back;  // time by batch by width
      back.parameter("x", {3, 2, 1}, {1, 10, 2, 20, 3, 30});
      if (known)
        back.constant(wholeOf("n", {2}, {2, 3}));
      else
        back.input("n", {2}, {2, 3}, Type::Int);
      back.node("ReverseSequence", {"x", "n"}, {"y"});
      checkClose(back.run("y"), {2, 30, 1, 20, 3, 10});
      checkDerivatives(back, "y");
    }

    Net hard;
    hard.input("x", {2, 3}, {1, 5, 5, 2, 0, 1}).node("Hardmax", {"x"}, {"y"});
    checkClose(hard.run("y"), {0, 1, 0, 1, 0, 0});
    Net old(12);
    old.input("x", {2, 1, 2}, {1, 2, 4, 3}).node("Hardmax", {"x"}, {"y"}, {{"axis", integer(0)}});
    checkClose(old.run("y"), {0, 0, 1, 0});
  }

  TEST_CASE("DequantizeLinear for all and along an axis") {
    Net one;
    one.input("x", {2, 2}, {130, 128, 0, 255}, Type::Int).parameter("s", {}, {0.5});
    one.constant(wholeOf("z", {}, {128}));
    one.node("DequantizeLinear", {"x", "s", "z"}, {"y"});
    checkClose(one.run("y"), {1, 0, -64, 63.5});
    checkDerivatives(one, "y");
    Net each;
    each.input("x", {2, 2}, {1, 2, 3, 4}, Type::Int).parameter("s", {2}, {10, 100});
    each.node("DequantizeLinear", {"x", "s"}, {"y"}, {{"axis", integer(0)}});
    checkClose(each.run("y"), {10, 20, 300, 400});
    each.model.nodes[0].attributes["block_size"] = integer(2);
    CHECK(contains(messageOf(ErrorKind::UnsupportedOperator, [&] { each.lower("y"); }), "block"));
  }

  TEST_CASE("operators that are only evaluated on constants") {
    Net where;
    where.constant(wholeOf("x", {2, 2}, {1, 0, 1, 1}));
    where.node("NonZero", {"x"}, {"y"});
    checkClose(where.run("y"), {0, 1, 1, 0, 0, 1});
    CHECK(where.shape() == Shape{2, 3});
    for (const std::string op : {"ArgMax", "ArgMin"}) {
      Net arg;
      arg.constant(arrayOf("x", {2, 3}, {1, 3, 3, 0, -1, -1}));
      arg.node(op, {"x"}, {"y"}, {{"axis", integer(1)}, {"keepdims", integer(0)}});
      checkClose(arg.run("y"), op == "ArgMax" ? Numbers{1, 0} : Numbers{0, 1});
      Net last;
      last.constant(arrayOf("x", {2, 3}, {1, 3, 3, 0, -1, -1}));
      last.node(op, {"x"}, {"y"}, {{"axis", integer(-1)}, {"select_last_index", integer(1)}});
      checkClose(last.run("y"), op == "ArgMax" ? Numbers{2, 0} : Numbers{0, 2});
    }
    Net eye;
    eye.constant(arrayOf("x", {2, 3}, Numbers(6, 7)));
    eye.node("EyeLike", {"x"}, {"y"}, {{"k", integer(1)}});
    checkClose(eye.run("y"), {0, 1, 0, 0, 0, 1});
    Net size;
    size.input("x", {2, 3}, counting(6));
    size.node("Size", {"x"}, {"n"}).node("Cast", {"n"}, {"y"}, {{"to", integer(1)}});
    checkClose(size.run("y"), {6});
    Net data;
    data.input("x", {2, 2}, {1, 0, 1, 1});
    data.node("NonZero", {"x"}, {"y"});
    CHECK(contains(messageOf(ErrorKind::UnsupportedOperator, [&] { data.lower("y"); }),
                   "depends on data"));
  }

  TEST_CASE("running sums and masks of integers that come with the data are refused, not wrong") {
    Net net;
    net.input("x", {3}, {1, 2, 3}, Type::Int).constant(wholeOf("axis", {}, {0}));
    net.node("CumSum", {"x", "axis"}, {"y"});
    CHECK(contains(messageOf(ErrorKind::UnsupportedOperator, [&] { net.lower("y"); }), "integers"));
    Net divided;
    divided.input("x", {3}, {1, 2, 3}, Type::Int).constant(wholeOf("two", {}, {2}));
    divided.node("Div", {"x", "two"}, {"y"});
    CHECK(contains(messageOf(ErrorKind::UnsupportedOperator, [&] { divided.lower("y"); }),
                   "division"));
  }
}
