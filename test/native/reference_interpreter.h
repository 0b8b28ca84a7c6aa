#pragma once

#include <cmath>
#include <functional>
#include <map>
#include <numeric>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "ir/graph.h"

// The meaning of every primitive, in double precision and by the plainest loops: what compiled
// programs are held against. It shares no code with compile/ and run/.
namespace eigenscope::reference {

using Numbers = std::vector<double>;

// Values of the leaves by parameter number or input slot. A tangent has its K in front.
struct Leaves {
  std::map<int64_t, Numbers> parameters, tangents, inputs;
};

inline std::vector<int64_t> stridesOf(const Shape& shape) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
  return strides;
}

// Calls visit(index) for every multi-index of `shape` in row-major order.
inline void forEach(const Shape& shape,
                    const std::function<void(const std::vector<int64_t>&)>& visit) {
  std::vector<int64_t> at(shape.size(), 0);
  for (int64_t n = count(shape); n > 0; --n) {
    visit(at);
    for (size_t i = shape.size(); i-- > 0;) {
      if (++at[i] < shape[i]) break;
      at[i] = 0;
    }
  }
}

inline int64_t flat(const std::vector<int64_t>& at, const Shape& shape) {
  int64_t f = 0;
  for (size_t i = 0; i < shape.size(); ++i) f = f * shape[i] + at[i];
  return f;
}

// Flat index into an operand of shape `from` that broadcasts to where `at` points.
inline int64_t broadcastFlat(const std::vector<int64_t>& at, const Shape& from) {
  const size_t skip = at.size() - from.size();
  int64_t f = 0;
  for (size_t i = 0; i < from.size(); ++i) f = f * from[i] + (from[i] == 1 ? 0 : at[skip + i]);
  return f;
}

class Interpreter {
 public:
  Interpreter(const Graph& graph, Leaves leaves) : graph_(graph), leaves_(std::move(leaves)) {}

  // Of one micro-batch: Collect is the identity.
  const Numbers& operator()(Id output) {
    for (Id id : reachable(graph_, {output}))
      if (!known_.count(id)) known_[id] = evaluate(graph_[id]);
    return known_.at(output);
  }

 private:
  const Numbers& in(const Node& node, size_t i) const { return known_.at(node.in[i]); }
  const Shape& shapeIn(const Node& node, size_t i) const { return graph_.shape(node.in[i]); }

  static Numbers leaf(const std::map<int64_t, Numbers>& from, const Node& node) {
    const Numbers& values = from.at(node.attr.ints.at(0));
    if (static_cast<int64_t>(values.size()) != count(node.shape))
      throw std::invalid_argument(std::string("a leaf ") + name(node.op) + " has another size");
    return values;
  }

  Numbers map(const Node& node, const std::function<double(double)>& f) const {
    Numbers out = in(node, 0);
    for (double& v : out) v = f(v);
    return out;
  }

  Numbers zip(const Node& node, const std::function<double(double, double)>& f) const {
    Numbers out;
    forEach(node.shape, [&](const auto& at) {
      out.push_back(f(in(node, 0)[broadcastFlat(at, shapeIn(node, 0))],
                      in(node, 1)[broadcastFlat(at, shapeIn(node, 1))]));
    });
    return out;
  }

