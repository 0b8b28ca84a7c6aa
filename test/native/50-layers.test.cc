#include "11-lower.h"
#include "curvature/layers.h"

// Layers found in a graph: their rows of inputs and derivatives make the gradient.
namespace eigenscope::onnx::test {

namespace {

// The network without folding, with every parameter a layer's. Rows of inputs and of derivatives
// are put together sample by sample and held against reverse differentiation.
void checkLayers(Net& net, const std::string& output, int64_t samples, size_t layers,
                 bool bySample = true) {
  Graph& g = net.graph;
  net.lowered = onnx::lower(net.model, net.parameters, g, net.bindings, output, false);
  const Id z = net.lowered.output;
  std::vector<Shape> shapes;
  std::vector<int64_t> wanted;
  std::vector<Id> leaves;
  for (const Parameter& parameter : net.parameters) {
    wanted.push_back(static_cast<int64_t>(wanted.size()));
    shapes.push_back(parameter.value.shape());
    leaves.push_back(g.param(wanted.back(), shapes.back()));
  }
  const Layers found = findLayers(g, z, shapes, wanted, samples);
  for (const auto& other : found.others) FAIL_CHECK(other.reason);
  REQUIRE(found.layers.size() == layers);

  const auto weights = std::make_shared<Numbers>(scattered(count(g.shape(z)), 0.4));
  const Id cotangent = g.constant(weights, g.shape(z));
  std::vector<Id> outputs;
  for (const LinearLayer& layer : found.layers) outputs.push_back(layer.output);
  const std::vector<Id> bars = adjoints(g, z, cotangent, outputs);
  const std::vector<Id> gradients = vjp(g, z, cotangent, leaves);

  std::vector<Numbers> made;
  for (const Shape& shape : shapes) made.emplace_back(count(shape), 0.0);
  for (size_t l = 0; l < layers; ++l) {
    const LinearLayer& layer = found.layers[l];
    CAPTURE(net.parameters[static_cast<size_t>(layer.parameter)].name);
    CHECK(layer.samplesOf.has_value() == bySample);
    const Id rows = outputRows(g, layer, g.broadcast(bars[l], g.shape(layer.output)), 0, samples);
    const Shape shape = g.shape(rows);
    CHECK(shape[0] == (bySample ? samples : 1));
    CHECK(shape[0] * shape[1] == static_cast<int64_t>(std::lround(layer.positions * samples)));
    const Numbers delta = net.value(rows);
    const Numbers a = layer.bias ? Numbers(count(shape), 1.0) : net.value(layer.inputs.node);
    for (int64_t r = 0; r < shape[0] * shape[1]; ++r)
      for (int64_t k = 0; k < layer.groups; ++k)
        for (int64_t o = 0; o < layer.out; ++o)
          for (int64_t i = 0; i < layer.in; ++i) {
            const int64_t entry = (k * layer.out + o) * layer.in + i;
            const auto place = static_cast<size_t>(layer.order[static_cast<size_t>(entry)]);
            const auto at = static_cast<size_t>((r * layer.groups + k) * layer.out + o);
            const auto from = static_cast<size_t>((r * layer.groups + k) * layer.in + i);
            made[static_cast<size_t>(layer.parameter)][place] +=
                layer.coefficient * delta[at] * (layer.bias ? 1.0 : a[from]);
          }
  }
  for (size_t p = 0; p < leaves.size(); ++p) {
    CAPTURE(net.parameters[p].name);
    checkClose(made[p], net.value(gradients[p]));
  }
}

std::string reasonFor(Net& net, const std::string& output, int64_t samples) {
  net.lowered = onnx::lower(net.model, net.parameters, net.graph, net.bindings, output, false);
  const Shape shape = net.parameters[0].value.shape();
  const Layers found = findLayers(net.graph, net.lowered.output, {shape}, {0}, samples);
  REQUIRE(found.others.size() == 1);
  return found.others[0].reason;
}

}  // namespace

TEST_CASE("layers: two Gemm with factors of their own and a nonlinearity") {
  Net net;
  net.input("x", {3, 2}, scattered(6))
      .parameter("w", {4, 2}, scattered(8, 1))
      .parameter("b", {4}, scattered(4, 2))
      .parameter("v", {4, 3}, scattered(12, 3))
      .node("Gemm", {"x", "w", "b"}, {"h"},
            {{"transB", integer(1)}, {"alpha", number(0.5)}, {"beta", number(2)}})
      .node("Tanh", {"h"}, {"t"})
      .node("Gemm", {"t", "v"}, {"y"});
  checkLayers(net, "y", 3, 3);
}

TEST_CASE("layers: a weight in three parts, rows in another order than the samples") {
  Net net;
  net.input("x", {2, 3, 4}, scattered(24))
      .parameter("qkv", {4, 6}, scattered(24, 1))
      .parameter("b", {6}, scattered(6, 2))
      .known("halves", {2, 4})
      .node("Transpose", {"x"}, {"turned"}, {{"perm", ints({1, 0, 2})}})
      .node("Split", {"qkv", "halves"}, {"w1", "w2"}, {{"axis", integer(1)}})
      .node("MatMul", {"turned", "w1"}, {"y1"})
      .node("MatMul", {"turned", "w2"}, {"y2"})
      .node("Concat", {"y1", "y2"}, {"y3"}, {{"axis", integer(2)}})
      .node("Add", {"y3", "b"}, {"y"});
  checkLayers(net, "y", 2, 3);
}

TEST_CASE("layers: rows of samples merged with positions and taken apart") {
  Net net;
  net.input("x", {2, 3, 4}, scattered(24))
      .parameter("w", {4, 5}, scattered(20, 1))
      .known("flat", {6, 4})
      .known("full", {2, 15})
      .parameter("v", {15, 2}, scattered(30, 2))
      .node("Reshape", {"x", "flat"}, {"rows"})
      .node("MatMul", {"rows", "w"}, {"h"})
      .node("Sigmoid", {"h"}, {"s"})
      .node("Reshape", {"s", "full"}, {"f"})
      .node("MatMul", {"f", "v"}, {"y"});
  checkLayers(net, "y", 2, 2);
}

TEST_CASE("layers: convolutions with groups, strides, dilations and uneven pads") {
  Net net;
  net.input("x", {2, 4, 5, 6}, scattered(240))
      .parameter("w", {6, 2, 3, 2}, scattered(72, 1))
      .parameter("b", {6}, scattered(6, 2))
      .parameter("d", {6, 1, 2, 2}, scattered(24, 3))
      .node("Conv", {"x", "w", "b"}, {"h"},
            {{"group", integer(2)},
             {"pads", ints({1, 0, 2, 1})},
             {"strides", ints({2, 1})},
             {"dilations", ints({1, 2})}})
      .node("Tanh", {"h"}, {"t"})
      .node("MaxPool", {"t"}, {"m"}, {{"kernel_shape", ints({2, 2})}})
      .node("Conv", {"m", "d"}, {"y"}, {{"group", integer(6)}});
  checkLayers(net, "y", 2, 3);
}

TEST_CASE("layers: one spatial axis") {
  Net net;
  net.input("x", {2, 3, 6}, scattered(36))
      .parameter("w", {4, 3, 3}, scattered(36, 1))
      .parameter("b", {4}, scattered(4, 2))
      .node("Conv", {"x", "w", "b"}, {"y"}, {{"pads", ints({1, 1})}, {"strides", ints({2})}});
  checkLayers(net, "y", 2, 2);
}

TEST_CASE("layers: weights that vary over an axis of the data are groups") {
  Net net;
  net.input("x", {2, 3, 4}, scattered(24))
      .parameter("w", {3, 5, 4}, scattered(60, 1))
      .node("Einsum", {"x", "w"}, {"y"}, {{"equation", text("bgi,goi->bgo")}});
  checkLayers(net, "y", 2, 1);
}

TEST_CASE("layers: the shift of a normalisation is a bias, its scale is none") {
  Net net;
  net.input("x", {3, 2}, scattered(6))
      .parameter("gamma", {2}, {1.5, 0.5})
      .parameter("beta", {2}, {0.1, 0.2})
      .constant(arrayOf("mean", {2}, {0.3, -0.2}))
      .constant(arrayOf("variance", {2}, {1.2, 0.7}))
      .node("BatchNormalization", {"x", "gamma", "beta", "mean", "variance"}, {"y"});
  CHECK(contains(reasonFor(net, "y", 3), "scales other values"));
  const Layers found = findLayers(net.graph, net.lowered.output, {{2}, {2}}, {0, 1}, 3);
  REQUIRE(found.layers.size() == 1);
  CHECK(found.layers[0].parameter == 1);
  CHECK(found.layers[0].bias);
}

TEST_CASE("layers: why a parameter has none") {
  Net tied;
  tied.input("x", {2, 3}, scattered(6))
      .parameter("w", {3, 3}, scattered(9))
      .node("MatMul", {"x", "w"}, {"h"})
      .node("MatMul", {"h", "w"}, {"y"});
  CHECK(contains(reasonFor(tied, "y", 2), "more than once"));

  Net product;
  product.input("x", {2, 3}, scattered(6))
      .parameter("u", {3, 2}, scattered(6))
      .parameter("v", {2, 3}, scattered(6, 1))
      .node("MatMul", {"u", "v"}, {"w"})
      .node("MatMul", {"x", "w"}, {"y"});
  CHECK(contains(reasonFor(product, "y", 2), "multiplied by other parameters"));

  Net part;
  part.input("x", {2, 2}, scattered(4))
      .parameter("w", {2, 4}, scattered(8))
      .known("sizes", {3, 1})
      .node("Split", {"w", "sizes"}, {"used", "unused"}, {{"axis", integer(1)}})
      .node("MatMul", {"x", "used"}, {"y"});
  CHECK(contains(reasonFor(part, "y", 2), "a part of it is not used"));
}

TEST_CASE("adjoints: derivatives at nodes that depend on one another") {
  Graph g;
  const Id x = g.input(0, {2}, Type::Real);
  const Id y = g.mul(x, x), z = g.unary(Op::Exp, y), w = g.mul(z, y);
  const std::vector<Id> bars =
      adjoints(g, w, g.constant(g.constantOf(g.scalar(1)), {2}), {y, z, x});
  reference::Leaves leaves;
  leaves.inputs[0] = {0.5, -0.3};
  reference::Interpreter values(g, leaves);
  for (size_t i = 0; i < 2; ++i) {
    const double u = leaves.inputs[0][i], v = u * u;
    CHECK(values(bars[0])[i] == doctest::Approx(std::exp(v) * (1 + v)));
    CHECK(values(bars[1])[i] == doctest::Approx(v));
    CHECK(values(bars[2])[i] == doctest::Approx(2 * u * std::exp(v) * (1 + v)));
  }
}

}  // namespace eigenscope::onnx::test
