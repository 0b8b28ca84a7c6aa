#include <cmath>
#include <limits>

#include "data_fixtures.h"

using namespace eigenscope;
using namespace eigenscope::fixtures;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
const double kNaN = std::nan("");

}  // namespace

TEST_CASE("array: names of types go both ways, and sizes agree with them") {
  for (int i = 0; i < kElementTypes; ++i) {
    const auto type = static_cast<ElementType>(i);
    CHECK(elementTypeOf(nameOf(type)) == type);
    const std::vector<std::byte> zeros(3 * bytesOf(type));
    const Array array("a", type, {3}, copyBytes("memory", zeros.data(), zeros.size()));
    CHECK(valuesOf(array) == std::vector<double>{0, 0, 0});
  }
  CHECK_FALSE(elementTypeOf("complex64"));
}

TEST_CASE("array: shape, rows, slices and indices") {
  std::vector<int32_t> values(24);
  for (int i = 0; i < 24; ++i) values[static_cast<std::size_t>(i)] = i;
  const Array array = make("a", ElementType::I32, {4, 3, 2}, values);
  CHECK(array.rows() == 4);
  CHECK(array.rowSize() == 6);
  CHECK(array.size() == 24);
  CHECK(array.describe() == "a int32 (4, 3, 2)");
  CHECK(array.indexText(17) == "[2, 2, 1]");

  std::vector<float> out(12);
  convertRows(array, 1, 3, out.data());
  CHECK(out.front() == 6);
  CHECK(out.back() == 17);

  const Array part = array.slice(1, 3).slice(1, 2);
  CHECK(valuesOf(part) == std::vector<double>{12, 13, 14, 15, 16, 17});
  CHECK(part.indexText(1) == "[2, 0, 1]");  // as in the file
  CHECK(array.reshaped({4, 1, 6}).describe() == "a int32 (4, 1, 6)");
  checkHas(errorOf(ErrorKind::Option, [&] { array.slice(2, 5); }), {"2 to 5", "(4, 3, 2)"});
  checkHas(errorOf(ErrorKind::Internal, [&] { array.reshaped({5, 5}); }), {"96 bytes"});
  checkHas(errorOf(ErrorKind::Internal, [&] { convertRows(array, 3, 5, out.data()); }), {"3 to 5"});
}

TEST_CASE("array: impossible shapes have no size") {
  CHECK(elementsOf({}) == 1);
  CHECK(elementsOf({3, 0, int64_t{1} << 40}) == 0);
  CHECK_FALSE(elementsOf({0, int64_t{1} << 40, int64_t{1} << 40}));
  CHECK_FALSE(elementsOf({2, -1}));
  CHECK(textOf({-1, 3}) == "(N, 3)");
  CHECK(textOf({7}) == "(7,)");
}

TEST_CASE("convert: every pair of types that can hold the values") {
  const std::vector<double> wanted{0, 1, 0, 1};
  const std::vector<uint8_t> bytes{0, 1, 0, 1};
  for (int i = 0; i < kElementTypes; ++i) {
    const auto type = static_cast<ElementType>(i);
    CAPTURE(nameOf(type));
    // 1.0 in each type, by its bits.
    const uint64_t one = type == ElementType::F16    ? 0x3c00
                         : type == ElementType::BF16 ? 0x3f80
                         : type == ElementType::F32  ? 0x3f800000
                         : type == ElementType::F64  ? 0x3ff0000000000000
                                                     : 1;
    for (bool big : {false, true}) {
      const std::size_t size = bytesOf(type);
      // One byte in front, so that nothing is aligned.
      std::vector<uint8_t> raw(1 + 4 * size);
      for (std::size_t at : {1, 3})
        for (std::size_t b = 0; b < size; ++b)
          raw[1 + at * size + (big ? size - 1 - b : b)] = static_cast<uint8_t>(one >> (8 * b));
      const Bytes whole = copyBytes("memory", raw.data(), raw.size());
      const Array array("a", type, {4}, whole.sub(1, 4 * size), big);
      CHECK(valuesOf<double>(array) == wanted);
      CHECK(valuesOf<float>(array) == std::vector<float>{0, 1, 0, 1});
      CHECK(valuesOf<int32_t>(array) == std::vector<int32_t>{0, 1, 0, 1});
      CHECK(valuesOf<int64_t>(array) == std::vector<int64_t>{0, 1, 0, 1});
      CHECK(valuesOf<uint8_t>(array) == bytes);
    }
  }
}

