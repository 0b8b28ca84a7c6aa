#include <cstring>

#include "data_fixtures.h"

using namespace eigenscope;
using namespace eigenscope::fixtures;

namespace {

std::vector<double> x() {
  std::vector<double> values;
  for (int i = 0; i < 24; ++i) values.push_back(i / 2.0 - 3);
  return values;
}
const std::vector<double> kY{0, 2, 1, 2};

std::string refusal(const std::string& name, const std::string& text,
                    const ReadOptions& options = {}) {
  return errorOf(ErrorKind::DataMismatch, [&] { readText(name, text, options); });
}

// A .npy file with this header and these data.
std::string npy(std::string header, const std::string& data, int version = 1) {
  std::string text = "\x93NUMPY";
  text += static_cast<char>(version);
  text += '\0';
  const auto length = static_cast<uint32_t>(header.size());
  text.append(reinterpret_cast<const char*>(&length), version == 1 ? 2 : 4);
  return text + header + data;
}

std::string safetensors(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  std::string text(reinterpret_cast<const char*>(&length), 8);
  return text + header + data;
}

void replace(std::string& text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  text.replace(at, from.size(), to);
}

}  // namespace

TEST_CASE("npy: versions 1 to 3, both byte orders, both memory orders") {
  for (const char* name : {"v1.npy", "v2.npy", "v3.npy", "big.npy", "fortran.npy"}) {
    CAPTURE(name);
    const Contents contents = readArrays(pathOf(name));
    REQUIRE(contents.arrays.size() == 1);
    const Array& array = contents.arrays[0];
    CHECK(array.describe() == stemOf(name) + " float32 (4, 3, 2)");
    CHECK(array.bigEndian() == (std::string(name) == "big.npy"));
    CHECK(valuesOf(array) == x());
    CHECK(valuesOf<float>(array)[3] == -1.5f);
    // Rows agree with the whole.
    std::vector<double> row(6);
    convertRows(array, 2, 3, row.data());
    CHECK(row[0] == 3);
  }
  const Contents scalar = readArrays(pathOf("scalar.npy"));
  CHECK(scalar.arrays[0].rank() == 0);
  CHECK(valuesOf(scalar.arrays[0]) == std::vector<double>{2.5});
}

TEST_CASE("npy: mapped data lie in the file, not in a copy") {
  const Bytes file = mapFile(pathOf("v1.npy"));
  const Contents contents = readArrays("v1.npy", file);
  const std::byte* data = contents.arrays[0].bytes().data();
  CHECK(data == file.data() + 128);
}

TEST_CASE("npy: headers as other writers and older Pythons make them") {
  const std::string data(8, '\1');
  for (const char* header : {
           "{'descr': '<i4', 'fortran_order': False, 'shape': (2L,), }\n",
           "{\"shape\":[2],\"fortran_order\":false,\"descr\":\"=i4\"}",
           "  {'shape': (2,), 'descr': '<i4', 'fortran_order': True}   ",
       })
    CHECK(valuesOf(readText("a.npy", npy(header, data)).arrays[0])[1] == 0x01010101);
}

TEST_CASE("npy: damage is named") {
  const std::string good = contentsOf(pathOf("v1.npy"));
  checkHas(refusal("a.npy", good.substr(0, good.size() - 1)),
           {"a.npy", "truncated", "expected 96 bytes", "float32 (4, 3, 2)", "got 95"});
  checkHas(refusal("a.npy", good + "x"), {"expected 96 bytes", "got 97"});
  checkHas(refusal("a.npy", good.substr(0, 60)), {"truncated", "header of 118 bytes", "got 50"});
  checkHas(refusal("a.npy", good.substr(0, 8)), {"begins with \\x93NUMPY"});
  checkHas(refusal("a.npy", std::string("\0\1\2\3", 4)), {"expected a .npy file"});
  std::string version = good;
  version[6] = 9;
  checkHas(refusal("a.npy", version), {"version 1, 2 or 3", "got 9"});
  const auto header = [&](const char* text) { return refusal("a.npy", npy(text, "")); };
  checkHas(header("{'descr': '<f4'}"), {"'fortran_order'"});
  checkHas(header("{'descr': '<f4', 'fortran_order': False, 'shape': (2,"), {"malformed header"});
  checkHas(header("{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}"), {"impossible"});
  checkHas(header("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 8)}"),
           {"impossible"});
  checkHas(header("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}"),
           {"integer of 64 bits"});
  checkHas(header("{'descr': '<f4', 'descr': '<f4'}"), {"descr", "twice"});
  checkHas(header("((((((((((((((((((((((((((("), {"levels of nesting"});
  checkHas(header("{'descr': '<c8', 'fortran_order': False, 'shape': ()}"), {"<c8", "astype"});
  checkHas(header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': ()}"),
           {"structured"});
}

