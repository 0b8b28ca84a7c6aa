#include <algorithm>
#include <map>

#include "base/error.h"
#include "compile/liveness.h"
#include "compile/program.h"
#include "compile/units.h"

namespace eigenscope {

namespace {

int64_t elementBytes(Type type, Precision precision) {
  switch (type) {
    case Type::Real: return static_cast<int64_t>(bytesOf(precision));
    case Type::Int: return 4;
    case Type::Bool: return 1;
  }
  return 0;
}

class Compiler {
 public:
  Compiler(const Graph& graph, const std::vector<Id>& outputs, Precision precision,
           int64_t directions)
      : g_(graph), units_(graph, outputs) {
    p_.precision = precision;
    p_.directions = directions;
    place_.resize(graph.size());
    position_.assign(graph.size(), -1);
    isOutput_.assign(graph.size(), false);
    for (Id id : outputs) isOutput_[units_.root(id)] = true;
    for (size_t u = 0; u < units_.units().size(); ++u)
      for (Id id : units_.units()[u].members) position_[id] = static_cast<int>(u);
    findLastUses();
    for (size_t u = 0; u < units_.units().size(); ++u) emit(static_cast<int>(u));
    for (Id id : outputs) {
      p_.outputs.push_back(place_[units_.root(id)]);
      p_.outputShapes.push_back(g_.shape(id));
    }
    p_.bytes[static_cast<int>(Space::Work)] = std::max(work_[0].size(), work_[1].size());
    p_.bytes[static_cast<int>(Space::Partial)] =
        p_.sumElements * static_cast<int64_t>(bytesOf(precision));
  }

  Program take() { return std::move(p_); }

 private:
  int64_t bytes(Id id) const {
    return count(g_.shape(id)) * elementBytes(g_[id].type, p_.precision);
  }

  bool readByTangent(Id root) const {
    for (Id reader : units_.readers(root))
      if (units_.stageOf(reader) == Stage::Tangent) return true;
    return false;
  }

  bool isSplatLeaf(Id id) const { return g_[id].op == Op::Const && g_.constantOf(id)->size() == 1; }

  // A splat constant that only elementwise loops read is one element.
  bool storedWhole(Id constant) const {
    if (!isSplatLeaf(constant) || isOutput_[constant]) return true;
    for (Id reader : units_.readers(constant))
      if (!isElementwise(g_[reader].op)) return true;
    return false;
  }

  void findLastUses() {
    last_.assign(g_.size(), -1);
    auto use = [&](Id root, Id by) { last_[root] = std::max(last_[root], position_[by]); };
    for (const auto& unit : units_.units())
      for (Id id : unit.members) {
        for (Id in : g_[id].in) use(units_.root(in), id);
        Id t = units_.target(id);
        if (t != kNone && g_[t].op != Op::Collect) use(t, id);
      }
  }

  Place bump(Space space, int64_t size) {
    int64_t& top = p_.bytes[static_cast<int>(space)];
    Place place{space, top};
    top += Arena::rounded(size);
    return place;
  }

  int localStage(Stage stage) const { return stage == Stage::Tangent ? 1 : 0; }

  Place placeFor(Id id) {
    const Stage stage = units_.stageOf(id);
    const int64_t size = bytes(id);
    switch (stage) {
      case Stage::Constant: return bump(Space::Constant, size);
      case Stage::Setup: return bump(Space::Global, size);
      case Stage::Direction: return bump(Space::Direction, size);
      case Stage::Post: return bump(Space::Collected, size);
      case Stage::Primal:
        if (readByTangent(id) || isOutput_[id]) return bump(Space::Residual, size);
        return {Space::Work, work_[0].take(size)};
      case Stage::Tangent:
        if (isOutput_[id]) return bump(Space::Residual, size);
        return {Space::Work, work_[1].take(size)};
    }
    return {};
  }

  void release(int unit) {
    // Buffers whose last reader this was, and results that nobody reads.
    auto giveBack = [&](Id root) {
      if (last_[root] > unit || released_[root]) return;
      released_[root] = true;
      if (place_[root].space == Space::Work && place_[root].offset >= 0)
        work_[localStage(units_.stageOf(root))].give(place_[root].offset, bytes(root));
    };
    for (Id id : units_.units()[unit].members) {
      for (Id in : g_[id].in) giveBack(units_.root(in));
      Id t = units_.target(id);
      if (t != kNone && g_[t].op != Op::Collect) giveBack(t);
      if (t == kNone) giveBack(id);
    }
  }

