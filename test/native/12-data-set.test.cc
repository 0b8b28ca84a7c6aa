#include "data_fixtures.h"

using namespace eigenscope;
using namespace eigenscope::fixtures;

namespace {

Array zeros(const std::string& name, ElementType type, const Shape& shape) {
  const std::vector<std::byte> bytes(static_cast<std::size_t>(*elementsOf(shape)) * bytesOf(type));
  return Array(name, type, shape, copyBytes("memory", bytes.data(), bytes.size()));
}

Array floats(const std::string& name, const Shape& shape) {
  return zeros(name, ElementType::F32, shape);
}

Array labels(int64_t count) { return zeros("y", ElementType::I64, {count}); }

std::string refusal(ErrorKind kind, const std::vector<DataSource>& sources,
                    const DataOptions& options = {}) {
  return errorOf(kind, [&] { DataSet::open(sources, {}, options); });
}

std::string mismatch(const DataSet& data, const std::vector<InputSpec>& inputs,
                     bool target = true) {
  return errorOf(ErrorKind::DataMismatch, [&] { bindInputs(data, inputs, target); });
}

const InputSpec kImages{"input", ElementType::F32, {-1, 1, 28, 28}};

}  // namespace

TEST_CASE("data set: one file, several files by name, arrays at hand") {
  const DataSet one = DataSet::open({{"", pathOf("stored.npz")}});
  CHECK(one.describe() == "x float32 (4, 3, 2), y int64 (4,)");
  CHECK(one.samples() == 4);

  const DataSet named = DataSet::open(
      {{"x", pathOf("images-idx3-ubyte")}, {"y", pathOf("labels-idx1-ubyte")}}, {}, {});
  CHECK(named.describe() == "x uint8 (4, 2, 3), y uint8 (4,)");

  const DataSet picked = DataSet::open({{"y", pathOf("stored.npz")}, {"in", pathOf("v1.npy")}});
  CHECK(picked.describe() == "y int64 (4,), in float32 (4, 3, 2)");

  const DataSet mixed = DataSet::open({{"", pathOf("v1.npy")}}, {labels(4)});
  CHECK(mixed.find("v1") != nullptr);
  CHECK(mixed.samples() == 4);

  checkHas(refusal(ErrorKind::DataMismatch, {{"z", pathOf("stored.npz")}}),
           {"stored.npz", "one named z", "x, y"});
  checkHas(refusal(ErrorKind::DataMismatch, {{"", pathOf("stored.npz")}, {"x", pathOf("v1.npy")}}),
           {"two arrays are named x", "stored.npz", "v1.npy"});
  checkHas(refusal(ErrorKind::Option, {}), {"at least one file"});
}

TEST_CASE("data set: select, samples, normalize") {
  DataOptions options;
  options.select = {"y", "x"};
  options.first = 1;
  options.last = 3;
  options.normalize = {{"", {2, {1}, {4}}}};
  const DataSet data = DataSet::open({{"", pathOf("stored.npz")}}, {}, options);
  CHECK(data.describe() == "y int64 (2,), x float32 (2, 3, 2)");
  CHECK(valuesOf(*data.find("y")) == std::vector<double>{2, 1});
  CHECK(valuesOf(*data.find("x"))[0] == (0.0 * 2 - 1) / 4);  // x[1, 0, 0] is 0

  options.select = {"x", "labels"};
  checkHas(refusal(ErrorKind::DataMismatch, {{"", pathOf("stored.npz")}}, options),
           {"no array labels", "y int64 (4,)"});
  options.select = {};
  options.last = 5;
  checkHas(refusal(ErrorKind::Option, {{"", pathOf("stored.npz")}}, options), {"1 to 5", "have 4"});
  options.last = 3;
  options.normalize = {{"z", {}}};
  checkHas(refusal(ErrorKind::Option, {{"", pathOf("stored.npz")}}, options),
           {"no array z", "x, y"});
}

