#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/storage.h"

namespace eigenscope {

enum class ElementType { Bool, U8, I8, I16, U16, I32, I64, F16, BF16, F32, F64 };
inline constexpr int kElementTypes = 11;

std::size_t bytesOf(ElementType type);
bool isFloating(ElementType type);

// "bool", "uint8", ..., "float16", "bfloat16", "float32", "float64".
const char* nameOf(ElementType type);
std::optional<ElementType> elementTypeOf(std::string_view name);

using Shape = std::vector<int64_t>;

// "(1000, 1, 28, 28)", "(10,)", "()", as NumPy prints it; a negative length prints as "N".
std::string textOf(const Shape& shape);

// The product of the lengths, or nullopt when one is negative or the product has more than 62 bits.
std::optional<int64_t> elementsOf(const Shape& shape);

// Applied to each value as it is converted to float: (value * scale - mean) / std. `mean` and `std`
// hold one number, or one a channel (axis 1). MNIST: scale 1/255, mean 0.1307, std 0.3081.
struct Normalize {
  double scale = 1;
  std::vector<double> mean{0};
  std::vector<double> std{1};
};

// A named, row-major array of numbers that is never copied: it shares the bytes of a file or
// buffer, possibly unaligned and possibly big-endian. Immutable, and cheap to copy.
class Array {
 public:
  // Throws Error (Internal) unless `bytes` has exactly the size of type and shape.
  Array(std::string name, ElementType type, Shape shape, Bytes bytes, bool bigEndian = false);

  const std::string& name() const { return name_; }
  const std::string& source() const { return bytes_.label; }  // the file, for messages
  ElementType type() const { return type_; }
  const Shape& shape() const { return shape_; }
  int64_t rank() const { return static_cast<int64_t>(shape_.size()); }
  int64_t size() const { return size_; }        // elements
  int64_t rows() const { return rows_; }        // shape[0]; 1 for a scalar
  int64_t rowSize() const { return rowSize_; }  // elements of one row
  bool bigEndian() const { return bigEndian_; }
  const Normalize* normalize() const { return normalize_.get(); }

  // As stored. Call check() before reading them.
  std::span<const std::byte> bytes() const { return bytes_.span; }
  const Storage& storage() const { return *bytes_.storage; }

  // Throws Error (DataMismatch) when the file below was changed since it was opened.
  void check() const { bytes_.storage->check(); }

  Array renamed(std::string name) const;
  Array relabelled(std::string source) const;
  Array reshaped(Shape shape) const;              // same elements, same rows
  Array slice(int64_t begin, int64_t end) const;  // rows [begin, end)
  Array normalized(Normalize normalize) const;    // throws Error (Option)

  // "x float32 (1000, 784)".
  std::string describe() const;

  // "[3, 0, 27]" for the flat index of an element; rows are counted as before any slice.
  std::string indexText(int64_t flat) const;

  // Throws Error (DataMismatch) "<source>: <name>: <message>".
  [[noreturn]] void fail(const std::string& message) const;

 private:
  std::string name_;
  ElementType type_;
  Shape shape_;
  Bytes bytes_;
  bool bigEndian_;
  int64_t size_ = 0, rows_ = 0, rowSize_ = 0;
  int64_t firstRow_ = 0;
  std::shared_ptr<const Normalize> normalize_;
};

// Rows [begin, end) of the first axis, converted to the type of `out`, which holds
// (end - begin) * rowSize() numbers. Safe to call from several threads.
//
// Integers are range-checked and come from floats only where these are whole; to uint8_t means to
// a boolean mask, so the values must be 0 or 1. A finite number beyond float32 is an error; NaN and
// infinity pass (see firstNonFinite). Errors (DataMismatch) name array, index and value. The
// array's Normalize applies to float and double and is an error (Option) for integers.
void convertRows(const Array& array, int64_t begin, int64_t end, float* out);
void convertRows(const Array& array, int64_t begin, int64_t end, double* out);
void convertRows(const Array& array, int64_t begin, int64_t end, int32_t* out);
void convertRows(const Array& array, int64_t begin, int64_t end, int64_t* out);
void convertRows(const Array& array, int64_t begin, int64_t end, uint8_t* out);

// Flat index in the whole array of the first NaN or infinity in rows [begin, end), or -1.
int64_t firstNonFinite(const Array& array, int64_t begin, int64_t end);

// Throws Error (DataMismatch) naming array, index and value of the first NaN or infinity.
void requireFinite(const Array& array, int64_t begin, int64_t end);

}  // namespace eigenscope