TEST_CASE("convert: a stored bool is true for any non-zero byte") {
  const Array array = make<uint8_t>("mask", ElementType::Bool, {3}, {0, 2, 255});
  CHECK(valuesOf<uint8_t>(array) == std::vector<uint8_t>{0, 1, 1});
  CHECK(valuesOf<float>(array) == std::vector<float>{0, 1, 1});
}

TEST_CASE("convert: what an integer cannot hold is named with its index") {
  const Array labels = make<double>("y", ElementType::F64, {2, 2}, {0, 1, 2.5, 3});
  std::vector<int32_t> ints(4);
  std::vector<int64_t> longs(4);
  std::vector<uint8_t> bools(4);
  checkHas(errorOf(ErrorKind::DataMismatch, [&] { convertRows(labels, 0, 2, ints.data()); }),
           {"memory: y", "whole number", "int32", "[1, 0]", "2.5"});
  checkHas(errorOf(ErrorKind::DataMismatch, [&] { convertRows(labels, 1, 2, longs.data()); }),
           {"[1, 0]", "2.5"});
  checkHas(errorOf(ErrorKind::DataMismatch, [&] { convertRows(labels, 0, 2, bools.data()); }),
           {"0 or 1", "[1, 0]"});

  const auto fits32 = [&](double value) {
    try {
      convertRows(make<double>("v", ElementType::F64, {1}, {value}), 0, 1, ints.data());
      return ints[0] == value;
    } catch (const Error&) {
      return false;
    }
  };
  CHECK(fits32(2147483647.0));
  CHECK(fits32(-2147483648.0));
  CHECK_FALSE(fits32(2147483648.0));
  CHECK_FALSE(fits32(-2147483649.0));
  CHECK_FALSE(fits32(kNaN));
  CHECK_FALSE(fits32(kInfinity));

  const Array big = make<int64_t>("y", ElementType::I64, {2}, {1, int64_t{1} << 31});
  checkHas(errorOf(ErrorKind::DataMismatch, [&] { convertRows(big, 0, 2, ints.data()); }),
           {"[1]", "2147483648"});
  const double edge = 9223372036854775808.0;  // 2^63
  convertRows(make<double>("v", ElementType::F64, {1}, {-edge}), 0, 1, longs.data());
  CHECK(longs[0] == std::numeric_limits<int64_t>::min());
  CHECK_THROWS_AS(convertRows(make<double>("v", ElementType::F64, {1}, {edge}), 0, 1, longs.data()),
                  const Error&);
}

TEST_CASE("convert: finite numbers never become infinite, NaN and infinity pass") {
  std::vector<float> out(3);
  convertRows(make<double>("x", ElementType::F64, {3}, {kNaN, kInfinity, -kInfinity}), 0, 3,
              out.data());
  CHECK(std::isnan(out[0]));
  CHECK(out[1] == std::numeric_limits<float>::infinity());
  CHECK(out[2] == -std::numeric_limits<float>::infinity());
  checkHas(
      errorOf(ErrorKind::DataMismatch,
              [&] {
                convertRows(make<double>("x", ElementType::F64, {2}, {1, -1e39}), 0, 2, out.data());
              }),
      {"float32", "[1]", "-1e+39"});
}

TEST_CASE("finite: the first NaN or infinity of the rows asked for") {
  const float bad = std::numeric_limits<float>::infinity();
  const Array array = make<float>("x", ElementType::F32, {3, 2}, {0, 1, 2, bad, bad, 5});
  CHECK(firstNonFinite(array, 0, 1) == -1);
  CHECK(firstNonFinite(array, 0, 3) == 3);
  CHECK(firstNonFinite(array, 2, 3) == 4);
  checkHas(errorOf(ErrorKind::DataMismatch, [&] { requireFinite(array, 2, 3); }),
           {"memory: x", "inf", "[2, 0]"});
  CHECK(firstNonFinite(make<uint16_t>("h", ElementType::F16, {2}, {0x7bff, 0x7c00}), 0, 2) == 1);
  CHECK(firstNonFinite(make<uint16_t>("b", ElementType::BF16, {2}, {0x7f7f, 0xffc0}), 0, 2) == 1);
  CHECK(firstNonFinite(make<int64_t>("i", ElementType::I64, {1}, {-1}), 0, 1) == -1);
}

