#include <functional>

#include "11-lower.h"

using namespace eigenscope;
using namespace eigenscope::onnx;
using namespace eigenscope::onnx::test;

namespace {

// In ONNX's order and by the definition, with nothing taken from the code under test.
struct Plain {
  int64_t batch, in, out, h, w, kh, kw, groups = 1;
  int64_t stride[2] = {1, 1}, dilation[2] = {1, 1}, before[2] = {0, 0}, after[2] = {0, 0};
  int64_t oh() const {
    return (h + before[0] + after[0] - dilation[0] * (kh - 1) - 1) / stride[0] + 1;
  }
  int64_t ow() const {
    return (w + before[1] + after[1] - dilation[1] * (kw - 1) - 1) / stride[1] + 1;
  }

  // Calls visit(output, input, weight) with flat indices, for a weight [out, in / groups, kh, kw].
  void each(const std::function<void(int64_t, int64_t, int64_t)>& visit) const {
    const int64_t perIn = in / groups, perOut = out / groups;
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t o = 0; o < out; ++o)
        for (int64_t c = 0; c < perIn; ++c)
          for (int64_t y = 0; y < oh(); ++y)
            for (int64_t x = 0; x < ow(); ++x)
              for (int64_t i = 0; i < kh; ++i)
                for (int64_t j = 0; j < kw; ++j) {
                  const int64_t r = y * stride[0] - before[0] + i * dilation[0];
                  const int64_t s = x * stride[1] - before[1] + j * dilation[1];
                  if (r < 0 || r >= h || s < 0 || s >= w) continue;
                  visit(((b * out + o) * oh() + y) * ow() + x,
                        ((b * in + o / perOut * perIn + c) * h + r) * w + s,
                        ((o * perIn + c) * kh + i) * kw + j);
                }
  }

  Attributes attributes() const {
    return {{"kernel_shape", ints({kh, kw})},
            {"strides", ints({stride[0], stride[1]})},
            {"dilations", ints({dilation[0], dilation[1]})},
            {"pads", ints({before[0], before[1], after[0], after[1]})},
            {"group", integer(groups)}};
  }
};

const std::vector<Plain>& shapes() {
  static const std::vector<Plain> all = {
      {2, 3, 4, 5, 6, 3, 3},
      {2, 3, 2, 6, 5, 3, 2, 1, {2, 1}, {1, 1}, {1, 0}, {1, 1}},
      {1, 4, 6, 5, 5, 3, 3, 2, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
      {2, 4, 4, 5, 4, 3, 3, 4, {2, 2}, {1, 1}, {1, 1}, {1, 1}},
      {1, 2, 3, 7, 8, 2, 3, 1, {1, 2}, {3, 2}, {2, 1}, {0, 3}},
      {1, 2, 3, 4, 4, 1, 1},
  };
  return all;
}

// By ONNX's definition of the counted elements.
Numbers pooled(const Plain& p, const Numbers& x, bool maximum, bool withPadding, int64_t oh,
               int64_t ow) {
  Numbers out;
  for (int64_t bc = 0; bc < p.batch * p.in; ++bc)
    for (int64_t y = 0; y < oh; ++y)
      for (int64_t z = 0; z < ow; ++z) {
        double best = -INFINITY, sum = 0, n = 0;
        for (int64_t i = 0; i < p.kh; ++i)
          for (int64_t j = 0; j < p.kw; ++j) {
            const int64_t r = y * p.stride[0] - p.before[0] + i * p.dilation[0];
            const int64_t s = z * p.stride[1] - p.before[1] + j * p.dilation[1];
            const bool inside = r >= 0 && r < p.h && s >= 0 && s < p.w;
            n += inside || (withPadding && r < p.h + p.after[0] && s < p.w + p.after[1]);
            if (!inside) continue;
            const double v = x[(bc * p.h + r) * p.w + s];
            best = std::fmax(best, v);
            sum += v;
          }
        out.push_back(maximum ? best : sum / n);
      }
  return out;
}

}  // namespace

