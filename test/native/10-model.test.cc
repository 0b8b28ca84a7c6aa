// Which stored tensors are parameters, and the rewriting of a model before it is lowered.
#include <doctest.h>

#include <functional>
#include <limits>

#include "base/error.h"
#include "onnx/model.h"

using namespace eigenscope;
using namespace eigenscope::onnx;

namespace {

Array floats(const std::string& name, Shape shape, std::vector<float> values = {}) {
  const auto count = static_cast<std::size_t>(*elementsOf(shape));
  if (values.empty())
    for (std::size_t i = 0; i < count; ++i)
      values.push_back(0.25f * static_cast<float>(i) + static_cast<float>(name.size()));
  REQUIRE(values.size() == count);
  return Array(name, ElementType::F32, std::move(shape),
               copyBytes("test", values.data(), 4 * values.size()));
}

Array ints(const std::string& name, std::vector<int64_t> values) {
  return Array(name, ElementType::I64, {static_cast<int64_t>(values.size())},
               copyBytes("test", values.data(), 8 * values.size()));
}

// A model that is written down node by node.
struct Maker {
  Model model;

  explicit Maker(const std::string& output = "y") {
    model.opset = 17;
    model.inputs.push_back({"x", ElementType::F32, {-1, 4}, {"batch", ""}});
    model.outputs.push_back({output, ElementType::F32, {-1, 4}, {"batch", ""}});
  }
  Maker& store(const Array& array) {
    model.initializers.emplace(array.name(), array);
    model.initializerOrder.push_back(array.name());
    return *this;
  }
  Maker& node(const std::string& op, std::vector<std::string> in, std::vector<std::string> out,
              std::map<std::string, Attribute> attributes = {}) {
    model.nodes.push_back({op, "", op + "_" + out[0], in, out, std::move(attributes)});
    return *this;
  }
  Maker& constant(const Array& array) {
    Attribute value;
    value.tensor = array;
    return node("Constant", {}, {array.name()}, {{"value", value}});
  }
};

std::vector<std::string> namesOf(const std::vector<Parameter>& parameters) {
  std::vector<std::string> names;
  for (const Parameter& parameter : parameters) names.push_back(parameter.name);
  return names;
}

using Names = std::vector<std::string>;

const StoredTensor& tensorOf(const Roles& roles, const std::string& name) {
  for (const StoredTensor& tensor : roles.tensors)
    if (tensor.name == name) return tensor;
  FAIL("no tensor " << name);
  return roles.tensors[0];
}

std::string messageOf(const std::function<void()>& f, ErrorKind kind) {
  try {
    f();
  } catch (const Error& error) {
    CHECK(error.kind == kind);
    return error.what();
  }
  FAIL("no error");
  return "";
}

}  // namespace

TEST_CASE("parameters stand in the order of the initializers, with their offsets") {
  Maker m;
  m.store(floats("fc2.weight", {4, 3})).store(floats("fc1.bias", {3}));
  m.store(floats("fc1.weight", {3, 4}));
  m.node("Gemm", {"x", "fc1.weight", "fc1.bias"}, {"h"});
  m.node("Gemm", {"h", "fc2.weight"}, {"y"});
  const auto parameters = findParameters(m.model);
  CHECK(namesOf(parameters) == Names{"fc2.weight", "fc1.bias", "fc1.weight"});
  CHECK(parameters[0].offset == 0);
  CHECK(parameters[1].offset == 12);
  CHECK(parameters[2].offset == 15);
  CHECK(parameters[2].size == 12);
}