TEST_CASE("npz: stored and deflated entries, zip64") {
  for (const char* name : {"stored.npz", "deflated.npz", "zip64.npz"}) {
    CAPTURE(name);
    const Contents contents = readArrays(pathOf(name));
    CHECK(contents.arrays.size() == 2);
    CHECK(arrayOf(contents, "x").describe() == "x float32 (4, 3, 2)");
    CHECK(arrayOf(contents, "x").source() == pathOf(name));
    CHECK(valuesOf(arrayOf(contents, "x")) == x());
    CHECK(valuesOf(arrayOf(contents, "y")) == kY);
  }
  const Bytes file = mapFile(pathOf("stored.npz"));
  const Contents stored = readArrays("stored.npz", file);
  const std::byte* data = arrayOf(stored, "x").bytes().data();
  CHECK(data > file.data());
  CHECK(data < file.data() + file.size());
}

TEST_CASE("npz: the zip64 directory of archives with too many or too long entries") {
  std::string text = contentsOf(pathOf("zip64.npz"));
  std::memset(text.data() + text.size() - 14, 0xff, 12);  // counts, size and offset of the end
  CHECK(valuesOf(arrayOf(readText("a.npz", text), "y")) == kY);
  replace(text, "PK\x06\x07", "PK\x06\x01");
  checkHas(refusal("a.npz", text), {"zip64 directory"});
}

TEST_CASE("npz: a comment at the end and entries that are no arrays do no harm") {
  std::string text = contentsOf(pathOf("stored.npz"));
  text[text.size() - 2] = 5;
  CHECK(readText("a.npz", text + "hello").arrays.size() == 2);

  const Contents contents = readArrays(pathOf("text.npz"));
  CHECK(contents.arrays.size() == 2);
  REQUIRE(contents.skipped.size() == 2);
  CHECK(contents.skipped[0].name == "names");
  checkHas(contents.skipped[0].reason, {"<U1"});
  checkHas(contents.skipped[1].reason, {"|O"});
}

TEST_CASE("npz: damage is named") {
  const std::string good = contentsOf(pathOf("stored.npz"));
  std::string flipped = good;
  flipped[200] ^= 1;  // within the data of x
  checkHas(refusal("a.npz", flipped), {"a.npz: x.npy", "damaged", "checksum"});
  checkHas(refusal("a.npz", good.substr(0, good.size() / 2)), {"truncated", "zip directory"});
  checkHas(refusal("a.npz", good.substr(100)), {"a.npz"});
  std::string deflated = contentsOf(pathOf("deflated.npz"));
  deflated[100] ^= 0x55;
  checkHas(refusal("a.npz", deflated), {"a.npz: x.npy", "damaged"});
  checkHas(refusal("a.npz", contentsOf(pathOf("lzma.npz"))), {"x.npy", "method", "got 14"});
  std::string encrypted = good;
  encrypted[encrypted.find("PK\x01\x02") + 8] |= 1;
  checkHas(refusal("a.npz", encrypted), {"x.npy", "encrypted"});
  std::string twice = good;
  replace(twice, "y.npyPK\x05", "x.npyPK\x05");
  checkHas(refusal("a.npz", twice), {"x.npy occurs twice"});
  std::string torch = good;
  const std::size_t directory = torch.find("PK\x01\x02");
  REQUIRE(directory != std::string::npos);
  torch.replace(torch.find("x.npy", directory), 5, "a/data.pkl");
  torch[directory + 28] = 10;
  torch[torch.size() - 10] += 5;  // the directory's size
  checkHas(refusal("a.pt", torch), {"torch.save", "safetensors"});
  checkHas(refusal("a.npz", std::string("PK\x05\x06") + std::string(18, '\0')),
           {"at least one array"});
}

