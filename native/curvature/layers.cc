#include "curvature/layers.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <unordered_map>

#include "base/error.h"

namespace eigenscope {

namespace {

// Positions in a parameter's tensor, one for each element of a node that only moves them.
using Positions = std::vector<int64_t>;

// Elements of a row-major tensor at offset + sum of strides times indices, indices over `shape`.
Positions strided(const Positions& from, const Shape& shape, const std::vector<int64_t>& strides,
                  int64_t offset) {
  Positions out;
  out.reserve(static_cast<size_t>(count(shape)));
  std::vector<int64_t> at(shape.size(), 0);
  for (int64_t n = count(shape); n > 0; --n) {
    out.push_back(from[static_cast<size_t>(offset)]);
    for (size_t i = shape.size(); i-- > 0;) {
      offset += strides[i];
      if (++at[i] < shape[i]) break;
      offset -= strides[i] * shape[i];
      at[i] = 0;
    }
  }
  return out;
}

std::vector<int64_t> stridesOf(const Shape& shape) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
  return strides;
}

Positions permuted(const Positions& from, const Shape& shape, const std::vector<int64_t>& perm) {
  const std::vector<int64_t> strides = stridesOf(shape);
  Shape to;
  std::vector<int64_t> steps;
  for (int64_t axis : perm) {
    to.push_back(shape[static_cast<size_t>(axis)]);
    steps.push_back(strides[static_cast<size_t>(axis)]);
  }
  return strided(from, to, steps, 0);
}

Positions sliced(const Positions& from, const Shape& shape, const std::vector<int64_t>& ints,
                 const Shape& sizes) {
  std::vector<int64_t> strides = stridesOf(shape);
  int64_t offset = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    offset += ints[i] * strides[i];
    strides[i] *= ints[sizes.size() + i];
  }
  return strided(from, sizes, strides, offset);
}

int64_t sizeOf(const Shape& shape, const std::vector<int64_t>& axes) {
  int64_t n = 1;
  for (int64_t axis : axes) n *= shape[static_cast<size_t>(axis)];
  return n;
}

// [(K,) samples, positions, groups, width]. Axes are those of the node without K; `k` = 0: none.
Id toRows(Graph& g, Id node, const std::vector<int64_t>& positionAxes,
          const std::vector<int64_t>& groupAxes, const std::vector<int64_t>& widthAxes,
          const std::optional<SampleAxis>& samplesOf, int64_t k, int64_t samples) {
  const Shape shape(g.shape(node).begin() + (k > 0 ? 1 : 0), g.shape(node).end());
  // The axis of the samples is cut into what is outside, the samples, and what is inside.
  Shape cut;
  std::vector<std::vector<int64_t>> now(shape.size());
  int64_t sampleAxis = -1;
  for (size_t a = 0; a < shape.size(); ++a) {
    if (samplesOf && static_cast<size_t>(samplesOf->axis) == a) {
      now[a] = {static_cast<int64_t>(cut.size()), static_cast<int64_t>(cut.size()) + 2};
      sampleAxis = static_cast<int64_t>(cut.size()) + 1;
      cut.insert(cut.end(), {samplesOf->outer, samples, samplesOf->inner});
    } else {
      now[a] = {static_cast<int64_t>(cut.size())};
      cut.push_back(shape[a]);
    }
  }
  std::vector<int64_t> perm;
  if (sampleAxis >= 0) perm.push_back(sampleAxis);
  for (const auto& axes : {positionAxes, groupAxes, widthAxes})
    for (int64_t a : axes)
      perm.insert(perm.end(), now[static_cast<size_t>(a)].begin(),
                  now[static_cast<size_t>(a)].end());
  const int64_t groups = sizeOf(shape, groupAxes), width = sizeOf(shape, widthAxes);
  const int64_t first = sampleAxis >= 0 ? samples : 1;
  const int64_t positions = sizeOf(shape, positionAxes) / first;
  Shape rows = {first, positions, groups, width};
  if (k > 0) {
    for (int64_t& axis : perm) ++axis;
    perm.insert(perm.begin(), 0);
    cut.insert(cut.begin(), k);
    rows.insert(rows.begin(), k);
  }
  return g.reshape(g.permute(g.reshape(node, cut), perm), rows);
}