TEST_CASE("what no output depends on through differentiable steps is no parameter") {
  Maker m;
  m.store(floats("w", {4, 4})).store(floats("unused", {4, 4})).store(ints("shape", {-1, 4}));
  m.store(floats("mask", {4})).store(floats("scales", {4})).store(floats("threshold", {4}));
  Attribute toBool;
  toBool.ints = {9};
  m.node("MatMul", {"x", "w"}, {"a"});
  m.node("Reshape", {"a", "shape"}, {"b"});
  m.node("Cast", {"mask"}, {"m"}, {{"to", toBool}});
  m.node("Greater", {"b", "threshold"}, {"g"});
  m.node("And", {"m", "g"}, {"c"});
  m.node("Resize", {"b", "", "scales"}, {"r"});
  m.node("Where", {"c", "r", "b"}, {"y"});
  m.node("Relu", {"unused"}, {"dead"});
  const Roles roles = assignRoles(m.model);
  CHECK(namesOf(findParameters(roles)) == Names{"w"});
  CHECK(tensorOf(roles, "unused").role == Role::Unused);
  CHECK(tensorOf(roles, "mask").role == Role::Constant);
  CHECK(tensorOf(roles, "scales").role == Role::Constant);
  CHECK(tensorOf(roles, "threshold").role == Role::Constant);
  CHECK(roles.tensors.size() == 5);  // integers are not listed
}

