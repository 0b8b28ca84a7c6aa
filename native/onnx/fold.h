#pragma once

#include <functional>

#include "data/array.h"
#include "ir/graph.h"

// Tensors that are known while a model is lowered: shapes, masks, small constants. int64 is held in
// doubles, exact to 2^53, which covers every shape.
namespace eigenscope::onnx {

struct Tensor {
  Type type = Type::Real;
  Shape shape;
  Values values;  // one value for all elements, or all of them in row-major order

  int64_t size() const { return count(shape); }
  int64_t rank() const { return static_cast<int64_t>(shape.size()); }
  bool splat() const { return values->size() == 1; }
  double at(int64_t i) const { return (*values)[splat() ? 0 : static_cast<size_t>(i)]; }
};

// Larger results become constants of the graph instead.
constexpr int64_t kFoldLimit = int64_t{16} << 20;

Type typeOf(ElementType type);
Tensor tensorOf(const Array& array);
Tensor tensorOf(std::vector<double> values, const Shape& shape, Type type);
Tensor splatOf(double value, const Shape& shape, Type type);
Tensor intsOf(const std::vector<int64_t>& values);  // shape [n]

// The elements as int64, saturated: what axes, sizes and indices are read with.
std::vector<int64_t> integers(const Tensor& tensor);

// NumPy's common shape. Throws Error (DataMismatch).
Shape broadcastShapes(const Shape& a, const Shape& b);

namespace fold {

Tensor reshape(const Tensor& x, const Shape& shape);
Tensor permute(const Tensor& x, const std::vector<int64_t>& perm);
Tensor broadcast(const Tensor& x, const Shape& shape);
Tensor slice(const Tensor& x, const std::vector<int64_t>& start, const std::vector<int64_t>& step,
             const Shape& sizes);
Tensor unslice(const Tensor& x, const std::vector<int64_t>& start, const std::vector<int64_t>& step,
               const Shape& full);
Tensor concat(const std::vector<Tensor>& xs, int64_t axis);
Tensor gather(const Tensor& x, const Tensor& index, int64_t axis);  // indices in [0, n)
Tensor map(const Tensor& x, Type type, const std::function<double(double)>& f);
Tensor zip(const Tensor& a, const Tensor& b, Type type,
           const std::function<double(double, double)>& f);
Tensor select(const Tensor& mask, const Tensor& a, const Tensor& b);
// Axes keep size 1.
Tensor reduce(const Tensor& x, const std::vector<int64_t>& axes, double start,
              const std::function<double(double, double)>& f);

// An elementwise primitive as a function of numbers; empty for any other.
std::function<double(double)> unaryOf(Op op);
std::function<double(double, double)> binaryOf(Op op);

}  // namespace fold

}  // namespace eigenscope::onnx
