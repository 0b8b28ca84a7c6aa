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
             std::abs(value) > std::numeric_limits<double>::max();
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

// Converts `count` elements; returns the index of the first that does not fit, or -1. The flag is
// an integer and floats are stored whether they fit or not, so that the loop is vectorised.
template <class Codec, bool Swap, class Out>
int64_t convertRun(const std::byte* in, int64_t count, Out* out) {
  int bad = 0;
  for (int64_t i = 0; i < count; ++i) {
    const auto value = load<Codec, Swap>(in, i);
    const bool fine = fits<Out>(value);
    bad |= !fine;
    if constexpr (std::is_floating_point_v<Out>)
      out[i] = static_cast<Out>(value);
    else  // the conversion is undefined for what does not fit
      out[i] = fine ? static_cast<Out>(value) : Out{0};
  }
  if (bad == 0) return -1;
  for (int64_t i = 0;; ++i)
    if (!fits<Out>(load<Codec, Swap>(in, i))) return i;
}

template <class Value>
bool finite(Value value) {
  if constexpr (std::is_floating_point_v<Value>)
    return std::abs(value) <= std::numeric_limits<Value>::max();
  else
    return true;
}

template <class Codec, bool Swap>
int64_t scanRun(const std::byte* in, int64_t count) {
  constexpr int64_t kTile = 4096;
  for (int64_t first = 0; first < count; first += kTile) {
    const int64_t last = std::min(first + kTile, count);
    int bad = 0;
    for (int64_t i = first; i < last; ++i) bad |= !finite(load<Codec, Swap>(in, i));
    if (bad == 0) continue;
    for (int64_t i = first;; ++i)
      if (!finite(load<Codec, Swap>(in, i))) return i;
  }
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

// What Normalize does to one array.
class Normalizer {
 public:
  explicit Normalizer(const Array& array) : array_(array), normalize_(*array.normalize()) {
    const std::size_t means = normalize_.mean.size(), stds = normalize_.std.size();
    channels_ = static_cast<int64_t>(std::max(means, stds));
    const bool divides = array.rank() >= 2 && array.shape()[1] == channels_;
    for (std::size_t n : {means, stds})
      if (n != 1 && (static_cast<int64_t>(n) != channels_ || !divides))
        throw Error(ErrorKind::Option, "normalize of " + array.name() +
                                           ": mean and std need 1 number or one a channel (axis "
                                           "1); got " +
                                           std::to_string(n) + " for " + array.describe());
    plane_ = channels_ == 1 ? array.size() : array.rowSize() / channels_;
  }

  // Elements from flat index `first` on, all of them read from `in`.
  template <class Out>
  void run(const std::byte* in, int64_t first, int64_t count, Out* out) const {
    const std::vector<Out> table = tableOf<Out>();
    const int64_t bytes = static_cast<int64_t>(bytesOf(array_.type()));
    for (int64_t at = 0; at < count;) {
      const int64_t flat = first + at, channel = flat / plane_ % channels_;
      int64_t length = std::min(count - at, plane_ - flat % plane_);
      if (!table.empty()) {
        const Out* values = table.data() + channel * kBytes;
        for (int64_t i = 0; i < length; ++i) out[at + i] = values[static_cast<int>(in[at + i])];
      } else {
        length = std::min(length, kTile);
        const int64_t bad = runTile(in + at * bytes, channel, length, out + at);
        if (bad >= 0) failAt<Out>(array_, flat + bad);
      }
      at += length;
    }
  }

 private:
  static constexpr int64_t kTile = 1024, kBytes = 256;

  // (v * scale - mean) / std in double for up to kTile elements of one channel. Returns the first
  // that was finite and no longer is, or -1.
  template <class Out>
  int64_t runTile(const std::byte* in, int64_t channel, int64_t count, Out* out) const {
    const auto at = static_cast<std::size_t>(channel);
    const double mean = normalize_.mean[normalize_.mean.size() == 1 ? 0 : at];
    const double std = normalize_.std[normalize_.std.size() == 1 ? 0 : at];
    double tile[kTile];
    dispatch(array_,
             [&]<class Codec, bool Swap>() { return convertRun<Codec, Swap>(in, count, tile); });
    int bad = 0;
    for (int64_t i = 0; i < count; ++i) {
      out[i] = static_cast<Out>((tile[i] * normalize_.scale - mean) / std);
      bad |= finite(tile[i]) & !finite(out[i]);
    }
    for (int64_t i = 0; bad != 0; ++i)
      if (finite(tile[i]) && !finite(out[i])) return i;
    return -1;
  }

  // For types of one byte, what becomes of each byte in each channel; else empty.
  template <class Out>
  std::vector<Out> tableOf() const {
    if (bytesOf(array_.type()) != 1) return {};
    std::byte all[kBytes];
    for (int i = 0; i < kBytes; ++i) all[i] = static_cast<std::byte>(i);
    std::vector<Out> table(static_cast<std::size_t>(channels_ * kBytes));
    for (int64_t channel = 0; channel < channels_; ++channel)
      if (runTile(all, channel, kBytes, table.data() + channel * kBytes) >= 0) return {};
    return table;
  }

  const Array& array_;
  const Normalize& normalize_;
  int64_t channels_ = 1, plane_ = 1;
};

template <class Out>
void convert(const Array& array, int64_t begin, int64_t end, Out* out) {
  const std::byte* in = rowsAt(array, begin, end);
  const int64_t first = begin * array.rowSize(), count = (end - begin) * array.rowSize();
  if (count == 0) return;
  if (array.normalize() != nullptr) {
    if constexpr (std::is_floating_point_v<Out>)
      return Normalizer(array).run(in, first, count, out);
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