// Patches of a convolution's input: [B, H', W', groups, kh * kw * C / groups].
Id patchesOf(Graph& g, Id x, const Node& conv) {
  const Window& w = conv.attr.window;
  const Shape in = g.shape(x);
  const int64_t outH = conv.shape[1], outW = conv.shape[2];
  int64_t size[2];
  const int64_t out[2] = {outH, outW};
  for (int d = 0; d < 2; ++d)
    size[d] = std::max(in[static_cast<size_t>(d) + 1] + w.pad[d],
                       (out[d] - 1) * w.stride[d] + (w.kernel[d] - 1) * w.dilation[d] + 1);
  const Id padded =
      g.unslice(x, {0, w.pad[0], w.pad[1], 0}, {1, 1, 1, 1}, {in[0], size[0], size[1], in[3]});
  auto places = std::make_shared<std::vector<double>>();
  for (int64_t i = 0; i < outH; ++i)
    for (int64_t j = 0; j < outW; ++j)
      for (int64_t a = 0; a < w.kernel[0]; ++a)
        for (int64_t b = 0; b < w.kernel[1]; ++b)
          places->push_back(static_cast<double>((i * w.stride[0] + a * w.dilation[0]) * size[1] +
                                                j * w.stride[1] + b * w.dilation[1]));
  const int64_t window = w.kernel[0] * w.kernel[1], channels = in[3] / w.groups;
  const Id index = g.constant(places, {outH * outW, window}, Type::Int);
  const Id flat = g.reshape(padded, {in[0], size[0] * size[1], in[3]});
  Id patches = g.gather(flat, index, 1);  // [B, P, window, C]
  patches = g.reshape(patches, {in[0], outH * outW, window, w.groups, channels});
  patches = g.permute(patches, {0, 1, 3, 2, 4});
  return g.reshape(patches, {in[0], outH, outW, w.groups, window * channels});
}

struct Found {
  std::vector<LinearLayer> layers;
  std::string reason;  // why the parameter is more than that; "" where it is not
};

class Search {
 public:
  Search(Graph& graph, Id output, int64_t samples) : g_(graph), samples_(samples) {
    for (Id id : reachable(graph, {output}))
      for (Id in : graph[id].in) {
        auto& readers = readers_[in];
        if (std::find(readers.begin(), readers.end(), id) == readers.end()) readers.push_back(id);
      }
    axes_ = findSampleAxes(graph, samples);
  }

  Found of(int64_t parameter, const Shape& shape) {
    Found found;
    Positions all(static_cast<size_t>(count(shape)));
    std::iota(all.begin(), all.end(), 0);
    found_ = &found;
    parameter_ = parameter;
    walk(g_.param(parameter, shape), all, 1);
    if (!found.reason.empty()) return found;
    // Every entry in one place, and once.
    std::vector<int> uses(all.size(), 0);
    for (const LinearLayer& layer : found.layers)
      for (int64_t p : layer.order) ++uses[static_cast<size_t>(p)];
    if (found.layers.empty()) found.reason = "the loss does not depend on it";
    for (int n : uses) {
      if (n > 1) found.reason = "it is used more than once (tied weights)";
      if (n < 1 && found.reason.empty()) found.reason = "a part of it is not used";
    }
    return found;
  }

 private:
  void walk(Id node, const Positions& positions, double coefficient) {
    for (Id reader : readers_[node]) {
      const Node use = g_[reader];
      const Shape shape = g_.shape(node);
      switch (use.op) {
        case Op::Reshape:
        case Op::Spread:
        case Op::Barrier: walk(reader, positions, coefficient); break;
        case Op::Neg: walk(reader, positions, -coefficient); break;
        case Op::Permute:
          walk(reader, permuted(positions, shape, use.attr.ints), coefficient);
          break;
        case Op::Slice:
          walk(reader, sliced(positions, shape, use.attr.ints, use.shape), coefficient);
          break;
        case Op::Mul: scaled(reader, use, node, positions, coefficient); break;
        case Op::Dot: dot(reader, use, node, positions, coefficient); break;
        case Op::Conv: conv(reader, use, node, positions, coefficient); break;
        case Op::Add:
        case Op::Sub: add(reader, use, node, positions, coefficient); break;
        default:
          refuse(std::string("it is an operand of ") + name(use.op) +
                 (use.op == Op::Gather      ? " (an embedding)"
                  : use.op == Op::ConvInput ? " (a transposed convolution)"
                                            : ""));
      }
    }
  }

