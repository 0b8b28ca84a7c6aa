#include <algorithm>
#include <limits>

#include "onnx/lower_index.h"
#include "onnx/table.h"

// Operators that place elements by index, and the largest elements along an axis.
namespace eigenscope::onnx {

namespace {

// Writes of the same place one after another; more repetitions than this are a sum in disguise.
constexpr size_t kRounds = 64;

Value combined(Call& c, const std::string& reduction, const Value& old, const Value& update) {
  if (reduction == "mul") return c.b.mul(old, update);
  if (reduction == "max") return c.b.max(old, update);
  if (reduction == "min") return c.b.min(old, update);
  return reduction == "add" ? c.b.add(old, update) : update;
}

// [n, ...] with updates [m, ...] at known rows, in their order: each place takes its r-th update in
// round r, as a gather, so that every reduction is that of its formula.
Value scatterKnown(Call& c, const Value& x, const Tensor& at, const Value& updates,
                   const std::string& reduction) {
  const int64_t n = c.b.shape(x)[0];
  std::vector<Axes> writes(n);
  size_t rounds = 0;
  const Axes positions = integers(at);
  for (int64_t i = 0; i < at.size(); ++i) {
    Axes& here = writes[positions[at.splat() ? 0 : i]];
    if (reduction == "none") here.clear();  // the last write stays
    here.push_back(i);
    rounds = std::max(rounds, here.size());
  }
  if (rounds > kRounds)
    c.unsupported("reduction " + reduction + " with " + std::to_string(rounds) +
                  " updates of one place; at most " + std::to_string(kRounds) + " are taken");
  Shape column(c.b.rank(x), 1);
  column[0] = n;
  Value y = x;
  for (size_t round = 0; round < rounds; ++round) {
    std::vector<double> source(n), written(n);
    for (int64_t i = 0; i < n; ++i) {
      written[i] = writes[i].size() > round;
      source[i] = written[i] != 0 ? static_cast<double>(writes[i][round]) : 0;
    }
    const Value update = c.b.gather(updates, Builder::known(tensorOf(source, {n}, Type::Int)), 0);
    const Value mask = Builder::known(tensorOf(written, column, Type::Bool));
    y = c.b.select(mask, combined(c, reduction, y, update), y);
  }
  return y;
}

// The same with positions that come with the data, where updates are added up.
Value scatterSums(Call& c, const Value& x, const Value& at, const Value& updates,
                  const std::string& reduction) {
  if (reduction != "none" && reduction != "add")
    c.unsupported("reduction " + reduction + " with indices that depend on data or parameters");
  const Type type = c.b.type(x);
  if (type != Type::Real) {
    const Value y =
        scatterSums(c, c.b.cast(x, Type::Real), at, c.b.cast(updates, Type::Real), reduction);
    return c.b.cast(y, type);
  }
  const int64_t n = c.b.shape(x)[0];
  const Id positions = c.b.plain(at);
  const Value sums = c.b.wrap(c.b.graph.scatterAdd(c.b.plain(updates), positions, 0, n));
  if (reduction == "add") return c.b.add(x, sums);
  const Value ones = Builder::known(splatOf(1, c.b.shape(at), Type::Real));
  const Value hits = c.b.wrap(c.b.graph.scatterAdd(c.b.plain(ones), positions, 0, n));
  Shape column(c.b.rank(x), 1);
  column[0] = n;
  const Value hit = c.b.reshape(c.b.binary(Op::Less, Builder::number(0), hits), column);
  return c.b.select(hit, sums, x);
}

// x [n, ...], positions of any shape, updates [positions..., ...].
Value scatter(Call& c, const Value& x, const Value& positions, const Value& updates) {
  if (c.b.type(x) != c.b.type(updates)) c.mismatch("data and updates have different element types");
  const int64_t n = c.b.shape(x)[0], m = count(c.b.shape(positions));
  if (m == 0) return x;
  const std::string reduction = c.text("reduction", "none");
  Shape rows = c.b.shape(x);
  rows[0] = m;
  const Value at = c.b.reshape(positions, {m}), u = c.b.reshape(updates, rows);
  if (!at.known()) {
    // Negative positions were counted from the end by flatPositions.
    return scatterSums(c, x, at, u, reduction);
  }
  for (int64_t position : integers(*at.host))
    if (position < 0 || position >= n)
      c.mismatch("index " + std::to_string(position) + " is out of range for " +
                 show(c.b.shape(x)));
  return scatterKnown(c, x, *at.host, u, reduction);
}

Results scatterElements(Call& c) {
  const Shape from = c.shape(0);
  const int64_t axis = normalAxis(c.integer("axis", 0), c.rank(0));
  if (c.shape(1) != c.shape(2))
    c.mismatch("indices " + show(c.shape(1)) + " and updates " + show(c.shape(2)) + " differ");
  const Value at = elementPositions(c, c.in(1), from, axis);
  const Value y = scatter(c, c.b.reshape(c.in(0), {count(from)}), at, c.in(2));
  return {c.b.reshape(y, from)};
}

Results scatterND(Call& c) {
  const Shape from = c.shape(0);
  const RowPositions at = rowPositions(c, c.in(1), from, 0);
  Shape wanted = c.b.shape(at.flat);
  wanted.insert(wanted.end(), at.rest.begin(), at.rest.end());
  if (c.shape(2) != wanted)
    c.mismatch("expected updates " + show(wanted) + " for indices " + show(c.shape(1)) + " into " +
               show(from) + ", got " + show(c.shape(2)));
  Shape rows = {count(at.indexed)};
  rows.insert(rows.end(), at.rest.begin(), at.rest.end());
  return {c.b.reshape(scatter(c, c.b.reshape(c.in(0), rows), at.flat, c.in(2)), from)};
}

std::string refuseReduction(const NodeDef& node) {
  auto at = node.attributes.find("reduction");
  if (at == node.attributes.end() || at->second.strings.empty()) return "";
  const std::string& name = at->second.strings[0];
  const bool taken =
      name == "none" || name == "add" || name == "mul" || name == "max" || name == "min";
  return taken ? "" : "reduction " + name + " is not supported";
}

// ---- the largest elements -----------------------------------------------------------------------

constexpr int64_t kMostLargest = 1024;

struct Largest {
  Value values, indices;
};

// Of known numbers, at once.
Largest knownLargest(const Tensor& x, int64_t axis, int64_t k, double sign) {
  Shape shape = x.shape;
  const int64_t n = shape[axis];
  shape[axis] = k;
  const int64_t inner = count(Shape(shape.begin() + axis + 1, shape.end()));
  const int64_t outer = count(Shape(shape.begin(), shape.begin() + axis));
  std::vector<double> values(count(shape)), indices(count(shape));
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t i = 0; i < inner; ++i) {
      auto at = [&](int64_t j) { return x.at((o * n + j) * inner + i); };
      Axes order = identity(n);
      std::stable_sort(order.begin(), order.end(),
                       [&](int64_t a, int64_t b) { return sign * at(a) > sign * at(b); });
      for (int64_t j = 0; j < k; ++j) {
        values[(o * k + j) * inner + i] = at(order[j]);
        indices[(o * k + j) * inner + i] = static_cast<double>(order[j]);
      }
    }
  return {Builder::known(tensorOf(values, shape, x.type)),
          Builder::known(tensorOf(indices, shape, Type::Int))};
}

// k times the first maximum of what is left. The order is that of the primal: values are gathered
// by it, so their derivatives are those of the elements that were picked.
Results topK(Call& c) {
  const int64_t rank = c.rank(0);
  const int64_t axis = normalAxis(c.integer("axis", -1), rank), n = c.shape(0)[axis];
  const Axes given = c.opset < 10 ? Axes{c.integer("k", 0)} : c.known(1);
  if (given.size() != 1) c.mismatch("expected one number as k, got " + show(given));
  const int64_t k = given[0];
  if (k < 0 || k > n)
    c.mismatch("the " + std::to_string(k) + " largest of " + std::to_string(n) + " along axis " +
               std::to_string(axis) + " of " + show(c.shape(0)));
  const double sign = c.integer("largest", 1) != 0 ? 1 : -1;
  const Value& x = c.in(0);
  if (x.known()) {
    const Largest all = knownLargest(fold::broadcast(*x.host, c.shape(0)), axis, k, sign);
    return {all.values, all.indices};
  }
  if (k > kMostLargest)
    c.unsupported("the " + std::to_string(k) + " largest; at most " + std::to_string(kMostLargest) +
                  " are taken of what depends on data or parameters");
  Axes last = identity(rank);
  last.erase(last.begin() + axis);
  last.push_back(axis);
  Shape shape = c.b.shape(c.b.transpose(x, last));
  const int64_t rows = count(shape) / std::max<int64_t>(n, 1);
  shape.back() = k;
  if (count(shape) == 0)
    return {c.b.slice(x, Axes(rank, 0), Axes(rank, 1),
                      [&] {
                        Shape sizes = c.shape(0);
                        sizes[axis] = k;
                        return sizes;
                      }()),
            Builder::known(tensorOf({}, shape, Type::Int))};
  const Value table = c.b.reshape(c.b.transpose(x, last), {rows, n});
  // What was taken is -infinity; minus infinities of the data stay above it.
  const double lowest = -static_cast<double>(std::numeric_limits<float>::max());
  const double infinity = std::numeric_limits<double>::infinity();
  Value key = c.b.scale(c.b.cast(table, Type::Real), sign);
  key = c.b.max(key, Builder::number(lowest));
  const Value counting = countingAlong(1, {1, n});
  Window window;
  window.kernel[1] = n;
  std::vector<double> starts(rows);
  for (int64_t i = 0; i < rows; ++i) starts[i] = static_cast<double>(i * n);
  const Value start = Builder::known(tensorOf(starts, {rows, 1}, Type::Int));
  std::vector<Value> picked, places;
  for (int64_t i = 0; i < k; ++i) {
    const Id front = c.b.graph.reshape(c.b.plain(key), {rows, 1, n, 1});
    const Id best = c.b.graph.windowArgmax(front, window, 1, 1);
    const Value at = c.b.wrap(c.b.graph.reshape(best, {rows, 1}));
    const Value place = c.b.sub(at, start);
    picked.push_back(at);
    places.push_back(place);
    if (i + 1 < k)
      key = c.b.select(c.b.binary(Op::Equal, counting, place), Builder::number(-infinity), key);
  }
  Axes back = identity(rank - 1);
  back.insert(back.begin() + axis, rank - 1);
  auto moved = [&](const Value& y) { return c.b.transpose(c.b.reshape(y, shape), back); };
  const Value flat = c.b.reshape(table, {rows * n});
  return {moved(c.b.gather(flat, c.b.concat(picked, 1), 0)), moved(c.b.concat(places, 1))};
}

// Steps of a sequence are written into a cache from a place on that each sample has of its own.
// Each place of the cache looks up the step that comes there, if one does.
Results tensorScatter(Call& c) {
  const Shape cache = c.shape(0), update = c.shape(1);
  const auto rank = static_cast<int64_t>(cache.size());
  const int64_t axis = normalAxis(c.integer("axis", -2), rank);
  Shape expected = cache;
  if (axis > 0 && axis < static_cast<int64_t>(update.size())) expected[axis] = update[axis];
  const std::string mode = c.text("mode", "linear");
  if (axis == 0 || update != expected || update[axis] > cache[axis] || update[axis] == 0)
    c.mismatch("the update " + show(update) + " does not fit the cache " + show(cache) +
               " along axis " + std::to_string(axis));
  if (mode != "linear" && mode != "circular") c.unsupported("attribute mode = " + mode);
  const int64_t samples = cache[0], places = cache[axis], steps = update[axis];

  Axes perm = {0, axis}, back(rank);
  for (int64_t d = 1; d < rank; ++d)
    if (d != axis) perm.push_back(d);
  Shape moved(rank);
  for (int64_t d = 0; d < rank; ++d) {
    back[perm[d]] = d;
    moved[d] = cache[perm[d]];
  }
  const int64_t width = count(cache) / (samples * places);

  const auto real = [](int64_t n) { return Builder::number(static_cast<double>(n)); };
  const Value from = c.has(2) ? c.b.cast(c.b.reshape(c.in(2), {samples, 1}), Type::Real) : real(0);
  Value step = c.b.sub(c.b.cast(countingAlong(1, {samples, places}), Type::Real), from);
  if (mode == "circular") {
    const double turn = static_cast<double>(places);
    step = c.b.sub(step, c.b.scale(c.b.unary(Op::Floor, c.b.scale(step, 1 / turn)), turn));
  }
  step = c.b.broadcast(step, {samples, places});
  const Value written = c.b.binary(Op::And, c.b.binary(Op::LessEqual, real(0), step),
                                   c.b.binary(Op::Less, step, real(steps)));
  const Value near = c.b.cast(c.b.min(c.b.max(step, real(0)), real(steps - 1)), Type::Int);
  const Value row =
      c.b.add(c.b.scale(countingAlong(0, {samples, 1}), static_cast<double>(steps)), near);
  const Value rows = c.b.reshape(c.b.transpose(c.in(1), perm), {samples * steps, width});
  const Value old = c.b.reshape(c.b.transpose(c.in(0), perm), {samples, places, width});
  const Value now = c.b.select(c.b.unsqueeze(written, {2}), c.b.gather(rows, row, 0), old);
  return {c.b.transpose(c.b.reshape(now, moved), back)};
}

constexpr Grade kPiecewise = Grade::Piecewise;
constexpr std::string_view kScatterLimits =
    "reductions mul, max and min with constant indices only";

const Operator kTable[] = {
    {.name = "Scatter", .lower = scatterElements, .until = 10},
    {.name = "ScatterElements",
     .lower = scatterElements,
     .since = 11,
     .limits = kScatterLimits,
     .refuse = refuseReduction},
    {.name = "ScatterND",
     .lower = scatterND,
     .since = 11,
     .limits = kScatterLimits,
     .refuse = refuseReduction},
    {.name = "TensorScatter", .lower = tensorScatter, .since = 24},
    {.name = "TopK",
     .grade = kPiecewise,
     .lower = topK,
     .outputs = 2,
     .limits = "a constant k, of at most 1,024 where the data decide"},
};

}  // namespace

std::span<const Operator> scatterOperators() { return kTable; }

}  // namespace eigenscope::onnx