TEST_SUITE("lowering: convolution, pooling, normalisation") {
  TEST_CASE("Conv with groups, strides, dilations and pads") {
    for (const Plain& p : shapes()) {
      const Shape weight = {p.out, p.in / p.groups, p.kh, p.kw};
      Net net;
      net.input("x", {p.batch, p.in, p.h, p.w}, scattered(p.batch * p.in * p.h * p.w));
      net.parameter("w", weight, scattered(count(weight), 2))
          .parameter("b", {p.out}, counting(p.out));
      net.node("Conv", {"x", "w", "b"}, {"y"}, p.attributes());
      Numbers expected;
      for (int64_t b = 0; b < p.batch; ++b)
        for (int64_t o = 0; o < p.out; ++o)
          expected.insert(expected.end(), p.oh() * p.ow(), 1.0 + o);
      p.each([&](int64_t y, int64_t x, int64_t w) {
        expected[y] += net.leaves.inputs[0][x] * net.leaves.parameters[0][w];
      });
      checkClose(net.run("y"), expected);
      CHECK(net.shape() == Shape{p.batch, p.out, p.oh(), p.ow()});
    }
  }

  TEST_CASE("ConvTranspose is the transpose of Conv") {
    for (const Plain& p : shapes()) {
      // As an ONNX operator it goes from p's output to p's input.
      const Shape weight = {p.out, p.in / p.groups, p.kh, p.kw};
      Net net;
      net.input("y", {p.batch, p.out, p.oh(), p.ow()},
                scattered(p.batch * p.out * p.oh() * p.ow()));
      net.parameter("w", weight, scattered(count(weight), 2))
          .parameter("b", {p.in}, counting(p.in));
      Attributes attributes = p.attributes();
      int64_t extra[2];
      const int64_t sizes[2] = {p.h, p.w}, out[2] = {p.oh(), p.ow()}, kernel[2] = {p.kh, p.kw};
      for (int d = 0; d < 2; ++d)
        extra[d] = sizes[d] - ((out[d] - 1) * p.stride[d] + (kernel[d] - 1) * p.dilation[d] + 1 -
                               p.before[d] - p.after[d]);
      attributes["output_padding"] = ints({extra[0], extra[1]});
      net.node("ConvTranspose", {"y", "w", "b"}, {"x"}, attributes);
      Numbers expected;
      for (int64_t b = 0; b < p.batch; ++b)
        for (int64_t c = 0; c < p.in; ++c) expected.insert(expected.end(), p.h * p.w, 1.0 + c);
      p.each([&](int64_t y, int64_t x, int64_t w) {
        expected[x] += net.leaves.inputs[0][y] * net.leaves.parameters[0][w];
      });
      checkClose(net.run("x"), expected);
      CHECK(net.shape() == Shape{p.batch, p.in, p.h, p.w});
    }
  }

  TEST_CASE("ConvTranspose sizes from output_shape and auto_pad") {
    auto shapeOf = [](const Attributes& attributes) {
      Net net;
      net.input("x", {1, 1, 3, 3}, counting(9)).parameter("w", {1, 2, 3, 3}, counting(18));
      net.node("ConvTranspose", {"x", "w"}, {"y"}, attributes);
      net.run("y");
      return net.shape();
    };
    CHECK(shapeOf({{"strides", ints({3, 2})}}) == Shape{1, 2, 9, 7});
    CHECK(shapeOf({{"strides", ints({3, 2})}, {"output_shape", ints({10, 8})}}) ==
          Shape{1, 2, 10, 8});
    CHECK(shapeOf({{"strides", ints({2, 2})}, {"auto_pad", text("SAME_UPPER")}}) ==
          Shape{1, 2, 6, 6});
    CHECK(shapeOf({{"strides", ints({2, 2})},
                   {"pads", ints({1, 1, 1, 1})},
                   {"output_padding", ints({1, 1})}}) == Shape{1, 2, 6, 6});
    // Where the pads go: the middle of a 5-wide full output, from a single 1.
    auto row = [](const Attributes& attributes) {
      Net net;
      net.input("x", {1, 1, 2}, {1, 0}).parameter("w", {1, 1, 4}, {1, 2, 3, 4});
      net.node("ConvTranspose", {"x", "w"}, {"y"}, attributes);
      return net.run("y");
    };
    checkClose(row({}), {1, 2, 3, 4, 0});
    checkClose(row({{"pads", ints({1, 1})}}), {2, 3, 4});
    checkClose(row({{"auto_pad", text("SAME_UPPER")}}), {2, 3});
    checkClose(row({{"auto_pad", text("SAME_LOWER")}}), {3, 4});
  }

  TEST_CASE("Conv over one axis, and auto_pad") {
    auto run = [](const Attributes& attributes) {
      Net net;
      net.input("x", {1, 1, 5}, {1, 2, 3, 4, 5}).parameter("w", {1, 1, 2}, {1, 10});
      net.node("Conv", {"x", "w"}, {"y"}, attributes);
      return net.run("y");
    };
    checkClose(run({}), {21, 32, 43, 54});
    checkClose(run({{"auto_pad", text("VALID")}}), {21, 32, 43, 54});
    checkClose(run({{"auto_pad", text("SAME_UPPER")}}), {21, 32, 43, 54, 5});
    checkClose(run({{"auto_pad", text("SAME_LOWER")}}), {10, 21, 32, 43, 54});
    checkClose(run({{"strides", ints({2})}, {"pads", ints({1, 0})}}), {10, 32, 54});
    checkClose(run({{"dilations", ints({3})}}), {41, 52});
  }

  TEST_CASE(
      "Conv over volumes: the sum over the window, whatever the pads, strides and dilations") {
    auto run = [](const Attributes& attributes) {
      Net net;
      net.input("x", {1, 1, 4, 1, 2}, counting(8)).parameter("w", {1, 1, 2, 1, 1}, {1, 10});
      net.node("Conv", {"x", "w"}, {"y"}, attributes);
      return net.run("y");
    };
    // Depths are (1, 2), (3, 4), (5, 6), (7, 8).
    checkClose(run({}), {31, 42, 53, 64, 75, 86});
    checkClose(run({{"pads", ints({1, 0, 0, 1, 0, 0})}}), {10, 20, 31, 42, 53, 64, 75, 86, 7, 8});
    checkClose(run({{"strides", ints({2, 1, 1})}}), {31, 42, 75, 86});
    checkClose(run({{"dilations", ints({3, 1, 1})}}), {71, 82});
    checkClose(run({{"pads", ints({3, 0, 0, 3, 0, 0})}, {"strides", ints({4, 1, 1})}}),
               {0, 0, 53, 64, 0, 0});
  }

  TEST_CASE("Conv refuses four spatial axes, and names what does not fit") {
    Net net;
    net.input("x", {1, 1, 2, 2, 2, 1}, counting(8)).parameter("w", {1, 1, 1, 1, 1, 1}, {1});
    net.node("Conv", {"x", "w"}, {"y"}, {{"kernel_shape", ints({1, 1, 1, 1})}});
    CHECK(contains(messageOf(ErrorKind::UnsupportedOperator, [&] { net.lower("y"); }), "spatial"));
    net.model.nodes[0].attributes.clear();
    CHECK(contains(messageOf(ErrorKind::UnsupportedOperator, [&] { net.lower("y"); }), "spatial"));
    Net wrong;
    wrong.input("x", {1, 3, 4, 4}, counting(48)).parameter("w", {2, 2, 3, 3}, counting(36));
    wrong.node("Conv", {"x", "w"}, {"y"});
    CHECK(contains(messageOf(ErrorKind::DataMismatch, [&] { wrong.lower("y"); }), "[2, 2, 3, 3]"));
    Net large;
    large.input("x", {1, 1, 2, 2}, counting(4)).parameter("w", {1, 1, 3, 3}, counting(9));
    large.node("Conv", {"x", "w"}, {"y"});
    CHECK(contains(messageOf(ErrorKind::DataMismatch, [&] { large.lower("y"); }), "larger"));
  }

  TEST_CASE("MaxPool and AveragePool with pads, dilation and both ways to count") {
    for (const bool withPadding : {false, true}) {
      Plain p = {2, 3, 3, 6, 7, 3, 2, 1, {2, 1}, {1, 2}, {1, 1}, {1, 0}};
      const Numbers x = scattered(p.batch * p.in * p.h * p.w);
      Attributes attributes = p.attributes();
      attributes.erase("group");
      Net max;
      max.input("x", {p.batch, p.in, p.h, p.w}, x);
      max.node("MaxPool", {"x"}, {"y"}, attributes);
      checkClose(max.run("y"), pooled(p, x, true, false, p.oh(), p.ow()));
      attributes["count_include_pad"] = integer(withPadding);
      Net average(19);
      average.input("x", {p.batch, p.in, p.h, p.w}, x);
      average.node("AveragePool", {"x"}, {"y"}, attributes);
      checkClose(average.run("y"), pooled(p, x, false, withPadding, p.oh(), p.ow()));
    }
  }

  TEST_CASE("ceil_mode keeps a last window that starts inside, drops one that starts beyond") {
    auto run = [](int64_t n, const Attributes& more, const std::string& op = "MaxPool") {
      Net net;
      net.input("x", {1, 1, n}, counting(n));
      Attributes attributes = {
          {"kernel_shape", ints({3})}, {"strides", ints({2})}, {"ceil_mode", integer(1)}};
      attributes.insert(more.begin(), more.end());
      net.node(op, {"x"}, {"y"}, attributes);
      return net.run("y");
    };
    checkClose(run(6, {}), {3, 5, 6});
    checkClose(run(5, {}), {3, 5});
    checkClose(run(6, {}, "AveragePool"), {2, 4, 5.5});
    // What hangs over the end is no padding and is never counted.
    checkClose(run(5, {{"pads", ints({1, 0})}, {"count_include_pad", integer(1)}}, "AveragePool"),
               {1, 3, 4.5});
    Net net;
    net.input("x", {1, 1, 2}, {1, 2});
    net.node("MaxPool", {"x"}, {"y"},
             {{"kernel_shape", ints({1})}, {"strides", ints({2})}, {"ceil_mode", integer(1)}});
    checkClose(net.run("y"), {1});
  }

  TEST_CASE("the first of equal maxima takes the slope, padding is never the maximum") {
    Net net;
    net.parameter("x", {1, 1, 1, 3}, {-2, -2, -3});
    net.node("MaxPool", {"x"}, {"y"},
             {{"kernel_shape", ints({1, 3})}, {"pads", ints({0, 1, 0, 1})}});
    checkClose(net.run("y"), {-2, -2, -2});
    const Id slope = vjp(net.graph, net.graph.sumAll(net.lowered.output), net.graph.scalar(1),
                         {net.graph.param(0, {1, 1, 1, 3})})[0];
    checkClose(net.value(slope), {2, 1, 0});
  }

  TEST_CASE("GlobalLpPool") {
    Net net;
    net.parameter("x", {1, 2, 3}, {1, -2, 2, 3, -4, 12});
    net.node("GlobalLpPool", {"x"}, {"y"}).node("GlobalLpPool", {"x"}, {"z"}, {{"p", integer(1)}});
    checkClose(net.run("y"), {3, 13});
    checkClose(net.run("z"), {5, 19});
    CHECK(net.shape() == Shape{1, 2, 1});
    checkDerivatives(net, "y");
  }

  TEST_CASE("GlobalAveragePool, GlobalMaxPool and LRN") {
    Net net;
    net.parameter("x", {2, 2, 1, 3}, {1, 2, 3, 4, 5, 6, 9, 8, 7, -1, -2, -3});
    net.node("GlobalAveragePool", {"x"}, {"a"}).node("GlobalMaxPool", {"x"}, {"m"});
    checkClose(net.run("a"), {2, 5, 8, -2});
    CHECK(net.shape() == Shape{2, 2, 1, 1});
    checkClose(net.run("m"), {3, 6, 9, -1});
    checkDerivatives(net, "m");
    Net lrn;
    lrn.parameter("x", {1, 3, 2}, {1, 2, 3, 4, 5, 6});
    lrn.node(
        "LRN", {"x"}, {"y"},
        {{"size", integer(3)}, {"alpha", number(0.3)}, {"beta", number(0.5)}, {"bias", number(2)}});
    auto at = [](double v, double squares) { return v / std::sqrt(2 + 0.1 * squares); };
    checkClose(lrn.run("y"), {at(1, 10), at(2, 20), at(3, 35), at(4, 56), at(5, 34), at(6, 52)});
    checkDerivatives(lrn, "y");
  }

  TEST_CASE("a convolutional network moves activations only where it is flattened") {
    // LeNet-like: conv, relu, pool, conv, batch normalisation, relu, average pool, flatten, gemm.
    Net net;
    net.input("x", {2, 1, 8, 8}, scattered(128));
    net.parameter("w1", {2, 1, 3, 3}, scattered(18)).parameter("b1", {2}, {0.1, 0.2});
    net.parameter("w2", {3, 2, 3, 3}, scattered(54, 1));
    net.parameter("gamma", {3}, {1, 2, 0.5}).parameter("beta", {3}, {0.3, -0.1, 0.2});
    net.constant(arrayOf("mean", {3}, {0.1, 0, -0.2}));
    net.constant(arrayOf("var", {3}, {0.9, 1.5, 2}));
    net.parameter("w3", {2, 12}, scattered(24, 2));
    net.node("Conv", {"x", "w1", "b1"}, {"c1"}, {{"pads", ints({1, 1, 1, 1})}});
    net.node("Relu", {"c1"}, {"r1"});
    net.node("MaxPool", {"r1"}, {"p1"},
             {{"kernel_shape", ints({2, 2})}, {"strides", ints({2, 2})}});
    net.node("Conv", {"p1", "w2"}, {"c2"}, {{"pads", ints({1, 1, 1, 1})}});
    net.node("BatchNormalization", {"c2", "gamma", "beta", "mean", "var"}, {"n2"});
    net.node("Add", {"n2", "c2"}, {"s2"});
    net.node("Relu", {"s2"}, {"r2"});
    net.node("Pad", {"r2", "none"}, {"q2"}).known("none", Shape(8, 0));
    net.node("AveragePool", {"q2"}, {"p2"},
             {{"kernel_shape", ints({2, 2})}, {"strides", ints({2, 2})}});
    net.node("Flatten", {"p2"}, {"f"});
    net.node("Gemm", {"f", "w3"}, {"y"}, {{"transB", integer(1)}});
    net.lower("y");
    CHECK(net.countOf(Op::Permute, Scope::Local) == 1);
    checkDerivatives(net, "y", 1e-6);
  }

  TEST_CASE("CausalConvWithState sees what came before, and hands on the end of it") {
    auto make = [](Shape kernel, Shape state, const Attributes& attributes) {
      auto net = std::make_unique<Net>(27);
      net->parameter("x", {1, 1, 3}, {1, 2, 3}).parameter("w", kernel, counting(count(kernel)));
      net->parameter("b", {1}, {0.5}).parameter("s", state, Numbers(count(state), -1));
      net->node("CausalConvWithState", {"x", "w", "b", "s"}, {"y", "next"}, attributes);
      net->node("CausalConvWithState", {"x", "w"}, {"plain"});
      return net;
    };
    auto net = make({1, 1, 2}, {1, 1, 1}, {});
    const double w0 = counting(2)[0], w1 = counting(2)[1];
    checkClose(net->run("y"), {w1 - w0 + 0.5, w0 + 2 * w1 + 0.5, 2 * w0 + 3 * w1 + 0.5});
    checkClose(net->run("next"), {3});
    checkClose(net->run("plain"), {w1, w0 + 2 * w1, 2 * w0 + 3 * w1});
    auto silu = make({1, 1, 2}, {1, 1, 1}, {{"activation", text("silu")}});
    const double a = w1 - w0 + 0.5;
    CHECK(silu->run("y")[0] == doctest::Approx(a / (1 + std::exp(-a))));
    checkDerivatives(*silu, "y");
    auto fail = [&](Shape kernel, Shape state, const char* activation, ErrorKind kind) {
      auto wrong = make(kernel, state, {{"activation", text(activation)}});
      return messageOf(kind, [&] { wrong->lower("y"); });
    };
    CHECK(contains(fail({2, 1, 2}, {1, 1, 1}, "none", ErrorKind::DataMismatch),
                   "kernels [2, 1, 2] do not fit channels of [1, 1, 3]"));
    CHECK(contains(fail({1, 1, 2}, {1, 1, 2}, "none", ErrorKind::DataMismatch),
                   "expected a state [1, 1, 1], got [1, 1, 2]"));
    CHECK(contains(fail({1, 1, 2}, {1, 1, 1}, "relu", ErrorKind::UnsupportedOperator),
                   "attribute activation = relu"));
  }

  TEST_CASE("a residual network ends in a pooled vector: no activation is moved at all") {
    Net net;
    net.input("x", {2, 3, 4, 4}, scattered(96));
    net.parameter("w1", {4, 3, 3, 3}, scattered(108)).parameter("w2", {4, 4, 3, 3}, scattered(144));
    net.parameter("w3", {2, 4}, scattered(8));
    net.parameter("s", {4}, {1, 2, 3, 4});
    net.node("Conv", {"x", "w1"}, {"a"}, {{"pads", ints({1, 1, 1, 1})}});
    net.node("Relu", {"a"}, {"r"});
    net.node("Conv", {"r", "w2"}, {"b"}, {{"pads", ints({1, 1, 1, 1})}});
    net.node("Reshape", {"s", "column"}, {"s1"}).known("column", {1, 4, 1, 1});
    net.node("Mul", {"b", "s1"}, {"bs"});
    net.node("Add", {"bs", "r"}, {"c"});
    net.node("Concat", {"c", "r"}, {"d"}, {{"axis", integer(1)}});
    net.node("Split", {"d"}, {"e", "f"}, {{"axis", integer(1)}});
    net.node("Sub", {"e", "f"}, {"g"});
    net.node("GlobalAveragePool", {"g"}, {"p"});
    net.node("Flatten", {"p"}, {"v"});
    net.node("Gemm", {"v", "w3"}, {"y"}, {{"transB", integer(1)}});
    net.lower("y");
    int64_t moved = 0;
    for (Id id : reachable(net.graph, {net.lowered.output}))
      moved += net.graph[id].op == Op::Permute && net.graph[id].scope == Scope::Local &&
               net.graph[net.graph[id].in[0]].op != Op::Input;
    CHECK(moved == 0);
    checkDerivatives(net, "y", 1e-6);
  }

  TEST_CASE("BatchNormalization goes into the linear map before it, and means the same") {
    struct Case {
      std::string op;
      Shape x, weight;
      int64_t channels;
      Attributes attributes;
    };
    const std::vector<Case> cases = {
        {"Conv", {2, 4, 3, 3}, {6, 2, 2, 2}, 6, {{"group", integer(2)}}},
        {"Conv", {2, 2, 5}, {3, 2, 2}, 3, {}},
        {"ConvTranspose",
         {2, 4, 3, 3},
         {4, 3, 2, 2},
         6,
         {{"group", integer(2)}, {"strides", ints({2, 2})}}},
        {"Gemm", {3, 4}, {5, 4}, 5, {{"transB", integer(1)}, {"alpha", number(0.5)}}},
        {"Gemm", {3, 4}, {4, 5}, 5, {{"beta", number(2)}}},
    };
    for (const Case& one : cases)
      for (const bool bias : {false, true}) {
        CAPTURE(one.op);
        CAPTURE(bias);
        auto build = [&](bool alone) {
          auto net = std::make_unique<Net>();
          const int64_t n = one.channels;
          net->input("x", one.x, scattered(count(one.x)));
          net->parameter("w", one.weight, scattered(count(one.weight), 1));
          net->parameter("gamma", {n}, scattered(n, 2)).parameter("beta", {n}, scattered(n, 3));
          if (bias) net->parameter("b", {n}, scattered(n, 4));
          Numbers variance = scattered(n, 5);
          for (double& v : variance) v = 0.5 + v * v;
          net->constant(arrayOf("mean", {n}, scattered(n, 6)));
          net->constant(arrayOf("var", {n}, variance));
          std::vector<std::string> in = {"x", "w"};
          if (bias) in.push_back("b");
          net->node(one.op, in, {"l"}, one.attributes);
          net->node("BatchNormalization", {"l", "gamma", "beta", "mean", "var"}, {"n"},
                    {{"epsilon", number(0.01)}});
          // A second reader of the linear map keeps it as it is.
          net->node(alone ? "Identity" : "Add",
                    alone ? std::vector<std::string>{"n"} : std::vector<std::string>{"n", "zero"},
                    {"y"});
          net->node("Mul", {"l", "nothing"}, {"zero"});
          if (!alone) std::swap(net->model.nodes[2], net->model.nodes[3]);
          net->constant(arrayOf("nothing", {}, {0}));
          return net;
        };
        auto folded = build(true), apart = build(false);
        const Numbers fast = folded->run("y"), slow = apart->run("y");
        checkClose(fast, slow);
        // Nothing but the bias passes over the activations.
        CHECK(folded->countOf(Op::Mul, Scope::Local) == 0);
        CHECK(folded->countOf(Op::Add, Scope::Local) == 1);
        CHECK(apart->countOf(Op::Mul, Scope::Local) == 1);
        checkDerivatives(*folded, "y", 1e-6);
      }
  }

  TEST_CASE("BatchNormalization by the formula, and refused in training mode") {
    Net net;
    net.parameter("x", {1, 2, 2}, {1, 2, 3, 4})
        .parameter("g", {2}, {2, 3})
        .parameter("b", {2}, {1, -1});
    net.constant(arrayOf("m", {2}, {0.5, 1})).constant(arrayOf("v", {2}, {3, 8}));
    net.node("BatchNormalization", {"x", "g", "b", "m", "v"}, {"y", "", ""},
             {{"epsilon", number(1)}});
    checkClose(net.run("y"), {2 * 0.5 / 2 + 1, 2 * 1.5 / 2 + 1, 3 * 2 / 3.0 - 1, 3 * 3 / 3.0 - 1});
    checkDerivatives(net, "y");
    net.model.nodes[0].attributes["training_mode"] = integer(1);
    const std::string message = messageOf(ErrorKind::UnsupportedOperator, [&] { net.lower("y"); });
    CHECK(contains(message, "eval"));
    CHECK(contains(message, "/BatchNormalization_0"));
  }

  TEST_CASE("LayerNormalization, with its other outputs, over one and two axes") {
    const Numbers x = scattered(12);
    for (const int64_t axis : {-1, 1}) {
      Net net;
      const Shape tail = axis == 1 ? Shape{2, 3} : Shape{3};
      const int64_t n = count(tail);
      net.parameter("x", {2, 2, 3}, x);
      net.parameter("s", tail, counting(n)).parameter("b", tail, counting(n, -2));
      net.node("LayerNormalization", {"x", "s", "b"}, {"y", "mean", "inverse"},
               {{"axis", integer(axis)}, {"epsilon", number(0.1)}});
      Numbers expected, means, inverses;
      for (int64_t row = 0; row < 12 / n; ++row) {
        double mean = 0, variance = 0;
        for (int64_t i = 0; i < n; ++i) mean += x[row * n + i] / n;
        for (int64_t i = 0; i < n; ++i) variance += std::pow(x[row * n + i] - mean, 2) / n;
        means.push_back(mean);
        inverses.push_back(1 / std::sqrt(variance + 0.1));
        for (int64_t i = 0; i < n; ++i)
          expected.push_back((x[row * n + i] - mean) * inverses.back() * (1 + i) + i - 2);
      }
      checkClose(net.run("y"), expected);
      checkDerivatives(net, "y", 1e-6);
      checkClose(net.run("mean"), means);
      checkClose(net.run("inverse"), inverses);
    }
  }

  TEST_CASE("Instance, group, RMS and Lp normalisation") {
    const Numbers x = scattered(16);
    auto standard = [&](int64_t group, const std::function<double(int64_t)>& scale) {
      Numbers out;
      for (int64_t row = 0; row < 16 / group; ++row) {
        double mean = 0, variance = 0;
        for (int64_t i = 0; i < group; ++i) mean += x[row * group + i] / group;
        for (int64_t i = 0; i < group; ++i)
          variance += std::pow(x[row * group + i] - mean, 2) / group;
        for (int64_t i = 0; i < group; ++i)
          out.push_back((x[row * group + i] - mean) / std::sqrt(variance + 1e-5) *
                            scale(row * group + i) +
                        1);
      }
      return out;
    };
    Net instance;
    instance.parameter("x", {2, 4, 2}, x)
        .parameter("s", {4}, counting(4))
        .parameter("b", {4}, Numbers(4, 1));
    instance.node("InstanceNormalization", {"x", "s", "b"}, {"y"});
    checkClose(instance.run("y"), standard(2, [](int64_t i) { return 1.0 + i / 2 % 4; }));
    checkDerivatives(instance, "y", 1e-5);
    for (const int64_t opset : {18, 21}) {
      Net group(opset);
      const int64_t n = opset == 18 ? 2 : 4;
      group.parameter("x", {2, 4, 2}, x)
          .parameter("s", {n}, counting(n))
          .parameter("b", {n}, Numbers(n, 1));
      group.node("GroupNormalization", {"x", "s", "b"}, {"y"}, {{"num_groups", integer(2)}});
      checkClose(group.run("y"), standard(4, [&](int64_t i) {
                   return opset == 18 ? 1.0 + i / 4 % 2 : 1.0 + i / 2 % 4;
                 }));
      checkDerivatives(group, "y", 1e-5);
    }
    Net rms(23);
    rms.parameter("x", {2}, {3, 4}).parameter("s", {2}, {1, 10});
    rms.node("RMSNormalization", {"x", "s"}, {"y"}, {{"epsilon", number(0)}});
    checkClose(rms.run("y"), {3 / std::sqrt(12.5), 40 / std::sqrt(12.5)});
    checkDerivatives(rms, "y");
    for (const int64_t p : {1, 2}) {
      Net lp;
      lp.parameter("x", {1, 2}, {3, -4});
      lp.node("LpNormalization", {"x"}, {"y"}, {{"p", integer(p)}});
      const double size = p == 1 ? 7 : 5;
      checkClose(lp.run("y"), {3 / size, -4 / size});
      checkDerivatives(lp, "y");
    }
  }

  TEST_CASE("Softmax and LogSoftmax along any axis, before and after opset 13") {
    const Numbers x = scattered(12);
    auto expected = [&](bool logarithm, int64_t outer, int64_t n, int64_t inner) {
      Numbers out(12);
      for (int64_t o = 0; o < outer; ++o)
        for (int64_t i = 0; i < inner; ++i) {
          double total = 0;
          for (int64_t k = 0; k < n; ++k) total += std::exp(x[(o * n + k) * inner + i]);
          for (int64_t k = 0; k < n; ++k) {
            const double v = x[(o * n + k) * inner + i];
            out[(o * n + k) * inner + i] = logarithm ? v - std::log(total) : std::exp(v) / total;
          }
        }
      return out;
    };
    for (const bool logarithm : {false, true}) {
      const std::string op = logarithm ? "LogSoftmax" : "Softmax";
      auto run = [&](int64_t opset, const Attributes& attributes) {
        Net net(opset);
        net.parameter("x", {2, 3, 2}, x);
        net.node(op, {"x"}, {"y"}, attributes);
        checkDerivatives(net, "y", 1e-6);
        return net.run("y");
      };
      checkClose(run(13, {}), expected(logarithm, 6, 2, 1));
      checkClose(run(13, {{"axis", integer(1)}}), expected(logarithm, 2, 3, 2));
      checkClose(run(13, {{"axis", integer(0)}}), expected(logarithm, 1, 2, 6));
      checkClose(run(11, {}), expected(logarithm, 2, 6, 1));
      checkClose(run(11, {{"axis", integer(2)}}), expected(logarithm, 6, 2, 1));
    }
  }
}