  void emit(int u) {
    if (released_.empty()) released_.assign(g_.size(), false);
    const auto& members = units_.units()[u].members;
    const Id id = members.back();
    const Node& node = g_[id];
    if (isElementwise(node.op))
      emitFused(members);
    else if (node.op == Op::Collect)
      emitCollect(id);
    else if (kindOf(node.op) == Kind::L)
      emitLeaf(id);
    else
      emitPrimitive(id);
    release(u);
  }

  std::vector<Step>& steps(Id id) { return p_.stages[static_cast<int>(units_.stageOf(id))]; }

  void emitLeaf(Id id) {
    const Node& node = g_[id];
    switch (node.op) {
      case Op::Param:
        place_[id] = bump(Space::Global, bytes(id));
        p_.parameters.push_back({node.attr.ints[0], place_[id], node.shape});
        break;
      case Op::Tangent:
        place_[id] = bump(Space::Direction, bytes(id));
        p_.tangents.push_back({node.attr.ints[0], place_[id], node.shape});
        break;
      case Op::Input:
        place_[id] = placeFor(id);
        steps(id).push_back({Step::What::Load, id, {}, {place_[id]}, false, {}});
        break;
      case Op::Const:
        place_[id] = bump(Space::Constant,
                          storedWhole(id) ? bytes(id) : elementBytes(node.type, p_.precision));
        steps(id).push_back({Step::What::Load, id, {}, {place_[id]}, false, {}});
        if (!storedWhole(id)) steps(id).back().loop.iteration = {1};  // one element for all
        break;
      default:
        throw Error(ErrorKind::Internal,
                    std::string(name(node.op)) + " was left in a graph to be compiled");
    }
  }

  Place sumPlace(Id collect) {
    auto [at, isNew] = sumOf_.try_emplace(collect, p_.sums.size());
    if (isNew) {
      Place collected = bump(Space::Collected, bytes(collect));
      p_.sums.push_back({p_.sumElements, count(g_.shape(collect)), collected});
      p_.sumElements +=
          Arena::rounded(bytes(collect)) / static_cast<int64_t>(bytesOf(p_.precision));
      place_[collect] = collected;
    }
    return {Space::Partial,
            p_.sums[at->second].offset * static_cast<int64_t>(bytesOf(p_.precision))};
  }

  void emitCollect(Id id) {
    Place partial = sumPlace(id);
    if (units_.collectedInPlace(id)) return;
    steps(id).push_back(
        {Step::What::Accumulate, id, {place_[units_.root(g_[id].in[0])]}, {partial}, true, {}});
  }

  void emitPrimitive(Id id) {
    Step step{Step::What::Primitive, id, {}, {}, false, {}};
    for (Id in : g_[id].in) step.in.push_back(place_[units_.root(in)]);
    Id target = units_.target(id);
    if (target == kNone) {
      place_[id] = placeFor(id);
      step.out = {place_[id]};
    } else {
      step.accumulate = true;
      step.out = {g_[target].op == Op::Collect ? sumPlace(target) : place_[target]};
    }
    const double flops = flopsOf(g_, id);
    if (units_.stageOf(id) == Stage::Tangent) p_.tangentFlops += flops;
    if (units_.stageOf(id) == Stage::Primal) p_.primalFlops += flops;
    steps(id).push_back(std::move(step));
  }

  void emitFused(const std::vector<Id>& members) {
    Step step{Step::What::Fused, members.back(), {}, {}, false, {}};
    FusedLoop& loop = step.loop;
    loop.iteration = g_.shape(members.back());
    std::map<Id, int> values;                    // member -> value
    std::map<std::pair<Id, Shape>, int> inputs;  // root and view -> value
    std::vector<std::pair<Id, Id>> external;     // (root, operand) in order
    for (Id id : members)
      for (Id in : g_[id].in) {
        Id r = units_.root(in);
        if (std::find(members.begin(), members.end(), r) != members.end()) continue;
        if (inputs.try_emplace({r, g_.shape(in)}, static_cast<int>(external.size())).second)
          external.push_back({r, in});
      }
    for (auto [r, in] : external) {
      step.in.push_back(place_[r]);
      const Shape& shape = g_.shape(in);
      FusedLoop::Input input{g_[in].type, std::vector<int64_t>(loop.iteration.size(), 0)};
      int64_t stride = 1;
      for (size_t a = shape.size(); a-- > 0;) {
        if (shape[a] != 1) input.strides[a] = stride;
        stride *= shape[a];
      }
      if (!storedWholeOrComputed(r)) std::fill(input.strides.begin(), input.strides.end(), 0);
      loop.inputs.push_back(std::move(input));
    }
    if (loop.inputs.size() > kMaxOperands)
      throw Error(ErrorKind::Internal, "a fused loop has too many operands");
    int next = static_cast<int>(external.size());
    for (Id id : members) {
      const Node& node = g_[id];
      FusedLoop::Code code{node.op, next, {-1, -1, -1}, node.attr.number, node.type};
      for (size_t i = 0; i < node.in.size(); ++i) {
        Id r = units_.root(node.in[i]);
        auto at = values.find(r);
        code.operand[i] = at != values.end() ? at->second : inputs.at({r, g_.shape(node.in[i])});
      }
      values[id] = next++;
      loop.codes.push_back(code);
    }
    for (Id id : members) {
      bool outside = isOutput_[id];
      for (Id reader : units_.readers(id)) outside = outside || position_[reader] != position_[id];
      if (!outside) continue;
      place_[id] = placeFor(id);
      step.out.push_back(place_[id]);
      loop.outputs.push_back({values.at(id), g_[id].type});
    }
    steps(members.back()).push_back(std::move(step));
  }

