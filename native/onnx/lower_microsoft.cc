#include <cmath>

#include "onnx/lower_window.h"

// Operators of the domain com.microsoft, which ONNX Runtime's optimiser writes into files: several
// of ONNX's own in one.
namespace eigenscope::onnx {

namespace {

constexpr std::string_view kDomain = "com.microsoft";

// The first result of ONNX's own operator of this name on the same node.
Value as(Call& c, std::string_view name) {
  for (const Operator& row : operators())
    if (row.domain.empty() && row.name == name) return row.lower(c)[0];
  throw Error(ErrorKind::Internal, "no operator " + std::string(name));
}

Value exactGelu(Call& c, const Value& x) {
  const Value erf = c.b.unary(Op::Erf, c.b.scale(x, std::sqrt(0.5)));
  return c.b.mul(c.b.scale(x, 0.5), c.b.shift(erf, 1));
}

Value tanhGelu(Call& c, const Value& x) {
  const Value cube = c.b.mul(x, c.b.mul(x, x));
  const Value inner = c.b.scale(c.b.add(x, c.b.scale(cube, 0.044715)), std::sqrt(2 / M_PI));
  return c.b.mul(c.b.scale(x, 0.5), c.b.shift(c.b.unary(Op::Tanh, inner), 1));
}

Results gelu(Call& c) { return {exactGelu(c, c.in(0))}; }

Results biasGelu(Call& c) { return {exactGelu(c, c.b.add(c.in(0), c.in(1)))}; }

Results fastGelu(Call& c) { return {tanhGelu(c, c.has(1) ? c.b.add(c.in(0), c.in(1)) : c.in(0))}; }

// x sigmoid(alpha x)
Results quickGelu(Call& c) {
  const Value gate = c.b.unary(Op::Sigmoid, c.b.scale(c.in(0), c.number("alpha", 1.702)));
  return {c.b.mul(c.in(0), gate)};
}

// Batch axes move behind the next one: transBatchA = 1 takes [m, batch..., k] for [batch..., m, k].
Value matrixOf(Call& c, size_t input, const char* batch, const char* swap) {
  Value x = c.in(input);
  const int64_t rank = c.b.rank(x);
  if (rank < 2) return x;
  if (c.integer(batch, 0) != 0) {
    Axes perm;
    for (int64_t i = 1; i + 1 < rank; ++i) perm.push_back(i);
    perm.push_back(0);
    perm.push_back(rank - 1);
    x = c.b.transpose(x, perm);
  }
  if (c.integer(swap, 0) == 0) return x;
  Axes perm = identity(rank);
  std::swap(perm[rank - 1], perm[rank - 2]);
  return c.b.transpose(x, perm);
}

Results fusedMatMul(Call& c) {
  const Value a = matrixOf(c, 0, "transBatchA", "transA");
  const Value b = matrixOf(c, 1, "transBatchB", "transB");
  const NodeDef plain{.op = "MatMul",
                      .domain = "",
                      .name = c.node.name,
                      .in = c.node.in,
                      .out = c.node.out,
                      .attributes = {}};
  std::vector<std::string> warnings;
  Call inner(c.b, plain, c.opset, {a, b}, {true, true}, false, c.fold, c.batch, c.rows, warnings);
  return {c.b.scale(as(inner, "MatMul"), c.number("alpha", 1))};
}

// ---- an activation at the end ------------------------------------------------------------------

const std::string& activationOf(const NodeDef& node) {
  static const std::string none;
  auto at = node.attributes.find("activation");
  return at == node.attributes.end() || at->second.strings.empty() ? none : at->second.strings[0];
}

std::string refuseFused(const NodeDef& node) {
  if (const std::string volumes = refuseHyperVolumes(node); !volumes.empty()) return volumes;
  const std::string& name = activationOf(node);
  const bool taken = name.empty() || name == "Relu" || name == "Tanh" || name == "Sigmoid";
  return taken ? "" : "attribute activation = " + name + " is not supported";
}

Value activated(Call& c, const Value& x) {
  const std::string& name = activationOf(c.node);
  if (name == "Tanh") return c.b.unary(Op::Tanh, x);
  if (name == "Sigmoid") return c.b.unary(Op::Sigmoid, x);
  const Value zero = Builder::number(0);
  return name.empty() ? x : c.b.select(c.b.binary(Op::Less, zero, x), x, zero);
}

Results fusedConv(Call& c) {
  const Value y = as(c, "Conv");
  return {activated(c, c.has(3) ? c.b.add(y, c.in(3)) : y)};
}

Results fusedGemm(Call& c) { return {activated(c, as(c, "Gemm"))}; }

// ---- normalisation of a sum --------------------------------------------------------------------

Axes lastAxis(Call& c) { return {c.rank(0) - 1}; }

// Output 3 is the sum itself.
Results skipLayerNormalization(Call& c) {
  Value x = c.b.add(c.in(0), c.in(1));
  if (c.has(4)) x = c.b.add(x, c.in(4));
  const Value mean = c.b.mean(x, lastAxis(c)), centred = c.b.sub(x, mean);
  const Value variance = c.b.mean(c.b.mul(centred, centred), lastAxis(c));
  const Value root = c.b.unary(Op::Sqrt, c.b.shift(variance, c.number("epsilon", 1e-12)));
  const Value inverse = c.b.unary(Op::Recip, root);
  Value y = c.b.mul(c.b.mul(centred, inverse), c.in(2));
  if (c.has(3)) y = c.b.add(y, c.in(3));
  return {y, mean, inverse, x};
}

Results skipSimplifiedLayerNormalization(Call& c) {
  Value x = c.b.add(c.in(0), c.in(1));
  if (c.has(3)) x = c.b.add(x, c.in(3));
  const Value power = c.b.mean(c.b.mul(x, x), lastAxis(c));
  const Value root = c.b.unary(Op::Sqrt, c.b.shift(power, c.number("epsilon", 1e-12)));
  const Value inverse = c.b.unary(Op::Recip, root);
  return {c.b.mul(c.b.mul(x, inverse), c.in(2)), c.b.mean(x, lastAxis(c)), inverse, x};
}

constexpr Grade kPiecewise = Grade::Piecewise;
constexpr std::string_view kActivations = "activations Relu, Tanh and Sigmoid";

const Operator kTable[] = {
    {.name = "BiasGelu", .domain = kDomain, .lower = biasGelu},
    {.name = "FastGelu", .domain = kDomain, .lower = fastGelu},
    {.name = "FusedConv",
     .domain = kDomain,
     .grade = kPiecewise,
     .lower = fusedConv,
     .limits = "one or two spatial axes; activations Relu, Tanh and Sigmoid",
     .refuse = refuseFused},
    {.name = "FusedGemm",
     .domain = kDomain,
     .grade = kPiecewise,
     .lower = fusedGemm,
     .limits = kActivations,
     .refuse = refuseFused},
    {.name = "FusedMatMul", .domain = kDomain, .lower = fusedMatMul},
    {.name = "Gelu", .domain = kDomain, .lower = gelu},
    {.name = "QuickGelu", .domain = kDomain, .lower = quickGelu},
    {.name = "SkipLayerNormalization",
     .domain = kDomain,
     .lower = skipLayerNormalization,
     .outputs = 4},
    {.name = "SkipSimplifiedLayerNormalization",
     .domain = kDomain,
     .lower = skipSimplifiedLayerNormalization,
     .outputs = 4},
};

}  // namespace

std::span<const Operator> microsoftOperators() { return kTable; }

}  // namespace eigenscope::onnx
