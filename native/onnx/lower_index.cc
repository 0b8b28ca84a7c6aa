#include <algorithm>
#include <cmath>

#include "onnx/lower_index.h"
#include "onnx/table.h"

// Operators that pick elements by index or mask.
namespace eigenscope::onnx {

// The sum over axes of index times stride. Known parts are added up once.
Value flatPositions(Call& c, const std::vector<Value>& along, const Shape& shape) {
  Value flat = Builder::number(0, Type::Int);
  int64_t stride = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    const double n = static_cast<double>(shape[i]);
    if (along[i].known())
      for (double v : *along[i].host->values)
        if (v < -n || v >= n)
          c.mismatch("index " + std::to_string(static_cast<int64_t>(v)) +
                     " is out of range for axis " + std::to_string(i) + " of " + show(shape));
    const Value below = c.b.binary(Op::Less, along[i], Builder::number(0, Type::Int));
    const Value at = c.b.select(below, c.b.shift(along[i], n), along[i]);
    flat = c.b.add(flat, c.b.scale(at, static_cast<double>(stride)));
    stride *= shape[i];
  }
  return flat;
}

Value countingAlong(int64_t axis, const Shape& shape) {
  std::vector<double> values(shape[axis]);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i);
  Shape to(shape.size(), 1);
  to[axis] = shape[axis];
  return Builder::known(tensorOf(values, to, Type::Int));
}

Value elementPositions(Call& c, const Value& at, const Shape& from, int64_t axis) {
  const Shape to = c.b.shape(at);
  if (to.size() != from.size())
    c.mismatch("ranks of " + show(from) + " and " + show(to) + " differ");
  std::vector<Value> along;
  for (int64_t i = 0; i < static_cast<int64_t>(from.size()); ++i)
    along.push_back(i == axis ? at : countingAlong(i, to));
  return c.b.broadcast(flatPositions(c, along, from), to);
}

// The last axis of the indices holds positions along the axes after the first `batch`.
RowPositions rowPositions(Call& c, const Value& indices, const Shape& from, int64_t batch) {
  const Shape at = c.b.shape(indices);
  if (at.empty() || batch < 0 || batch >= static_cast<int64_t>(at.size()) ||
      batch + at.back() > static_cast<int64_t>(from.size()))
    c.mismatch("indices " + show(at) + " do not fit " + show(from));
  const int64_t depth = at.back(), rank = static_cast<int64_t>(at.size());
  RowPositions rows;
  rows.indexed.assign(from.begin(), from.begin() + batch + depth);
  rows.rest.assign(from.begin() + batch + depth, from.end());
  const Shape outer(at.begin(), at.end() - 1);
  std::vector<Value> along;
  for (int64_t i = 0; i < batch; ++i) along.push_back(countingAlong(i, outer));
  for (int64_t i = 0; i < depth; ++i)
    along.push_back(c.b.squeeze(c.b.sliceAxis(indices, rank - 1, i, 1), {rank - 1}));
  rows.flat = c.b.broadcast(flatPositions(c, along, rows.indexed), outer);
  return rows;
}

