#include "11-lower.h"

using namespace eigenscope;
using namespace eigenscope::onnx;
using namespace eigenscope::onnx::test;

TEST_SUITE("lowering: losses inside the graph") {
  TEST_CASE("both losses, every reduction, class weights and an ignored label") {
    const Numbers scores = scattered(12), weights = {1, 2, 0.5};
    const Numbers labels = {0, 2, 1, -7};  // [2, 2] for scores [2, 3, 2]
    for (const bool entropy : {false, true})
      for (const std::string reduction : {"none", "sum", "mean"})
        for (const bool weighted : {false, true}) {
          Net net;
          net.parameter("x", {2, 3, 2}, scores).input("t", {2, 2}, labels, Type::Int);
          net.constant(arrayOf("w", {3}, weights));
          std::vector<std::string> in = {"x", "t"};
          if (weighted) in.push_back("w");
          net.node(entropy ? "SoftmaxCrossEntropyLoss" : "NegativeLogLikelihoodLoss", in, {"y"},
                   {{"reduction", text(reduction)}, {"ignore_index", integer(-7)}});
          Numbers each;
          double sum = 0, weight = 0;
          for (int64_t b = 0; b < 2; ++b)
            for (int64_t d = 0; d < 2; ++d) {
              const auto label = static_cast<int64_t>(labels[b * 2 + d]);
              if (label < 0) {
                each.push_back(0);
                continue;
              }
              auto score = [&](int64_t c) { return scores[(b * 3 + c) * 2 + d]; };
              double total = 0;
              for (int64_t c = 0; c < 3; ++c) total += std::exp(score(c));
              const double w = weighted ? weights[label] : 1;
              each.push_back(-w * (score(label) - (entropy ? std::log(total) : 0)));
              sum += each.back();
              weight += w;
            }
          CAPTURE(entropy);
          CAPTURE(reduction);
          CAPTURE(weighted);
          const Numbers got = net.run("y");
          checkClose(got, reduction == "none"  ? each
                          : reduction == "sum" ? Numbers{sum}
                                               : Numbers{sum / weight});
          checkDerivatives(net, "y");
        }
  }

  TEST_CASE("the logarithms of the probabilities are the second output") {
    Net net;
    net.parameter("x", {1, 2}, {1, 3}).input("t", {1}, {0}, Type::Int);
    net.node("SoftmaxCrossEntropyLoss", {"x", "t"}, {"loss", "logs"});
    const double total = std::log(std::exp(1) + std::exp(3));
    checkClose(net.run("logs"), {1 - total, 3 - total});
    checkClose(net.run("loss"), {total - 1});
  }

  TEST_CASE("labels of another shape are refused") {
    Net net;
    net.parameter("x", {2, 3}, scattered(6)).input("t", {3}, {0, 1, 2}, Type::Int);
    net.node("SoftmaxCrossEntropyLoss", {"x", "t"}, {"y"});
    CHECK(contains(messageOf(ErrorKind::DataMismatch, [&] { net.lower("y"); }), "labels [3]"));
  }
}
