#include <algorithm>

#include "data/data_set.h"

namespace eigenscope {

namespace {

std::string describe(const InputSpec& input) {
  return input.name + " " + nameOf(input.type) + (input.ranked ? " " + textOf(input.dims) : "");
}

std::string wantedText(const DataSet& data, const std::vector<InputSpec>& inputs, bool wantTarget) {
  std::string text;
  for (const InputSpec& input : inputs) text += (text.empty() ? "" : ", ") + describe(input);
  if (wantTarget) text += " and the target " + data.target();
  return text;
}

[[noreturn]] void failNames(const DataSet& data, const std::vector<InputSpec>& inputs,
                            bool wantTarget, const std::string& what) {
  throw Error(ErrorKind::DataMismatch, what + ". The model wants " +
                                           wantedText(data, inputs, wantTarget) +
                                           "; the data have " + data.describe());
}

bool agrees(int64_t declared, int64_t length) { return declared < 0 || declared == length; }

// The shape with the axes of length 1 that are missing put in, or nullopt if that does not make it
// fit. The batch axis has any length.
std::optional<Shape> fitted(const Shape& shape, const Shape& dims) {
  if (shape.empty() || dims.empty() || shape.size() > dims.size()) return std::nullopt;
  std::size_t missing = dims.size() - shape.size();
  Shape out{shape[0]};
  std::size_t at = 1;
  for (std::size_t axis = 1; axis < dims.size(); ++axis) {
    if (at < shape.size() && agrees(dims[axis], shape[at])) {
      out.push_back(shape[at++]);
    } else if (missing > 0 && dims[axis] == 1) {
      out.push_back(1);
      --missing;
    } else {
      return std::nullopt;
    }
  }
  return at == shape.size() ? std::optional(out) : std::nullopt;
}

Array fit(const Array& array, const InputSpec& input) {
  if (array.rank() == 0) array.fail("expected one row a sample, got a scalar");
  if (!input.ranked) return array;
  const auto shape = fitted(array.shape(), input.dims);
  if (shape) return *shape == array.shape() ? array : array.reshaped(*shape);
  std::string message = "expected shape " + textOf(input.dims) + " for the model's input " +
                        input.name + ", got " + textOf(array.shape());
  int64_t row = 1;
  bool fixed = true;
  std::string target = "(-1";
  for (std::size_t axis = 1; axis < input.dims.size(); ++axis) {
    fixed = fixed && input.dims[axis] >= 0;
    row *= std::max<int64_t>(input.dims[axis], 0);
    target += ", " + std::to_string(input.dims[axis]);
  }
  if (fixed && row == array.rowSize())
    message +=
        "; nothing is reshaped silently: if the order of the values is right, save "
        "x.reshape" +
        target + ")";
  array.fail(message);
}

// An integer from a float is fine where the value is whole (CSV), which conversion checks; a
// float16 or float32 array for integer input is more often the wrong array.
void checkType(const Array& array, const InputSpec& input) {
  if (isFloating(input.type) || !isFloating(array.type()) || array.type() == ElementType::F64)
    return;
  array.fail("expected whole numbers (" + std::string(nameOf(input.type)) +
             ") for the model's input " + input.name + ", got " + nameOf(array.type()));
}

}  // namespace

BoundData bindInputs(const DataSet& data, const std::vector<InputSpec>& inputs, bool wantTarget) {
  const auto fail = [&](const std::string& what) { failNames(data, inputs, wantTarget, what); };
  BoundData bound;
  std::vector<std::string> used;

  for (const InputSpec& input : inputs) {
    if (wantTarget && input.name == data.target())
      fail("the model's input " + input.name +
           " has the name of the target; call the target "
           "something else");
    std::optional<Array> found;
    if (const Array* named = data.find(input.name)) {
      found = *named;
      used.push_back(input.name);
    } else if (inputs.size() > 1) {
      found = data.column(input.name);
      if (found) used.push_back("x");
    } else {
      std::vector<const Array*> candidates;
      for (const Array& array : data.arrays())
        if (array.name() != data.target()) candidates.push_back(&array);
      if (candidates.size() > 1)
        fail("several arrays could be the model's input " + input.name +
             ": name one of them so, or select one");
      if (candidates.size() == 1) {
        found = *candidates[0];
        used.push_back(found->name());
      }
    }
    if (!found)
      fail("no array for the model's input " + input.name +
           (inputs.size() > 1
                ? " (where it is no data, bind a constant to it: --bind " + input.name + "=VALUE)"
                : ""));
    checkType(*found, input);
    bound.inputs.push_back(fit(*found, input));
  }

  if (wantTarget) {
    const Array* target = data.find(data.target());
    if (target == nullptr)
      fail("no array for the target " + data.target() +
           " (in a CSV table, name its column with the option target)");
    bound.target = *target;
  }
  for (const Array& array : data.arrays())
    if (array.name() != data.target() &&
        std::find(used.begin(), used.end(), array.name()) == used.end())
      fail("the array " + array.name() +
           " is no input of the model: rename it, or select those "
           "that are wanted");

  std::vector<Array> all = bound.inputs;
  if (bound.target) all.push_back(*bound.target);
  bound.samples = DataSet(std::move(all)).samples();
  return bound;
}

}  // namespace eigenscope
