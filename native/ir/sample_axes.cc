#include "ir/sample_axes.h"

#include <algorithm>

namespace eigenscope {

namespace {

using Axis = std::optional<SampleAxis>;

int64_t product(const Shape& shape, size_t from) {
  int64_t n = 1;
  for (size_t i = from; i < shape.size(); ++i) n *= shape[i];
  return n;
}

class Finder {
 public:
  Finder(const Graph& graph, int64_t samples) : g_(graph), samples_(samples) {}

  std::vector<Axis> run() {
    axes_.resize(static_cast<size_t>(g_.size()));
    for (Id id = 0; id < g_.size(); ++id) axes_[static_cast<size_t>(id)] = of(id);
    return axes_;
  }

 private:
  Axis at(Id id) const { return axes_[static_cast<size_t>(id)]; }

  // A row-major axis in another cut of the same elements.
  Axis reshaped(const Axis& from, const Shape& before, const Shape& after) const {
    const int64_t stride = from->inner * product(before, static_cast<size_t>(from->axis) + 1);
    for (size_t a = 0; a < after.size(); ++a) {
      const int64_t below = product(after, a + 1);
      if (below == 0 || stride % below != 0) continue;
      const int64_t inner = stride / below, span = inner * samples_;
      if (after[a] % span != 0) continue;
      // Axes of length 1 before it fit as well.
      if (after[a] == 1 && samples_ > 1) continue;
      return SampleAxis{static_cast<int64_t>(a), after[a] / span, inner};
    }
    return std::nullopt;
  }

  // One axis of the operands' common shape.
  Axis shared(const Node& node) const {
    Axis found;
    for (Id in : node.in) {
      const Axis axis = at(in);
      if (!axis) continue;
      if (found &&
          (found->axis != axis->axis || found->outer != axis->outer || found->inner != axis->inner))
        return std::nullopt;
      found = axis;
    }
    return found;
  }

  Axis touched(const Axis& axis, const std::vector<int64_t>& axes) const {
    if (axis && std::find(axes.begin(), axes.end(), axis->axis) != axes.end()) return std::nullopt;
    return axis;
  }

  Axis dot(const Node& node) const {
    const std::string& l = node.attr.labels;
    const size_t comma = l.find(','), arrow = l.find("->");
    const std::string operands[] = {l.substr(0, comma), l.substr(comma + 1, arrow - comma - 1)};
    const std::string out = l.substr(arrow + 2);
    Axis found;
    char label = 0;
    for (size_t i = 0; i < 2; ++i) {
      const Axis axis = at(node.in[i]);
      if (!axis) continue;
      const char here = operands[i][static_cast<size_t>(axis->axis)];
      if (label && here != label) return std::nullopt;
      label = here;
      found = axis;
    }
    const size_t place = label ? out.find(label) : std::string::npos;
    if (place == std::string::npos) return std::nullopt;
    found->axis = static_cast<int64_t>(place);
    return found;
  }

  bool fromWindow(Id index) const {
    while (g_[index].op == Op::Reshape || g_[index].op == Op::Permute) index = g_[index].in[0];
    return g_[index].op == Op::WindowArgmax;
  }

  Axis of(Id id) const {
    const Node& node = g_[id];
    const Shape& shape = node.shape;
    const auto& ints = node.attr.ints;
    const size_t rank = shape.size();
    switch (node.op) {
      case Op::Input:
        if (rank > 0 && shape[0] == samples_) return SampleAxis{};
        return std::nullopt;
      case Op::Param:
      case Op::Tangent:
      case Op::Probe:
      case Op::Const:
      case Op::Spread:
      case Op::Collect: return std::nullopt;
      case Op::Reshape:
        if (!at(node.in[0])) return std::nullopt;
        return reshaped(at(node.in[0]), g_.shape(node.in[0]), shape);
      case Op::Permute: {
        Axis axis = at(node.in[0]);
        if (axis) axis->axis = std::find(ints.begin(), ints.end(), axis->axis) - ints.begin();
        return axis;
      }
      case Op::Slice:
      case Op::Unslice: {
        const Axis axis = at(node.in[0]);
        const auto a = axis ? static_cast<size_t>(axis->axis) : 0;
        return axis && g_.shape(node.in[0])[a] != shape[a] ? std::nullopt : axis;
      }
      case Op::Concat: return touched(shared(node), {ints[0]});
      case Op::Gather: {
        const Axis table = at(node.in[0]), index = at(node.in[1]);
        const auto grown = static_cast<int64_t>(g_.shape(node.in[1]).size());
        // What is taken from where a window has its maximum comes from the same sample.
        if (index && (!table || fromWindow(node.in[1]))) {
          Axis axis = index;
          axis->axis += ints[0];
          return axis;
        }
        if (!table || index || table->axis == ints[0]) return std::nullopt;
        Axis axis = table;
        if (axis->axis > ints[0]) axis->axis += grown - 1;
        return axis;
      }
      case Op::Sum:
      case Op::ReduceMax: return touched(shared(node), ints);
      case Op::Softmax:
      case Op::LogSumExp: return touched(shared(node), {static_cast<int64_t>(rank) - 1});
      case Op::WindowSum:
      case Op::WindowSpread:
      case Op::WindowArgmax: {
        const auto r = static_cast<int64_t>(rank);
        return touched(shared(node), {r - 3, r - 2});
      }
      case Op::Dot: return dot(node);
      case Op::Conv:
      case Op::ConvInput: {
        const Axis axis = at(node.in[0]);
        return axis && axis->axis == 0 ? axis : std::nullopt;
      }
      default:
        if (isElementwise(node.op) || node.op == Op::Broadcast) {
          // Ranks are aligned; a Broadcast may make its axes in front.
          Axis axis = shared(node);
          if (axis && node.op == Op::Broadcast)
            axis->axis += static_cast<int64_t>(rank - g_.shape(node.in[0]).size());
          return axis;
        }
        return std::nullopt;
    }
  }

  const Graph& g_;
  const int64_t samples_;
  std::vector<Axis> axes_;
};

}  // namespace

std::vector<std::optional<SampleAxis>> findSampleAxes(const Graph& graph, int64_t samples) {
  return Finder(graph, samples).run();
}

}  // namespace eigenscope
