#include "onnx/fold.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "onnx/intended.h"

namespace eigenscope::onnx {

Type typeOf(ElementType type) {
  if (type == ElementType::Bool) return Type::Bool;
  return isFloating(type) ? Type::Real : Type::Int;
}

Tensor tensorOf(const Array& array) {
  auto values = std::make_shared<std::vector<double>>(array.size());
  if (array.size() > 0) convertRows(array, 0, array.rows(), values->data());
  if (array.size() == 1 && array.type() == ElementType::F32)
    (*values)[0] = intendedNumber(static_cast<float>((*values)[0]));
  return {typeOf(array.type()), array.shape(), std::move(values)};
}

Tensor tensorOf(std::vector<double> values, const Shape& shape, Type type) {
  return {type, shape, std::make_shared<const std::vector<double>>(std::move(values))};
}

Tensor splatOf(double value, const Shape& shape, Type type) {
  return tensorOf(std::vector<double>{value}, shape, type);
}

Tensor intsOf(const std::vector<int64_t>& values) {
  return tensorOf(std::vector<double>(values.begin(), values.end()),
                  {static_cast<int64_t>(values.size())}, Type::Int);
}

std::vector<int64_t> integers(const Tensor& tensor) {
  constexpr double kBound = 9.2e18;
  std::vector<int64_t> out(tensor.size());
  for (int64_t i = 0; i < tensor.size(); ++i) {
    const double v = tensor.at(i);
    out[i] = v >= kBound    ? std::numeric_limits<int64_t>::max()
             : v <= -kBound ? std::numeric_limits<int64_t>::min()
                            : static_cast<int64_t>(v);
  }
  return out;
}

Shape broadcastShapes(const Shape& a, const Shape& b) {
  Shape out(std::max(a.size(), b.size()), 1);
  for (size_t i = 0; i < out.size(); ++i) {
    const int64_t da = i < a.size() ? a[a.size() - 1 - i] : 1;
    const int64_t db = i < b.size() ? b[b.size() - 1 - i] : 1;
    if ((da != db && da != 1 && db != 1) || da < 0 || db < 0)
      throw Error(ErrorKind::DataMismatch,
                  "shapes " + show(a) + " and " + show(b) + " do not broadcast");
    out[out.size() - 1 - i] = da == 1 ? db : da;
  }
  return out;
}

namespace fold {

namespace {

std::vector<int64_t> stridesOf(const Shape& shape) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
  return strides;
}

// Calls visit(flat index into a strided view) for each element of `shape` in row-major order.
template <class Visit>
void walk(const Shape& shape, const std::vector<int64_t>& strides, int64_t offset, Visit visit) {
  std::vector<int64_t> at(shape.size(), 0);
  for (int64_t n = count(shape); n > 0; --n) {
    visit(offset);
    for (size_t i = shape.size(); i-- > 0;) {
      offset += strides[i];
      if (++at[i] < shape[i]) break;
      offset -= strides[i] * shape[i];
      at[i] = 0;
    }
  }
}

Tensor view(const Tensor& x, const Shape& shape, const std::vector<int64_t>& strides,
            int64_t offset = 0) {
  if (x.splat()) return {x.type, shape, x.values};
  std::vector<double> out;
  out.reserve(count(shape));
  walk(shape, strides, offset, [&](int64_t i) { out.push_back((*x.values)[i]); });
  return tensorOf(std::move(out), shape, x.type);
}

std::vector<int64_t> broadcastStrides(const Shape& from, const Shape& to) {
  const std::vector<int64_t> strides = stridesOf(from);
  std::vector<int64_t> out(to.size(), 0);
  const size_t skip = to.size() - from.size();
  for (size_t i = 0; i < from.size(); ++i) out[skip + i] = from[i] == 1 ? 0 : strides[i];
  return out;
}

}  // namespace

Tensor reshape(const Tensor& x, const Shape& shape) { return {x.type, shape, x.values}; }

Tensor permute(const Tensor& x, const std::vector<int64_t>& perm) {
  const std::vector<int64_t> from = stridesOf(x.shape);
  Shape shape(perm.size());
  std::vector<int64_t> strides(perm.size());
  for (size_t i = 0; i < perm.size(); ++i) {
    shape[i] = x.shape[perm[i]];
    strides[i] = from[perm[i]];
  }
  return view(x, shape, strides);
}

Tensor broadcast(const Tensor& x, const Shape& shape) {
  return view(x, shape, broadcastStrides(x.shape, shape));
}

Tensor slice(const Tensor& x, const std::vector<int64_t>& start, const std::vector<int64_t>& step,
             const Shape& sizes) {
  std::vector<int64_t> strides = stridesOf(x.shape);
  int64_t offset = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    offset += start[i] * strides[i];
    strides[i] *= step[i];
  }
  return view(x, sizes, strides, offset);
}

Tensor unslice(const Tensor& x, const std::vector<int64_t>& start, const std::vector<int64_t>& step,
               const Shape& full) {
  std::vector<int64_t> strides = stridesOf(full);
  int64_t offset = 0, next = 0;
  for (size_t i = 0; i < full.size(); ++i) {
    offset += start[i] * strides[i];
    strides[i] *= step[i];
  }
  std::vector<double> out(count(full), 0.0);
  walk(x.shape, strides, offset, [&](int64_t i) { out[i] = x.at(next++); });
  return tensorOf(std::move(out), full, x.type);
}

