#include "11-lower.h"

using namespace eigenscope;
using namespace eigenscope::onnx;
using namespace eigenscope::onnx::test;

namespace {

constexpr const char* kMicrosoft = "com.microsoft";

// One head, two queries and keys of one element: softmax of q k.
std::unique_ptr<Net> attentionNet() {
  auto net = std::make_unique<Net>(23);
  net->parameter("q", {1, 1, 2, 1}, {0.5, -1});
  net->parameter("k", {1, 1, 2, 1}, {1, 2});
  net->parameter("v", {1, 1, 2, 1}, {3, -1});
  return net;
}

double weighted(double a, double b) {  // softmax(a, b) of (3, -1)
  return (3 * std::exp(a) - std::exp(b)) / (std::exp(a) + std::exp(b));
}

}  // namespace

TEST_SUITE("lowering: attention and fused operators") {
  TEST_CASE("Attention is softmax of products, with masks and caps") {
    auto plain = attentionNet();
    plain->node("Attention", {"q", "k", "v"}, {"y"});
    checkClose(plain->run("y"), {weighted(0.5, 1), weighted(-1, -2)});
    checkDerivatives(*plain, "y");
    auto causal = attentionNet();
    causal->node("Attention", {"q", "k", "v"}, {"y"}, {{"is_causal", integer(1)}});
    checkClose(causal->run("y"), {3, weighted(-1, -2)});
    checkDerivatives(*causal, "y");
    auto capped = attentionNet();
    capped->node("Attention", {"q", "k", "v"}, {"y"},
                 {{"softcap", number(0.5)}, {"scale", number(2)}});
    auto cap = [](double x) { return std::tanh(4 * x) / 2; };
    checkClose(capped->run("y"), {weighted(cap(0.5), cap(1)), weighted(cap(-1), cap(-2))});
    auto masked = attentionNet();
    masked->constant(boolsOf("mask", {2, 1}, {1, 1}));
    masked->constant(arrayOf("bias", {1, 2}, {0.25, -0.5}));
    masked->node("Attention", {"q", "k", "v", "bias"}, {"y"});
    checkClose(masked->run("y"), {weighted(0.75, 0.5), weighted(-0.75, -2.5)});
    // A query that sees nothing gives nothing; a window of one key sees itself.
    auto empty = attentionNet();
    empty->constant(boolsOf("mask", {2, 2}, {0, 0, 1, 0}));
    empty->node("Attention", {"q", "k", "v", "mask"}, {"y"});
    checkClose(empty->run("y"), {0, 3});
    checkDerivatives(*empty, "y");
    auto window = attentionNet();
    window->node("Attention", {"q", "k", "v"}, {"y"},
                 {{"left_window_size", integer(0)}, {"right_window_size", integer(0)}});
    checkClose(window->run("y"), {3, -1});
    auto lengths = attentionNet();
    lengths->input("n", {1}, {1}, Type::Int);
    lengths->node("Attention", {"q", "k", "v", "", "", "", "n"}, {"y"});
    checkClose(lengths->run("y"), {3, 3});
    // A mask of fewer keys hides the rest.
    auto shorter = attentionNet();
    shorter->parameter("pk", {1, 1, 1, 1}, {0.5}).parameter("pv", {1, 1, 1, 1}, {2});
    shorter->constant(boolsOf("mask", {2, 2}, {1, 1, 1, 1}));
    shorter->node("Attention", {"q", "k", "v", "mask", "pk", "pv"}, {"y", "keys"});
    const double near = std::exp(0.25), far = std::exp(0.5);
    CHECK(shorter->run("y")[0] == doctest::Approx((2 * near + 3 * far) / (near + far)));
  }

  TEST_CASE("LinearAttention: a state that decays and is corrected") {
    auto make = [](const std::string& rule) {
      auto net = std::make_unique<Net>(27);
      net->parameter("q", {1, 2, 1}, {1, 2}).parameter("k", {1, 2, 1}, {0.5, 1.5});
      net->parameter("v", {1, 2, 1}, {2, -1}).parameter("s", {1, 1, 1, 1}, {0.25});
      net->parameter("g", {1, 2, 1}, {-0.5, -1}).parameter("r", {1, 2, 1}, {0.5, 0.75});
      net->node("LinearAttention", {"q", "k", "v", "s", "g", "r"}, {"y", "last"},
                {{"q_num_heads", integer(1)},
                 {"kv_num_heads", integer(1)},
                 {"update_rule", text(rule)},
                 {"scale", number(2)}});
      return net;
    };
    checkClose(make("linear")->run("y"), {2 * 1.25, 4 * -0.25});
    double one = 0.25 * std::exp(-0.5) + 1, two = one * std::exp(-1.0) - 1.5;
    checkClose(make("gated")->run("y"), {2 * one, 4 * two});
    one = 0.25 + 0.5 * 0.5 * (2 - 0.25 * 0.5);
    two = one + 0.75 * 1.5 * (-1 - one * 1.5);
    checkClose(make("delta")->run("y"), {2 * one, 4 * two});
    one = 0.25 * std::exp(-0.5);
    one += 0.5 * 0.5 * (2 - one * 0.5);
    two = one * std::exp(-1.0);
    two += 0.75 * 1.5 * (-1 - two * 1.5);
    checkClose(make("gated_delta")->run("y"), {2 * one, 4 * two});
    checkClose(make("gated_delta")->run("last"), {two});
    checkDerivatives(*make("gated_delta"), "y");
    auto other = make("cubic");
    CHECK(contains(messageOf(ErrorKind::UnsupportedOperator, [&] { other->lower("y"); }),
                   "attribute update_rule = cubic"));
  }

  TEST_CASE("what Attention and RotaryEmbedding do not take is named") {
    auto heads = std::make_unique<Net>(23);
    heads->parameter("q", {1, 2, 6}, counting(12));
    heads->node("Attention", {"q", "q", "q"}, {"y"},
                {{"q_num_heads", integer(4)}, {"kv_num_heads", integer(4)}});
    CHECK(contains(messageOf(ErrorKind::DataMismatch, [&] { heads->lower("y"); }),
                   "q_num_heads = 4 does not divide the width of \"q\" [1, 2, 6]"));
    auto mask = attentionNet();
    mask->constant(boolsOf("mask", {2, 3}, {1, 1, 1, 1, 1, 1}));
    mask->node("Attention", {"q", "k", "v", "mask"}, {"y"});
    CHECK(contains(messageOf(ErrorKind::DataMismatch, [&] { mask->lower("y"); }),
                   "the mask [2, 3] is for more than 2 keys"));
    auto stage = attentionNet();
    stage->node("Attention", {"q", "k", "v"}, {"y"}, {{"qk_matmul_output_mode", integer(4)}});
    CHECK(contains(messageOf(ErrorKind::DataMismatch, [&] { stage->lower("y"); }),
                   "expected qk_matmul_output_mode from 0 to 3, got 4"));
  }

  TEST_CASE("RotaryEmbedding turns pairs by the angle of their position") {
    for (const bool interleaved : {false, true}) {
      Net net(23);
      net.parameter("x", {1, 1, 2, 4}, counting(8)).constant(wholeOf("at", {1, 2}, {1, 0}));
      net.constant(arrayOf("cos", {2, 2}, {1, 1, 0, -1}));
      net.constant(arrayOf("sin", {2, 2}, {0, 0, 1, 0}));
      net.node("RotaryEmbedding", {"x", "cos", "sin", "at"}, {"y"},
               {{"interleaved", integer(interleaved)}});
      // Position 1 turns the first pair by 90 degrees and the second by 180.
      checkClose(net.run("y"), interleaved ? Numbers{-2, 1, -3, -4, 5, 6, 7, 8}
                                           : Numbers{-3, -2, 1, -4, 5, 6, 7, 8});
      checkDerivatives(net, "y");
    }
    Net odd(23);
    odd.parameter("x", {1, 1, 2, 4}, counting(8)).constant(arrayOf("t", {1, 2, 1}, {1, 1}));
    odd.node("RotaryEmbedding", {"x", "t", "t"}, {"y"});
    CHECK(contains(messageOf(ErrorKind::DataMismatch, [&] { odd.lower("y"); }),
                   "\"t\" [1, 2, 1] does not fit 2 positions of 2 pairs"));
  }

  TEST_CASE("operators of com.microsoft are their parts") {
    auto run = [](const std::string& op, const std::vector<std::string>& in,
                  const Attributes& attributes = {}, size_t output = 0) {
      Net net;
      net.parameter("x", {2, 2}, {1, -2, 0.5, 3}).parameter("w", {2, 2}, {2, 1, -1, 3});
      net.parameter("b", {2}, {0.25, -1}).parameter("x3", {1, 1, 2}, {1, -2});
      net.parameter("k", {1, 1, 1}, {3});
      std::vector<std::string> out(output + 1);
      out[output] = "y";
      net.node(op, in, out, attributes, kMicrosoft);
      const Numbers y = net.run("y");
      checkDerivatives(net, "y");
      return y;
    };
    auto each = [](const Numbers& xs, const std::function<double(double)>& f) {
      Numbers out;
      for (double x : xs) out.push_back(f(x));
      return out;
    };
    const auto exact = [](double x) { return x / 2 * (1 + std::erf(x / std::sqrt(2))); };
    const auto fast = [](double x) {
      return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    };
    const Numbers x = {1, -2, 0.5, 3}, biased = {1.25, -3, 0.75, 2};
    checkClose(run("Gelu", {"x"}), each(x, exact));
    checkClose(run("BiasGelu", {"x", "b"}), each(biased, exact));
    checkClose(run("FastGelu", {"x"}), each(x, fast));
    checkClose(run("FastGelu", {"x", "b"}), each(biased, fast));
    checkClose(run("QuickGelu", {"x"}, {{"alpha", number(2)}}),
               each(x, [](double v) { return v / (1 + std::exp(-2 * v)); }));
    checkClose(run("FusedMatMul", {"x", "w"}, {{"alpha", number(0.5)}, {"transB", integer(1)}}),
               {0, -3.5, 2, 4.25});
    checkClose(run("FusedGemm", {"x", "w", "b"}, {{"activation", text("Relu")}}),
               {4.25, 0, 0, 8.5});
    checkClose(
        run("FusedConv", {"x3", "k"}, {{"activation", text("Tanh")}, {"kernel_shape", ints({1})}}),
        {std::tanh(3), std::tanh(-6)});
    checkClose(run("SkipLayerNormalization", {"x", "w", "b"}, {{"epsilon", number(0)}}),
               {0.25, 1, -0.25, -1}, 1e-9);
    checkClose(run("SkipLayerNormalization", {"x", "w", "b"}, {}, 3), {3, -1, -0.5, 6});
    const double small = std::sqrt(5.0), large = std::sqrt((0.25 + 36) / 2);
    checkClose(run("SkipSimplifiedLayerNormalization", {"x", "w", "b"}),
               {0.75 / small, 1 / small, -0.125 / large, -6 / large}, 1e-9);
  }

  TEST_CASE("forms of before opset 7, and SimplifiedLayerNormalization and Swish") {
    Net along(6);
    along.parameter("x", {1, 2, 2}, {1, 2, 3, 4}).parameter("b", {2}, {10, 20});
    along.node("Add", {"x", "b"}, {"y"}, {{"broadcast", integer(1)}, {"axis", integer(1)}});
    checkClose(along.run("y"), {11, 12, 23, 24});
    Net beyond(6);
    beyond.parameter("x", {1, 2}, {1, 2}).parameter("b", {2}, {10, 20});
    beyond.node("Mul", {"b", "x"}, {"y"}, {{"broadcast", integer(1)}, {"axis", integer(0)}});
    CHECK(contains(messageOf(ErrorKind::DataMismatch, [&] { beyond.lower("y"); }),
                   "[1, 2] does not lie along axes 0... of [2]"));
    Net slopes(6);
    slopes.parameter("x", {1, 2, 2}, {-1, 2, -3, -4}).parameter("s", {2}, {0.5, 0.25});
    slopes.node("PRelu", {"x", "s"}, {"y"});
    checkClose(slopes.run("y"), {-0.5, 2, -0.75, -1});
    Net norm;
    norm.parameter("x", {1, 2}, {3, -1}).parameter("s", {2}, {1, 2});
    norm.node("SimplifiedLayerNormalization", {"x", "s"}, {"y"}, {{"epsilon", number(0)}});
    checkClose(norm.run("y"), {3 / std::sqrt(5.0), -2 / std::sqrt(5.0)});
    Net swish(24);
    swish.parameter("x", {2}, {1, -2}).node("Swish", {"x"}, {"y"}, {{"alpha", number(0.5)}});
    checkClose(swish.run("y"), {1 / (1 + std::exp(-0.5)), -2 / (1 + std::exp(1.0))});
    Net gated(28);
    gated.parameter("a", {2}, {1, -2}).parameter("b", {2}, {3, 5}).parameter("c", {1}, {1});
    gated.node("SwiGLU", {"a", "b"}, {"y"}).node("SwiGLU", {"a", "c"}, {"z"});
    checkClose(gated.run("y"), {3 / (1 + std::exp(-1.0)), -10 / (1 + std::exp(2.0))});
    CHECK(contains(messageOf(ErrorKind::DataMismatch, [&] { gated.lower("z"); }),
                   "expected two inputs of one shape, got [2] and [1]"));
    for (const std::string attribute : {"is_test", "spatial"}) {
      Net batch(6);
      batch.parameter("x", {1, 1, 1}, {1}).parameter("v", {1}, {1});
      batch.node("BatchNormalization", {"x", "v", "v", "v", "v"}, {"y"},
                 {{"is_test", integer(1)}, {attribute, integer(0)}});
      batch.model.nodes[0].attributes[attribute] = integer(0);
      CHECK(contains(messageOf(ErrorKind::UnsupportedOperator, [&] { batch.lower("y"); }),
                     "attribute " + attribute + " = 0"));
    }
    Net channels(28);
    channels.parameter("x", {1, 2, 1, 2}, {1, 2, 3, 4});
    channels.node("SpaceToDepth", {"x"}, {"y"}, {{"blocksize", integer(1)}, {"mode", text("CRD")}});
    checkClose(channels.run("y"), {1, 2, 3, 4});
    Net order(28);
    order.parameter("x", {1, 2, 2, 2}, counting(8));
    order.node("SpaceToDepth", {"x"}, {"y"}, {{"blocksize", integer(2)}, {"mode", text("CRD")}});
    checkClose(order.run("y"), counting(8));
    Net newer(31);
    newer.parameter("x", {1}, {2}).node("Relu", {"x"}, {"y"});
    checkClose(newer.run("y"), {2});
    Net gone(31);
    gone.parameter("x", {1}, {2}).constant(arrayOf("s", {1}, {2}));
    gone.node("Upsample", {"x", "s"}, {"y"});
    CHECK(
        contains(messageOf(ErrorKind::UnsupportedOperator, [&] { gone.lower("y"); }), "opset 31"));
  }

  TEST_CASE("a fused activation that is not known is named") {
    for (const std::string op : {"FusedGemm", "FusedConv"}) {
      Net net;
      net.parameter("x", {1, 1}, {1});
      net.node(op, {"x", "x"}, {"y"}, {{"activation", text("HardSwish")}}, kMicrosoft);
      const std::string message =
          messageOf(ErrorKind::UnsupportedOperator, [&] { net.lower("y"); });
      CHECK(contains(message, "(com.microsoft." + op + "): attribute activation = HardSwish"));
    }
    Net net;
    net.parameter("x", {1, 1}, {1}).node("QAttention", {"x"}, {"y"}, {}, kMicrosoft);
    CHECK(contains(messageOf(ErrorKind::UnsupportedOperator, [&] { net.lower("y"); }),
                   "no lowering exists"));
  }
}