TEST_CASE("npz: a size that the compressed bytes cannot have costs no memory") {
  std::string text = contentsOf(pathOf("deflated.npz"));
  const std::size_t entry = text.find("PK\x01\x02");
  const uint32_t size = 0xfffffff0;
  std::memcpy(text.data() + entry + 24, &size, 4);
  checkHas(refusal("a.npz", text), {"x.npy", "cannot hold the 4294967280 expected"});
}

TEST_CASE("types: every type of .npz in both byte orders, and of safetensors") {
  const std::vector<std::pair<std::string, std::vector<double>>> wanted = {
      {"bool", {1, 0, 1, 1}},
      {"uint8", {0, 1, 127, 255}},
      {"int8", {0, -1, -128, 127}},
      {"int16", {0, -1, -32768, 32767}},
      {"uint16", {0, 1, 256, 65535}},
      {"int32", {0, -1, -2147483648.0, 2147483647}},
      {"int64", {0, -1, -9007199254740992.0, 9007199254740992.0}},
      {"float16", {0, 0x1p-24, -65504, 0.333251953125}},
      {"float32", {0, 0x1p-149, -3.4028234663852886e38, 1.0f / 3}},
      {"float64", {0, 5e-324, -1.7976931348623157e308, 1.0 / 3}},
      {"bfloat16", {0, 0x1p-126, -3, 0.333984375}},
  };
  for (const char* file : {"types.npz", "types-big.npz", "types.safetensors"}) {
    const Contents contents = readArrays(pathOf(file));
    const bool safetensors = std::string(file) == "types.safetensors";
    CHECK(contents.arrays.size() == (safetensors ? 11 : 10));
    for (const auto& [name, values] : wanted) {
      if (name == "bfloat16" && !safetensors) continue;
      CAPTURE(file);
      CAPTURE(name);
      const Array& array = arrayOf(contents, name);
      CHECK(nameOf(array.type()) == name);
      CHECK(valuesOf(array) == values);
    }
  }
}

TEST_CASE("safetensors: mapped, with unaligned data and escaped names") {
  const Contents file = readArrays(pathOf("xy.safetensors"));
  CHECK(valuesOf(arrayOf(file, "x")) == x());
  CHECK(valuesOf(arrayOf(file, "y")) == kY);
  const std::string one("\0\0\x80\x3f", 4);
  const std::string text = safetensors(
      R"({"a\u00e9\ud83d\ude00\"\\":{"dtype":"F32","shape":[1],"data_offsets":[3,7]},)"
      R"("m":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]},"e":{"dtype":"I64","shape":[0],)"
      R"("data_offsets":[7,7]},"__metadata__":{"a":"b"}}  )",
      "abc" + one);
  const Contents contents = readText("a.safetensors", text);
  CHECK(contents.arrays[0].name() == "a\u00e9\U0001f600\"\\");
  CHECK(valuesOf(contents.arrays[0]) == std::vector<double>{1});
  CHECK(arrayOf(contents, "e").size() == 0);
}

TEST_CASE("safetensors: damage is named") {
  const std::string good = contentsOf(pathOf("xy.safetensors"));
  checkHas(refusal("a.safetensors", good.substr(0, good.size() - 1)), {"truncated", "127"});
  checkHas(refusal("a.safetensors", good.substr(0, 20)), {"truncated", "header"});
  checkHas(refusal("a.safetensors", good + "x"), {"expected 128 bytes", "got 129"});
  const auto refused = [&](const char* header, const std::string& data = "") {
    return refusal("a.safetensors", safetensors(header, data));
  };
  const char* tensor = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  checkHas(refused(tensor, "abcd"), {"malformed header", "the end"});
  checkHas(refused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", "abcd"),
           {"expected 8 bytes for a float32 (2,)", "got 4"});
  checkHas(refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", "abcdabcd"),
           {"a at offset 0", "got 4"});
  checkHas(refused(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                   R"("b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
                   "abc"),
           {"b at offset 2", "got 1"});
  checkHas(refused(R"({"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})", "abcd"),
           {"malformed header"});
  checkHas(refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", "abcd"),
           {"data_offsets for a"});
  checkHas(refused(R"({"a":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}})", "abcd"),
           {"a: its type F8_E4M3"});
  checkHas(refused("{}"), {"at least one array"});
  std::string huge = good;
  huge[7] = 1;
  checkHas(refusal("a.safetensors", huge), {"at most 100 MB"});
}