TEST_CASE("normalize: (v * scale - mean) / std in one rounding, per channel too") {
  std::vector<uint8_t> pixels(2 * 3 * 700);  // longer than a tile, not a multiple of it
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<uint8_t>(i * 37);
  const Array raw = make("x", ElementType::U8, {2, 3, 700}, pixels);
  const double scale = 1.0 / 255;
  for (const bool perChannel : {false, true}) {
    Normalize normalize{scale, {0.1307}, {0.3081}};
    if (perChannel) normalize = {scale, {0.1, 0.2, 0.3}, {0.5, 0.25, 2}};
    const Array array = raw.normalized(normalize);
    const auto floats = valuesOf<float>(array);
    const auto doubles = valuesOf<double>(array);
    bool same = true;
    for (std::size_t i = 0; i < pixels.size(); ++i) {
      const std::size_t channel = perChannel ? i / 700 % 3 : 0;
      const double wanted = (pixels[i] * scale - normalize.mean[channel]) / normalize.std[channel];
      same &= doubles[i] == wanted && floats[i] == static_cast<float>(wanted);
    }
    CHECK(same);
    // Any run of rows gives the same numbers.
    std::vector<float> second(2100);
    convertRows(array, 1, 2, second.data());
    CHECK(std::equal(second.begin(), second.end(), floats.begin() + 2100));
  }
  std::vector<int32_t> ints(pixels.size());
  std::vector<float> floats(pixels.size());
  // The table for bytes and the arithmetic for the rest agree.
  std::vector<int16_t> wide(pixels.begin(), pixels.end());
  const Normalize normalize{scale, {0.1, 0.2, 0.3}, {0.5}};
  CHECK(valuesOf<float>(make("x", ElementType::I16, raw.shape(), wide).normalized(normalize)) ==
        valuesOf<float>(raw.normalized(normalize)));
  for (const Array& array : {raw, make("x", ElementType::I16, raw.shape(), wide)})
    checkHas(errorOf(ErrorKind::DataMismatch,
                     [&] {
                       convertRows(array.normalized({1e38, {0}, {1}}), 0, 2, floats.data());
                     }),
             {"float32", "[0, 0, 1]", "37"});  // 37e38
  checkHas(errorOf(ErrorKind::Option,
                   [&] {
                     convertRows(raw.normalized({2, {0}, {1}}), 0, 2, ints.data());
                   }),
           {"normalize of x", "whole numbers"});
  checkHas(errorOf(ErrorKind::Option,
                   [&] {
                     convertRows(raw.normalized({1, {0, 1}, {1}}), 0, 2, floats.data());
                   }),
           {"normalize of x", "one a channel", "got 2"});
  checkHas(errorOf(ErrorKind::Option, [&] { raw.normalized({1, {0}, {0}}); }), {"std"});
  checkHas(errorOf(ErrorKind::Option, [&] { raw.normalized({kNaN, {0}, {1}}); }), {"scale"});
}

TEST_CASE("storage: a borrowed buffer keeps its owner as long as an array needs it") {
  auto owner = std::make_shared<std::vector<float>>(std::vector<float>{1, 2, 3});
  std::weak_ptr<std::vector<float>> watch = owner;
  auto array = std::make_unique<Array>("x", ElementType::F32, Shape{3},
                                       borrowBytes("memory", owner->data(), 12, owner));
  owner.reset();
  const Array part = array->slice(1, 2);
  array.reset();
  CHECK_FALSE(watch.expired());
  CHECK(valuesOf(part) == std::vector<double>{2});
}

TEST_CASE("storage: files are closed with the last array, or when they are refused") {
  const auto open = [] {
    const std::filesystem::directory_iterator files("/proc/self/fd");
    return std::distance(begin(files), end(files));
  };
  const auto before = open();
  {
    const DataSet data = DataSet::open({{"", pathOf("stored.npz")}});
    const DataSet part = data.select({"y"});
    CHECK(open() == before + 1);
  }
  CHECK(open() == before);
  readArrays(pathOf("deflated.npz"));
  CHECK_THROWS_AS(readArrays(pathOf("lzma.npz")), const Error&);
  CHECK(open() == before);
}

TEST_CASE("storage: a mapped file that changes is an error, not a crash") {
  const std::string path =
      (std::filesystem::temp_directory_path() / "eigenscope-mapped-test.npy").string();
  std::filesystem::copy_file(pathOf("v1.npy"), path,
                             std::filesystem::copy_options::overwrite_existing);
  const Contents contents = readArrays(path);
  CHECK(valuesOf(contents.arrays[0])[0] == -3);
  std::filesystem::resize_file(path, 10);
  std::vector<float> out(24);
  checkHas(
      errorOf(ErrorKind::DataMismatch, [&] { convertRows(contents.arrays[0], 0, 4, out.data()); }),
      {path, "changed on disk", "224 bytes when opened, 10 now"});
  std::filesystem::remove(path);
}
