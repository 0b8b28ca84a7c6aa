#include <array>
#include <cmath>

#include "onnx/lower_index.h"
#include "onnx/table.h"

// Scaled dot-product attention and rotary positions, said by products and softmax.
namespace eigenscope::onnx {

namespace {

// [batch, length, heads * size] or [batch, heads, length, size] as the latter.
Value byHead(Call& c, size_t input, const char* attribute) {
  const Value& x = c.in(input);
  const Shape shape = c.shape(input);
  if (shape.size() == 4) return x;
  if (shape.size() != 3)
    c.mismatch("expected \"" + c.node.in[input] + "\" of rank 3 or 4, got " + show(shape));
  const int64_t heads = c.integer(attribute, 0);
  if (heads <= 0 || shape[2] % heads)
    c.mismatch("attribute " + std::string(attribute) + " = " + std::to_string(heads) +
               " does not divide the width of \"" + c.node.in[input] + "\" " + show(shape));
  return c.b.transpose(c.b.reshape(x, {shape[0], shape[1], heads, shape[2] / heads}), {0, 2, 1, 3});
}

// Each head of keys and values stands for several of the queries.
Value forHeads(Call& c, const Value& x, int64_t heads) {
  const Shape shape = c.b.shape(x);
  if (shape[1] == heads) return x;
  const int64_t times = heads / shape[1];
  const Value each =
      c.b.broadcast(c.b.unsqueeze(x, {2}), {shape[0], shape[1], times, shape[2], shape[3]});
  return c.b.reshape(each, {shape[0], heads, shape[2], shape[3]});
}

Value minusInfinity() { return Builder::number(-INFINITY); }

// What a mask that ends before the last key does not see: nothing.
Value padded(Call& c, const Value& mask, int64_t keys) {
  Shape missing = c.b.shape(mask);
  if (missing.empty() || missing.back() == keys || missing.back() == 1) return mask;
  if (missing.back() > keys)
    c.mismatch("the mask " + show(missing) + " is for more than " + std::to_string(keys) + " keys");
  missing.back() = keys - missing.back();
  const bool additive = c.b.type(mask) == Type::Real;
  const Value hidden = additive ? minusInfinity() : Builder::number(0, Type::Bool);
  return c.b.concat({mask, c.b.broadcast(hidden, missing)},
                    static_cast<int64_t>(missing.size()) - 1);
}

Value both(Call& c, const Value& a, const Value& b) {
  return a.empty() ? b : c.b.binary(Op::And, a, b);
}

// Which keys a query sees by its position: as true and false, or nothing where it sees all. With a
// cache of its own the first query comes after `past` keys; with lengths, of a cache that the keys
// are part of, the last query is the last that counts.
Value seenByPosition(Call& c, int64_t queries, int64_t keys, int64_t past) {
  const bool causal = c.integer("is_causal", 0) != 0;
  const int64_t left = c.integer("left_window_size", -1),
                right = c.integer("right_window_size", -1);
  const bool lengths = c.has(6);
  Value seen, ends;
  if (lengths) {
    ends = c.b.reshape(c.in(6), {count(c.shape(6)), 1, 1, 1});
    seen = c.b.binary(Op::Less, countingAlong(0, {keys}), ends);
  }
  if (!causal && left < 0 && right < 0) return seen;
  std::vector<double> steps(queries * keys);
  for (int64_t i = 0; i < queries; ++i)
    for (int64_t j = 0; j < keys; ++j) steps[i * keys + j] = static_cast<double>(i - j);
  const Value between = Builder::known(tensorOf(steps, {queries, keys}, Type::Int));
  const auto whole = [](int64_t n) { return Builder::number(static_cast<double>(n), Type::Int); };
  // How many keys back.
  const Value back = lengths && !c.has(4)
                         ? c.b.add(between, c.b.shift(ends, -static_cast<double>(queries)))
                         : c.b.shift(between, static_cast<double>(past));
  if (causal) seen = both(c, seen, c.b.binary(Op::LessEqual, whole(0), back));
  if (left >= 0) seen = both(c, seen, c.b.binary(Op::LessEqual, back, whole(left)));
  if (right >= 0) seen = both(c, seen, c.b.binary(Op::LessEqual, whole(-right), back));
  return seen;
}

// Softmax over the keys that are seen; nothing for a query that sees none.
Value weights(Call& c, Value scores, const Value& seen) {
  if (seen.empty()) return c.b.softmax(scores, 3);
  const Axes last = {c.b.rank(seen) - 1};
  const Value most = c.b.max(c.b.cast(seen, Type::Real), last);
  const Value alive = c.b.binary(Op::Less, Builder::number(0), most);
  scores = c.b.select(alive, c.b.select(seen, scores, minusInfinity()), Builder::number(0));
  return c.b.select(alive, c.b.softmax(scores, 3), Builder::number(0));
}

Results attention(Call& c) {
  const Value q = byHead(c, 0, "q_num_heads");
  Value k = byHead(c, 1, "kv_num_heads"), v = byHead(c, 2, "kv_num_heads");
  const bool cached = c.has(4);
  if (cached != c.has(5)) c.mismatch("past_key and past_value come together");
  int64_t past = 0;
  if (cached) {
    past = c.shape(4).at(2);
    k = c.b.concat({c.in(4), k}, 2);
    v = c.b.concat({c.in(5), v}, 2);
  }
  const Value presentKey = k, presentValue = v;
  const Shape shape = c.b.shape(q);
  const int64_t heads = shape[1], keys = c.b.shape(k)[2];
  if (c.b.shape(k)[1] == 0 || heads % c.b.shape(k)[1] || c.b.shape(k)[1] != c.b.shape(v)[1] ||
      c.b.shape(k)[3] != shape[3] || c.b.shape(v)[2] != keys)
    c.mismatch("queries " + show(shape) + ", keys " + show(c.b.shape(k)) + " and values " +
               show(c.b.shape(v)) + " do not fit");
  k = forHeads(c, k, heads);
  v = forHeads(c, v, heads);
  const double scale = c.number("scale", 1 / std::sqrt(static_cast<double>(shape[3])));
  Value scores = c.b.dot(c.b.scale(q, scale), "bhqd", k, "bhkd", "bhqk");
  // What the fourth output shows: products, capped, masked, or weights.
  const int64_t shown = c.integer("qk_matmul_output_mode", 0);
  std::array<Value, 4> stages = {scores};
  const double cap = c.number("softcap", 0);
  if (cap > 0) scores = c.b.scale(c.b.unary(Op::Tanh, c.b.scale(scores, 1 / cap)), cap);
  stages[1] = scores;
  Value seen = seenByPosition(c, shape[2], keys, past);
  if (c.has(3)) {
    const Value mask = padded(c, c.in(3), keys);
    const Shape full = {shape[0], heads, shape[2], keys};
    if (broadcastShapes(c.b.shape(mask), full) != full)
      c.mismatch("the mask " + show(c.shape(3)) + " does not broadcast to " + show(full));
    if (c.b.type(mask) == Type::Bool)
      seen = both(c, seen, mask);
    else
      scores = c.b.add(scores, mask);
  }
  stages[2] = seen.empty() ? scores : c.b.select(seen, scores, minusInfinity());
  stages[3] = weights(c, scores, seen);
  if (shown < 0 || shown > 3)
    c.mismatch("expected qk_matmul_output_mode from 0 to 3, got " + std::to_string(shown));
  Value y = c.b.dot(stages[3], "bhqk", v, "bhkd", "bhqd");
  if (c.rank(0) == 3) {
    const Shape out = c.b.shape(y);
    y = c.b.reshape(c.b.transpose(y, {0, 2, 1, 3}), {out[0], out[2], out[1] * out[3]});
  }
  return {y, presentKey, presentValue, stages[shown]};
}

// Pairs (a, b) of each head turned by the angle of their position: (a cos - b sin, a sin + b cos).
Results rotaryEmbedding(Call& c) {
  const Shape given = c.shape(0);
  if (given.size() != 3 && given.size() != 4)
    c.mismatch("expected an input of rank 3 or 4, got " + show(given));
  Value x = given.size() == 4 ? c.in(0) : byHead(c, 0, "num_heads");
  const Shape shape = c.b.shape(x);  // [batch, heads, length, size]
  const int64_t size = shape[3];
  const int64_t turned =
      c.integer("rotary_embedding_dim", 0) > 0 ? c.integer("rotary_embedding_dim", 0) : size;
  const int64_t half = turned / 2;
  if (turned > size || turned % 2)
    c.mismatch("cannot rotate " + std::to_string(turned) + " of " + std::to_string(size) +
               " elements of a head");
  // [positions, half], or [batch, length, half] where no positions are given.
  auto angles = [&](size_t input) {
    const Value table = c.has(3) ? c.b.gather(c.in(input), c.in(3), 0) : c.in(input);
    if (c.b.rank(table) != 3 || c.b.shape(table)[1] != shape[2] || c.b.shape(table)[2] != half)
      c.mismatch("\"" + c.node.in[input] + "\" " + show(c.shape(input)) + " does not fit " +
                 std::to_string(shape[2]) + " positions of " + std::to_string(half) + " pairs");
    return c.b.unsqueeze(table, {1});
  };
  const Value cosine = angles(1), sine = angles(2);
  const bool interleaved = c.integer("interleaved", 0) != 0;
  const int64_t step = interleaved ? 2 : 1;
  const Value a = c.b.sliceAxis(x, 3, 0, half, step);
  const Value b = c.b.sliceAxis(x, 3, interleaved ? 1 : half, half, step);
  const Value first = c.b.sub(c.b.mul(a, cosine), c.b.mul(b, sine));
  const Value second = c.b.add(c.b.mul(a, sine), c.b.mul(b, cosine));
  Value y;
  if (interleaved) {
    y = c.b.concat({c.b.unsqueeze(first, {4}), c.b.unsqueeze(second, {4})}, 4);
    y = c.b.reshape(y, {shape[0], shape[1], shape[2], turned});
  } else {
    y = c.b.concat({first, second}, 3);
  }
  if (turned < size) y = c.b.concat({y, c.b.sliceAxis(x, 3, turned, size - turned)}, 3);
  if (given.size() == 3) y = c.b.reshape(c.b.transpose(y, {0, 2, 1, 3}), given);
  return {y};
}

// One number a head, or one for each of its elements, at every step: [batch, heads, length,
// either].
Value gates(Call& c, size_t input, const Shape& keys) {
  const Shape shape = c.shape(input);
  const int64_t heads = keys[1];
  const bool rank = shape.size() == 3 && shape[0] == keys[0] && shape[1] == keys[2];
  if (!rank || (shape[2] != 1 && shape[2] != heads && shape[2] != heads * keys[3]))
    c.mismatch("\"" + c.node.in[input] + "\" " + show(shape) + " does not fit keys " + show(keys));
  const int64_t present = shape[2] == 1 ? 1 : heads;
  const Value apart = c.b.reshape(c.in(input), {shape[0], shape[1], present, shape[2] / present});
  return c.b.transpose(apart, {0, 2, 1, 3});
}

// A state of keys by values that every step lets decay and adds to; queries read it.
Results linearAttention(Call& c) {
  const Value q = byHead(c, 0, "q_num_heads"), k = byHead(c, 1, "kv_num_heads"),
              v = byHead(c, 2, "kv_num_heads");
  const Shape keys = c.b.shape(k), values = c.b.shape(v), queries = c.b.shape(q);
  const int64_t batch = keys[0], heads = keys[1], steps = keys[2], size = keys[3],
                width = values[3], each = queries[1] / heads;
  if (queries[1] % heads || queries[2] != steps || queries[3] != size || values[2] != steps)
    c.mismatch("queries " + show(queries) + ", keys " + show(keys) + " and values " + show(values) +
               " do not fit");
  constexpr int64_t kMost = 4096;
  if (steps > kMost)
    c.unsupported(std::to_string(steps) + " steps; at most " + std::to_string(kMost) +
                  " are taken");
  const std::string rule = c.text("update_rule", "gated_delta");
  const bool gated = rule == "gated" || rule == "gated_delta";
  const bool delta = rule == "delta" || rule == "gated_delta";
  if (!gated && !delta && rule != "linear") c.unsupported("attribute update_rule = " + rule);
  const Value decay = gated ? c.b.unary(Op::Exp, gates(c, 4, keys)) : Value{};
  const Value rate = delta ? gates(c, 5, keys) : Value{};
  const double given = c.number("scale", 0);
  const double scale = given == 0 ? 1 / std::sqrt(static_cast<double>(size)) : given;
  const Value asked = c.b.reshape(c.b.scale(q, scale), {batch, heads, each, steps, size});

  Value state = c.has(3) ? c.in(3) : c.b.broadcast(Builder::number(0), {batch, heads, size, width});
  const auto at = [&](const Value& x, int64_t axis, int64_t t) {
    return c.b.squeeze(c.b.sliceAxis(x, axis, t, 1), {axis});
  };
  std::vector<Value> read(steps);
  for (int64_t t = 0; t < steps; ++t) {
    const Value key = at(k, 2, t);
    Value value = at(v, 2, t);
    if (gated) state = c.b.mul(state, c.b.unsqueeze(at(decay, 2, t), {3}));
    if (delta) {
      const Value known = c.b.dot(state, "bhkv", key, "bhk", "bhv");
      value = c.b.mul(c.b.sub(value, known), at(rate, 2, t));
    }
    state = c.b.add(state, c.b.dot(key, "bhk", value, "bhv", "bhkv"));
    read[t] = c.b.unsqueeze(c.b.dot(at(asked, 3, t), "bhgk", state, "bhkv", "bhgv"), {1});
  }
  return {c.b.reshape(c.b.concat(read, 1), {batch, steps, queries[1] * width}), state};
}

const Operator kTable[] = {
    {.name = "Attention",
     .lower = attention,
     .since = 23,
     .outputs = 4,
     .limits = "by an additive mask every query sees some key"},
    {.name = "LinearAttention",
     .lower = linearAttention,
     .since = 27,
     .outputs = 2,
     .limits = "at most 4,096 steps"},
    {.name = "RotaryEmbedding", .lower = rotaryEmbedding, .since = 23},
};

}  // namespace

std::span<const Operator> attentionOperators() { return kTable; }

}  // namespace eigenscope::onnx