TEST_CASE("idx: images and labels as MNIST has them, plain and gzipped") {
  for (const char* name : {"images-idx3-ubyte", "images-idx3-ubyte.gz"}) {
    const Contents images = readArrays(pathOf(name));
    CHECK(images.arrays[0].describe() == "images-idx3-ubyte uint8 (4, 2, 3)");
    CHECK(valuesOf(images.arrays[0])[23] == 23);
  }
  CHECK(valuesOf(readArrays(pathOf("labels-idx1-ubyte")).arrays[0]) == kY);
  const std::string head("\0\0", 2), two("\0\0\0\2", 4);
  CHECK(valuesOf(readText("a", head + "\x0b\1" + two + "\xff\xfe\1\2").arrays[0]) ==
        std::vector<double>{-2, 258});
  CHECK(valuesOf(readText("a", head + "\x0c\1" + two + std::string("\0\0\1\0\xff\xff\xff\xff", 8))
                     .arrays[0]) == std::vector<double>{256, -1});
  CHECK(valuesOf(readText("a", head + "\x0d\1" + two + std::string("\x3f\x80\0\0\xc0\0\0\0", 8))
                     .arrays[0]) == std::vector<double>{1, -2});
  CHECK(valuesOf(readText("a", head + "\x09\1" + two + "\xff\1").arrays[0]) ==
        std::vector<double>{-1, 1});

  checkHas(refusal("a", head + "\x08\1" + two + "a"), {"truncated", "expected 2 bytes", "got 1"});
  checkHas(refusal("a", head + "\x08\3" + two), {"truncated", "header of 16 bytes", "got 8"});
  checkHas(refusal("a-ubyte", head + "\x0a\1" + two), {"IDX type", "got 10"});
  checkHas(refusal("a", head + "\x08\4" + std::string(16, '\xff')), {"impossible"});
}

TEST_CASE("gzip: damage is named, members are joined") {
  const std::string good = contentsOf(pathOf("images-idx3-ubyte.gz"));
  checkHas(refusal("a.gz", good.substr(0, good.size() - 9)), {"a.gz", "truncated"});
  std::string flipped = good;
  flipped[good.size() - 6] ^= 1;
  checkHas(refusal("a.gz", flipped), {"damaged", "data check"});
  checkHas(refusal("a.gz", good + "rest"), {"damaged"});
  // Two members: the second image file's bytes are too many for the first one's header.
  checkHas(refusal("a.gz", good + good), {"expected 24 bytes", "got 64"});
}

TEST_CASE("csv: with and without names, any usual separator, comments, quotes, line ends") {
  const std::vector<double> table{1, -2.5, 3000, 4, 5, 6};
  for (const char* text : {
           "1,-2.5,3e3\n4,5,6\n",
           "a,b,c\r\n1, -2.5 ,+3e3\r\n4,5,6",
           "\xef\xbb\xbf\"a\";\"b;\"\"\";c\n1;\"-2.5\";3000\n\n4;5;6\n\n",
           "# made by hand\n1\t-2.5\t3000\n4\t5\t6\n",
           "  1  -2.5 3.0e+03\n4 5   6  \n",
       }) {
    CAPTURE(text);
    const Contents contents = readText("table.csv", text);
    REQUIRE(contents.arrays.size() == 1);
    CHECK(contents.arrays[0].describe() == "x float64 (2, 3)");
    CHECK(valuesOf(contents.arrays[0]) == table);
  }
}

