// Nodes that have a way for training: statistics of the batch, masks of Dropout; inputs that hold
// one number.
#include "onnx/modes.h"

#include "11-lower.h"
#include "run/draw.h"

namespace eigenscope::onnx::test {

namespace {

using Statistics = Modes::Statistics;

Net normalising(int64_t opset, const Attributes& attributes) {
  Net net(opset);
  net.parameter("x", {2, 2, 2}, {1, 2, 3, 4, 5, 0, -2, 7})
      .parameter("g", {2}, {2, 3})
      .parameter("b", {2}, {1, -1});
  net.constant(arrayOf("m", {2}, {0.5, 1})).constant(arrayOf("v", {2}, {3, 8}));
  net.node("BatchNormalization", {"x", "g", "b", "m", "v"}, {"y"}, attributes);
  return net;
}

}  // namespace

TEST_SUITE("lowering of modes") {
  TEST_CASE("BatchNormalization by the statistics of the batch, in all its forms") {
    const std::pair<int64_t, Attributes> forms[] = {
        {17, {{"epsilon", number(1)}, {"training_mode", integer(1)}}},
        {17, {{"epsilon", number(1)}}},
        {9, {{"epsilon", number(1)}}},
        {6, {{"epsilon", number(1)}, {"is_test", integer(0)}}},
    };
    // Channel 0: 1, 2, 5, 0, of mean 2 and variance 3.5; channel 1: 3, 4, -2, 7, 3 and 10.5.
    const double s = 2 / std::sqrt(4.5), t = 3 / std::sqrt(11.5);
    const Numbers wanted = {1 - s, 1, -1, -1 + t, 1 + 3 * s, 1 - 2 * s, -1 - 5 * t, -1 + 4 * t};
    for (const auto& [opset, attributes] : forms) {
      Net net = normalising(opset, attributes);
      CHECK_FALSE(usesBatchStatistics(net.model));
      applyModes(net.model, {.batchNorm = Statistics::Batch, .batch = 2});
      CHECK(usesBatchStatistics(net.model));
      CHECK(net.model.statisticsBatch == 2);
      checkClose(net.run("y"), wanted);
      checkDerivatives(net, "y");
    }
  }

  TEST_CASE("the stored statistics of a node of training mode, and back from those of the batch") {
    Net plain = normalising(17, {{"epsilon", number(1)}});
    const Numbers wanted = plain.run("y");
    Net net = normalising(17, {{"epsilon", number(1)}, {"training_mode", integer(1)}});
    applyModes(net.model, {.batchNorm = Statistics::Batch});
    applyModes(net.model, {.batchNorm = Statistics::Running});
    CHECK_FALSE(usesBatchStatistics(net.model));
    checkClose(net.run("y"), wanted);
  }

  TEST_CASE("MeanVarianceNormalization over the batch") {
    Net net;
    net.parameter("x", {2, 1, 1, 2}, {1, 3, -1, 5});
    net.node("MeanVarianceNormalization", {"x"}, {"y"});
    applyModes(net.model, {.batchNorm = Statistics::Batch});
    CHECK(usesBatchStatistics(net.model));
    const double d = std::sqrt(5.0);
    checkClose(net.run("y"), {-1 / d, 1 / d, -3 / d, 3 / d}, 1e-8);
    Net inside;
    inside.parameter("x", {2, 2}, {1, 3, -2, 6});
    inside.node("MeanVarianceNormalization", {"x"}, {"y"}, {{"axes", ints({1})}});
    applyModes(inside.model, {.batchNorm = Statistics::Batch});
    CHECK_FALSE(usesBatchStatistics(inside.model));
  }

  TEST_CASE("statistics of a single number leave the bias, with a warning") {
    Net net;
    net.parameter("x", {1, 2}, {3, 4}).parameter("g", {2}, {2, 3}).parameter("b", {2}, {1, -1});
    net.constant(arrayOf("m", {2}, {0, 0})).constant(arrayOf("v", {2}, {1, 1}));
    net.node("BatchNormalization", {"x", "g", "b", "m", "v"}, {"y"});
    applyModes(net.model, {.batchNorm = Statistics::Batch});
    checkClose(net.run("y"), {1, -1});
    REQUIRE(net.lowered.warnings.size() == 1);
    CHECK(contains(net.lowered.warnings[0], "a single number"));
  }

  TEST_CASE(
      "a Dropout of what is the same for all samples has one mask, of its place in the file") {
    for (const int64_t before : {0, 2}) {
      Net net;
      net.parameter("x", {3, 4}, counting(12));
      net.constant(arrayOf("ratio", {}, {0.25})).constant(boolsOf("on", {}, {1}));
      for (int64_t i = 0; i < before; ++i)
        net.node("Dropout", {"x", "ratio", "on"}, {"unused" + std::to_string(i)});
      net.node("Dropout", {"x", "ratio", "on"}, {"y", "mask"});
      applyModes(net.model, {.dropout = 5});
      CHECK(usesDropout(net.model));
      Numbers wanted = counting(12), kept(12);
      for (int64_t i = 0; i < 12; ++i) {
        const double m = dropoutAt(5, before, i, 0.25);
        CHECK((m == 0 || m == 1 / 0.75));
        wanted[i] *= m;
        kept[i] = m > 0;
      }
      checkClose(net.run("y"), wanted);
      checkDerivatives(net, "y");
      checkClose(net.run("mask"), kept);
    }
  }

  TEST_CASE("Dropout of everything and of nothing, and ratios that are none") {
    for (const double ratio : {0.0, 1.0}) {
      Net net;
      net.parameter("x", {3}, {1, 2, 3}).constant(arrayOf("ratio", {}, {ratio}));
      net.node("Dropout", {"x", "ratio"}, {"y"});
      applyModes(net.model, {.dropout = 1});
      checkClose(net.run("y"), ratio == 0 ? Numbers{1, 2, 3} : Numbers{0, 0, 0});
    }
    Net net;
    net.parameter("x", {3}, {1, 2, 3}).constant(arrayOf("ratio", {}, {1.5}));
    net.node("Dropout", {"x", "ratio"}, {"y"});
    applyModes(net.model, {.dropout = 1});
    CHECK(contains(messageOf(ErrorKind::DataMismatch, [&] { net.lower("y"); }), "from 0 to 1"));
  }

  TEST_CASE("a mask behind a softmax is no place to split the loss before") {
    Net net;
    net.input("x", {2, 3}, counting(6)).constant(arrayOf("ratio", {}, {0.5}));
    net.node("Softmax", {"x"}, {"p"}).node("Dropout", {"p", "ratio"}, {"y"});
    CHECK(net.lower("y").lowered.activation == "Softmax");
    applyModes(net.model, {.dropout = 1});
    CHECK(net.lower("y").lowered.activation.empty());
  }

  TEST_CASE("an input that holds one number takes its free lengths from the data") {
    Net net;
    net.input("x", {2, 3}, counting(6));
    net.model.inputs[0].dimNames = {"batch", "time"};
    net.model.fills.emplace(
        "f", Model::Fill{{"f", ElementType::F32, {-1, -1, 1}, {"time", "", ""}}, 0.5});
    net.node("Shape", {"f"}, {"y"});
    checkClose(net.run("y"), {3, 2, 1});
    net.node("Mul", {"x", "g"}, {"z"});
    net.model.fills.emplace("g",
                            Model::Fill{{"g", ElementType::F32, {-1, -1}, {"batch", "time"}}, 0.5});
    checkClose(net.run("z"), {0.5, 1, 1.5, 2, 2.5, 3});
  }

  TEST_CASE("masks belong to samples, wherever their micro-batch begins") {
    const Attr attr = {.ints = {static_cast<int64_t>(DrawKind::Dropout), 1, 9, 3}, .number = 0.3};
    const Shape all = {7, 5}, some = {3, 5};
    std::vector<double> whole(35), part(15), operand(35);
    runDraw(planDraw(attr, all, all), 0, operand.data(), whole.data());
    runDraw(planDraw(attr, some, some), 2, operand.data(), part.data());
    CHECK(std::equal(part.begin(), part.end(), whole.begin() + 10));
    std::vector<float> single(35), floats(35);
    runDraw(planDraw(attr, all, all), 0, floats.data(), single.data());
    for (size_t i = 0; i < whole.size(); ++i) CHECK((single[i] == 0) == (whole[i] == 0));
  }
}

}  // namespace eigenscope::onnx::test
