#include "11-lower.h"

using namespace eigenscope;
using namespace eigenscope::onnx;
using namespace eigenscope::onnx::test;

namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// One hidden unit, one input, biases given: weights are single numbers a gate.
std::unique_ptr<Net> recurrentNet(int64_t gates, const Numbers& x) {
  auto net = std::make_unique<Net>(14);
  const auto steps = static_cast<int64_t>(x.size());
  net->input("x", {steps, 1, 1}, x);
  net->parameter("w", {1, gates, 1}, scattered(gates, 0.1));
  net->parameter("r", {1, gates, 1}, scattered(gates, 0.7));
  net->parameter("b", {1, 2 * gates}, scattered(2 * gates, 1.3));
  return net;
}

}  // namespace

TEST_SUITE("lowering: recurrent layers and resizing") {
  TEST_CASE("RNN, GRU and LSTM step by step") {
    const Numbers x = {0.5, -1.25, 0.75};
    for (const std::string op : {"RNN", "GRU", "LSTM"}) {
      const int64_t gates = op == "RNN" ? 1 : op == "GRU" ? 3 : 4;
      auto net = recurrentNet(gates, x);
      net->node(op, {"x", "w", "r", "b"}, {"y"}, {{"hidden_size", integer(1)}});
      const Numbers w = scattered(gates, 0.1), r = scattered(gates, 0.7),
                    b = scattered(2 * gates, 1.3);
      double h = 0, cell = 0;
      Numbers expected;
      for (double in : x) {
        auto gate = [&](int64_t g, double state) {
          return w[g] * in + r[g] * state + b[g] + b[gates + g];
        };
        if (op == "RNN") h = std::tanh(gate(0, h));
        if (op == "GRU") {
          const double z = sigmoid(gate(0, h)), reset = sigmoid(gate(1, h));
          h = (1 - z) * std::tanh(gate(2, reset * h)) + z * h;
        }
        if (op == "LSTM") {
          cell = sigmoid(gate(2, h)) * cell + sigmoid(gate(0, h)) * std::tanh(gate(3, h));
          h = sigmoid(gate(1, h)) * std::tanh(cell);
        }
        expected.push_back(h);
      }
      checkClose(net->run("y"), expected);
      CHECK(net->shape() == Shape{3, 1, 1, 1});
      checkDerivatives(*net, "y");
    }
  }

  TEST_CASE("equal lengths end in zeros, and a stored state of zeros serves any batch") {
    auto net = recurrentNet(1, {0.5, -1.25, 0.75});
    net->constant(wholeOf("lengths", {1}, {2}));
    net->constant(arrayOf("h", {1, 7, 1}, Numbers(7, 0)));
    net->node("RNN", {"x", "w", "r", "b", "lengths", "h"}, {"y"});
    const Numbers y = net->run("y");
    CHECK(y[1] != 0);
    CHECK(y[2] == 0);
    auto full = recurrentNet(1, {0.5, -1.25});
    full->node("RNN", {"x", "w", "r", "b"}, {"y"});
    checkClose(full->run("y"), {y[0], y[1]});
  }

  TEST_CASE("what a recurrent layer does not take is named") {
    auto refused = [](const std::string& op, const Attributes& attributes) {
      auto net = recurrentNet(op == "RNN" ? 1 : 4, {1});
      net->node(op, {"x", "w", "r", "b"}, {"y"}, attributes);
      return messageOf(ErrorKind::UnsupportedOperator, [&] { net->lower("y"); });
    };
    CHECK(contains(refused("RNN", {{"clip", number(3)}}), "/RNN_0\" (RNN): attribute clip"));
    CHECK(contains(refused("LSTM", {{"input_forget", integer(1)}}), "attribute input_forget"));
    Attribute names;
    names.strings = {"Elu"};
    CHECK(contains(refused("RNN", {{"activations", names}}), "activations: Elu"));
    names.strings = {"Tanh", "Tanh"};
    CHECK(contains(refused("RNN", {{"activations", names}}), "needs 1 names, got 2"));
    Net lengths(14);
    lengths.input("x", {3, 2, 1}, counting(6)).constant(wholeOf("lengths", {2}, {2, 3}));
    lengths.parameter("w", {1, 1, 1}, {1}).parameter("r", {1, 1, 1}, {1});
    lengths.node("RNN", {"x", "w", "r", "", "lengths"}, {"y"});
    CHECK(contains(messageOf(ErrorKind::UnsupportedOperator, [&] { lengths.lower("y"); }),
                   "sequence_lens (\"lengths\") differ"));
    auto shapes = recurrentNet(1, {1});
    shapes->node("GRU", {"x", "w", "r", "b"}, {"y"});
    CHECK(contains(messageOf(ErrorKind::DataMismatch, [&] { shapes->lower("y"); }),
                   "expected weights (\"w\") of shape [1, 3, 1], got [1, 1, 1]"));
  }

  TEST_CASE("Resize and Upsample: nearest, linear and cubic") {
    auto run = [](const std::string& mode, const Numbers& x, double scale,
                  const std::string& coordinates) {
      Net net(13);
      net.parameter("x", {static_cast<int64_t>(x.size())}, x);
      net.constant(arrayOf("scales", {1}, {scale}));
      net.node("Resize", {"x", "", "scales"}, {"y"},
               {{"mode", text(mode)}, {"coordinate_transformation_mode", text(coordinates)}});
      checkDerivatives(net, "y");
      return net.run("y");
    };
    checkClose(run("nearest", {1, 2, 3}, 2, "half_pixel"), {1, 1, 2, 2, 3, 3});
    checkClose(run("nearest", {1, 2, 3, 4}, 0.5, "asymmetric"), {1, 3});
    checkClose(run("linear", {1, 3}, 2, "half_pixel"), {1, 1.5, 2.5, 3});
    checkClose(run("linear", {1, 4}, 2, "align_corners"), {1, 2, 3, 4});
    // Cubic interpolation is exact for lines away from the borders.
    const Numbers cubic = run("cubic", counting(8), 2, "asymmetric");
    for (size_t i = 4; i < 11; ++i)
      CHECK(cubic[i] == doctest::Approx(1 + static_cast<double>(i) / 2));
    Net up(9);
    up.parameter("x", {1, 2}, {1, 2}).constant(arrayOf("scales", {2}, {1, 3}));
    up.node("Upsample", {"x", "scales"}, {"y"});
    checkClose(up.run("y"), {1, 1, 1, 2, 2, 2});
    CHECK(up.countOf(Op::Gather, Scope::Global) == 0);
  }

  TEST_CASE("what Resize does not take is named") {
    auto fail = [](ErrorKind kind, const Attributes& attributes, const Numbers& scales) {
      Net net(18);
      net.parameter("x", {2, 4}, counting(8));
      net.constant(arrayOf("scales", {static_cast<int64_t>(scales.size())}, scales));
      net.node("Resize", {"x", "", "scales"}, {"y"}, attributes);
      return messageOf(kind, [&] { net.lower("y"); });
    };
    const auto refused = ErrorKind::UnsupportedOperator, wrong = ErrorKind::DataMismatch;
    CHECK(contains(fail(refused, {{"mode", text("lanczos")}}, {1, 2}),
                   "/Resize_0\" (Resize): attribute mode = lanczos"));
    CHECK(contains(fail(wrong, {}, {1, 2, 2}), "expected scales or sizes for 2 axes of [2, 4]"));
    CHECK(contains(fail(wrong, {}, {1, -2}), "cannot be resized by -2"));
  }

  TEST_CASE("Einsum of several operands, of diagonals and with dots") {
    auto run = [](const std::string& equation, const std::vector<std::string>& in) {
      Net net;
      net.parameter("a", {2, 2}, {1, 2, 3, 4}).parameter("b", {2, 3}, counting(6));
      net.parameter("c", {3}, {1, -1, 2}).parameter("d", {2, 2, 2}, counting(8));
      net.node("Einsum", in, {"y"}, {{"equation", text(equation)}});
      const Numbers y = net.run("y");
      checkDerivatives(net, "y");
      return y;
    };
    checkClose(run("ij,jk,k->i", {"a", "b", "c"}), {27, 59});
    checkClose(run("ij,jk,k", {"a", "b", "c"}), {27, 59});
    checkClose(run("ii->i", {"a"}), {1, 4});
    checkClose(run("ii", {"a"}), {5});
    checkClose(run("iij->ji", {"d"}), {1, 7, 2, 8});
    checkClose(run("...ij,...jk->...ik", {"d", "a"}), {7, 10, 15, 22, 23, 34, 31, 46});
    checkClose(run("i...->...", {"d"}), {6, 8, 10, 12});
    auto fail = [](const std::string& equation, ErrorKind kind) {
      Net net;
      net.parameter("a", {2, 3}, counting(6));
      net.node("Einsum", {"a"}, {"y"}, {{"equation", text(equation)}});
      return messageOf(kind, [&] { net.lower("y"); });
    };
    CHECK(contains(fail("ii->i", ErrorKind::DataMismatch), "takes a diagonal of [2, 3]"));
    CHECK(contains(fail("ijk->i", ErrorKind::DataMismatch), "does not fit rank 2"));
    CHECK(contains(fail("ij->k", ErrorKind::DataMismatch), "no operand has"));
    CHECK(contains(fail("", ErrorKind::UnsupportedOperator), "attribute equation is empty"));
  }

  TEST_CASE("GridSample between pixels, and beyond the image") {
    auto run = [](const Numbers& places, const Attributes& attributes) {
      Net net(20);
      net.parameter("x", {1, 1, 2, 2}, {1, 2, 3, 5});
      net.parameter("at", {1, 1, static_cast<int64_t>(places.size()) / 2, 2}, places);
      net.node("GridSample", {"x", "at"}, {"y"}, attributes);
      const Numbers y = net.run("y");
      checkDerivatives(net, "y", 1e-5);
      return y;
    };
    const auto corners = std::pair<const std::string, Attribute>{"align_corners", integer(1)};
    checkClose(run({0.1, -0.5}, {corners}), {0.75 * 1.55 + 0.25 * 4.1});
    checkClose(run({-0.75, -0.75}, {}), {0.75 * 0.75});
    checkClose(run({-0.75, -0.7}, {{"padding_mode", text("border")}}), {1});
    checkClose(run({-0.8, 2.25}, {{"padding_mode", text("reflection")}, corners}),
               {0.9 * (0.625 * 1 + 0.375 * 3) + 0.1 * (0.625 * 2 + 0.375 * 5)});
    checkClose(run({0.6, 0.4}, {{"mode", text("nearest")}}), {5});
    Net cubic(20);
    cubic.parameter("x", {1, 1, 1, 1}, {1}).parameter("at", {1, 1, 1, 2}, {0, 0});
    cubic.node("GridSample", {"x", "at"}, {"y"}, {{"mode", text("cubic")}});
    CHECK(contains(messageOf(ErrorKind::UnsupportedOperator, [&] { cubic.lower("y"); }),
                   "attribute mode = cubic"));
    Net shapes(20);
    shapes.parameter("x", {1, 1, 1, 1}, {1}).parameter("at", {2, 1, 1, 2}, counting(4));
    shapes.node("GridSample", {"x", "at"}, {"y"});
    CHECK(contains(messageOf(ErrorKind::DataMismatch, [&] { shapes.lower("y"); }),
                   "the grid [2, 1, 1, 2] does not fit the image [1, 1, 1, 1]"));
  }

  TEST_CASE("AffineGrid gives the places of pixels, turned and moved") {
    auto run = [](int64_t corners) {
      Net net(20);
      net.parameter("theta", {1, 2, 3}, {2, 0, 0.5, 0, -1, 0});
      net.constant(wholeOf("size", {4}, {1, 1, 2, 1}));
      net.node("AffineGrid", {"theta", "size"}, {"y"}, {{"align_corners", integer(corners)}});
      const Numbers y = net.run("y");
      checkDerivatives(net, "y");
      return y;
    };
    checkClose(run(0), {0.5, 0.5, 0.5, -0.5});
    checkClose(run(1), {0.5, 1, 0.5, -1});  // one pixel alone lies in the middle
    Net wrong(20);
    wrong.parameter("theta", {1, 2, 3}, counting(6)).constant(wholeOf("size", {3}, {1, 1, 2}));
    wrong.node("AffineGrid", {"theta", "size"}, {"y"});
    CHECK(contains(messageOf(ErrorKind::DataMismatch, [&] { wrong.lower("y"); }),
                   "matrices [1, 2, 3] do not fit a grid for images [1, 1, 2]"));
  }

  TEST_CASE("GridSample in a volume and along a line") {
    Net volume(20);
    volume.parameter("x", {1, 1, 2, 2, 2}, {1, 2, 3, 4, 5, 6, 7, 9});
    volume.parameter("at", {1, 1, 1, 1, 3}, {0.5, 0, -1});
    volume.node("GridSample", {"x", "at"}, {"y"}, {{"align_corners", integer(1)}});
    checkClose(volume.run("y"), {0.5 * (0.25 * 1 + 0.75 * 2) + 0.5 * (0.25 * 3 + 0.75 * 4)});
    Net line(20);
    line.parameter("x", {1, 1, 3}, {1, 2, 4}).parameter("at", {1, 1, 1}, {0.5});
    line.node("GridSample", {"x", "at"}, {"y"}, {{"align_corners", integer(1)}});
    checkClose(line.run("y"), {3});
    checkDerivatives(line, "y");
  }

  TEST_CASE("Col2Im adds patches up, and LpPool takes roots of sums") {
    Net net(18);
    net.parameter("x", {1, 4, 2}, counting(8)).known("image", {2, 3}).known("block", {2, 2});
    net.node("Col2Im", {"x", "image", "block"}, {"y"});
    checkClose(net.run("y"), {1, 5, 4, 5, 13, 8});
    CHECK(net.shape() == Shape{1, 1, 2, 3});
    checkDerivatives(net, "y");
    Net wrong(18);
    wrong.parameter("x", {1, 4, 3}, counting(12)).known("image", {2, 3}).known("block", {2, 2});
    wrong.node("Col2Im", {"x", "image", "block"}, {"y"});
    CHECK(contains(messageOf(ErrorKind::DataMismatch, [&] { wrong.lower("y"); }),
                   "columns [1, 4, 3] do not fit images [2, 3] of patches [2, 2]"));
    Net pool(18);
    pool.parameter("x", {1, 1, 3}, {3, -4, 12});
    pool.node("LpPool", {"x"}, {"y"}, {{"kernel_shape", ints({2})}});
    checkClose(pool.run("y"), {5, std::sqrt(160.0)});
    checkDerivatives(pool, "y");
  }

  TEST_CASE("inverse hyperbolic functions undo what they invert") {
    for (const std::string op : {"Asinh", "Acosh", "Atanh"}) {
      Net net;
      const Numbers x = op == "Atanh" ? Numbers{0.5, -0.25, 1e-3} : Numbers{1.5, 2.5, 40};
      net.parameter("x", {3}, x).node(op, {"x"}, {"y"});
      const Numbers y = net.run("y");
      for (size_t i = 0; i < 3; ++i) {
        const double back = op == "Asinh"   ? std::sinh(y[i])
                            : op == "Acosh" ? std::cosh(y[i])
                                            : std::tanh(y[i]);
        CHECK(back == doctest::Approx(x[i]).epsilon(1e-12));
      }
      checkDerivatives(net, "y", 1e-6);
    }
    Net negative;
    negative.parameter("x", {1}, {-1e6}).node("Asinh", {"x"}, {"y"});
    CHECK(negative.run("y")[0] == doctest::Approx(-std::asinh(1e6)).epsilon(1e-14));
  }

  TEST_CASE("antialias widens the kernel where it shrinks") {
    Net net(18);
    net.parameter("x", {8}, counting(8)).constant(arrayOf("scales", {1}, {0.25}));
    net.node(
        "Resize", {"x", "", "scales"}, {"y"},
        {{"mode", text("linear")}, {"antialias", integer(1)}, {"exclude_outside", integer(1)}});
    const Numbers y = net.run("y");
    // Triangles of half-width 4 about 1.5 and 5.5, cut at the borders.
    double total = 0, weight = 0;
    for (int i = 0; i < 6; ++i) {
      const double w = 1 - std::fabs(i - 1.5) / 4;
      total += w * (i + 1);
      weight += w;
    }
    checkClose(y, {total / weight, 9 - total / weight});
    checkDerivatives(net, "y");
  }
}
