#include "compile/units.h"

#include <algorithm>
#include <queue>

#include "base/error.h"

namespace eigenscope {

bool isAlias(Op op) {
  return op == Op::Reshape || op == Op::Barrier || op == Op::Spread || op == Op::StopGradient;
}

bool isLeaf(Op op) { return kindOf(op) == Kind::L; }

Units::Units(const Graph& graph, const std::vector<Id>& outputs) : g_(graph) {
  order_ = reachable(graph, outputs);
  const size_t n = graph.size();
  needed_.assign(n, false);
  varying_.assign(n, false);
  output_.assign(n, false);
  inPlace_.assign(n, false);
  stage_.assign(n, Stage::Constant);
  alias_.resize(n);
  target_.assign(n, kNone);
  readers_.resize(n);
  after_.resize(n);
  group_.assign(n, -1);
  for (Id id = 0; id < static_cast<Id>(n); ++id) alias_[id] = id;
  assignStages(outputs);
  assignAliases();
  for (Id id : outputs) output_[root(id)] = true;
  accumulateCollects();
  accumulateSums();
  fuse();
  order();
}

void Units::assignStages(const std::vector<Id>&) {
  for (Id id : order_) {
    const Node& node = g_[id];
    needed_[id] = true;
    varying_[id] = node.op == Op::Tangent;
    for (Id in : node.in) varying_[id] = varying_[id] || varying_[in];
    switch (node.scope) {
      case Scope::Const: stage_[id] = Stage::Constant; break;
      case Scope::Global: stage_[id] = varying_[id] ? Stage::Direction : Stage::Setup; break;
      case Scope::Local: stage_[id] = varying_[id] ? Stage::Tangent : Stage::Primal; break;
      case Scope::Collected: stage_[id] = Stage::Post; break;
    }
    // The sum itself is made by the micro-batches.
    if (node.op == Op::Collect) stage_[id] = varying_[id] ? Stage::Tangent : Stage::Primal;
  }
}

void Units::assignAliases() {
  for (Id id : order_) {
    const Node& node = g_[id];
    if (isAlias(node.op)) alias_[id] = node.in[0];
  }
  for (Id id : order_)
    if (!isAlias(g_[id].op))
      for (Id in : g_[id].in) readers_[root(in)].push_back(id);
}

// Kernels that can add to their result.
bool Units::accumulates(Id id) const {
  switch (g_[id].op) {
    case Op::Dot:
    case Op::Conv:
    case Op::ConvInput:
    case Op::ConvWeight:
    case Op::Sum:
    case Op::ScatterAdd:
    case Op::WindowSum:
    case Op::WindowSpread:
    case Op::Unslice: return true;
    default: return false;
  }
}

// Whether the producers of x can add into `target` themselves: nobody else reads them.
bool Units::canAdd(Id x, Id target) const {
  const Id r = root(x);
  if (readers_[r].size() != 1 || output_[r] || stage_[r] != stage_[target]) return false;
  if (accumulates(r)) return true;
  const Node& node = g_[r];
  if (node.op != Op::Add || root(node.in[0]) == root(node.in[1])) return false;
  for (Id in : node.in)
    if (count(g_.shape(in)) != count(node.shape) || !canAdd(in, target)) return false;
  return true;
}

void Units::addInto(Id x, Id target) {
  const Id r = root(x);
  if (accumulates(r)) {
    target_[r] = target;
    return;
  }
  inPlace_[r] = true;  // an Add that has nothing left to do
  for (Id in : g_[r].in) addInto(in, target);
}

void Units::accumulateCollects() {
  for (Id id : order_)
    if (g_[id].op == Op::Collect && canAdd(g_[id].in[0], id)) {
      addInto(g_[id].in[0], id);
      inPlace_[id] = true;
    }
}

// a + product: the product adds into the buffer of a.
void Units::accumulateSums() {
  for (Id id : order_) {
    const Node& node = g_[id];
    if (node.op != Op::Add || inPlace_[id]) continue;
    if (stage_[id] != Stage::Primal && stage_[id] != Stage::Tangent) continue;
    Id base = node.in[0];
    Id a = root(node.in[0]), b = root(node.in[1]);
    if (a == b || count(g_.shape(a)) != count(node.shape) ||
        count(g_.shape(b)) != count(node.shape))
      continue;
    auto free = [&](Id r) {
      return readers_[r].size() == 1 && !output_[r] && stage_[r] == stage_[id] &&
             target_[r] == kNone && !isLeaf(g_[r].op);
    };
    auto product = [&](Id r) { return free(r) && accumulates(r); };
    if (!(product(b) && free(a))) {
      std::swap(a, b);
      base = node.in[1];
    }
    if (!(product(b) && free(a))) continue;
    target_[b] = a;
    after_[b].push_back(a);
    // Whoever reads the sum reads the buffer of a, after b has run.
    alias_[id] = base;
    readers_[a] = readers_[id];
    if (output_[id]) output_[a] = true;
  }
}

std::vector<Id> Units::dependencies(Id id) const {
  std::vector<Id> out;
  auto need = [&](Id in) {
    // Through names to producers; the name of a sum made in place stands for all its summands.
    std::vector<Id> pending = {in};
    while (!pending.empty()) {
      Id at = pending.back();
      pending.pop_back();
      const bool named = alias_[at] != at || (g_[at].op == Op::Add && inPlace_[at]);
      if (!named)
        out.push_back(at);
      else
        for (Id x : g_[at].in) pending.push_back(x);
    }
  };
  for (Id in : g_[id].in) need(in);
  for (Id in : after_[id]) need(in);
  return out;
}

// `place` is an order in which every unit comes after those before it, so that only what lies
// between the two needs a look.
bool Units::reaches(int from, int to, const std::vector<std::set<int>>& next,
                    const std::vector<int>& place) {
  if (place[from] > place[to]) return false;
  seen_.resize(next.size(), 0);
  ++search_;
  std::vector<int> pending = {from};
  while (!pending.empty()) {
    int at = pending.back();
    pending.pop_back();
    if (at == to) return true;
    if (seen_[at] == search_) continue;
    seen_[at] = search_;
    for (int n : next[at])
      if (seen_[n] != search_ && place[n] <= place[to]) pending.push_back(n);
  }
  return false;
}

namespace {

// Units in an order in which each comes after those before it.
std::vector<int> topological(const std::vector<std::set<int>>& next,
                             const std::vector<std::set<int>>& before) {
  std::vector<size_t> waiting(next.size());
  std::vector<int> order;
  for (size_t u = 0; u < next.size(); ++u) {
    waiting[u] = before[u].size();
    if (waiting[u] == 0) order.push_back(static_cast<int>(u));
  }
  for (size_t i = 0; i < order.size(); ++i)
    for (int n : next[order[i]])
      if (--waiting[n] == 0) order.push_back(n);
  return order;
}

// The order where v has gone into u, which comes later: what does not need v, then u, then what
// does. v keeps its place and means nothing.
void join(int v, int u, const std::vector<std::set<int>>& before, std::vector<int>& order,
          std::vector<int>& place) {
  std::vector<int> free, needing;
  std::vector<char> marked(place[u] - place[v] + 1, 0);
  marked[0] = 1;
  for (int p = place[v] + 1; p < place[u]; ++p) {
    const bool needs = std::any_of(before[order[p]].begin(), before[order[p]].end(), [&](int b) {
      return place[b] >= place[v] && marked[place[b] - place[v]];
    });
    marked[p - place[v]] = needs;
    (needs ? needing : free).push_back(order[p]);
  }
  int p = place[v];
  free.push_back(u);
  free.insert(free.end(), needing.begin(), needing.end());
  for (int unit : free) {
    order[++p] = unit;
    place[unit] = p;
  }
}

}  // namespace

// Joins elementwise nodes of one stage and shape with their producers, as long as nothing outside
// of the group lies between.
void Units::fuse() {
  auto fusable = [&](Id id) {
    return needed_[id] && isElementwise(g_[id].op) && !isAlias(g_[id].op) && alias_[id] == id &&
           !inPlace_[id];
  };
  // One unit a node first.
  std::vector<Id> nodes;
  for (Id id : order_)
    if (alias_[id] == id && !(g_[id].op == Op::Add && inPlace_[id])) nodes.push_back(id);
  std::vector<int> unit(g_.size(), -1);
  std::vector<std::vector<Id>> members;
  std::vector<std::set<int>> next, before;
  for (Id id : nodes) {
    unit[id] = static_cast<int>(members.size());
    members.push_back({id});
  }
  next.resize(members.size());
  before.resize(members.size());
  for (Id id : nodes)
    for (Id d : dependencies(id))
      if (unit[d] >= 0 && unit[d] != unit[id]) {
        next[unit[d]].insert(unit[id]);
        before[unit[id]].insert(unit[d]);
      }
  std::vector<int> sorted = topological(next, before), place(next.size());
  for (size_t i = 0; i < sorted.size(); ++i) place[sorted[i]] = static_cast<int>(i);
  for (Id id : nodes) {
    if (!fusable(id)) continue;
    for (Id in : g_[id].in) {
      Id p = root(in);
      int u = unit[id], v = unit[p];
      if (!fusable(p) || u == v || stage_[p] != stage_[id] || g_.shape(p) != g_.shape(id) ||
          g_.shape(in) != g_.shape(p))
        continue;
      if (members[u].size() + members[v].size() > kMaxMembers) continue;
      // A path from v to u beside the direct edge would become a cycle.
      bool cycle = false;
      for (int w : next[v])
        if (w != u && reaches(w, u, next, place)) {
          cycle = true;
          break;
        }
      if (!cycle)
        for (int w : next[u])
          if (w != v && reaches(w, v, next, place)) {
            cycle = true;
            break;
          }
      if (cycle) continue;
      join(v, u, before, sorted, place);
      for (Id m : members[v]) unit[m] = u;
      members[u].insert(members[u].end(), members[v].begin(), members[v].end());
      members[v].clear();
      for (int w : next[v]) {
        before[w].erase(v);
        if (w != u) {
          before[w].insert(u);
          next[u].insert(w);
        }
      }
      for (int w : before[v]) {
        next[w].erase(v);
        if (w != u) {
          next[w].insert(u);
          before[u].insert(w);
        }
      }
      next[v].clear();
      before[v].clear();
      next[u].erase(u);
      before[u].erase(u);
    }
  }
  for (auto& m : members) {
    if (m.empty()) continue;
    std::sort(m.begin(), m.end());
    for (Id id : m) group_[id] = static_cast<int>(units_.size());
    units_.push_back({m});
  }
}

void Units::order() {
  const size_t n = units_.size();
  std::vector<std::set<int>> next(n);
  std::vector<int> waiting(n, 0);
  for (size_t u = 0; u < n; ++u)
    for (Id id : units_[u].members)
      for (Id d : dependencies(id)) {
        int v = group_[d];
        if (v >= 0 && v != static_cast<int>(u) && next[v].insert(static_cast<int>(u)).second)
          ++waiting[u];
      }
  // Earliest last member first: close to the order of construction, and the same every time.
  auto later = [&](int a, int b) { return units_[a].members.back() > units_[b].members.back(); };
  std::priority_queue<int, std::vector<int>, decltype(later)> ready(later);
  for (size_t u = 0; u < n; ++u)
    if (!waiting[u]) ready.push(static_cast<int>(u));
  std::vector<Unit> sorted;
  while (!ready.empty()) {
    int u = ready.top();
    ready.pop();
    sorted.push_back(units_[u]);
    for (int v : next[u])
      if (--waiting[v] == 0) ready.push(v);
  }
  if (sorted.size() != n) throw Error(ErrorKind::Internal, "the steps of a program form a cycle");
  units_ = std::move(sorted);
}

}  // namespace eigenscope
