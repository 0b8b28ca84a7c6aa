#include <cmath>
#include <limits>

#include "onnx/table.h"

// Operators that act on each element. Kinks are those of docs/conventions.md. What a Select does
// not choose must still be finite, or its derivative would be 0 times infinity.
namespace eigenscope::onnx {

namespace {

Value zero(Call& c, const Value& like) { return Builder::number(0, c.b.type(like)); }
Value positive(Call& c, const Value& x) { return c.b.binary(Op::Less, zero(c, x), x); }

template <Op op>
Results unary(Call& c) {
  return {c.b.unary(op, c.in(0))};
}

// Before opset 7 the second operand lay along the axes of the first from `axis` on.
Value second(Call& c) {
  if (c.opset >= 7 || c.integer("broadcast", 0) == 0 || !c.hasAttribute("axis")) return c.in(1);
  Shape shape = c.shape(1);
  const int64_t axis = normalAxis(c.integer("axis", 0), c.rank(0));
  const int64_t after = c.rank(0) - axis - static_cast<int64_t>(shape.size());
  if (after < 0)
    c.mismatch("the second operand " + show(shape) + " does not lie along axes " +
               std::to_string(axis) + "... of " + show(c.shape(0)));
  shape.insert(shape.end(), after, 1);
  return c.b.reshape(c.in(1), shape);
}

template <Op op>
Results binary(Call& c) {
  return {c.b.binary(op, c.in(0), second(c))};
}

template <Op op>
Results swapped(Call& c) {
  return {c.b.binary(op, second(c), c.in(0))};
}

Results div(Call& c) { return {c.b.div(c.in(0), second(c))}; }

Results pow(Call& c) { return {c.b.pow(c.in(0), second(c))}; }

// ---- activations ----------------------------------------------------------------------------

Results relu(Call& c) {
  const Value& x = c.in(0);
  // 0 with slope 0 at 0; asked this way round so that a NaN stays one.
  return {c.b.select(c.b.binary(Op::LessEqual, x, zero(c, x)), zero(c, x), x)};
}

Value leaky(Call& c, const Value& slope) {
  const Value& x = c.in(0);
  return c.b.select(positive(c, x), x, c.b.mul(x, slope));
}

Results leakyRelu(Call& c) { return {leaky(c, Builder::number(c.number("alpha", 0.01)))}; }

// Before opset 7 a row of slopes was one for each channel.
Results prelu(Call& c) {
  Shape shape = c.shape(1);
  const bool channels = c.opset < 7 && shape.size() == 1 && shape[0] > 1 && c.rank(0) > 2;
  if (channels) shape.insert(shape.end(), c.rank(0) - 2, 1);
  return {leaky(c, c.b.reshape(c.in(1), shape))};
}

// alpha (e^(x / width) - 1) where x <= 0.
Value exponential(Call& c, double alpha, double width) {
  const Value& x = c.in(0);
  const Value below = c.b.binary(Op::LessEqual, x, zero(c, x));
  const Value safe = c.b.select(below, x, zero(c, x));
  const Value curve =
      c.b.scale(c.b.shift(c.b.unary(Op::Exp, c.b.scale(safe, 1 / width)), -1), alpha);
  return c.b.select(below, curve, x);
}

Results elu(Call& c) { return {exponential(c, c.number("alpha", 1), 1)}; }

Results celu(Call& c) {
  const double alpha = c.number("alpha", 1);
  return {exponential(c, alpha, alpha)};
}

Results selu(Call& c) {
  const double alpha = c.number("alpha", 1.67326319217681884765625);
  return {c.b.scale(exponential(c, alpha, 1), c.number("gamma", 1.05070102214813232421875))};
}

Value clipped(Call& c, const Value& x, const Value* low, const Value* high) {
  Value y = x;
  if (low) y = c.b.select(c.b.binary(Op::LessEqual, y, *low), *low, y);
  if (high) y = c.b.select(c.b.binary(Op::LessEqual, *high, y), *high, y);
  return y;
}

Results clip(Call& c) {
  Value low, high;
  const Value *from = nullptr, *to = nullptr;
  if (c.opset < 11) {
    constexpr double kMax = std::numeric_limits<float>::max();
    const double min = c.number("min", -kMax), max = c.number("max", kMax);
    low = Builder::number(min);
    high = Builder::number(max);
    from = min > -kMax ? &low : nullptr;
    to = max < kMax ? &high : nullptr;
  } else {
    from = c.has(1) ? &c.in(1) : nullptr;
    to = c.has(2) ? &c.in(2) : nullptr;
  }
  return {clipped(c, c.in(0), from, to)};
}

Value hardSigmoid(Call& c, double alpha, double beta) {
  const Value low = Builder::number(0), high = Builder::number(1);
  return clipped(c, c.b.shift(c.b.scale(c.in(0), alpha), beta), &low, &high);
}

Results hardSigmoid(Call& c) {
  return {hardSigmoid(c, c.number("alpha", 0.2), c.number("beta", 0.5))};
}

Results hardSwish(Call& c) { return {c.b.mul(c.in(0), hardSigmoid(c, 1.0 / 6, 0.5))}; }

// x sigmoid(alpha x)
Results swish(Call& c) {
  const Value gate = c.b.unary(Op::Sigmoid, c.b.scale(c.in(0), c.number("alpha", 1)));
  return {c.b.mul(c.in(0), gate)};
}

Results swiGlu(Call& c) {
  if (c.shape(0) != c.shape(1))
    c.mismatch("expected two inputs of one shape, got " + show(c.shape(0)) + " and " +
               show(c.shape(1)));
  return {c.b.mul(swish(c)[0], c.in(1))};
}

Results mish(Call& c) {
  const Value& x = c.in(0);
  return {c.b.mul(x, c.b.unary(Op::Tanh, c.b.unary(Op::Softplus, x)))};
}

Results gelu(Call& c) {
  const Value& x = c.in(0);
  Value inner;
  if (c.text("approximate", "none") == "tanh") {
    const Value cube = c.b.scale(c.b.pow(x, 3), 0.044715);
    inner = c.b.unary(Op::Tanh, c.b.scale(c.b.add(x, cube), std::sqrt(2 / M_PI)));
  } else {
    inner = c.b.unary(Op::Erf, c.b.scale(x, std::sqrt(0.5)));
  }
  return {c.b.mul(c.b.scale(x, 0.5), c.b.shift(inner, 1))};
}

Results abs(Call& c) { return {c.b.abs(c.in(0))}; }

Results softsign(Call& c) {
  const Value& x = c.in(0);
  return {c.b.div(x, c.b.shift(c.b.abs(x), 1))};
}

Results thresholdedRelu(Call& c) {
  const Value& x = c.in(0);
  const Value alpha = Builder::number(c.number("alpha", 1));
  return {c.b.select(c.b.binary(Op::LessEqual, x, alpha), zero(c, x), x)};
}

Results shrink(Call& c) {
  const Value& x = c.in(0);
  const double bias = c.number("bias", 0), lambda = c.number("lambd", 0.5);
  const Value above = c.b.binary(Op::Less, Builder::number(lambda), x);
  const Value below = c.b.binary(Op::Less, x, Builder::number(-lambda));
  return {
      c.b.select(above, c.b.shift(x, -bias), c.b.select(below, c.b.shift(x, bias), zero(c, x)))};
}

Results tan(Call& c) { return {c.b.div(c.b.unary(Op::Sin, c.in(0)), c.b.unary(Op::Cos, c.in(0)))}; }

Results sinh(Call& c) {
  const Value e = c.b.unary(Op::Exp, c.in(0)), f = c.b.unary(Op::Exp, c.b.neg(c.in(0)));
  return {c.b.scale(c.b.sub(e, f), 0.5)};
}

Results cosh(Call& c) {
  const Value e = c.b.unary(Op::Exp, c.in(0)), f = c.b.unary(Op::Exp, c.b.neg(c.in(0)));
  return {c.b.scale(c.b.add(e, f), 0.5)};
}

// ---- several operands -----------------------------------------------------------------------

template <Value (Builder::*combine)(const Value&, const Value&)>
Value joined(Call& c) {
  Value y = c.in(0);
  for (size_t i = 1; i < c.inputs(); ++i) y = (c.b.*combine)(y, c.in(i));
  return y;
}

Results sum(Call& c) { return {joined<&Builder::add>(c)}; }
Results max(Call& c) { return {joined<&Builder::max>(c)}; }
Results min(Call& c) { return {joined<&Builder::min>(c)}; }
Results mean(Call& c) {
  return {c.b.scale(joined<&Builder::add>(c), 1 / static_cast<double>(c.inputs()))};
}

Results where(Call& c) { return {c.b.select(c.in(0), c.in(1), c.in(2))}; }

// ---- piecewise constant ---------------------------------------------------------------------

void warnZero(Call& c) {
  if (!c.in(0).known()) c.warn("its derivative is 0 wherever it has one");
}

Results floor(Call& c) {
  warnZero(c);
  return {c.b.unary(Op::Floor, c.in(0))};
}

Results ceil(Call& c) {
  warnZero(c);
  return {c.b.neg(c.b.unary(Op::Floor, c.b.neg(c.in(0))))};
}

// Halves go to the even neighbour.
Results round(Call& c) {
  warnZero(c);
  const Value& x = c.in(0);
  const Value up = c.b.unary(Op::Floor, c.b.shift(x, 0.5));
  const Value half = c.b.scale(up, 0.5);
  const Value odd = c.b.unary(Op::Not, c.b.binary(Op::Equal, half, c.b.unary(Op::Floor, half)));
  const Value tie = c.b.binary(Op::Equal, c.b.shift(x, 0.5), up);
  return {c.b.select(c.b.binary(Op::And, tie, odd), c.b.shift(up, -1), up)};
}

Results sign(Call& c) {
  warnZero(c);
  const Value& x = c.in(0);
  const Type type = c.b.type(x);
  return {c.b.select(positive(c, x), Builder::number(1, type),
                     c.b.select(c.b.binary(Op::Less, x, zero(c, x)), Builder::number(-1, type),
                                Builder::number(0, type)))};
}

Results mod(Call& c) {
  const Value &a = c.in(0), &b = c.in(1);
  const bool truncate = c.integer("fmod", 0) != 0;
  if (a.known() && b.known())
    return {Builder::known(fold::zip(*a.host, *b.host, c.b.type(a), [truncate](double x, double y) {
      return truncate ? std::fmod(x, y) : x - std::floor(x / y) * y;
    }))};
  if (c.b.type(a) == Type::Int) c.unsupported("remainders of integers that come with the data");
  const Value q = c.b.div(a, b), down = c.b.unary(Op::Floor, q);
  if (!truncate) return {c.b.sub(a, c.b.mul(down, b))};
  const Value up = c.b.neg(c.b.unary(Op::Floor, c.b.neg(q)));
  return {c.b.sub(a, c.b.mul(c.b.select(positive(c, q), down, up), b))};
}

Results exclusiveOr(Call& c) {
  return {c.b.unary(Op::Not, c.b.binary(Op::Equal, c.in(0), second(c)))};
}

Results isNaN(Call& c) { return {c.b.unary(Op::Not, c.b.binary(Op::Equal, c.in(0), c.in(0)))}; }

Results isInf(Call& c) {
  const Value& x = c.in(0);
  const double inf = std::numeric_limits<double>::infinity();
  const Value up = c.b.binary(Op::Equal, x, Builder::number(inf));
  const Value down = c.b.binary(Op::Equal, x, Builder::number(-inf));
  if (!c.integer("detect_positive", 1)) return {down};
  return {c.integer("detect_negative", 1) ? c.b.binary(Op::Or, up, down) : up};
}

// ---- inverse hyperbolic functions, as logarithms
// --------------------------------------------------

Results acosh(Call& c) {
  const Value& x = c.in(0);
  const Value root = c.b.unary(Op::Sqrt, c.b.shift(c.b.mul(x, x), -1));
  return {c.b.unary(Op::Log, c.b.add(x, root))};
}

// Of |x|, with the sign of x: for negative x the sum would cancel.
Results asinh(Call& c) {
  const Value& x = c.in(0);
  const Value below = c.b.binary(Op::Less, x, zero(c, x));
  const Value size = c.b.select(below, c.b.neg(x), x);
  const Value root = c.b.unary(Op::Sqrt, c.b.shift(c.b.mul(x, x), 1));
  const Value y = c.b.unary(Op::Log, c.b.add(size, root));
  return {c.b.select(below, c.b.neg(y), y)};
}

// By the tangent of the half angle, which is exact near both ends.
Results acos(Call& c) {
  const Value& x = c.in(0);
  const Value one = Builder::number(1);
  const Value square = c.b.div(c.b.sub(one, x), c.b.add(one, x));
  return {c.b.scale(c.b.unary(Op::Atan, c.b.unary(Op::Sqrt, square)), 2)};
}

Results asin(Call& c) {
  const Value& x = c.in(0);
  const Value one = Builder::number(1);
  const Value cosine = c.b.unary(Op::Sqrt, c.b.mul(c.b.sub(one, x), c.b.add(one, x)));
  return {c.b.unary(Op::Atan, c.b.div(x, cosine))};
}

Results atanh(Call& c) {
  const Value& x = c.in(0);
  const Value one = Builder::number(1);
  const Value ratio = c.b.div(c.b.add(one, x), c.b.sub(one, x));
  return {c.b.scale(c.b.unary(Op::Log, ratio), 0.5)};
}

// ---- types ----------------------------------------------------------------------------------

// TensorProto.DataType
std::string castTarget(int64_t code, Type& type) {
  switch (code) {
    case 1:
    case 10:
    case 11:
    case 16: type = Type::Real; return "";
    case 2:
    case 3:
    case 4:
    case 5:
    case 6:
    case 7:
    case 12:
    case 13: type = Type::Int; return "";
    case 9: type = Type::Bool; return "";
    default: return "casting to element type " + std::to_string(code) + " is not supported";
  }
}

std::string refuseCast(const NodeDef& node) {
  auto to = node.attributes.find("to");
  if (to == node.attributes.end() || to->second.ints.empty()) return "attribute to is missing";
  Type type;
  return castTarget(to->second.ints[0], type);
}

Results cast(Call& c) {
  Type type = Type::Real;
  castTarget(c.integer("to", 1), type);
  return {c.b.cast(c.in(0), type)};
}

Results castLike(Call& c) { return {c.b.cast(c.in(0), c.b.type(c.in(1)))}; }

Results identity(Call& c) { return {c.in(0)}; }

constexpr Grade kPiecewise = Grade::Piecewise, kZero = Grade::Zero;

const Operator kTable[] = {
    {.name = "Abs", .grade = kPiecewise, .lower = abs},
    {.name = "Acos", .lower = acos},
    {.name = "Acosh", .lower = acosh},
    {.name = "Add", .lower = binary<Op::Add>},
    {.name = "And", .grade = kZero, .lower = binary<Op::And>},
    {.name = "Asin", .lower = asin},
    {.name = "Asinh", .lower = asinh},
    {.name = "Atan", .lower = unary<Op::Atan>},
    {.name = "Atanh", .lower = atanh},
    {.name = "Cast",
     .lower = cast,
     .limits = "no strings, complex or 8-bit floats",
     .refuse = refuseCast},
    {.name = "CastLike", .lower = castLike, .since = 15},
    {.name = "Ceil", .grade = kZero, .lower = ceil},
    {.name = "Celu", .grade = kPiecewise, .lower = celu, .since = 12},
    {.name = "Clip", .grade = kPiecewise, .lower = clip},
    {.name = "Cos", .lower = unary<Op::Cos>},
    {.name = "Cosh", .lower = cosh},
    {.name = "Div", .lower = div, .limits = "integers only where they are constants"},
    {.name = "Elu", .grade = kPiecewise, .lower = elu},
    {.name = "Equal", .grade = kZero, .lower = binary<Op::Equal>},
    {.name = "Erf", .lower = unary<Op::Erf>},
    {.name = "Exp", .lower = unary<Op::Exp>},
    {.name = "Floor", .grade = kZero, .lower = floor},
    {.name = "Gelu", .lower = gelu, .since = 20},
    {.name = "Greater", .grade = kZero, .lower = swapped<Op::Less>},
    {.name = "GreaterOrEqual", .grade = kZero, .lower = swapped<Op::LessEqual>, .since = 12},
    {.name = "HardSigmoid", .grade = kPiecewise, .lower = hardSigmoid},
    {.name = "HardSwish", .grade = kPiecewise, .lower = hardSwish, .since = 14},
    {.name = "Identity", .lower = identity},
    {.name = "IsInf", .grade = kZero, .lower = isInf, .since = 10},
    {.name = "IsNaN", .grade = kZero, .lower = isNaN},
    {.name = "LeakyRelu", .grade = kPiecewise, .lower = leakyRelu},
    {.name = "Less", .grade = kZero, .lower = binary<Op::Less>},
    {.name = "LessOrEqual", .grade = kZero, .lower = binary<Op::LessEqual>, .since = 12},
    {.name = "Log", .lower = unary<Op::Log>},
    {.name = "Max", .grade = kPiecewise, .lower = max},
    {.name = "Mean", .lower = mean},
    {.name = "Min", .grade = kPiecewise, .lower = min},
    {.name = "Mish", .lower = mish, .since = 18},
    {.name = "Mod",
     .grade = kPiecewise,
     .lower = mod,
     .since = 10,
     .limits = "integers only where they are constants"},
    {.name = "Mul", .lower = binary<Op::Mul>},
    {.name = "Neg", .lower = unary<Op::Neg>},
    {.name = "Not", .grade = kZero, .lower = unary<Op::Not>, .since = kFirstOpset},
    {.name = "Or", .grade = kZero, .lower = binary<Op::Or>},
    {.name = "PRelu", .grade = kPiecewise, .lower = prelu},
    {.name = "Pow",
     .lower = pow,
     .limits = "the slope at a zero base is 0 where the exponent depends on data or parameters"},
    {.name = "Reciprocal", .lower = unary<Op::Recip>},
    {.name = "Relu", .grade = kPiecewise, .lower = relu},
    {.name = "Round", .grade = kZero, .lower = round, .since = 11},
    {.name = "Selu", .grade = kPiecewise, .lower = selu},
    {.name = "Shrink", .grade = kPiecewise, .lower = shrink},
    {.name = "Sigmoid", .lower = unary<Op::Sigmoid>},
    {.name = "Sign", .grade = kZero, .lower = sign},
    {.name = "Sin", .lower = unary<Op::Sin>},
    {.name = "Sinh", .lower = sinh},
    {.name = "Softplus", .lower = unary<Op::Softplus>, .since = kFirstOpset},
    {.name = "Softsign", .lower = softsign, .since = kFirstOpset},
    {.name = "Sqrt", .lower = unary<Op::Sqrt>},
    {.name = "Sub", .lower = binary<Op::Sub>},
    {.name = "Sum", .lower = sum},
    {.name = "SwiGLU", .lower = swiGlu, .since = 28},
    {.name = "Swish", .lower = swish, .since = 24},
    {.name = "Tan", .lower = tan},
    {.name = "Tanh", .lower = unary<Op::Tanh>},
    {.name = "ThresholdedRelu", .grade = kPiecewise, .lower = thresholdedRelu, .since = 10},
    {.name = "Where", .lower = where},
    {.name = "Xor", .grade = kZero, .lower = exclusiveOr},
};

}  // namespace

std::span<const Operator> elementwiseOperators() { return kTable; }

}  // namespace eigenscope::onnx
