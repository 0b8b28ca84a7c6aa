#include <algorithm>
#include <cmath>
#include <numeric>

#include "onnx/table.h"

// Operators that move elements or compute shapes.
namespace eigenscope::onnx {

namespace {

// ---- constants and shapes -------------------------------------------------------------------

std::string refuseConstant(const NodeDef& node) {
  for (const char* name : {"value", "value_float", "value_floats", "value_int", "value_ints"})
    if (node.attributes.count(name)) return "";
  return "only tensors, floats and integers are taken as constants";
}

Results constant(Call& c) {
  for (const auto& [name, attribute] : c.node.attributes) {
    if (attribute.tensor) return {Builder::known(tensorOf(*attribute.tensor))};
    const auto n = static_cast<int64_t>(attribute.floats.size() + attribute.ints.size());
    if (name == "value_float") return {Builder::number(c.number("value_float", 0))};
    if (name == "value_int")
      return {Builder::number(static_cast<double>(attribute.ints.at(0)), Type::Int)};
    if (name == "value_floats")
      return {Builder::known(tensorOf(attribute.floats, {n}, Type::Real))};
    if (name == "value_ints") return {Builder::known(intsOf(attribute.ints))};
  }
  c.unsupported("a constant without a value");
}

Results shapeOf(Call& c) {
  const Shape shape = c.shape(0);
  const int64_t rank = static_cast<int64_t>(shape.size());
  auto bound = [&](const char* name, int64_t fallback) {
    int64_t at = c.opset < 15 ? fallback : c.integer(name, fallback);
    if (at < 0) at += rank;
    return std::clamp<int64_t>(at, 0, rank);
  };
  const int64_t start = bound("start", 0), end = std::max(start, bound("end", rank));
  return {Builder::known(intsOf(Axes(shape.begin() + start, shape.begin() + end)))};
}

Results sizeOf(Call& c) {
  return {Builder::number(static_cast<double>(count(c.shape(0))), Type::Int)};
}

Results constantOfShape(Call& c) {
  const Axes shape = c.known(0);
  if (std::any_of(shape.begin(), shape.end(), [](int64_t n) { return n < 0; }))
    c.mismatch("a shape with a negative length: " + show(shape));
  auto value = c.node.attributes.find("value");
  if (value == c.node.attributes.end() || !value->second.tensor)
    return {Builder::known(splatOf(0, shape, Type::Real))};
  const Tensor one = tensorOf(*value->second.tensor);
  return {Builder::known(splatOf(one.at(0), shape, one.type))};
}

Results range(Call& c) {
  const auto start = c.knownNumber(0), limit = c.knownNumber(1), delta = c.knownNumber(2);
  if (!start || !limit || !delta || *delta == 0) c.mismatch("Range needs three numbers");
  const double n = std::max(0.0, std::ceil((*limit - *start) / *delta));
  if (n > static_cast<double>(kFoldLimit)) c.unsupported("a range of more than 16 Mi numbers");
  std::vector<double> values(static_cast<size_t>(n));
  for (size_t i = 0; i < values.size(); ++i) values[i] = *start + static_cast<double>(i) * *delta;
  return {Builder::known(tensorOf(values, {static_cast<int64_t>(n)}, c.b.type(c.in(0))))};
}

// ---- reshaping ------------------------------------------------------------------------------

// A Reshape target for `declared` samples, rewritten for `bound`: the leading length, or the first
// length that is a multiple of the batch, is what grows. Empty where none fits.
Axes generalised(const Axes& target, const StaticBatch& batch, int64_t elements) {
  auto attempt = [&](bool exact) -> Axes {
    for (size_t i = 0; i < target.size(); ++i) {
      if (target[i] <= 0 || batch.declared <= 0) continue;
      if (exact ? target[i] != batch.declared : target[i] % batch.declared != 0) continue;
      Axes changed = target;
      changed[i] = target[i] / batch.declared * batch.bound;
      const int64_t product = count(changed);
      const bool open = std::find(target.begin(), target.end(), -1) != target.end();
      if (open ? product != 0 && elements % product == 0 : product == elements) return changed;
    }
    return {};
  };
  Axes exact = attempt(true);
  return exact.empty() ? attempt(false) : exact;
}

Results reshape(Call& c) {
  const Value& x = c.in(0);
  const Shape from = c.shape(0);
  Axes target = c.known(1);
  const bool zeroIsZero = c.integer("allowzero", 0) != 0;
  for (size_t i = 0; i < target.size(); ++i)
    if (target[i] == 0 && !zeroIsZero) {
      if (i >= from.size())
        c.mismatch("target " + show(target) + " copies an axis that " + show(from) + " lacks");
      target[i] = from[i];
    }
  const int64_t elements = count(from);
  auto fits = [&](const Axes& shape) {
    const int64_t product = count(shape);
    const auto open = std::count(shape.begin(), shape.end(), -1);
    return open == 0 ? product == elements : open == 1 && product != 0 && elements % product == 0;
  };
  if (std::any_of(target.begin(), target.end(), [](int64_t n) { return n < -1; }))
    c.mismatch("cannot reshape " + show(from) + " to " + show(target));
  // With a fixed batch b, [b, -1] fits n b elements too, but means n rows.
  const bool fromData = !x.known() && c.b.graph[x.node].scope == Scope::Local;
  if (c.batch.active() && fromData) {
    const bool leads = !from.empty() && from[0] == c.batch.bound && !target.empty() &&
                       target[0] == c.batch.declared;
    if (leads || !fits(target)) {
      const Axes changed = generalised(target, c.batch, elements);
      if (!changed.empty()) target = changed;
    }
  }
  if (!fits(target)) c.mismatch("cannot reshape " + show(from) + " to " + show(target));
  for (int64_t& n : target)
    if (n == -1) {
      n = 1;
      n = elements / count(target);
      break;
    }
  return {c.b.reshape(x, target)};
}

Results flatten(Call& c) {
  const Shape from = c.shape(0);
  const int64_t rank = static_cast<int64_t>(from.size());
  int64_t axis = c.integer("axis", 1);
  if (axis < 0) axis += rank;
  if (axis < 0 || axis > rank) c.mismatch("axis is out of range for " + show(from));
  return {c.b.reshape(c.in(0), {count(Shape(from.begin(), from.begin() + axis)),
                                count(Shape(from.begin() + axis, from.end()))})};
}

Results transpose(Call& c) {
  Axes perm = c.ints("perm");
  if (perm.empty()) {
    perm = identity(c.rank(0));
    std::reverse(perm.begin(), perm.end());
  }
  Axes sorted = perm;
  std::sort(sorted.begin(), sorted.end());
  if (sorted != identity(c.rank(0)))
    c.mismatch("perm " + show(perm) + " does not permute the axes of " + show(c.shape(0)));
  // A contraction that nothing else reads writes its result in the order that is asked for.
  const Value& x = c.in(0);
  if (!x.known() && c.onlyUse && c.b.graph[x.node].op == Op::Dot && x.perm == identity(c.rank(0))) {
    const Node dot = c.b.graph[x.node];
    const size_t out = dot.attr.labels.find("->") + 2;
    std::string labels = dot.attr.labels;
    for (size_t i = 0; i < perm.size(); ++i) labels[out + i] = dot.attr.labels[out + perm[i]];
    return {c.b.wrap(c.b.graph.dot(dot.in[0], dot.in[1], labels))};
  }
  return {c.b.transpose(x, perm)};
}

Results squeeze(Call& c) {
  Axes axes;
  const Shape from = c.shape(0);
  if (auto given = c.setting("axes", 1)) {
    axes = normalAxes(*given, c.rank(0));
  } else {
    for (size_t i = 0; i < from.size(); ++i)
      if (from[i] == 1) axes.push_back(static_cast<int64_t>(i));
  }
  return {c.b.squeeze(c.in(0), axes)};
}

Results unsqueeze(Call& c) {
  const auto given = c.setting("axes", 1);
  if (!given) c.mismatch("Unsqueeze needs axes");
  return {
      c.b.unsqueeze(c.in(0), normalAxes(*given, c.rank(0) + static_cast<int64_t>(given->size())))};
}

Results expand(Call& c) {
  Axes target = c.known(1);
  const Shape from = c.shape(0);
  // A class token that was expanded to a fixed batch.
  if (c.batch.active() && c.batch.declared > 1 && !target.empty() &&
      target[0] == c.batch.declared && (from.size() < target.size() || from[0] == 1))
    target[0] = c.batch.bound;
  return {c.b.broadcast(c.in(0), broadcastShapes(from, target))};
}

Results tile(Call& c) {
  const Shape from = c.shape(0);
  const Axes repeats = c.known(1);
  if (repeats.size() != from.size())
    c.mismatch("Tile needs one number for each axis of " + show(from) + ", got " + show(repeats));
  Shape apart, wide, to;
  for (size_t i = 0; i < from.size(); ++i) {
    if (repeats[i] < 0) c.mismatch("Tile by a negative number");
    apart.insert(apart.end(), {1, from[i]});
    wide.insert(wide.end(), {repeats[i], from[i]});
    to.push_back(repeats[i] * from[i]);
  }
  return {c.b.reshape(c.b.broadcast(c.b.reshape(c.in(0), apart), wide), to)};
}

// ---- joining and cutting --------------------------------------------------------------------

Results concat(Call& c) {
  std::vector<Value> xs;
  for (size_t i = 0; i < c.inputs(); ++i) xs.push_back(c.in(i));
  return {c.b.concat(xs, normalAxis(c.integer("axis", 1), c.rank(0)))};
}

Results parts(Call& c, int64_t axis, const Axes& sizes) {
  const int64_t whole = c.shape(0)[axis];
  if (std::accumulate(sizes.begin(), sizes.end(), int64_t{0}) != whole ||
      std::any_of(sizes.begin(), sizes.end(), [](int64_t n) { return n < 0; }))
    c.mismatch("parts " + show(sizes) + " do not add up to " + std::to_string(whole) +
               ", the length of axis " + std::to_string(axis));
  Results results;
  int64_t start = 0;
  for (int64_t size : sizes) {
    results.push_back(c.b.sliceAxis(c.in(0), axis, start, size));
    start += size;
  }
  return results;
}

// Lengths of parts of `each`, the last one shorter where it does not divide.
Axes evenly(int64_t whole, int64_t each, int64_t parts) {
  Axes sizes;
  for (int64_t i = 0; i < parts; ++i)
    sizes.push_back(std::clamp<int64_t>(whole - i * each, 0, each));
  return sizes;
}

Results split(Call& c) {
  const int64_t axis = normalAxis(c.integer("axis", 0), c.rank(0));
  if (auto given = c.setting("split", 1)) return parts(c, axis, *given);
  const int64_t whole = c.shape(0)[axis];
  const auto n =
      std::max<int64_t>(c.integer("num_outputs", static_cast<int64_t>(c.node.out.size())), 1);
  return parts(c, axis, evenly(whole, (whole + n - 1) / n, n));
}

// ---- sequences that the model takes apart again ------------------------------------------------

Value sequence(Results items) {
  Value value;
  value.items = std::make_shared<const Results>(std::move(items));
  return value;
}

const Results& itemsOf(Call& c) {
  if (!c.in(0).items) c.mismatch("expected a sequence of tensors");
  return *c.in(0).items;
}

Results splitToSequence(Call& c) {
  const int64_t axis = normalAxis(c.integer("axis", 0), c.rank(0));
  const int64_t whole = c.shape(0)[axis];
  if (c.has(1) && c.rank(1) > 0) return {sequence(parts(c, axis, c.known(1)))};
  const int64_t each = std::max<int64_t>(c.has(1) ? c.known(1).at(0) : 1, 1);
  Results items = parts(c, axis, evenly(whole, each, (whole + each - 1) / each));
  if (!c.has(1) && !c.integer("keepdims", 1))
    for (Value& item : items) item = c.b.squeeze(item, {axis});
  return {sequence(std::move(items))};
}

Results sequenceConstruct(Call& c) {
  Results items;
  for (size_t i = 0; i < c.inputs(); ++i) items.push_back(c.in(i));
  return {sequence(std::move(items))};
}

Results sequenceAt(Call& c) {
  const Results& items = itemsOf(c);
  return {items[normalAxis(c.known(1).at(0), static_cast<int64_t>(items.size()))]};
}

Results sequenceLength(Call& c) {
  return {Builder::number(static_cast<double>(itemsOf(c).size()), Type::Int)};
}

Results concatFromSequence(Call& c) {
  Results items = itemsOf(c);
  if (items.empty()) c.mismatch("an empty sequence");
  const int64_t rank = c.b.rank(items[0]);
  const bool adds = c.integer("new_axis", 0) != 0;
  const int64_t axis = normalAxis(c.integer("axis", 0), rank + adds);
  if (adds)
    for (Value& item : items) item = c.b.unsqueeze(item, {axis});
  return {c.b.concat(items, axis)};
}

Results slice(Call& c) {
  const Shape from = c.shape(0);
  const int64_t rank = static_cast<int64_t>(from.size());
  const bool asInputs = c.opset >= 10;
  const Axes starts = asInputs ? c.known(1) : c.ints("starts");
  const Axes ends = asInputs ? c.known(2) : c.ints("ends");
  Axes axes = !asInputs ? c.ints("axes") : c.has(3) ? c.known(3) : Axes{};
  Axes steps = asInputs && c.has(4) ? c.known(4) : Axes(starts.size(), 1);
  if (axes.empty()) axes = identity(static_cast<int64_t>(starts.size()));
  if (starts.size() != ends.size() || axes.size() != starts.size() || steps.size() != axes.size())
    c.mismatch("starts, ends, axes and steps have different lengths");
  Axes start(rank, 0), step(rank, 1);
  Shape sizes = from;
  for (size_t i = 0; i < axes.size(); ++i) {
    const int64_t axis = normalAxis(axes[i], rank), n = from[axis];
    const int64_t by = std::clamp<int64_t>(steps[i], -n - 1, n + 1);
    if (by == 0) c.mismatch("a step of 0");
    // NumPy: counted from the end where negative, then cut off at the ends of the axis.
    auto place = [&](int64_t at) {
      if (at < 0) at = at < -n ? -1 : at + n;
      return by > 0 ? std::clamp<int64_t>(at, 0, n) : std::clamp<int64_t>(at, -1, n - 1);
    };
    const int64_t first = place(starts[i]), last = place(ends[i]);
    const int64_t span = by > 0 ? last - first : first - last;
    start[axis] = first;
    step[axis] = by;
    sizes[axis] = span <= 0 ? 0 : (span + std::abs(by) - 1) / std::abs(by);
    if (sizes[axis] == 0) start[axis] = 0;
  }
  return {c.b.slice(c.in(0), start, step, sizes)};
}

// ---- blocks of depth and space --------------------------------------------------------------

Results depthToSpace(Call& c) {
  const Shape s = c.shape(0);
  const int64_t n = c.integer("blocksize", 0);
  if (s.size() != 4 || n <= 0 || s[1] % (n * n))
    c.mismatch("DepthToSpace by " + std::to_string(n) + " of " + show(s));
  const int64_t depth = s[1] / (n * n);
  const bool columnsFirst = c.text("mode", "DCR") == "CRD";
  const Value apart = c.b.reshape(c.in(0), columnsFirst ? Shape{s[0], depth, n, n, s[2], s[3]}
                                                        : Shape{s[0], n, n, depth, s[2], s[3]});
  const Value moved =
      c.b.transpose(apart, columnsFirst ? Axes{0, 1, 4, 2, 5, 3} : Axes{0, 3, 4, 1, 5, 2});
  return {c.b.reshape(moved, {s[0], depth, s[2] * n, s[3] * n})};
}

Results spaceToDepth(Call& c) {
  const Shape s = c.shape(0);
  const int64_t n = c.integer("blocksize", 0);
  if (s.size() != 4 || n <= 0 || s[2] % n || s[3] % n)
    c.mismatch("SpaceToDepth by " + std::to_string(n) + " of " + show(s));
  const Value apart = c.b.reshape(c.in(0), {s[0], s[1], s[2] / n, n, s[3] / n, n});
  const bool channelsFirst = c.text("mode", "DCR") == "CRD";
  const Axes perm = channelsFirst ? Axes{0, 1, 3, 5, 2, 4} : Axes{0, 3, 5, 1, 2, 4};
  return {c.b.reshape(c.b.transpose(apart, perm), {s[0], s[1] * n * n, s[2] / n, s[3] / n})};
}

// ---- the middle ---------------------------------------------------------------------------------

// Too long an axis loses elements at both ends, too short a one gets zeros there; of an odd number
// the end has one more.
Results centerCropPad(Call& c) {
  Axes all(c.rank(0));
  std::iota(all.begin(), all.end(), 0);
  const Axes axes = c.ints("axes", all);
  const Shape wanted = c.known(1);
  if (axes.size() != wanted.size())
    c.mismatch("expected a length for each of " + std::to_string(axes.size()) + " axes, got " +
               std::to_string(wanted.size()));
  Value x = c.in(0);
  for (size_t i = 0; i < axes.size(); ++i) {
    const int64_t axis = normalAxis(axes[i], c.rank(0));
    Shape shape = c.b.shape(x);
    const int64_t length = shape[axis], target = wanted[i];
    constexpr int64_t kMost = int64_t{1} << 31;
    if (target < 0 || target > kMost) c.mismatch("lengths are out of range: " + show(wanted));
    if (length > target) x = c.b.sliceAxis(x, axis, (length - target) / 2, target);
    if (length >= target) continue;
    Axes start(shape.size(), 0);
    start[axis] = (target - length) / 2;
    shape[axis] = target;
    x = c.b.unslice(x, start, Axes(shape.size(), 1), shape);
  }
  return {x};
}

const Operator kTable[] = {
    {.name = "CenterCropPad", .lower = centerCropPad, .since = 18, .limits = "a constant shape"},
    {.name = "Concat", .lower = concat},
    {.name = "ConcatFromSequence", .lower = concatFromSequence, .since = 11, .sequences = true},
    {.name = "Constant",
     .lower = constant,
     .limits = "no strings, no sparse tensors",
     .refuse = refuseConstant},
    {.name = "ConstantOfShape", .grade = Grade::Fold, .lower = constantOfShape},
    {.name = "DepthToSpace", .lower = depthToSpace},
    {.name = "Expand", .lower = expand, .limits = "a constant shape"},
    {.name = "Flatten", .lower = flatten},
    {.name = "Range", .grade = Grade::Fold, .lower = range, .since = 11},
    {.name = "Reshape", .lower = reshape, .limits = "a constant shape"},
    {.name = "SequenceAt", .lower = sequenceAt, .since = 11, .sequences = true},
    {.name = "SequenceConstruct", .lower = sequenceConstruct, .since = 11},
    {.name = "SequenceLength", .lower = sequenceLength, .since = 11, .sequences = true},
    {.name = "Shape", .grade = Grade::Fold, .lower = shapeOf},
    {.name = "Size", .grade = Grade::Fold, .lower = sizeOf},
    {.name = "Slice", .lower = slice, .limits = "constant bounds"},
    {.name = "SpaceToDepth", .lower = spaceToDepth},
    {.name = "Split", .lower = split, .outputs = kAnyOutputs, .limits = "constant sizes"},
    {.name = "SplitToSequence", .lower = splitToSequence, .since = 11, .limits = "constant sizes"},
    {.name = "Squeeze", .lower = squeeze},
    {.name = "Tile", .lower = tile, .limits = "constant repeats"},
    {.name = "Transpose", .lower = transpose},
    {.name = "Unsqueeze", .lower = unsqueeze},
};

}  // namespace

std::span<const Operator> shapeOperators() { return kTable; }

}  // namespace eigenscope::onnx