namespace {

Results gather(Call& c) {
  return {c.b.gather(c.in(0), c.in(1), normalAxis(c.integer("axis", 0), c.rank(0)))};
}

// y[i, j] = x[index[i, j], j] for axis 0.
Results gatherElements(Call& c) {
  const Shape from = c.shape(0);
  const int64_t axis = normalAxis(c.integer("axis", 0), c.rank(0));
  const Value flat = elementPositions(c, c.in(1), from, axis);
  return {c.b.gather(c.b.reshape(c.in(0), {count(from)}), flat, 0)};
}

Results gatherND(Call& c) {
  const RowPositions at = rowPositions(c, c.in(1), c.shape(0), c.integer("batch_dims", 0));
  Shape rows = {count(at.indexed)};
  rows.insert(rows.end(), at.rest.begin(), at.rest.end());
  return {c.b.gather(c.b.reshape(c.in(0), rows), at.flat, 0)};
}

// Keeps what a known mask marks, along an axis or of all elements in order.
Results compress(Call& c) {
  const Axes mask = c.known(1);
  const Value x = c.hasAttribute("axis") ? c.in(0) : c.b.reshape(c.in(0), {count(c.shape(0))});
  const int64_t axis = normalAxis(c.integer("axis", 0), c.b.rank(x));
  std::vector<double> kept;
  for (size_t i = 0; i < mask.size(); ++i)
    if (mask[i] != 0) kept.push_back(static_cast<double>(i));
  if (static_cast<int64_t>(mask.size()) > c.b.shape(x)[axis])
    c.mismatch("a mask of " + std::to_string(mask.size()) + " for " + show(c.shape(0)));
  const auto n = static_cast<int64_t>(kept.size());
  return {c.b.gather(x, Builder::known(tensorOf(kept, {n}, Type::Int)), axis)};
}

// The first so many steps of each sequence, in reverse.
Results reverseSequence(Call& c) {
  const Shape shape = c.shape(0);
  if (shape.size() < 2) c.mismatch("ReverseSequence of " + show(shape));
  const int64_t time = c.integer("time_axis", 0), batch = c.integer("batch_axis", 1);
  if (time + batch != 1 || time * batch != 0)
    c.mismatch("time_axis and batch_axis must be 0 and 1");
  Shape along(shape.size(), 1);
  along[batch] = shape[batch];
  const Value length = c.b.reshape(c.in(1), along);
  const Value step = countingAlong(time, shape);
  const Value back = c.b.sub(c.b.shift(length, -1), step);
  const Value at = c.b.select(c.b.binary(Op::Less, step, length), back, step);
  const Value flat = elementPositions(c, c.b.broadcast(at, shape), shape, time);
  return {c.b.gather(c.b.reshape(c.in(0), {count(shape)}), flat, 0)};
}

// 1 at the first maximum along an axis; before opset 13 along all axes from that one on.
Results hardmax(Call& c) {
  const Shape shape = c.shape(0);
  const int64_t rank = c.rank(0), axis = normalAxis(c.integer("axis", c.opset < 13 ? 1 : -1), rank);
  const bool flat = c.opset < 13 && axis + 1 < rank;
  const Shape rows = {count(Shape(shape.begin(), shape.begin() + axis)),
                      count(Shape(shape.begin() + axis, shape.end()))};
  const Value x = flat ? c.b.reshape(c.in(0), rows) : c.in(0);
  const int64_t along = flat ? 1 : axis;
  const Value place = c.b.cast(countingAlong(along, c.b.shape(x)), Type::Real);
  const Value hit = c.b.binary(Op::Equal, x, c.b.max(x, {along}));
  const Value none = Builder::number(static_cast<double>(c.b.shape(x)[along]));
  const Value first = c.b.neg(c.b.max(c.b.neg(c.b.select(hit, place, none)), {along}));
  const Value one = c.b.cast(c.b.binary(Op::Equal, place, first), Type::Real);
  return {c.b.reshape(c.b.broadcast(one, c.b.shape(x)), shape)};
}

Results oneHot(Call& c) {
  const auto depth = c.knownNumber(1);
  if (!depth) c.unsupported("a depth that depends on data");
  const int64_t rank = c.rank(0) + 1, axis = normalAxis(c.integer("axis", -1), rank);
  if (!(*depth >= 0 && *depth <= static_cast<double>(kFoldLimit)))
    c.mismatch("a depth of " + std::to_string(*depth));
  const auto n = static_cast<int64_t>(*depth);
  Shape shape(rank, 1);
  shape[axis] = n;
  const Value at = c.b.unsqueeze(c.b.cast(c.in(0), Type::Int), {axis});
  const Value below = c.b.binary(Op::Less, at, Builder::number(0, Type::Int));
  const Value positions = c.b.select(below, c.b.shift(at, *depth), at);
  const Value hit = c.b.binary(Op::Equal, positions, countingAlong(axis, shape));
  const Value off = c.b.reshape(c.b.sliceAxis(c.in(2), 0, 0, 1), {});
  const Value on = c.b.reshape(c.b.sliceAxis(c.in(2), 0, 1, 1), {});
  return {c.b.select(hit, on, off)};
}

// 1 on and below (or above) the k-th diagonal of the last two axes.
Results trilu(Call& c) {
  const Shape shape = c.shape(0);
  if (shape.size() < 2) c.mismatch("Trilu of " + show(shape));
  const auto k = c.has(1) ? c.known(1).at(0) : 0;
  const bool upper = c.integer("upper", 1) != 0;
  const int64_t rows = shape[shape.size() - 2], columns = shape.back();
  std::vector<double> kept(rows * columns);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) kept[i * columns + j] = upper ? j - i >= k : j - i <= k;
  const Value mask = Builder::known(tensorOf(kept, {rows, columns}, Type::Bool));
  return {c.b.select(mask, c.in(0), Builder::number(0, c.b.type(c.in(0))))};
}