TEST_CASE("data set: differing, missing and scalar samples are named") {
  checkHas(errorOf(ErrorKind::DataMismatch,
                   [] {
                     DataSet({floats("x", {5, 2}), labels(4)}).samples();
                   }),
           {"as many samples", "x float32 (5, 2)", "y int64 (4,)"});
  checkHas(errorOf(ErrorKind::DataMismatch,
                   [] {
                     DataSet({floats("x", {0, 2}), labels(0)}).samples();
                   }),
           {"x", "empty"});
  checkHas(errorOf(ErrorKind::DataMismatch, [] { DataSet({floats("x", {})}).samples(); }),
           {"x", "scalar"});
  checkHas(errorOf(ErrorKind::DataMismatch, [] { DataSet(std::vector<Array>{}).samples(); }),
           {"no array"});
}

TEST_CASE("bind: a model with one input takes an array of any name") {
  for (const char* name : {"input", "x", "images"}) {
    const BoundData bound =
        bindInputs(DataSet({floats(name, {6, 1, 28, 28}), labels(6)}), {kImages}, true);
    CHECK(bound.samples == 6);
    CHECK(bound.inputs[0].name() == name);
    CHECK(bound.target->describe() == "y int64 (6,)");
  }
  const BoundData alone =
      bindInputs(DataSet({floats("x", {6, 1, 28, 28}), labels(6)}), {kImages}, false);
  CHECK_FALSE(alone.target);

  checkHas(
      mismatch(DataSet({floats("a", {6, 1, 28, 28}), floats("b", {6, 2}), labels(6)}), {kImages}),
      {"several arrays", "input float32 (N, 1, 28, 28)", "target y", "a float32", "b float32"});
  checkHas(mismatch(DataSet({floats("input", {6, 1, 28, 28}), floats("b", {6, 2}), labels(6)}),
                    {kImages}),
           {"array b is no input", "select"});
  checkHas(mismatch(DataSet({labels(6)}), {kImages}), {"no array for the model's input input"});
  checkHas(mismatch(DataSet({floats("x", {6, 1, 28, 28})}), {kImages}),
           {"no array for the target y", "x float32"});
  checkHas(mismatch(DataSet({floats("x", {6, 1, 28, 28}), labels(5)}), {kImages}),
           {"as many samples", "(5,)"});
}

TEST_CASE("bind: several inputs go by name, in the model's order") {
  const std::vector<InputSpec> inputs = {{"ids", ElementType::I64, {-1, -1}},
                                         {"mask", ElementType::F32, {-1, 7}}};
  const Array ids = zeros("ids", ElementType::I32, {3, 7});
  const BoundData bound =
      bindInputs(DataSet({labels(3), floats("mask", {3, 7}), ids}), inputs, true);
  CHECK(bound.inputs[0].name() == "ids");
  CHECK(bound.inputs[1].name() == "mask");
  checkHas(mismatch(DataSet({labels(3), ids, floats("masks", {3, 7})}), inputs),
           {"no array for the model's input mask", "masks float32"});
  checkHas(mismatch(DataSet({labels(3), floats("ids", {3, 7}), floats("mask", {3, 7})}), inputs),
           {"whole numbers (int64)", "ids", "got float32"});
}