TEST_CASE("statistics of batch normalisation are buffers, scale and shift are parameters") {
  Maker m;
  for (const char* name : {"bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"})
    m.store(floats(name, {4}));
  m.node("BatchNormalization", {"x", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"},
         {"y"});
  const Roles roles = assignRoles(m.model);
  CHECK(namesOf(findParameters(roles)) == Names{"bn.weight", "bn.bias"});
  CHECK(tensorOf(roles, "bn.running_var").role == Role::Buffer);
}

TEST_CASE("statistics of a written-out normalisation are told by their names") {
  Maker m;
  m.store(floats("bn.running_mean", {4})).store(floats("bn.bias", {4}));
  m.node("Sub", {"x", "bn.running_mean"}, {"a"}).node("Add", {"a", "bn.bias"}, {"y"});
  CHECK(namesOf(findParameters(m.model)) == Names{"bn.bias"});
}

TEST_CASE("the exporter's word goes before the rules") {
  Maker m;
  m.store(floats("lambda_1", {1})).store(floats("table", {4, 4})).store(floats("offset", {4}));
  m.store(floats("Mul_3", {1}));
  m.node("Mul", {"x", "lambda_1"}, {"a"}).node("MatMul", {"a", "table"}, {"b"});
  m.node("Mul", {"b", "Mul_3"}, {"d"}).node("Add", {"d", "offset"}, {"y"});
  m.model.kinds = {{"Mul_3", "PARAMETER"}, {"table", "BUFFER"}, {"offset", "CONSTANT_TENSOR"}};
  const Roles roles = assignRoles(m.model);
  CHECK(namesOf(findParameters(roles)) == Names{"lambda_1", "Mul_3"});
  CHECK(tensorOf(roles, "table").role == Role::Buffer);
  CHECK(tensorOf(roles, "offset").role == Role::Constant);
}

TEST_CASE("single numbers are parameters in the place of a weight or under a name of a module") {
  Maker m;
  m.store(floats("fc.bias", {1})).store(floats("block.alpha", {})).store(floats("onnx::Mul_7", {}));
  m.store(floats("/gelu/Constant_output_0", {1})).store(floats("val_12", {1}));
  m.store(floats("onnx::Gemm_9", {4, 1})).store(floats("Mul_12", {1}));
  m.node("Gemm", {"x", "onnx::Gemm_9", "fc.bias"}, {"a"}).node("Mul", {"a", "block.alpha"}, {"b"});
  m.node("Mul", {"b", "onnx::Mul_7"}, {"c"}).node("Div", {"c", "/gelu/Constant_output_0"}, {"d"});
  m.node("Add", {"d", "val_12"}, {"e"}).node("Mul", {"e", "Mul_12"}, {"y"});
  const Roles roles = assignRoles(m.model);
  CHECK(namesOf(findParameters(roles)) == Names{"fc.bias", "block.alpha", "onnx::Gemm_9"});
  CHECK(tensorOf(roles, "val_12").reason == "a single number under a generated name");
  // A folded weight has lost its name; that is said.
  REQUIRE(roles.warnings.size() == 1);
  CHECK(roles.warnings[0].find("onnx::Gemm_9") != std::string::npos);
}

TEST_CASE("states of recurrent layers are no parameters where exporters made them up") {
  Maker m;
  m.store(floats("rnn.w", {1, 3, 4})).store(floats("rnn.r", {1, 3, 3}));
  m.store(floats("onnx::RNN_9", {1, 2, 3})).store(floats("h0", {1, 2, 3}));
  m.store(floats("val_2", {})).store(floats("w", {3, 3}));
  m.node("RNN", {"x", "rnn.w", "rnn.r", "", "", "onnx::RNN_9"}, {"a"});
  m.node("RNN", {"a", "rnn.w", "rnn.r", "", "", "h0"}, {"b"});
  m.node("Expand", {"val_2", "shape"}, {"zeros"}).node("MatMul", {"zeros", "w"}, {"c"});
  m.node("Add", {"b", "c"}, {"y"});
  const Roles roles = assignRoles(m.model);
  CHECK(namesOf(findParameters(roles)) == Names{"rnn.w", "rnn.r", "h0", "w"});
  CHECK(tensorOf(roles, "onnx::RNN_9").reason == "an initial state under a generated name");
  CHECK(tensorOf(roles, "val_2").reason == "a single number under a generated name");
}

TEST_CASE("Constants are parameters in the place of a weight, after the initializers") {
  Maker m;
  m.store(floats("late", {4}));
  m.constant(floats("p2o.w", {4, 4})).constant(floats("half", {}, {0.5f}));
  m.constant(floats("offset", {4}));
  m.node("MatMul", {"x", "p2o.w"}, {"a"}).node("Mul", {"a", "half"}, {"b"});
  m.node("Add", {"b", "offset"}, {"c"}).node("Add", {"c", "late"}, {"y"});
  // "offset" is a term, and weights are initializers here: it belongs to the code.
  CHECK(namesOf(findParameters(m.model)) == Names{"late", "p2o.w"});

  Maker none;
  none.constant(floats("w", {4, 4})).constant(floats("b", {4})).constant(floats("half", {}));
  none.node("MatMul", {"x", "w"}, {"a"}).node("Add", {"a", "b"}, {"c"});
  none.node("Mul", {"c", "half"}, {"y"});
  CHECK(namesOf(findParameters(none.model)) == Names{"w", "b"});
}

TEST_CASE("a weight is recognised through movements") {
  Maker m;
  m.constant(floats("w", {4, 4})).constant(floats("table", {4, 4}));
  m.store(floats("fc.bias", {4}));
  m.node("Transpose", {"w"}, {"wt"}).node("MatMul", {"x", "wt"}, {"a"});
  m.node("Add", {"a", "fc.bias"}, {"y"});
  CHECK(namesOf(findParameters(m.model)) == Names{"fc.bias", "w"});
}

TEST_CASE("masks that are added to scores are buffers") {
  const float inf = std::numeric_limits<float>::infinity();
  Maker m;
  m.store(floats("mask", {2, 2}, {0, -inf, 0, 0})).store(floats("low", {2}, {-1e9f, 0}));
  m.store(floats("zeros", {4}, {0, 0, 0, 0})).store(floats("broken", {2}, {-inf, 1}));
  m.node("Add", {"x", "mask"}, {"a"}).node("Add", {"a", "low"}, {"b"});
  m.node("Add", {"b", "zeros"}, {"c"}).node("Add", {"c", "broken"}, {"y"});
  const Roles roles = assignRoles(m.model);
  CHECK(tensorOf(roles, "mask").role == Role::Buffer);
  CHECK(tensorOf(roles, "low").role == Role::Buffer);
  // A bias of zeros is trained; a parameter that diverged is not hidden.
  CHECK(namesOf(findParameters(roles)) == Names{"zeros", "broken"});
}

TEST_CASE("an Identity under a parameter's name is a parameter of its own") {
  Maker m;
  m.store(floats("a.weight", {4}));
  m.node("Identity", {"a.weight"}, {"b.weight"}).node("Identity", {"b.weight"}, {"c.running_mean"});
  m.node("Identity", {"a.weight"}, {"/Identity_output_0"})
      .node("Identity", {"a.weight"}, {"input.4"});
  m.node("Mul", {"x", "a.weight"}, {"h0"}).node("Mul", {"h0", "b.weight"}, {"h1"});
  m.node("Sub", {"h1", "c.running_mean"}, {"h2"});
  m.node("Add", {"h2", "/Identity_output_0"}, {"h3"}).node("Add", {"h3", "input.4"}, {"y"});
  const Roles roles = assignRoles(m.model);
  const auto parameters = findParameters(roles);
  CHECK(namesOf(parameters) == Names{"a.weight", "b.weight"});
  CHECK(parameters[1].offset == 4);
  CHECK(tensorOf(roles, "c.running_mean").role == Role::Buffer);
  REQUIRE(roles.warnings.size() == 1);
  CHECK(roles.warnings[0].find("b.weight = a.weight") != std::string::npos);

  // A member of a list of parameters has a number for its last name, and stored siblings.
  Maker list;
  list.store(floats("scales.0", {4}));
  list.node("Identity", {"scales.0"}, {"scales.1"}).node("Mul", {"x", "scales.0"}, {"a"});
  list.node("Mul", {"a", "scales.1"}, {"y"});
  CHECK(namesOf(findParameters(list.model)) == Names{"scales.0", "scales.1"});
}

TEST_CASE("an Identity whose source is only a statistic is still a parameter") {
  Maker m;
  for (const char* name : {"bn.weight", "bn.running_mean", "bn.running_var"})
    m.store(floats(name, {4}));
  m.node("Identity", {"bn.running_mean"}, {"bn.bias"});
  m.node("BatchNormalization", {"x", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"},
         {"y"});
  CHECK(namesOf(findParameters(m.model)) == Names{"bn.weight", "bn.bias"});
}

TEST_CASE("names can be made parameters") {
  Maker m;
  m.store(floats("w", {4, 4})).store(floats("val_1", {1})).store(floats("dead", {1}));
  m.node("MatMul", {"x", "w"}, {"a"}).node("Mul", {"a", "val_1"}, {"y"});
  CHECK(namesOf(findParameters(assignRoles(m.model, {"val_1", "dead", "none"}))) ==
        Names{"w", "val_1"});
}

TEST_CASE("broken ties are noticed") {
  Maker m;
  m.store(floats("emb", {4, 5})).store(floats("same", {4, 5}, std::vector<float>(20, 1.0f)));
  m.store(floats("ones", {4, 5}, std::vector<float>(20, 1.0f)));
  std::vector<float> transposed(20);
  for (std::size_t i = 0; i < 4; ++i)
    for (std::size_t j = 0; j < 5; ++j)
      transposed[j * 4 + i] = 0.25f * static_cast<float>(i * 5 + j) + 3.0f;
  m.store(floats("head", {5, 4}, transposed));
  m.node("MatMul", {"x", "emb"}, {"a"}).node("MatMul", {"a", "head"}, {"b"});
  m.node("MatMul", {"b", "same"}, {"c"}).node("Add", {"c", "ones"}, {"y"});
  const Roles roles = assignRoles(m.model);
  REQUIRE(roles.warnings.size() == 1);
  CHECK(roles.warnings[0].find("head = emb") != std::string::npos);
}

TEST_CASE("scales that exporters merged are noticed") {
  Maker m;
  m.store(floats("a.weight", {3})).store(floats("a.bias", {3})).store(floats("b.bias", {3}));
  m.node("LayerNormalization", {"x", "a.weight", "a.bias"}, {"h"});
  m.node("LayerNormalization", {"h", "a.weight", "b.bias"}, {"y"});
  const Roles roles = assignRoles(m.model);
  REQUIRE(roles.warnings.size() == 1);
  CHECK(roles.warnings[0].find("a.weight is the scale, shift or bias of 2") != std::string::npos);
}

TEST_CASE("only the chosen output counts") {
  Maker m;
  m.model.outputs.push_back({"z", ElementType::F32, {-1, 4}, {"", ""}});
  m.store(floats("a", {4})).store(floats("b", {4}));
  m.node("Mul", {"x", "a"}, {"y"}).node("Mul", {"x", "b"}, {"z"});
  CHECK(namesOf(findParameters(m.model)) == Names{"a", "b"});
  keepOutput(m.model, "z");
  CHECK(m.model.nodes.size() == 1);
  CHECK(m.model.outputs.size() == 1);
  CHECK(namesOf(findParameters(m.model)) == Names{"b"});
  const std::string message = messageOf([&] { keepOutput(m.model, "y"); }, ErrorKind::Option);
  CHECK(message.find("(z)") != std::string::npos);
}

TEST_CASE("ties make one parameter of two") {
  Maker m;
  m.store(floats("enc", {4, 4}, std::vector<float>(16, 2)));
  m.store(floats("dec", {4, 4}, std::vector<float>(16, 2))).store(floats("other", {4, 4}));
  m.node("Identity", {"enc"}, {"third.weight"}).node("MatMul", {"x", "enc"}, {"a"});
  m.node("MatMul", {"a", "dec"}, {"b"}).node("MatMul", {"b", "third.weight"}, {"c"});
  m.node("MatMul", {"c", "other"}, {"y"});
  CHECK(findParameters(m.model).size() == 4);

  Model tied = m.model;
  applyTies(tied, {{"enc", "dec"}, {"enc", "third.weight"}});
  CHECK(namesOf(findParameters(tied)) == Names{"enc", "other"});
  for (const NodeDef& node : tied.nodes) CHECK(node.op == "MatMul");
  CHECK(tied.nodes[1].in[1] == "enc");
  CHECK(tied.nodes[2].in[1] == "enc");

  // The copy's name may be the one that stays.
  Model other = m.model;
  applyTies(other, {{"third.weight", "dec"}});
  CHECK(namesOf(findParameters(other)) == Names{"enc", "other", "third.weight"});
  CHECK(other.nodes[1].in[1] == "third.weight");

  auto refused = [&](const std::string& a, const std::string& b) {
    Model copy = m.model;
    return messageOf([&] { applyTies(copy, {{a, b}}); }, ErrorKind::Option);
  };
  CHECK(refused("enc", "other").find("other values") != std::string::npos);
  CHECK(refused("enc", "none").find("\"none\"") != std::string::npos);
  CHECK(refused("enc", "a").find("\"a\"") != std::string::npos);
}

TEST_CASE("hoisting leaves every parameter as an initializer") {
  Maker m;
  m.store(floats("a.weight", {4}));
  m.constant(floats("w", {4, 4})).constant(floats("half", {}));
  m.node("Identity", {"a.weight"}, {"b.weight"}).node("MatMul", {"x", "w"}, {"h"});
  m.node("Mul", {"h", "a.weight"}, {"i"}).node("Mul", {"i", "b.weight"}, {"j"});
  m.node("Mul", {"j", "half"}, {"y"});
  const auto parameters = findParameters(m.model);
  CHECK(namesOf(parameters) == Names{"a.weight", "w", "b.weight"});
  hoist(m.model, parameters);
  CHECK(m.model.initializerOrder == Names{"a.weight", "w", "b.weight"});
  CHECK(m.model.nodes.size() == 5);
  CHECK(m.model.nodes[0].out[0] == "half");
  // Nothing has changed for who asks again.
  CHECK(namesOf(findParameters(m.model)) == Names{"a.weight", "w", "b.weight"});
}