// ---- padding --------------------------------------------------------------------------------

// Where element i of a padded axis comes from.
int64_t source(const std::string& mode, int64_t i, int64_t n) {
  if (mode == "edge") return std::clamp<int64_t>(i, 0, n - 1);
  if (mode == "wrap") return ((i % n) + n) % n;
  const int64_t period = std::max<int64_t>(2 * (n - 1), 1);
  const int64_t at = ((i % period) + period) % period;
  return at < n ? at : period - at;
}

Value padded(Call& c, const Axes& before, const Axes& after) {
  const Shape from = c.shape(0);
  const std::string mode = c.text("mode", "constant");
  if (mode != "constant") {
    Value y = c.in(0);
    for (size_t axis = 0; axis < from.size(); ++axis) {
      if (before[axis] == 0 && after[axis] == 0) continue;
      if (from[axis] == 0) c.mismatch("nothing to pad with along an empty axis");
      Axes index;
      for (int64_t i = -before[axis]; i < from[axis] + after[axis]; ++i)
        index.push_back(source(mode, i, from[axis]));
      y = c.b.gather(y, Builder::known(intsOf(index)), static_cast<int64_t>(axis));
    }
    return y;
  }
  double fill = c.opset < 11 ? c.number("value", 0) : 0;
  if (c.opset >= 11 && c.has(2)) {
    const auto given = c.knownNumber(2);
    if (!given) c.unsupported("padding with a value that depends on data");
    fill = *given;
  }
  // Negative pads cut; what is left is placed among zeros.
  Value x = c.in(0);
  Axes start(from.size(), 0), step(from.size(), 1);
  Shape inner = from, full = from, outside = Shape(from.size(), 1);
  Axes place(from.size(), 0);
  for (size_t i = 0; i < from.size(); ++i) {
    start[i] = std::max<int64_t>(0, -before[i]);
    inner[i] = from[i] - start[i] - std::max<int64_t>(0, -after[i]);
    full[i] = from[i] + before[i] + after[i];
    place[i] = std::max<int64_t>(0, before[i]);
    if (inner[i] < 0) c.mismatch("pads cut more than " + show(from) + " has");
    if (full[i] != inner[i]) outside[i] = full[i];
  }
  x = c.b.slice(x, start, step, inner);
  if (inner == full) return x;
  Value y = c.b.unslice(x, place, step, full);
  if (fill != 0) {
    Shape hole = outside;
    for (size_t i = 0; i < hole.size(); ++i)
      if (outside[i] != 1) hole[i] = inner[i];
    const Value inside =
        c.b.unslice(Builder::known(splatOf(1, hole, Type::Bool)), place, step, outside);
    y = c.b.select(inside, y, Builder::number(fill, c.b.type(y)));
  }
  return y;
}