TEST_CASE("bind: shapes are checked, and only axes of length 1 are put in") {
  const auto shapeFor = [](const Shape& dims, const Shape& shape) {
    const InputSpec input{"x", ElementType::F32, dims};
    return textOf(bindInputs(DataSet({floats("x", shape)}), {input}, false).inputs[0].shape());
  };
  CHECK(shapeFor({-1, 1, 28, 28}, {6, 28, 28}) == "(6, 1, 28, 28)");
  CHECK(shapeFor({1, 1, 28, 28}, {6, 1, 28, 28}) == "(6, 1, 28, 28)");  // a fixed batch
  CHECK(shapeFor({-1, 1}, {6}) == "(6, 1)");
  CHECK(shapeFor({-1, 1, 5, 1}, {6, 5}) == "(6, 1, 5, 1)");
  CHECK(shapeFor({-1, 1, 5, 1}, {6, 1, 5}) == "(6, 1, 5, 1)");
  CHECK(shapeFor({-1, -1, 3}, {6, 9, 3}) == "(6, 9, 3)");

  const auto refused = [](const Shape& dims, const Shape& shape) {
    return mismatch(DataSet({floats("x", shape)}), {{"x", ElementType::F32, dims}}, false);
  };
  checkHas(refused({-1, 1, 28, 28}, {6, 784}),
           {"expected shape (N, 1, 28, 28)", "got (6, 784)", "x.reshape(-1, 1, 28, 28)"});
  checkHas(refused({-1, 3, 28, 28}, {6, 28, 28}), {"(N, 3, 28, 28)", "(6, 28, 28)"});
  CHECK(refused({-1, 3, 28, 28}, {6, 28, 28}).find("reshape") == std::string::npos);
  refused({-1, 784}, {6, 28, 28});
  refused({-1, 5}, {6, 5, 1});
  refused({-1, 5}, {6, 4});
  checkHas(mismatch(DataSet({floats("x", {})}), {kImages}, false), {"scalar"});

  const InputSpec any{"x", ElementType::F32, {}, false};
  CHECK(bindInputs(DataSet({floats("x", {6, 5, 4})}), {any}, false).samples == 6);
}

TEST_CASE("bind: the target may be called something else") {
  DataOptions options;
  options.target = "labels";
  const InputSpec y{"y", ElementType::F32, {-1, 2}};
  const DataSet data({floats("y", {3, 2}), zeros("labels", ElementType::U8, {3})}, options);
  CHECK(bindInputs(data, {y}, true).target->name() == "labels");
  checkHas(mismatch(DataSet({floats("y", {3, 2})}), {y}), {"has the name of the target"});
}

TEST_CASE("data set: mapped files hold no memory, inflated ones and tables do") {
  const auto held = [](const char* name) {
    return DataSet::open({{"", pathOf(name)}}).heldBytes();
  };
  CHECK(held("stored.npz") == 0);
  CHECK(held("xy.safetensors") == 0);
  CHECK(held("fortran.npy") == 96);
  CHECK(held("deflated.npz") == 128 + 96 + 128 + 32);  // with the .npy headers
  CHECK(DataSet(readText("t.csv", "a,y\n1,2\n").arrays).heldBytes() >= 16);
}

TEST_CASE("bind: a table, as features of one input or by columns") {
  const auto table = [](const std::string& text, const ReadOptions& options = {}) {
    Contents contents = readText("t.csv", text, options);
    return DataSet(contents.arrays, {}, contents.skipped, contents.columns);
  };
  const InputSpec features{"in", ElementType::F32, {-1, 2}};
  const DataSet data = table("a,b,y\n1,2,0\n3,4,1\n");
  const BoundData one = bindInputs(data, {features}, true);
  CHECK(valuesOf(one.inputs[0]) == std::vector<double>{1, 2, 3, 4});
  CHECK(valuesOf<int64_t>(*one.target) == std::vector<int64_t>{0, 1});
  ReadOptions named;
  named.targetName = "b";
  CHECK(valuesOf(arrayOf(readText("t.csv", "a,b,y\n1,2,0\n", named), "b")) ==
        std::vector<double>{2});

  const std::vector<InputSpec> columns = {{"b", ElementType::I64, {-1}},
                                          {"a", ElementType::F32, {-1, 1}}};
  const BoundData two = bindInputs(data, columns, true);
  CHECK(valuesOf(two.inputs[0]) == std::vector<double>{2, 4});
  CHECK(two.inputs[1].describe() == "a float64 (2, 1)");
  CHECK(valuesOf(two.inputs[1]) == std::vector<double>{1, 3});

  checkHas(mismatch(table("1,2,0\n3,4,1\n"), {{"in", ElementType::F32, {-1, 3}}}),
           {"the target y", "option target"});
  checkHas(mismatch(data, {columns[0], {"c", ElementType::F32, {-1}}}),
           {"input c", "columns of x: a, b"});
}