  Numbers evaluate(const Node& node) const {
    const auto& ints = node.attr.ints;
    const double p = node.attr.number;
    switch (node.op) {
      case Op::Param: return leaf(leaves_.parameters, node);
      case Op::Tangent: return leaf(leaves_.tangents, node);
      case Op::Input: return leaf(leaves_.inputs, node);
      case Op::Const: {
        const Numbers& values = *graph_.constantOf(idOf(node));
        return values.size() == 1 ? Numbers(count(node.shape), values[0]) : values;
      }
      case Op::Reshape:
      case Op::StopGradient:
      case Op::Barrier:
      case Op::Spread:
      case Op::Collect: return in(node, 0);
      case Op::Permute: {
        Numbers out;
        const Shape& from = shapeIn(node, 0);
        forEach(node.shape, [&](const auto& at) {
          std::vector<int64_t> source(from.size());
          for (size_t i = 0; i < at.size(); ++i) source[ints[i]] = at[i];
          out.push_back(in(node, 0)[flat(source, from)]);
        });
        return out;
      }
      case Op::Broadcast: {
        Numbers out;
        forEach(node.shape, [&](const auto& at) {
          out.push_back(in(node, 0)[broadcastFlat(at, shapeIn(node, 0))]);
        });
        return out;
      }
      case Op::Slice:
      case Op::Unslice: return sliced(node);
      case Op::Concat: return concatenated(node);
      case Op::Gather:
      case Op::ScatterAdd: return indexed(node);
      case Op::WindowSum:
      case Op::WindowSpread:
      case Op::WindowArgmax: return windowed(node);
      case Op::Add: return zip(node, [](double a, double b) { return a + b; });
      case Op::Sub: return zip(node, [](double a, double b) { return a - b; });
      case Op::Mul: return zip(node, [](double a, double b) { return a * b; });
      case Op::Less: return zip(node, [](double a, double b) { return a < b; });
      case Op::LessEqual: return zip(node, [](double a, double b) { return a <= b; });
      case Op::Equal: return zip(node, [](double a, double b) { return a == b; });
      case Op::And: return zip(node, [](double a, double b) { return a != 0 && b != 0; });
      case Op::Or: return zip(node, [](double a, double b) { return a != 0 || b != 0; });
      case Op::Select: {
        Numbers out;
        forEach(node.shape, [&](const auto& at) {
          const size_t branch = in(node, 0)[broadcastFlat(at, shapeIn(node, 0))] != 0 ? 1 : 2;
          out.push_back(in(node, branch)[broadcastFlat(at, shapeIn(node, branch))]);
        });
        return out;
      }
      case Op::Neg: return map(node, [](double x) { return -x; });
      case Op::Exp: return map(node, [](double x) { return std::exp(x); });
      case Op::Log: return map(node, [](double x) { return std::log(x); });
      case Op::Sqrt: return map(node, [](double x) { return std::sqrt(x); });
      case Op::Recip: return map(node, [](double x) { return 1 / x; });
      case Op::Pow: return map(node, [p](double x) { return std::pow(x, p); });
      case Op::Tanh: return map(node, [](double x) { return std::tanh(x); });
      case Op::Sigmoid: return map(node, [](double x) { return 1 / (1 + std::exp(-x)); });
      case Op::Softplus:
        return map(node,
                   [](double x) { return std::fmax(x, 0) + std::log1p(std::exp(-std::fabs(x))); });
      case Op::Erf: return map(node, [](double x) { return std::erf(x); });
      case Op::Sin: return map(node, [](double x) { return std::sin(x); });
      case Op::Cos: return map(node, [](double x) { return std::cos(x); });
      case Op::Atan: return map(node, [](double x) { return std::atan(x); });
      case Op::Floor: return map(node, [](double x) { return std::floor(x); });
      case Op::Not: return map(node, [](double x) { return x == 0; });
      case Op::Cast:
        return map(node, [&](double x) {
          return node.type == Type::Bool ? x != 0 : node.type == Type::Int ? std::trunc(x) : x;
        });
      case Op::Sum:
      case Op::ReduceMax: return reduced(node);
      case Op::Dot: return contracted(node);
      case Op::Conv:
      case Op::ConvInput:
      case Op::ConvWeight: return convolved(node);
      case Op::Softmax:
      case Op::LogSumExp: return normalised(node);
      case Op::Probe:
      case Op::Draw: break;
    }
    throw std::invalid_argument(std::string("no reference for ") + name(node.op));
  }

  Id idOf(const Node& node) const { return static_cast<Id>(&node - &graph_[0]); }

  Numbers sliced(const Node& node) const {
    const Shape& from = shapeIn(node, 0);
    const size_t rank = from.size();
    const bool slice = node.op == Op::Slice;
    Numbers out(count(node.shape), 0.0);
    forEach(slice ? node.shape : from, [&](const auto& small) {
      std::vector<int64_t> large(rank);
      for (size_t i = 0; i < rank; ++i)
        large[i] = node.attr.ints[i] + node.attr.ints[rank + i] * small[i];
      if (slice)
        out[flat(small, node.shape)] = in(node, 0)[flat(large, from)];
      else
        out[flat(large, node.shape)] = in(node, 0)[flat(small, from)];
    });
    return out;
  }