Results pad(Call& c) {
  const int64_t rank = c.rank(0);
  const Axes pads = c.opset < 11 ? c.ints("pads") : c.known(1);
  const Axes axes = c.has(3) ? c.known(3) : identity(rank);
  if (pads.size() != 2 * axes.size())
    c.mismatch("Pad needs two numbers an axis, got " + show(pads) + " for " + show(c.shape(0)));
  Axes before(rank, 0), after(rank, 0);
  constexpr int64_t kMost = int64_t{1} << 31;
  for (int64_t each : pads)
    if (each > kMost || each < -kMost) c.mismatch("pads are out of range: " + show(pads));
  for (size_t i = 0; i < axes.size(); ++i) {
    const int64_t axis = normalAxis(axes[i], rank);
    before[axis] = pads[i];
    after[axis] = pads[axes.size() + i];
  }
  return {padded(c, before, after)};
}

std::string refusePad(const NodeDef& node) {
  auto mode = node.attributes.find("mode");
  if (mode == node.attributes.end() || mode->second.strings.empty()) return "";
  const std::string& name = mode->second.strings[0];
  const bool taken = name == "constant" || name == "reflect" || name == "edge" || name == "wrap";
  return taken ? "" : "mode " + name + " is not supported";
}

// ---- on constants only ----------------------------------------------------------------------

Results nonZero(Call& c) {
  const Tensor& x = *c.in(0).host;
  const int64_t rank = std::max<int64_t>(x.rank(), 1);
  std::vector<Axes> found(rank);
  for (int64_t i = 0; i < x.size(); ++i) {
    if (x.at(i) == 0) continue;
    int64_t rest = i;
    for (int64_t axis = rank; axis-- > 0;) {
      const int64_t n = x.rank() ? x.shape[axis] : 1;
      found[axis].push_back(rest % n);
      rest /= n;
    }
  }
  std::vector<double> all;
  for (const Axes& axis : found) all.insert(all.end(), axis.begin(), axis.end());
  return {Builder::known(tensorOf(all, {rank, static_cast<int64_t>(found[0].size())}, Type::Int))};
}

// One product after the other: there is no quotient that would be right at zeros.
Results cumProd(Call& c) {
  Shape shape = c.shape(0);
  const int64_t axis = normalAxis(c.known(1).at(0), c.rank(0)), n = shape[axis];
  const bool exclusive = c.integer("exclusive", 0) != 0, reverse = c.integer("reverse", 0) != 0;
  constexpr int64_t kMost = 4096;
  if (n > kMost)
    c.unsupported("running products of " + std::to_string(n) + " elements; at most " +
                  std::to_string(kMost) + " are taken");
  if (n == 0) return {c.in(0)};
  shape[axis] = 1;
  Value product = c.b.broadcast(Builder::number(1, c.b.type(c.in(0))), shape);
  std::vector<Value> products(n);
  for (int64_t k = 0; k < n; ++k) {
    const int64_t at = reverse ? n - 1 - k : k;
    const Value next = c.b.mul(product, c.b.sliceAxis(c.in(0), axis, at, 1));
    products[at] = exclusive ? product : next;
    product = next;
  }
  return {c.b.concat(products, axis)};
}

Results cumSum(Call& c) {
  const Shape shape = c.shape(0);
  const int64_t axis = normalAxis(c.known(1).at(0), c.rank(0)), n = shape[axis];
  const bool exclusive = c.integer("exclusive", 0) != 0, reverse = c.integer("reverse", 0) != 0;
  const Value& x = c.in(0);
  if (!x.known() && c.b.type(x) != Type::Real)
    c.unsupported("running sums of integers that come with the data");
  if (x.known()) {
    Tensor y = fold::broadcast(*x.host, shape);
    std::vector<double> sums(y.size());
    const int64_t inner = count(Shape(shape.begin() + axis + 1, shape.end()));
    for (int64_t o = 0; o < y.size() / std::max<int64_t>(n * inner, 1); ++o)
      for (int64_t i = 0; i < inner; ++i) {
        double total = 0;
        for (int64_t k = 0; k < n; ++k) {
          const int64_t at = (o * n + (reverse ? n - 1 - k : k)) * inner + i;
          sums[at] = exclusive ? total : total + y.at(at);
          total += y.at(at);
        }
      }
    return {Builder::known(tensorOf(sums, shape, y.type))};
  }
  // A product with a triangle of ones.
  std::vector<double> ones(n * n);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j)
      ones[i * n + j] = reverse ? (exclusive ? i > j : i >= j) : (exclusive ? i < j : i <= j);
  std::string from, to;
  for (int64_t i = 0; i < c.rank(0); ++i) from += static_cast<char>('a' + i);
  to = from;
  to[axis] = 'z';
  return {c.b.dot(x, from, Builder::known(tensorOf(ones, {n, n}, Type::Real)),
                  std::string{from[axis], 'z'}, to)};
}