  bool storedWholeOrComputed(Id root) const {
    return g_[root].op != Op::Const || storedWhole(root);
  }

  const Graph& g_;
  Units units_;
  Program p_;
  std::vector<Place> place_;
  std::vector<int> position_, last_;
  std::vector<bool> isOutput_, released_;
  std::map<Id, size_t> sumOf_;
  Arena work_[2];
};

}  // namespace

Program compile(const Graph& graph, const std::vector<Id>& outputs, Precision precision,
                int64_t directions) {
  return Compiler(graph, outputs, precision, directions).take();
}

double flopsOf(const Graph& graph, Id id) {
  const Node& node = graph[id];
  switch (node.op) {
    case Op::Dot: {
      // Every label once: the result's, and the summed ones.
      const std::string& l = node.attr.labels;
      const size_t comma = l.find(','), arrow = l.find("->");
      double flops = 2.0 * static_cast<double>(count(node.shape));
      for (size_t i = 0; i < comma; ++i)
        if (l.find(l[i], arrow) == l.npos) flops *= static_cast<double>(graph.shape(node.in[0])[i]);
      return flops;
    }
    case Op::Conv:
    case Op::ConvInput:
    case Op::ConvWeight: {
      // All three: outputs of the convolution x taps x channels of a group, for each direction.
      const Shape& y =
          node.op == Op::Conv ? node.shape : graph.shape(node.in[node.op == Op::ConvInput ? 0 : 1]);
      const Shape& w = node.op == Op::ConvWeight ? node.shape : graph.shape(node.in[1]);
      double k = node.shape.size() == 5 ? static_cast<double>(node.shape[0]) : 1;
      double perY = 1, perW = 1;
      for (size_t i = y.size() - 4; i < y.size(); ++i) perY *= static_cast<double>(y[i]);
      for (size_t i = w.size() - 3; i < w.size(); ++i) perW *= static_cast<double>(w[i]);
      return 2 * k * perY * perW;
    }
    default: return 0;
  }
}

std::string print(const Program& program, const Graph& graph) {
  static const char* const kStageNames[] = {"constant", "setup",   "direction",
                                            "primal",   "tangent", "post"};
  static const char* const kSpaceNames[] = {"const", "global",  "dir",      "resid",
                                            "work",  "partial", "collected"};
  auto show = [&](const Place& p) {
    return std::string(kSpaceNames[static_cast<int>(p.space)]) + "+" + std::to_string(p.offset);
  };
  std::string text;
  for (int s = 0; s < kStages; ++s) {
    text +=
        std::string(kStageNames[s]) + " (" + std::to_string(program.stages[s].size()) + " steps)\n";
    for (const Step& step : program.stages[s]) {
      text += "  ";
      if (step.what == Step::What::Load) text += "load ";
      if (step.what == Step::What::Fused)
        text += "loop of " + std::to_string(step.loop.codes.size()) + " ";
      text += graph.print(step.node);
      for (const Place& in : step.in) text += " <" + show(in);
      for (const Place& out : step.out) text += (step.accumulate ? " +>" : " >") + show(out);
      text += "\n";
    }
  }
  for (int s = 0; s < kSpaces; ++s)
    text += std::string(kSpaceNames[s]) + ": " + std::to_string(program.bytes[s]) + " bytes\n";
  return text;
}

}  // namespace eigenscope