  Numbers concatenated(const Node& node) const {
    const size_t axis = node.attr.ints[0];
    Numbers out;
    forEach(node.shape, [&](std::vector<int64_t> at) {
      size_t i = 0;
      while (at[axis] >= shapeIn(node, i)[axis]) at[axis] -= shapeIn(node, i++)[axis];
      out.push_back(in(node, i)[flat(at, shapeIn(node, i))]);
    });
    return out;
  }

  Numbers indexed(const Node& node) const {
    const Shape& index = shapeIn(node, 1);
    const size_t axis = node.attr.ints[0], rank = index.size();
    const bool gather = node.op == Op::Gather;
    const Shape& full = gather ? shapeIn(node, 0) : node.shape;
    const Shape& picked = gather ? node.shape : shapeIn(node, 0);
    Numbers out(count(node.shape), 0.0);
    forEach(picked, [&](const auto& at) {
      const std::vector<int64_t> where(at.begin() + axis, at.begin() + axis + rank);
      const double position = in(node, 1)[flat(where, index)];
      if (position < 0 || position >= static_cast<double>(full[axis]))
        throw std::out_of_range("gather index " + std::to_string(position));
      std::vector<int64_t> source(at.begin(), at.begin() + axis);
      source.push_back(static_cast<int64_t>(position));
      source.insert(source.end(), at.begin() + axis + rank, at.end());
      if (gather)
        out[flat(at, picked)] = in(node, 0)[flat(source, full)];
      else
        out[flat(source, full)] += in(node, 0)[flat(at, picked)];
    });
    return out;
  }

  // Calls visit(h, w, kh, kw, y, x) for every tap of a window that falls on an element.
  static void taps(
      const Window& window, const int64_t (&small)[2], const int64_t (&large)[2],
      const std::function<void(const int64_t*, const int64_t*, const int64_t*)>& visit) {
    forEach({small[0], small[1], window.kernel[0], window.kernel[1]}, [&](const auto& at) {
      int64_t big[2];
      for (int d = 0; d < 2; ++d) {
        big[d] = at[d] * window.stride[d] - window.pad[d] + at[2 + d] * window.dilation[d];
        if (big[d] < 0 || big[d] >= large[d]) return;
      }
      visit(&at[0], &at[2], big);
    });
  }