TEST_CASE("csv: the column y, or those of the option target, become y") {
  const std::string text = "a,y,b,c\n1,0,2,3\n4,1,5,6\n";
  const auto check = [&](const ReadOptions& options, const std::vector<double>& x,
                         const std::vector<double>& y, const std::string& shape) {
    const Contents contents = readText("t.csv", text, options);
    CHECK(valuesOf(arrayOf(contents, "x")) == x);
    CHECK(valuesOf(arrayOf(contents, "y")) == y);
    CHECK(textOf(arrayOf(contents, "y").shape()) == shape);
  };
  ReadOptions options;
  check(options, {1, 2, 3, 4, 5, 6}, {0, 1}, "(2,)");
  CHECK(readText("t.csv", text).columns == std::vector<std::string>{"a", "b", "c"});
  options.targets = {"c"};
  check(options, {1, 0, 2, 4, 1, 5}, {3, 6}, "(2,)");
  options.targets = {"-2"};
  check(options, {1, 0, 3, 4, 1, 6}, {2, 5}, "(2,)");
  options.targets = {"c", "a"};
  check(options, {0, 2, 1, 5}, {3, 1, 6, 4}, "(2, 2)");

  options.whole = true;
  CHECK(readText("t.csv", text, options).arrays[0].describe() == "t float64 (2, 4)");
  CHECK(readText("t.csv", "1\n2\n3\n", options).arrays[0].describe() == "t float64 (3,)");

  options = {};
  options.header = true;  // names that are numbers, as pandas gives by default
  CHECK(readText("t.csv", "0,1\n2,3\n", options).arrays[0].describe() == "x float64 (1, 2)");
  CHECK(readText("t.csv", "0,1\n2,3\n").arrays[0].describe() == "x float64 (2, 2)");

  options = {};
  // pandas: DataFrame(x) with a column y.
  CHECK(readText("t.csv", "0,1,2,y\n5,6,7,1\n").columns == std::vector<std::string>{"0", "1", "2"});
  for (const char* either : {"0,1,2\n3,4,5\n", "1,2x,3\n4,5,6\n"})
    checkHas(refusal("t.csv", either), {"names the columns or is a sample", "header"});

  options.targets = {"d"};
  checkHas(errorOf(ErrorKind::Option, [&] { readText("t.csv", text, options); }),
           {"t.csv has no column d", "a, y, b, c"});
  options.targets = {"a", "0"};
  checkHas(errorOf(ErrorKind::Option, [&] { readText("t.csv", text, options); }), {"twice"});
}

TEST_CASE("csv: damage is named by line and column") {
  checkHas(refusal("t.csv", "a,b\n1,2\n3,x\n"), {"t.csv: line 3, column b", "number", "\"x\""});
  checkHas(refusal("t.csv", "1,2\n# c\n3,\n"), {"line 3, column 1", "got nothing"});
  checkHas(refusal("t.csv", "1,2\n3\n"), {"line 2", "expected 2 columns", "got 1"});
  checkHas(refusal("t.csv", "1,2\n3,4,5\n"), {"line 2", "expected 2 columns", "got 3"});
  checkHas(refusal("t.csv", "1\t2\n3\t\n"), {"line 2, column 1", "got nothing"});
  checkHas(refusal("t.csv", ",a\n0,1\n"), {"column 0 has no name", "index=False"});
  checkHas(refusal("t.csv", "a,a\n0,1\n"), {"two columns are named a"});
  checkHas(refusal("t.csv", "1,1e999\n"), {"header"});
  checkHas(refusal("t.csv", "a,b\n"), {"below the column names"});
  checkHas(refusal("t.csv", "# nothing\n\n"), {"lines of numbers, found none"});
}

TEST_CASE("files: what is no data file says so") {
  checkHas(errorOf(ErrorKind::DataMismatch, [] { readArrays("/nonexistent/x.npy"); }),
           {"/nonexistent/x.npy", "cannot be opened", "No such file"});
  checkHas(errorOf(ErrorKind::DataMismatch,
                   [] { readArrays(std::filesystem::temp_directory_path().string()); }),
           {"not a regular file"});
  const std::string empty =
      (std::filesystem::temp_directory_path() / "eigenscope-empty-test.npy").string();
  std::ofstream{empty}.close();
  checkHas(errorOf(ErrorKind::DataMismatch, [&] { readArrays(empty); }), {"is empty (0 bytes)"});
  std::filesystem::remove(empty);
  checkHas(refusal("a.h5", "\x89HDF\r\n\x1a\n"), {"an HDF5 file", "numpy.savez"});
  checkHas(refusal("a.npz", "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n"),
           {"Git LFS pointer"});
  checkHas(refusal("a.csv", "<!DOCTYPE html>\n"), {"HTML"});
  // A header of 640 bytes begins as a pickle does.
  const std::string tensor = R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
  const std::string spaces(640 - tensor.size(), ' ');
  CHECK(readText("a.safetensors", safetensors(tensor + spaces, "\7")).arrays.size() == 1);
  checkHas(refusal("a.pth", "\x80\x02\x8a\x0a"), {"Python pickle"});
  checkHas(refusal("a.bin", std::string("\1\2\3\0", 4)), {"something else"});
}