Tensor concat(const std::vector<Tensor>& xs, int64_t axis) {
  Shape shape = xs[0].shape;
  shape[axis] = 0;
  for (const Tensor& x : xs) shape[axis] += x.shape[axis];
  const int64_t inner = count(Shape(shape.begin() + axis + 1, shape.end()));
  const int64_t outer = count(Shape(shape.begin(), shape.begin() + axis));
  std::vector<double> out;
  out.reserve(count(shape));
  for (int64_t o = 0; o < outer; ++o)
    for (const Tensor& x : xs)
      for (int64_t run = x.shape[axis] * inner, i = 0; i < run; ++i)
        out.push_back(x.at(o * run + i));
  return tensorOf(std::move(out), shape, xs[0].type);
}

Tensor gather(const Tensor& x, const Tensor& index, int64_t axis) {
  const int64_t inner = count(Shape(x.shape.begin() + axis + 1, x.shape.end()));
  const int64_t outer = count(Shape(x.shape.begin(), x.shape.begin() + axis));
  Shape shape(x.shape.begin(), x.shape.begin() + axis);
  shape.insert(shape.end(), index.shape.begin(), index.shape.end());
  shape.insert(shape.end(), x.shape.begin() + axis + 1, x.shape.end());
  std::vector<double> out;
  out.reserve(count(shape));
  const std::vector<int64_t> positions = integers(index);
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t position : positions)
      for (int64_t i = 0; i < inner; ++i)
        out.push_back(x.at((o * x.shape[axis] + position) * inner + i));
  return tensorOf(std::move(out), shape, x.type);
}

Tensor map(const Tensor& x, Type type, const std::function<double(double)>& f) {
  std::vector<double> out = *x.values;
  for (double& v : out) v = f(v);
  return tensorOf(std::move(out), x.shape, type);
}

Tensor zip(const Tensor& a, const Tensor& b, Type type,
           const std::function<double(double, double)>& f) {
  const Shape shape = broadcastShapes(a.shape, b.shape);
  if (a.splat() && b.splat()) return splatOf(f(a.at(0), b.at(0)), shape, type);
  const Tensor left = broadcast(a, shape), right = broadcast(b, shape);
  std::vector<double> out(count(shape));
  for (size_t i = 0; i < out.size(); ++i) out[i] = f(left.at(i), right.at(i));
  return tensorOf(std::move(out), shape, type);
}

Tensor select(const Tensor& mask, const Tensor& a, const Tensor& b) {
  const Shape shape = broadcastShapes(mask.shape, broadcastShapes(a.shape, b.shape));
  if (mask.splat()) return broadcast(mask.at(0) != 0 ? a : b, shape);
  const Tensor m = broadcast(mask, shape), x = broadcast(a, shape), y = broadcast(b, shape);
  std::vector<double> out(count(shape));
  for (size_t i = 0; i < out.size(); ++i) out[i] = m.at(i) != 0 ? x.at(i) : y.at(i);
  return tensorOf(std::move(out), shape, a.type);
}

Tensor reduce(const Tensor& x, const std::vector<int64_t>& axes, double start,
              const std::function<double(double, double)>& f) {
  Shape shape = x.shape;
  for (int64_t axis : axes) shape[axis] = 1;
  std::vector<double> out(count(shape), start);
  int64_t i = 0;
  walk(x.shape, broadcastStrides(shape, x.shape), 0,
       [&](int64_t to) { out[to] = f(out[to], x.at(i++)); });
  return tensorOf(std::move(out), shape, x.type);
}

std::function<double(double)> unaryOf(Op op) {
  switch (op) {
    case Op::Neg: return [](double x) { return -x; };
    case Op::Exp: return [](double x) { return std::exp(x); };
    case Op::Log: return [](double x) { return std::log(x); };
    case Op::Sqrt: return [](double x) { return std::sqrt(x); };
    case Op::Recip: return [](double x) { return 1 / x; };
    case Op::Tanh: return [](double x) { return std::tanh(x); };
    case Op::Sigmoid: return [](double x) { return 1 / (1 + std::exp(-x)); };
    case Op::Softplus:
      return [](double x) { return std::fmax(x, 0) + std::log1p(std::exp(-std::fabs(x))); };
    case Op::Erf: return [](double x) { return std::erf(x); };
    case Op::Sin: return [](double x) { return std::sin(x); };
    case Op::Cos: return [](double x) { return std::cos(x); };
    case Op::Atan: return [](double x) { return std::atan(x); };
    case Op::Floor: return [](double x) { return std::floor(x); };
    case Op::Not: return [](double x) { return x == 0 ? 1.0 : 0.0; };
    default: return {};
  }
}

std::function<double(double, double)> binaryOf(Op op) {
  switch (op) {
    case Op::Add: return [](double a, double b) { return a + b; };
    case Op::Sub: return [](double a, double b) { return a - b; };
    case Op::Mul: return [](double a, double b) { return a * b; };
    case Op::Less: return [](double a, double b) { return a < b ? 1.0 : 0.0; };
    case Op::LessEqual: return [](double a, double b) { return a <= b ? 1.0 : 0.0; };
    case Op::Equal: return [](double a, double b) { return a == b ? 1.0 : 0.0; };
    case Op::And: return [](double a, double b) { return a != 0 && b != 0 ? 1.0 : 0.0; };
    case Op::Or: return [](double a, double b) { return a != 0 || b != 0 ? 1.0 : 0.0; };
    default: return {};
  }
}

}  // namespace fold

}  // namespace eigenscope::onnx
