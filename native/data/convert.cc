#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <tuple>
#include <type_traits>
#include <utility>

#include "data/array.h"

namespace eigenscope {

static_assert(std::endian::native == std::endian::little, "arrays are read on little-endian CPUs");

namespace {

float floatOfHalf(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000u} << 16;
  const uint32_t exponent = (half >> 10) & 0x1f, fraction = half & 0x3ff;
  if (exponent == 0) {  // zero and subnormals: fraction * 2^-24
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  const uint32_t wide = exponent == 31 ? 0xff : exponent + 112;
  return std::bit_cast<float>(sign | (wide << 23) | (fraction << 13));
}

template <class R>
struct Plain {
  using Raw = R;
  static R decode(R raw) { return raw; }
};
struct BoolCodec {
  using Raw = uint8_t;
  static uint8_t decode(uint8_t raw) { return raw != 0; }
};
struct HalfCodec {
  using Raw = uint16_t;
  static float decode(uint16_t raw) { return floatOfHalf(raw); }
};
struct BrainCodec {
  using Raw = uint16_t;
  static float decode(uint16_t raw) { return std::bit_cast<float>(uint32_t{raw} << 16); }
};

// In the order of ElementType.
using Codecs =
    std::tuple<BoolCodec, Plain<uint8_t>, Plain<int8_t>, Plain<int16_t>, Plain<uint16_t>,
               Plain<int32_t>, Plain<int64_t>, HalfCodec, BrainCodec, Plain<float>, Plain<double>>;
static_assert(std::tuple_size_v<Codecs> == kElementTypes);

// Calls function.operator()<Codec, Swap>() for the type and byte order of the array.
template <class Function>
auto dispatch(const Array& array, Function function) {
  using Result = decltype(function.template operator()<BoolCodec, false>());
  const auto choose = [&]<std::size_t... I>(std::index_sequence<I...>) {
    Result result{};
    const auto call = [&]<std::size_t J>() {
      using Codec = std::tuple_element_t<J, Codecs>;
      result = array.bigEndian() ? function.template operator()<Codec, true>()
                                 : function.template operator()<Codec, false>();
    };
    (void)((static_cast<std::size_t>(array.type()) == I && (call.template operator()<I>(), true)) ||
           ...);
    return result;
  };
  return choose(std::make_index_sequence<kElementTypes>());
}

template <class Raw>
Raw reversed(Raw raw) {
  if constexpr (sizeof(Raw) == 1)
    return raw;
  else if constexpr (sizeof(Raw) == 2)
    return std::bit_cast<Raw>(__builtin_bswap16(std::bit_cast<uint16_t>(raw)));
  else if constexpr (sizeof(Raw) == 4)
    return std::bit_cast<Raw>(__builtin_bswap32(std::bit_cast<uint32_t>(raw)));
  else
    return std::bit_cast<Raw>(__builtin_bswap64(std::bit_cast<uint64_t>(raw)));
}

// Files are not aligned, so elements are loaded by memcpy, which compiles to a plain load.
template <class Codec, bool Swap>
auto load(const std::byte* in, int64_t i) {
  typename Codec::Raw raw;
  std::memcpy(&raw, in + i * static_cast<int64_t>(sizeof raw), sizeof raw);
  if constexpr (Swap) raw = reversed(raw);
  return Codec::decode(raw);
}

// Whether Out can hold the value exactly (integers), or finitely (floats).
template <class Out, class Value>
bool fits(Value value) {
  if constexpr (std::is_floating_point_v<Out>) {
    if constexpr (std::is_same_v<Value, double> && std::is_same_v<Out, float>)
      return !(std::abs(value) > static_cast<double>(std::numeric_limits<float>::max())) ||
             std::isinf(value);
    else
      return true;
  } else if constexpr (std::is_same_v<Out, uint8_t>) {
    return value == Value{0} || value == Value{1};
  } else if constexpr (std::is_floating_point_v<Value>) {
    constexpr double kLow = static_cast<double>(std::numeric_limits<Out>::min());
    const double wide = value;
    return wide >= kLow && wide < -kLow && wide == std::trunc(wide);
  } else {
    return std::in_range<Out>(value);
  }
}

// Converts `count` elements; returns the index of the first that does not fit, or -1.
template <class Codec, bool Swap, class Out>
int64_t convertRun(const std::byte* in, int64_t count, Out* out) {
  bool good = true;
  for (int64_t i = 0; i < count; ++i) {
    const auto value = load<Codec, Swap>(in, i);
    const bool fine = fits<Out>(value);
    good &= fine;
    out[i] = fine ? static_cast<Out>(value) : Out{0};
  }
  if (good) return -1;
  for (int64_t i = 0;; ++i)
    if (!fits<Out>(load<Codec, Swap>(in, i))) return i;
}

template <class Codec, bool Swap>
int64_t scanRun(const std::byte* in, int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    if (!std::isfinite(static_cast<double>(load<Codec, Swap>(in, i)))) return i;
  return -1;
}

std::string numberText(const Array& array, const std::byte* at) {
  const double value = dispatch(array, [&]<class Codec, bool Swap>() {
    return static_cast<double>(load<Codec, Swap>(at, 0));
  });
  char text[40];
  std::snprintf(text, sizeof text, "%.10g", value);
  return text;
}

// The bytes of rows [begin, end), after the checks that every reader of them needs.
const std::byte* rowsAt(const Array& array, int64_t begin, int64_t end) {
  if (begin < 0 || begin > end || end > array.rows())
    throw Error(ErrorKind::Internal, "rows " + std::to_string(begin) + " to " +
                                         std::to_string(end) + " of " + array.describe());
  array.check();
  return array.bytes().data() +
         begin * array.rowSize() * static_cast<int64_t>(bytesOf(array.type()));
}

template <class Out>
struct Target;
template <>
struct Target<float> {
  static constexpr ElementType kType = ElementType::F32;
  static constexpr const char* kExpected = "a number within the range of float32";
};
template <>
struct Target<double> {
  static constexpr ElementType kType = ElementType::F64;
  static constexpr const char* kExpected = "a number";
};
template <>
struct Target<int32_t> {
  static constexpr ElementType kType = ElementType::I32;
  static constexpr const char* kExpected = "a whole number within the range of int32";
};
template <>
struct Target<int64_t> {
  static constexpr ElementType kType = ElementType::I64;
  static constexpr const char* kExpected = "a whole number within the range of int64";
};
template <>
struct Target<uint8_t> {
  // No plain copy from Bool: a stored bool may be any non-zero byte.
  static constexpr const char* kExpected = "0 or 1 (a boolean)";
};

template <class Out>
[[noreturn]] void failAt(const Array& array, int64_t flat) {
  const std::byte* at = array.bytes().data() + flat * static_cast<int64_t>(bytesOf(array.type()));
  array.fail("expected " + std::string(Target<Out>::kExpected) + " at " + array.indexText(flat) +
             ", got " + numberText(array, at));
}

// (v * scale - mean) / std in double, a tile at a time so that no second copy of the rows is made.
template <class Out>
void convertNormalized(const Array& array, const std::byte* in, int64_t first, int64_t count,
                       Out* out) {
  const Normalize& normalize = *array.normalize();
  const std::size_t channels = std::max(normalize.mean.size(), normalize.std.size());
  const bool divides = array.rank() >= 2 && static_cast<std::size_t>(array.shape()[1]) == channels;
  for (std::size_t n : {normalize.mean.size(), normalize.std.size()})
    if (n != 1 && (n != channels || !divides))
      throw Error(ErrorKind::Option, "normalize of " + array.name() +
                                         ": mean and std need 1 number"
                                         " or one a channel (axis 1); got " +
                                         std::to_string(n) + " for " + array.describe());
  const int64_t plane = channels == 1 ? array.size() : array.rowSize() / int64_t(channels);
  const int64_t bytes = static_cast<int64_t>(bytesOf(array.type()));
  constexpr int64_t kTile = 1024;
  double tile[kTile];
  for (int64_t at = 0; at < count;) {
    const int64_t flat = first + at;
    const std::size_t channel = channels == 1 ? 0 : std::size_t(flat / plane) % channels;
    const double mean = normalize.mean[normalize.mean.size() == 1 ? 0 : channel];
    const double std = normalize.std[normalize.std.size() == 1 ? 0 : channel];
    const int64_t length = std::min({count - at, kTile, plane - flat % plane});
    dispatch(array, [&]<class Codec, bool Swap>() {
      return convertRun<Codec, Swap>(in + at * bytes, length, tile);
    });
    for (int64_t i = 0; i < length; ++i) {
      const double value = (tile[i] * normalize.scale - mean) / std;
      if (!fits<Out>(value) || (std::isinf(value) && !std::isinf(tile[i])))
        failAt<Out>(array, flat + i);
      out[at + i] = static_cast<Out>(value);
    }
    at += length;
  }
}

template <class Out>
void convert(const Array& array, int64_t begin, int64_t end, Out* out) {
  const std::byte* in = rowsAt(array, begin, end);
  const int64_t first = begin * array.rowSize(), count = (end - begin) * array.rowSize();
  if (count == 0) return;
  if (array.normalize() != nullptr) {
    if constexpr (std::is_floating_point_v<Out>)
      return convertNormalized(array, in, first, count, out);
    else
      throw Error(ErrorKind::Option, "normalize of " + array.name() +
                                         ": the model takes whole numbers here; leave it out");
  }
  if constexpr (!std::is_same_v<Out, uint8_t>)
    if (array.type() == Target<Out>::kType && !array.bigEndian()) {
      std::memcpy(out, in, static_cast<std::size_t>(count) * sizeof(Out));
      return;
    }
  const int64_t bad = dispatch(
      array, [&]<class Codec, bool Swap>() { return convertRun<Codec, Swap>(in, count, out); });
  if (bad >= 0) failAt<Out>(array, first + bad);
}

}  // namespace

void convertRows(const Array& array, int64_t begin, int64_t end, float* out) {
  convert(array, begin, end, out);
}
void convertRows(const Array& array, int64_t begin, int64_t end, double* out) {
  convert(array, begin, end, out);
}
void convertRows(const Array& array, int64_t begin, int64_t end, int32_t* out) {
  convert(array, begin, end, out);
}
void convertRows(const Array& array, int64_t begin, int64_t end, int64_t* out) {
  convert(array, begin, end, out);
}
void convertRows(const Array& array, int64_t begin, int64_t end, uint8_t* out) {
  convert(array, begin, end, out);
}

int64_t firstNonFinite(const Array& array, int64_t begin, int64_t end) {
  const std::byte* in = rowsAt(array, begin, end);
  if (!isFloating(array.type())) return -1;
  const int64_t bad = dispatch(array, [&]<class Codec, bool Swap>() {
    return scanRun<Codec, Swap>(in, (end - begin) * array.rowSize());
  });
  return bad < 0 ? -1 : begin * array.rowSize() + bad;
}

void requireFinite(const Array& array, int64_t begin, int64_t end) {
  const int64_t bad = firstNonFinite(array, begin, end);
  if (bad < 0) return;
  const std::byte* at = array.bytes().data() + bad * static_cast<int64_t>(bytesOf(array.type()));
  array.fail("expected finite numbers, got " + numberText(array, at) + " at " +
             array.indexText(bad) + "; remove or replace that sample");
}

}  // namespace eigenscope