  void refuse(const std::string& reason) {
    if (found_->reason.empty()) found_->reason = reason;
  }

  // By one known number: the alpha of a Gemm.
  void scaled(Id reader, const Node& use, Id node, const Positions& positions, double coefficient) {
    const Id other = use.in[0] == node ? use.in[1] : use.in[0];
    if (other != node && g_[other].op == Op::Const && g_.constantOf(other)->size() == 1 &&
        count(use.shape) == count(g_.shape(node)))
      walk(reader, positions, coefficient * (*g_.constantOf(other))[0]);
    else
      refuse("it scales other values (a normalisation or a gate)");
  }

  void dot(Id reader, const Node& use, Id node, const Positions& positions, double coefficient) {
    if (use.in[0] == use.in[1]) return refuse("it is multiplied by itself");
    const bool second = use.in[1] == node;
    const Id x = use.in[second ? 0 : 1];
    if (use.scope != Scope::Local || g_[x].op == Op::Spread || g_[x].scope != Scope::Local)
      return refuse("it is multiplied by other parameters");
    const std::string& l = use.attr.labels;
    const size_t comma = l.find(','), arrow = l.find("->");
    const std::string first = l.substr(0, comma), last = l.substr(comma + 1, arrow - comma - 1);
    const std::string &lw = second ? last : first, &lx = second ? first : last;
    const std::string lo = l.substr(arrow + 2);
    auto in = [](const std::string& labels, char c) { return labels.find(c) != labels.npos; };
    auto places = [](const std::string& labels, const std::string& wanted) {
      std::vector<int64_t> axes;
      for (char c : wanted) axes.push_back(static_cast<int64_t>(labels.find(c)));
      return axes;
    };
    std::string rows, groups, outs, ins;
    for (char c : lo) (in(lw, c) ? (in(lx, c) ? groups : outs) : rows) += c;
    for (char c : lw)
      if (!in(lo, c)) ins += c;
    // A sum over what only the weight has does not occur; over what only x has neither.
    LinearLayer layer = made(reader, coefficient);
    const Shape w = g_.shape(node);
    std::vector<int64_t> perm = places(lw, groups + outs + ins);
    layer.groups = sizeOf(w, places(lw, groups));
    layer.out = sizeOf(w, places(lw, outs));
    layer.in = sizeOf(w, places(lw, ins));
    layer.order = permuted(positions, w, perm);
    layer.positionAxes = places(lo, rows);
    layer.groupAxes = places(lo, groups);
    layer.outAxes = places(lo, outs);
    layer.samplesOf = inPositions(layer, reader);
    const auto xAxes = axes_[static_cast<size_t>(x)];
    // The same axis on both sides, or the rows would be taken apart differently.
    const bool same =
        layer.samplesOf && xAxes &&
        lx[static_cast<size_t>(xAxes->axis)] == lo[static_cast<size_t>(layer.samplesOf->axis)];
    if (!same) layer.samplesOf.reset();
    layer.inputs.node = toRows(g_, x, places(lx, rows), places(lx, groups), places(lx, ins),
                               same ? xAxes : std::nullopt, 0, samples_);
    finish(layer);
  }