  Numbers windowed(const Node& node) const {
    const bool spreads = node.op == Op::WindowSpread, picks = node.op == Op::WindowArgmax;
    const Shape& largeShape = spreads ? node.shape : shapeIn(node, 0);
    const Shape& smallShape = spreads ? shapeIn(node, 0) : node.shape;
    const size_t r = largeShape.size();
    const int64_t channels = largeShape[r - 1];
    const int64_t large[2] = {largeShape[r - 3], largeShape[r - 2]};
    const int64_t small[2] = {smallShape[r - 3], smallShape[r - 2]};
    const int64_t batch = count(largeShape) / (large[0] * large[1] * channels);
    const Numbers& x = in(node, 0);
    Numbers out(count(node.shape), picks ? -1.0 : 0.0);
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t c = 0; c < channels; ++c)
        taps(node.attr.window, small, large,
             [&](const int64_t* o, const int64_t*, const int64_t* i) {
               const int64_t s = ((b * small[0] + o[0]) * small[1] + o[1]) * channels + c;
               const int64_t l = ((b * large[0] + i[0]) * large[1] + i[1]) * channels + c;
               if (spreads)
                 out[l] += x[s];
               else if (!picks)
                 out[s] += x[l];
               else if (out[s] < 0 || x[l] > x[static_cast<int64_t>(out[s])])
                 out[s] = static_cast<double>(l);
             });
    return out;
  }

  Numbers reduced(const Node& node) const {
    const bool sum = node.op == Op::Sum;
    const Shape& from = shapeIn(node, 0);
    Numbers out(count(node.shape), sum ? 0.0 : -INFINITY);
    forEach(from, [&](const auto& at) {
      const double v = in(node, 0)[flat(at, from)];
      double& to = out[broadcastFlat(at, node.shape)];
      to = sum ? to + v : v > to ? v : to;
    });
    return out;
  }

  Numbers contracted(const Node& node) const {
    const std::string& labels = node.attr.labels;
    const size_t comma = labels.find(','), arrow = labels.find("->");
    const std::string parts[3] = {labels.substr(0, comma),
                                  labels.substr(comma + 1, arrow - comma - 1),
                                  labels.substr(arrow + 2)};
    std::string all = parts[2];
    Shape sizes = node.shape;
    for (size_t operand = 0; operand < 2; ++operand)
      for (size_t i = 0; i < parts[operand].size(); ++i)
        if (all.find(parts[operand][i]) == all.npos) {
          all += parts[operand][i];
          sizes.push_back(shapeIn(node, operand)[i]);
        }
    auto flatOf = [&](const std::string& part, const std::vector<int64_t>& at) {
      int64_t f = 0;
      for (char label : part) {
        const size_t i = all.find(label);
        f = f * sizes[i] + at[i];
      }
      return f;
    };
    Numbers out(count(node.shape), 0.0);
    forEach(sizes, [&](const auto& at) {
      out[flatOf(parts[2], at)] +=
          in(node, 0)[flatOf(parts[0], at)] * in(node, 1)[flatOf(parts[1], at)];
    });
    return out;
  }

  // One loop nest serves the three forms: y += x w, x += y w, w += x y.
  Numbers convolved(const Node& node) const {
    const Window& window = node.attr.window;
    const bool forX = node.op == Op::ConvInput, forW = node.op == Op::ConvWeight;
    const Shape& xs = forX ? node.shape : shapeIn(node, 0);
    const Shape& ws = forW ? node.shape : shapeIn(node, 1);
    const Shape& ys = forX ? shapeIn(node, 0) : forW ? shapeIn(node, 1) : node.shape;
    auto lead = [](const Shape& s) { return s.size() == 5 ? s[0] : 1; };
    auto four = [](const Shape& s) { return Shape(s.end() - 4, s.end()); };
    const Shape x4 = four(xs), w4 = four(ws), y4 = four(ys);
    const int64_t directions = std::max({lead(xs), lead(ws), lead(ys)});
    const int64_t small[2] = {y4[1], y4[2]}, large[2] = {x4[1], x4[2]};
    const int64_t outs = w4[0], ins = w4[3], perGroup = outs / window.groups;
    Numbers out(count(node.shape), 0.0);
    const Numbers& first = in(node, 0);
    const Numbers& second = in(node, 1);
    for (int64_t k = 0; k < directions; ++k)
      for (int64_t b = 0; b < x4[0]; ++b)
        for (int64_t o = 0; o < outs; ++o)
          for (int64_t c = 0; c < ins; ++c)
            taps(window, small, large, [&](const int64_t* so, const int64_t* t, const int64_t* li) {
              auto at = [&](const Shape& s, const Shape& s4, const std::vector<int64_t>& index) {
                return (lead(s) > 1 ? k * count(s4) : 0) + flat(index, s4);
              };
              const int64_t channel = o / perGroup * ins + c;
              const int64_t xi = at(xs, x4, {b, li[0], li[1], channel});
              const int64_t wi = at(ws, w4, {o, t[0], t[1], c});
              const int64_t yi = at(ys, y4, {b, so[0], so[1], o});
              if (forX)
                out[xi] += first[yi] * second[wi];
              else if (forW)
                out[wi] += first[xi] * second[yi];
              else
                out[yi] += first[xi] * second[wi];
            });
    return out;
  }

  Numbers normalised(const Node& node) const {
    const Shape& from = shapeIn(node, 0);
    const int64_t n = from.back(), rows = count(from) / n;
    const Numbers& x = in(node, 0);
    Numbers out;
    for (int64_t row = 0; row < rows; ++row) {
      double top = -INFINITY, total = 0;
      for (int64_t i = 0; i < n; ++i) top = std::fmax(top, x[row * n + i]);
      for (int64_t i = 0; i < n; ++i) total += std::exp(x[row * n + i] - top);
      if (node.op == Op::LogSumExp)
        out.push_back(top + std::log(total));
      else
        for (int64_t i = 0; i < n; ++i) out.push_back(std::exp(x[row * n + i] - top) / total);
    }
    return out;
  }

  const Graph& graph_;
  Leaves leaves_;
  std::unordered_map<Id, Numbers> known_;
};

}  // namespace eigenscope::reference