template <int direction>
Results argExtreme(Call& c) {
  const Tensor& x = *c.in(0).host;
  const int64_t axis = normalAxis(c.integer("axis", 0), x.rank()), n = x.shape[axis];
  const bool last = c.integer("select_last_index", 0) != 0;
  const int64_t inner = count(Shape(x.shape.begin() + axis + 1, x.shape.end()));
  Shape shape = x.shape;
  shape[axis] = 1;
  std::vector<double> at;
  for (int64_t o = 0; o < count(shape) / inner; ++o)
    for (int64_t i = 0; i < inner; ++i) {
      int64_t best = 0;
      for (int64_t k = 1; k < n; ++k) {
        const double gain =
            direction * (x.at((o * n + k) * inner + i) - x.at((o * n + best) * inner + i));
        if (gain > 0 || (last && gain == 0)) best = k;
      }
      at.push_back(static_cast<double>(best));
    }
  const Value y = Builder::known(tensorOf(at, shape, Type::Int));
  return {c.integer("keepdims", 1) ? y : c.b.squeeze(y, {axis})};
}

Results eyeLike(Call& c) {
  const Tensor& x = *c.in(0).host;
  if (x.rank() != 2) c.mismatch("EyeLike of " + show(x.shape));
  const int64_t k = c.integer("k", 0);
  std::vector<double> values(x.size());
  for (int64_t i = 0; i < x.size(); ++i) values[i] = i % x.shape[1] - i / x.shape[1] == k ? 1 : 0;
  const int64_t code = c.integer("dtype", x.type == Type::Real ? 1 : 7);
  const Type type = code == 9 ? Type::Bool : code == 6 || code == 7 ? Type::Int : Type::Real;
  return {Builder::known(tensorOf(values, x.shape, type))};
}

constexpr Grade kFold = Grade::Fold, kZero = Grade::Zero;

const Operator kTable[] = {
    {.name = "ArgMax", .grade = kFold, .lower = argExtreme<1>},
    {.name = "ArgMin", .grade = kFold, .lower = argExtreme<-1>},
    {.name = "Compress", .lower = compress, .since = 9, .limits = "a constant mask"},
    {.name = "CumProd",
     .lower = cumProd,
     .since = 26,
     .limits = "a constant axis of at most 4,096 elements"},
    {.name = "CumSum", .lower = cumSum, .since = 11, .limits = "a constant axis"},
    {.name = "EyeLike", .grade = kFold, .lower = eyeLike},
    {.name = "Gather", .lower = gather},
    {.name = "GatherElements", .lower = gatherElements, .since = 11},
    {.name = "GatherND", .lower = gatherND, .since = 11},
    {.name = "Hardmax", .grade = kZero, .lower = hardmax},
    {.name = "NonZero", .grade = kFold, .lower = nonZero},
    {.name = "OneHot", .grade = kZero, .lower = oneHot, .limits = "a constant depth"},
    {.name = "Pad", .lower = pad, .limits = "constant pads and fill", .refuse = refusePad},
    {.name = "ReverseSequence", .lower = reverseSequence, .since = 10},
    {.name = "Trilu", .lower = trilu, .since = 14, .limits = "a constant diagonal"},
};

}  // namespace

std::span<const Operator> indexOperators() { return kTable; }

}  // namespace eigenscope::onnx