  void conv(Id reader, const Node& use, Id node, const Positions& positions, double coefficient) {
    if (use.in[1] != node || use.in[0] == node) return refuse("it is convolved");
    const Id x = use.in[0];
    if (g_[x].op == Op::Spread || g_[x].scope != Scope::Local)
      return refuse("it is convolved with other parameters");
    LinearLayer layer = made(reader, coefficient);
    const Shape w = g_.shape(node);  // [O, kh, kw, C / groups]
    layer.groups = use.attr.window.groups;
    layer.out = w[0] / layer.groups;
    layer.in = w[1] * w[2] * w[3];
    layer.order = positions;
    layer.samplesOf = axes_[static_cast<size_t>(reader)];
    const Id patches = patchesOf(g_, x, use);
    layer.inputs.node = toRows(g_, patches, {0, 1, 2}, {3}, {4}, layer.samplesOf, 0, samples_);
    layer.positionAxes = {0, 1, 2};
    layer.groupAxes = {};
    layer.outAxes = {3};
    finish(layer);
  }

  void add(Id reader, const Node& use, Id node, const Positions& positions, double coefficient) {
    const Id other = use.in[0] == node ? use.in[1] : use.in[0];
    if (use.scope != Scope::Local || other == node || g_[other].op == Op::Spread)
      return refuse("it is added to other parameters");
    if (use.op == Op::Sub && use.in[1] == node) coefficient = -coefficient;
    LinearLayer layer = made(reader, coefficient);
    const Shape shape = g_.shape(node);
    for (size_t a = 0; a < shape.size(); ++a)
      (shape[a] == 1 ? layer.positionAxes : layer.outAxes).push_back(static_cast<int64_t>(a));
    if (layer.outAxes.size() > 1)
      return refuse("it is added position by position (a positional embedding)");
    layer.bias = true;
    layer.out = count(shape);
    layer.order = positions;
    layer.samplesOf = inPositions(layer, reader);
    finish(layer);
  }

  LinearLayer made(Id output, double coefficient) const {
    LinearLayer layer;
    layer.parameter = parameter_;
    layer.output = output;
    layer.coefficient = coefficient;
    return layer;
  }

  // The output's axis of samples, where it is one of the rows.
  std::optional<SampleAxis> inPositions(const LinearLayer& layer, Id output) const {
    const auto axis = axes_[static_cast<size_t>(output)];
    if (!axis) return axis;
    const auto& rows = layer.positionAxes;
    const bool among = std::find(rows.begin(), rows.end(), axis->axis) != rows.end();
    return among ? axis : std::nullopt;
  }

  void finish(LinearLayer& layer) {
    layer.inputs.bySample = layer.samplesOf.has_value();
    const int64_t rows = sizeOf(g_.shape(layer.output), layer.positionAxes);
    layer.shared = !layer.samplesOf || rows != samples_;
    layer.positions = static_cast<double>(rows) / static_cast<double>(samples_);
    found_->layers.push_back(std::move(layer));
  }

  Graph& g_;
  const int64_t samples_;
  std::unordered_map<Id, std::vector<Id>> readers_;
  std::vector<std::optional<SampleAxis>> axes_;
  Found* found_ = nullptr;
  int64_t parameter_ = 0;
};

}  // namespace

Id outputRows(Graph& graph, const LinearLayer& layer, Id derivative, int64_t k, int64_t samples) {
  std::vector<int64_t> out = layer.groupAxes;
  out.insert(out.end(), layer.outAxes.begin(), layer.outAxes.end());
  const Id rows =
      toRows(graph, derivative, layer.positionAxes, {}, out, layer.samplesOf, k, samples);
  // Channels of a convolution are groups by outputs.
  Shape shape = graph.shape(rows);
  shape[shape.size() - 2] = layer.groups;
  shape.back() = layer.out;
  return graph.reshape(rows, shape);
}

Layers findLayers(Graph& graph, Id output, const std::vector<Shape>& shapes,
                  const std::vector<int64_t>& wanted, int64_t samples) {
  Search search(graph, output, samples);
  Layers layers;
  for (int64_t parameter : wanted) {
    Found found = search.of(parameter, shapes[static_cast<size_t>(parameter)]);
    if (found.reason.empty())
      layers.layers.insert(layers.layers.end(), found.layers.begin(), found.layers.end());
    else
      layers.others.push_back({parameter, found.reason});
  }
  return layers;
}

}  // namespace eigenscope
