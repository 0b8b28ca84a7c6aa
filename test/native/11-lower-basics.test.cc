#include "11-lower.h"

using namespace eigenscope;
using namespace eigenscope::onnx;
using namespace eigenscope::onnx::test;

TEST_SUITE("lowering: dense networks and shapes") {
  TEST_CASE("Gemm with transposes, alpha, beta and a broadcast bias") {
    for (int transA = 0; transA < 2; ++transA)
      for (int transB = 0; transB < 2; ++transB) {
        Net net;
        net.input("x", transA ? Shape{2, 1} : Shape{1, 2}, {1, 2});
        net.parameter("w", transB ? Shape{3, 2} : Shape{2, 3},
                      transB ? Numbers{1, 4, 2, 5, 3, 6} : Numbers{1, 2, 3, 4, 5, 6});
        net.parameter("b", {3}, {10, 20, 30});
        net.node("Gemm", {"x", "w", "b"}, {"y"},
                 {{"transA", integer(transA)},
                  {"transB", integer(transB)},
                  {"alpha", number(2)},
                  {"beta", number(0.5)}});
        checkClose(net.run("y"), {2 * 9 + 5, 2 * 12 + 10, 2 * 15 + 15});
        CHECK(net.shape() == Shape{1, 3});
        CHECK(net.countOf(Op::Permute, Scope::Local) == 0);
      }
  }

  TEST_CASE("an MLP is two contractions and no movement") {
    Net net;
    net.input("x", {2, 3}, {1, -1, 2, 0, 3, -2});
    net.parameter("fc1.weight", {2, 3}, {1, 0, 2, -1, 1, 1}).parameter("fc1.bias", {2}, {0, 1});
    net.parameter("fc2.weight", {1, 2}, {2, -3}).parameter("fc2.bias", {1}, {0.5});
    net.node("Gemm", {"x", "fc1.weight", "fc1.bias"}, {"h"}, {{"transB", integer(1)}});
    net.node("Relu", {"h"}, {"r"});
    net.node("Gemm", {"r", "fc2.weight", "fc2.bias"}, {"y"}, {{"transB", integer(1)}});
    // h = [[5, 1], [-4, 2]]
    checkClose(net.run("y"), {10 - 3 + 0.5, -6 + 0.5});
    CHECK(net.countOf(Op::Dot, Scope::Local) == 2);
    CHECK(net.countOf(Op::Permute, Scope::Local) == 0);
    CHECK(net.countOf(Op::Permute, Scope::Global) == 0);
    CHECK(net.lowered.activation.empty());
  }

  TEST_CASE("MatMul of every rank, with broadcast batch axes") {
    SUBCASE("matrix by vector") {
      Net net;
      net.input("a", {2, 2}, {1, 2, 3, 4}).parameter("b", {2}, {10, 1});
      net.node("MatMul", {"a", "b"}, {"y"});
      checkClose(net.run("y"), {12, 34});
      CHECK(net.shape() == Shape{2});
    }
    SUBCASE("vector by matrix") {
      Net net;
      net.input("a", {2}, {10, 1}).parameter("b", {2, 2}, {1, 2, 3, 4});
      net.node("MatMul", {"a", "b"}, {"y"});
      checkClose(net.run("y"), {13, 24});
    }
    SUBCASE("vector by vector") {
      Net net;
      net.input("a", {2}, {10, 1}).parameter("b", {2}, {1, 2});
      net.node("MatMul", {"a", "b"}, {"y"});
      checkClose(net.run("y"), {12});
      CHECK(net.shape() == Shape{});
    }
    SUBCASE("[2, 1, 1, 2] by [3, 2, 1]: nothing is copied") {
      Net net;
      net.input("a", {2, 1, 1, 2}, {1, 2, 3, 4}).parameter("b", {3, 2, 1}, {1, 1, 1, 0, 0, 1});
      net.node("MatMul", {"a", "b"}, {"y"});
      checkClose(net.run("y"), {3, 1, 2, 7, 3, 4});
      CHECK(net.shape() == Shape{2, 3, 1, 1});
      CHECK(net.countOf(Op::Broadcast, Scope::Local) == 0);
    }
    SUBCASE("inner sizes that differ name the node") {
      Net net;
      net.input("a", {2, 3}, Numbers(6, 1)).parameter("b", {2, 2}, {1, 2, 3, 4});
      net.node("MatMul", {"a", "b"}, {"y"});
      const std::string message = messageOf(ErrorKind::DataMismatch, [&] { net.lower("y"); });
      CHECK(contains(message, "/MatMul_0"));
      CHECK(contains(message, "[2, 3]"));
    }
  }

  TEST_CASE("attention moves nothing, not even when it merges its heads") {
    // [B, T, heads * d] as two heads, scores, softmax, weighted values, heads merged.
    const int64_t batch = 2, length = 3, heads = 2, size = 2;
    Net net;
    for (const char* name : {"q", "k", "v"})
      net.input(name, {batch, length, heads * size},
                scattered(batch * length * heads * size, name[0]));
    net.known("apart", {batch, length, heads, size}).known("whole", {batch, length, -1});
    for (const std::string name : {"q", "k", "v"}) {
      net.node("Reshape", {name, "apart"}, {name + "1"});
      net.node("Transpose", {name + "1"}, {name + "2"},
               {{"perm", ints(name == "k" ? std::vector<int64_t>{0, 2, 3, 1}
                                          : std::vector<int64_t>{0, 2, 1, 3})}});
    }
    net.node("MatMul", {"q2", "k2"}, {"scores"});
    net.node("Softmax", {"scores"}, {"p"}, {{"axis", integer(-1)}});
    net.node("MatMul", {"p", "v2"}, {"o"});
    net.node("Transpose", {"o"}, {"o1"}, {{"perm", ints({0, 2, 1, 3})}});
    net.node("Reshape", {"o1", "whole"}, {"y"});
    const Numbers got = net.run("y");
    CHECK(net.shape() == Shape{batch, length, heads * size});
    CHECK(net.countOf(Op::Permute, Scope::Local) == 0);
    Numbers expected;
    auto at = [&](int slot, int64_t b, int64_t t, int64_t h, int64_t d) {
      return net.leaves.inputs[slot][((b * length + t) * heads + h) * size + d];
    };
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t t = 0; t < length; ++t)
        for (int64_t h = 0; h < heads; ++h) {
          Numbers p(length);
          double total = 0;
          for (int64_t s = 0; s < length; ++s) {
            for (int64_t d = 0; d < size; ++d) p[s] += at(0, b, t, h, d) * at(1, b, s, h, d);
            total += p[s] = std::exp(p[s]);
          }
          for (int64_t d = 0; d < size; ++d) {
            double o = 0;
            for (int64_t s = 0; s < length; ++s) o += p[s] / total * at(2, b, s, h, d);
            expected.push_back(o);
          }
        }
    checkClose(got, expected);
  }

  TEST_CASE("Einsum renames, sums and contracts") {
    Net net;
    net.input("a", {2, 3}, {1, 2, 3, 4, 5, 6}).parameter("b", {3, 2}, {1, 0, 0, 1, 1, 1});
    SUBCASE("matrix product, transposed") {
      net.node("Einsum", {"a", "b"}, {"y"}, {{"equation", text("bK, Ko -> ob")}});
      checkClose(net.run("y"), {4, 10, 5, 11});
    }
    SUBCASE("implicit output") {
      net.node("Einsum", {"a"}, {"y"}, {{"equation", text("ji")}});
      checkClose(net.run("y"), {1, 4, 2, 5, 3, 6});
    }
    SUBCASE("a label that one operand alone sums over") {
      net.node("Einsum", {"a", "b"}, {"y"}, {{"equation", text("bi,jo->b")}});
      checkClose(net.run("y"), {6 * 4, 15 * 4});
    }
  }

  TEST_CASE("shape arithmetic of a dynamic batch folds away") {
    // x.view(x.size(0), -1) as PyTorch exports it.
    Net net;
    net.input("x", {4, 2, 3}, counting(24));
    net.node("Shape", {"x"}, {"s"});
    net.constant(wholeOf("zero", {}, {0}));
    net.node("Gather", {"s", "zero"}, {"n"}, {{"axis", integer(0)}});
    net.known("axes", {0}).known("rest", {-1});
    net.node("Unsqueeze", {"n", "axes"}, {"n1"});
    net.node("Concat", {"n1", "rest"}, {"target"}, {{"axis", integer(0)}});
    net.node("Reshape", {"x", "target"}, {"y"});
    checkClose(net.run("y"), counting(24));
    CHECK(net.shape() == Shape{4, 6});
    CHECK(reachable(net.graph, {net.lowered.output}).size() == 2);
  }

  TEST_CASE("integer arithmetic on constants is ONNX's") {
    Net net(18);
    net.known("a", {-7, 7, 5}).known("b", {2, -2, 5});
    auto check = [&](const std::string& op, const Numbers& expected, Attributes attributes = {}) {
      Net one(18);
      one.known("a", {-7, 7, 5}).known("b", {2, -2, 5});
      one.node(op, {"a", "b"}, {"y"}, attributes);
      CAPTURE(op);
      checkClose(one.run("y"), expected);
    };
    check("Add", {-5, 5, 10});
    check("Sub", {-9, 9, 0});
    check("Mul", {-14, -14, 25});
    check("Div", {-3, -3, 1});
    check("Mod", {1, -1, 0});
    check("Mod", {-1, 1, 0}, {{"fmod", integer(1)}});
    check("Equal", {0, 0, 1});
    check("Less", {1, 0, 0});
    check("LessOrEqual", {1, 0, 1});
    check("Greater", {0, 1, 0});
    check("GreaterOrEqual", {0, 1, 1});
    check("Max", {2, 7, 5});
    check("Min", {-7, -2, 5});
  }

  TEST_CASE("Reshape copies with 0, infers with -1, and refuses what does not fit") {
    Net net;
    net.input("x", {2, 3, 4}, counting(24));
    SUBCASE("0 and -1") {
      net.known("s", {0, -1});
      net.node("Reshape", {"x", "s"}, {"y"});
      net.run("y");
      CHECK(net.shape() == Shape{2, 12});
    }
    SUBCASE("no fit") {
      net.known("s", {5, -1});
      net.node("Reshape", {"x", "s"}, {"y"});
      CHECK(contains(messageOf(ErrorKind::DataMismatch, [&] { net.lower("y"); }), "[2, 3, 4]"));
    }
    SUBCASE("a target that comes with the data") {
      net.input("s", {2}, {2, 12}, Type::Int);
      net.node("Reshape", {"x", "s"}, {"y"});
      const std::string message =
          messageOf(ErrorKind::UnsupportedOperator, [&] { net.lower("y"); });
      CHECK(contains(message, "\"s\""));
      CHECK(contains(message, "/Reshape_0"));
    }
  }

  TEST_CASE("Transpose, Squeeze and Unsqueeze are free until memory order is asked for") {
    Net net;
    net.input("x", {2, 1, 3}, {1, 2, 3, 4, 5, 6});
    net.node("Transpose", {"x"}, {"t"}, {{"perm", ints({2, 1, 0})}});
    net.known("axes", {1});
    net.node("Squeeze", {"t", "axes"}, {"u"});
    net.node("Transpose", {"u"}, {"y"});
    checkClose(net.run("y"), {1, 2, 3, 4, 5, 6});
    CHECK(net.shape() == Shape{2, 3});
    CHECK(net.countOf(Op::Permute, Scope::Local) == 0);
    Net again;
    again.input("x", {2, 1, 3}, {1, 2, 3, 4, 5, 6});
    again.node("Transpose", {"x"}, {"y"}, {{"perm", ints({2, 1, 0})}});
    checkClose(again.run("y"), {1, 4, 2, 5, 3, 6});
  }

  TEST_CASE("axes as attributes before opset 13 and as inputs after") {
    for (int64_t opset : {11, 13}) {
      Net net(opset);
      net.input("x", {2, 3}, counting(6)).known("axes", {0, 3});
      if (opset < 13)
        net.node("Unsqueeze", {"x"}, {"y"}, {{"axes", ints({0, 3})}});
      else
        net.node("Unsqueeze", {"x", "axes"}, {"y"});
      net.run("y");
      CHECK(net.shape() == Shape{1, 2, 3, 1});
    }
  }

  TEST_CASE("Slice clamps, steps backwards and takes INT64 ends") {
    auto check = [](int64_t start, int64_t end, int64_t step, const Numbers& expected) {
      Net net;
      net.input("x", {5}, {0, 1, 2, 3, 4});
      net.known("start", {start}).known("end", {end}).known("axis", {0}).known("step", {step});
      net.node("Slice", {"x", "start", "end", "axis", "step"}, {"y"});
      CAPTURE(start);
      CAPTURE(end);
      CAPTURE(step);
      checkClose(net.run("y"), expected);
    };
    check(1, 3, 1, {1, 2});
    check(-2, INT64_MAX, 1, {3, 4});
    check(0, 100, 2, {0, 2, 4});
    check(-1, INT64_MIN + 1, -1, {4, 3, 2, 1, 0});
    check(10, 0, -2, {4, 2});
    check(3, 1, -1, {3, 2});
    Net old(9);
    old.input("x", {2, 3}, counting(6));
    old.node("Slice", {"x"}, {"y"},
             {{"starts", ints({1})}, {"ends", ints({3})}, {"axes", ints({1})}});
    checkClose(old.run("y"), {2, 3, 5, 6});
  }

  TEST_CASE("Split by sizes, evenly and with a smaller last part") {
    Net net(13);
    net.input("x", {5, 1}, counting(5)).known("sizes", {2, 3});
    net.node("Split", {"x", "sizes"}, {"a", "b"});
    checkClose(net.run("b"), {3, 4, 5});
    Net last(18);
    last.input("x", {5}, counting(5));
    last.node("Split", {"x"}, {"a", "b"}, {{"num_outputs", integer(2)}});
    checkClose(last.run("b"), {4, 5});
  }

  TEST_CASE("Concat, Expand and Tile") {
    Net net;
    net.input("x", {1, 2}, {1, 2}).parameter("p", {2, 2}, {3, 4, 5, 6});
    net.node("Concat", {"x", "p"}, {"c"}, {{"axis", integer(0)}});
    checkClose(net.run("c"), {1, 2, 3, 4, 5, 6});
    Net expand;
    expand.parameter("t", {1, 1, 2}, {7, 8}).known("shape", {3, 1, 1});
    expand.node("Expand", {"t", "shape"}, {"y"});
    checkClose(expand.run("y"), {7, 8, 7, 8, 7, 8});
    CHECK(expand.shape() == Shape{3, 1, 2});
    Net tile;
    tile.input("x", {1, 2}, {1, 2}).known("n", {2, 2});
    tile.node("Tile", {"x", "n"}, {"y"});
    checkClose(tile.run("y"), {1, 2, 1, 2, 1, 2, 1, 2});
  }

  TEST_CASE("Constant in each of its forms") {
    auto run = [](const std::string& name, const Attribute& value) {
      Net net;
      net.node("Constant", {}, {"c"}, {{name, value}})
          .node("Cast", {"c"}, {"y"}, {{"to", integer(1)}});
      const Numbers values = net.run("y");
      return std::pair(values, net.shape());
    };
    const std::pair scalar(Numbers{2}, Shape{}), vector(Numbers{2, 3}, Shape{2});
    CHECK(run("value_float", number(2)) == scalar);
    CHECK(run("value_int", integer(2)) == scalar);
    CHECK(run("value_floats", {.ints = {}, .floats = {2, 3}, .strings = {}, .tensor = {}}) ==
          vector);
    CHECK(run("value_ints", ints({2, 3})) == vector);
    CHECK(run("value", tensor(arrayOf("v", {2}, {2, 3}))) == vector);
    Net words;
    words.node("Constant", {}, {"y"}, {{"value_string", text("no")}});
    messageOf(ErrorKind::UnsupportedOperator, [&] { words.lower("y"); });
  }

  TEST_CASE("sequences are taken apart again") {
    Net net;
    net.input("x", {2, 5}, counting(10));
    SUBCASE("parts of equal length, the last one shorter") {
      net.constant(wholeOf("each", {}, {2})).constant(wholeOf("last", {}, {-1}));
      net.node("SplitToSequence", {"x", "each"}, {"s"}, {{"axis", integer(1)}});
      net.node("SequenceAt", {"s", "last"}, {"y"});
      checkClose(net.run("y"), {5, 10});
    }
    SUBCASE("given lengths, joined in another order") {
      net.known("sizes", {2, 3}).constant(wholeOf("0", {}, {0})).constant(wholeOf("1", {}, {1}));
      net.node("SplitToSequence", {"x", "sizes"}, {"s"}, {{"axis", integer(1)}});
      net.node("SequenceAt", {"s", "0"}, {"a"}).node("SequenceAt", {"s", "1"}, {"b"});
      net.node("SequenceConstruct", {"b", "a"}, {"t"});
      net.node("ConcatFromSequence", {"t"}, {"y"}, {{"axis", integer(1)}});
      checkClose(net.run("y"), {3, 4, 5, 1, 2, 8, 9, 10, 6, 7});
    }
    SUBCASE("rows without their axis, stacked along another") {
      net.node("SplitToSequence", {"x"}, {"s"}, {{"keepdims", integer(0)}});
      net.node("ConcatFromSequence", {"s"}, {"y"},
               {{"axis", integer(1)}, {"new_axis", integer(1)}});
      checkClose(net.run("y"), {1, 6, 2, 7, 3, 8, 4, 9, 5, 10});
      net.node("SequenceLength", {"s"}, {"n"});
      checkClose(net.run("n"), {2});
    }
    SUBCASE("other operators refuse them") {
      net.node("SplitToSequence", {"x"}, {"s"}).node("Relu", {"s"}, {"y"});
      CHECK(
          contains(messageOf(ErrorKind::UnsupportedOperator, [&] { net.lower("y"); }), "sequence"));
      messageOf(ErrorKind::UnsupportedOperator, [&] { net.lower("s"); });
    }
  }

  TEST_CASE("an input of any rank takes what it is given") {
    Net net;
    net.input("x", {2, 2}, {-1, 2, -3, 4});
    net.model.inputs[0].dims.clear();
    net.model.inputs[0].anyRank = true;
    net.node("Relu", {"x"}, {"y"});
    checkClose(net.run("y"), {0, 2, 0, 4});
  }

  TEST_CASE("DepthToSpace and SpaceToDepth") {
    for (const char* mode : {"DCR", "CRD"}) {
      Net net;
      net.input("x", {1, 4, 1, 2}, counting(8));
      net.node("DepthToSpace", {"x"}, {"y"}, {{"blocksize", integer(2)}, {"mode", text(mode)}});
      checkClose(net.run("y"), {1, 3, 2, 4, 5, 7, 6, 8});
    }
    Net back;
    back.input("x", {1, 1, 2, 4}, {1, 3, 2, 4, 5, 7, 6, 8});
    back.node("SpaceToDepth", {"x"}, {"y"}, {{"blocksize", integer(2)}});
    checkClose(back.run("y"), counting(8));
  }

  TEST_CASE("known shapes: Size, ConstantOfShape, Range, Cast, Where") {
    Net net;
    net.input("x", {2, 3}, counting(6));
    net.node("Shape", {"x"}, {"s"});
    net.node("ConstantOfShape", {"s"}, {"ones"}, {{"value", tensor(arrayOf("v", {1}, {2.5}))}});
    net.node("Add", {"x", "ones"}, {"y"});
    checkClose(net.run("y"), {3.5, 4.5, 5.5, 6.5, 7.5, 8.5});
    Net range;
    range.constant(wholeOf("a", {}, {1}))
        .constant(wholeOf("b", {}, {8}))
        .constant(wholeOf("c", {}, {3}));
    range.node("Range", {"a", "b", "c"}, {"r"});
    range.node("Cast", {"r"}, {"y"}, {{"to", integer(1)}});
    checkClose(range.run("y"), {1, 4, 7});
    CHECK(range.graph[range.lowered.output].type == Type::Real);
    // The idiom of Expand(class_token, Where(Equal(shape, -1), ones, shape)).
    Net idiom;
    idiom.parameter("t", {1, 1, 2}, {7, 8}).known("shape", {2, -1, -1}).known("minus", {-1});
    idiom.known("three", {3});
    idiom.node("ConstantOfShape", {"three"}, {"ones"}, {{"value", tensor(wholeOf("v", {1}, {1}))}});
    idiom.node("Equal", {"shape", "minus"}, {"e"});
    idiom.node("Where", {"e", "ones", "shape"}, {"w"});
    idiom.node("Expand", {"t", "w"}, {"y"});
    checkClose(idiom.run("y"), {7, 8, 7, 8});
  }

  TEST_CASE("all unsupported nodes come in one error, by name") {
    Net net;
    net.input("x", {2}, {1, 2}).input("s", {1}, {2}, Type::Int);
    net.node("NonMaxSuppression", {"x"}, {"a"});
    net.node("Quux", {"x"}, {"b"});
    net.node("Add", {"a", "b"}, {"c"});
    net.node("Reshape", {"c", "s"}, {"y"});
    net.node("Unneeded", {"x"}, {"z"});
    const std::string message = messageOf(ErrorKind::UnsupportedOperator, [&] { net.lower("y"); });
    CHECK(contains(message, "2 operators"));
    CHECK(contains(message, "\"/NonMaxSuppression_0\" (NonMaxSuppression)"));
    CHECK(contains(message, "\"/Quux_1\" (Quux)"));
    CHECK(!contains(message, "Unneeded"));
    net.model.outputs.push_back({"y", ElementType::F32, {-1}, {""}});
    const auto found = findUnsupported(net.model);
    REQUIRE(found.size() == 2);
    CHECK(found[0].op == "NonMaxSuppression");
    CHECK(found[1].node == "/Quux_1");
  }

  TEST_CASE("another domain, a missing input and a missing tensor are said so") {
    Net net;
    net.input("x", {2}, {1, 2});
    net.node("Gelu", {"x"}, {"y"});
    net.model.nodes[0].domain = "org.example";
    CHECK(contains(messageOf(ErrorKind::UnsupportedOperator, [&] { net.lower("y"); }),
                   "org.example"));
    Net missing;
    missing.model.inputs.push_back({"x", ElementType::F32, {2}, {""}});
    missing.node("Relu", {"x"}, {"y"});
    CHECK(contains(messageOf(ErrorKind::DataMismatch, [&] { missing.lower("y"); }), "\"x\""));
    Net nothing;
    nothing.node("Relu", {"nowhere"}, {"y"});
    CHECK(contains(messageOf(ErrorKind::ModelFormat, [&] { nothing.lower("y"); }), "nowhere"));
  }

  TEST_CASE("the final activation is split off, with its input moved like the output") {
    Net net;
    net.input("x", {2, 3, 2}, scattered(12));
    SUBCASE("LogSoftmax last") {
      net.node("LogSoftmax", {"x"}, {"y"}, {{"axis", integer(1)}});
      net.lower("y");
      CHECK(net.lowered.activation == "LogSoftmax");
      CHECK(net.lowered.activationAxis == 1);
      checkClose(net.value(net.lowered.logits), net.leaves.inputs[0]);
    }
    SUBCASE("Softmax between transposes") {
      net.node("Transpose", {"x"}, {"t"}, {{"perm", ints({0, 2, 1})}});
      net.node("Softmax", {"t"}, {"p"}, {{"axis", integer(-1)}});
      net.node("Transpose", {"p"}, {"y"}, {{"perm", ints({0, 2, 1})}});
      net.lower("y");
      CHECK(net.lowered.activation == "Softmax");
      CHECK(net.lowered.activationAxis == 1);
      checkClose(net.value(net.lowered.logits), net.leaves.inputs[0]);
    }
    SUBCASE("Sigmoid before a Flatten") {
      net.node("Sigmoid", {"x"}, {"p"});
      net.node("Flatten", {"p"}, {"y"});
      net.lower("y");
      CHECK(net.lowered.activation == "Sigmoid");
      CHECK(net.graph.shape(net.lowered.logits) == Shape{2, 6});
    }
    SUBCASE("Softmax before a Flatten stays whole") {
      net.node("Softmax", {"x"}, {"p"});
      net.node("Flatten", {"p"}, {"y"});
      net.lower("y");
      CHECK(net.lowered.activation.empty());
      CHECK(net.lowered.logits == kNone);
    }
  }

  TEST_CASE("a fixed batch is generalised where shapes tell how") {
    auto model = [](int64_t declared, int64_t bound) {
      Net net;
      net.input("x", {bound, 2, 3}, counting(bound * 6), Type::Real, {declared, 2, 3});
      return net;
    };
    SUBCASE("[2, -1] for 6 samples") {
      Net net = model(2, 6);
      net.known("s", {2, -1});
      net.node("Reshape", {"x", "s"}, {"y"});
      net.run("y");
      CHECK(net.shape() == Shape{6, 6});
    }
    SUBCASE("batch times heads in one axis") {
      Net net = model(2, 5);
      net.known("s", {4, 3});
      net.node("Reshape", {"x", "s"}, {"y"});
      net.run("y");
      CHECK(net.shape() == Shape{10, 3});
    }
    SUBCASE("a batch of one") {
      Net net = model(1, 4);
      net.known("s", {1, 6});
      net.node("Reshape", {"x", "s"}, {"y"});
      net.run("y");
      CHECK(net.shape() == Shape{4, 6});
    }
    SUBCASE("a class token expanded to the batch") {
      Net net = model(2, 3);
      net.parameter("t", {1, 1, 3}, {7, 8, 9}).known("s", {2, -1, -1}).known("s1", {2, 1, 3});
      net.node("Expand", {"t", "s1"}, {"e"});
      net.node("Concat", {"e", "x"}, {"y"}, {{"axis", integer(1)}});
      net.run("y");
      CHECK(net.shape() == Shape{3, 3, 3});
    }
    SUBCASE("what does not depend on data has no batch") {
      Net net = model(2, 4);
      net.parameter("p", {4, 3}, counting(12)).known("s", {2, -1});
      net.node("Reshape", {"p", "s"}, {"q"});
      net.node("Add", {"q", "zero"}, {"y"}).constant(arrayOf("zero", {}, {0}));
      net.node("Relu", {"x"}, {"r"});
      net.run("y");
      CHECK(net.shape() == Shape{2, 6});
    }
    SUBCASE("elsewhere the error says what to do") {
      Net net = model(4, 3);
      net.known("s", {7, -1});
      net.node("Reshape", {"x", "s"}, {"y"});
      const std::string message = messageOf(ErrorKind::DataMismatch, [&] { net.lower("y"); });
      CHECK(contains(message, "batches of exactly 4"));
      CHECK(contains(message, "dynamic batch axis"));
    }
    SUBCASE("other lengths must fit") {
      Net net;
      net.input("x", {2, 3}, counting(6), Type::Real, {-1, 4});
      net.node("Relu", {"x"}, {"y"});
      CHECK(contains(messageOf(ErrorKind::DataMismatch, [&] { net.lower("y"); }), "[-1, 4]"));
    }
  }
}
