#include "data/array.h"

#include <cmath>

namespace eigenscope {

namespace {

struct TypeRow {
  ElementType type;
  const char* name;
  std::size_t bytes;
  bool floating;
};

// In the order of ElementType.
constexpr TypeRow kTypes[kElementTypes] = {
    {ElementType::Bool, "bool", 1, false},    {ElementType::U8, "uint8", 1, false},
    {ElementType::I8, "int8", 1, false},      {ElementType::I16, "int16", 2, false},
    {ElementType::U16, "uint16", 2, false},   {ElementType::I32, "int32", 4, false},
    {ElementType::I64, "int64", 8, false},    {ElementType::F16, "float16", 2, true},
    {ElementType::BF16, "bfloat16", 2, true}, {ElementType::F32, "float32", 4, true},
    {ElementType::F64, "float64", 8, true},
};

const TypeRow& rowOf(ElementType type) { return kTypes[static_cast<int>(type)]; }

}  // namespace

std::size_t bytesOf(ElementType type) { return rowOf(type).bytes; }
bool isFloating(ElementType type) { return rowOf(type).floating; }
const char* nameOf(ElementType type) { return rowOf(type).name; }

std::optional<ElementType> elementTypeOf(std::string_view name) {
  for (const TypeRow& row : kTypes)
    if (name == row.name) return row.type;
  return std::nullopt;
}

std::string textOf(const Shape& shape) {
  std::string text = "(";
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    if (axis > 0) text += ", ";
    text += shape[axis] < 0 ? "N" : std::to_string(shape[axis]);
  }
  if (shape.size() == 1) text += ",";
  return text + ")";
}

std::optional<int64_t> elementsOf(const Shape& shape) {
  constexpr int64_t kMost = int64_t{1} << 62;
  int64_t product = 1;
  bool empty = false;
  for (int64_t length : shape) {
    if (length < 0) return std::nullopt;
    if (length == 0)
      empty = true;
    else if (__builtin_mul_overflow(product, length, &product) || product > kMost)
      return std::nullopt;
  }
  return empty ? 0 : product;
}

Array::Array(std::string name, ElementType type, Shape shape, Bytes bytes, bool bigEndian)
    : name_(std::move(name)),
      type_(type),
      shape_(std::move(shape)),
      bytes_(std::move(bytes)),
      bigEndian_(bigEndian && bytesOf(type) > 1) {
  auto elements = elementsOf(shape_);
  std::size_t wanted = 0;
  if (!elements ||
      __builtin_mul_overflow(static_cast<std::size_t>(*elements), bytesOf(type), &wanted) ||
      wanted != bytes_.size() || bytes_.storage == nullptr)
    throw Error(ErrorKind::Internal, bytes_.label + ": " + describe() + " was made from " +
                                         std::to_string(bytes_.size()) + " bytes");
  size_ = *elements;
  rows_ = shape_.empty() ? 1 : shape_[0];
  rowSize_ = shape_.empty() ? 1 : *elementsOf(Shape(shape_.begin() + 1, shape_.end()));
}

Array Array::renamed(std::string name) const {
  Array copy = *this;
  copy.name_ = std::move(name);
  return copy;
}

Array Array::relabelled(std::string source) const {
  Array copy = *this;
  copy.bytes_.label = std::move(source);
  return copy;
}

Array Array::reshaped(Shape shape) const {
  Array copy(name_, type_, std::move(shape), bytes_, bigEndian_);
  copy.normalize_ = normalize_;
  copy.firstRow_ = firstRow_;
  return copy;
}

Array Array::slice(int64_t begin, int64_t end) const {
  if (shape_.empty() || begin < 0 || begin > end || end > rows_)
    throw Error(ErrorKind::Option, source() + ": " + name_ + ": samples " + std::to_string(begin) +
                                       " to " + std::to_string(end) + " were asked for of " +
                                       describe());
  Shape shape = shape_;
  shape[0] = end - begin;
  const std::size_t rowBytes = static_cast<std::size_t>(rowSize_) * bytesOf(type_);
  Array copy(name_, type_, std::move(shape),
             bytes_.sub(static_cast<std::size_t>(begin) * rowBytes,
                        static_cast<std::size_t>(end - begin) * rowBytes),
             bigEndian_);
  copy.normalize_ = normalize_;
  copy.firstRow_ = firstRow_ + begin;
  return copy;
}

Array Array::normalized(Normalize normalize) const {
  auto refuse = [&](const std::string& what) {
    throw Error(ErrorKind::Option, "normalize of " + name_ + ": " + what);
  };
  if (normalize.mean.empty() || normalize.std.empty()) refuse("mean and std must not be empty");
  if (!std::isfinite(normalize.scale)) refuse("scale must be finite");
  for (double mean : normalize.mean)
    if (!std::isfinite(mean)) refuse("mean must be finite");
  for (double std : normalize.std)
    if (!std::isfinite(std) || std == 0) refuse("std must be finite and not 0");
  Array copy = *this;
  copy.normalize_ = std::make_shared<const Normalize>(std::move(normalize));
  return copy;
}

std::string Array::describe() const { return name_ + " " + nameOf(type_) + " " + textOf(shape_); }

std::string Array::indexText(int64_t flat) const {
  std::string text = "]";
  for (std::size_t axis = shape_.size(); axis-- > 0;) {
    const int64_t length = shape_[axis] > 0 ? shape_[axis] : 1;
    const int64_t index = axis == 0 ? firstRow_ + flat : flat % length;
    text = std::to_string(index) + (text.size() > 1 ? ", " : "") + text;
    flat /= length;
  }
  return "[" + text;
}

void Array::fail(const std::string& message) const {
  const std::string where = source() == name_ ? name_ : source() + ": " + name_;
  throw Error(ErrorKind::DataMismatch, where + ": " + message);
}

}  // namespace eigenscope
