#include "run/kernels/dot.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>

#include "base/error.h"
#include "run/kernels/gemm.h"

namespace eigenscope {
namespace {

[[noreturn]] void refuse(std::string_view labels, const std::string& why) {
  throw Error(ErrorKind::Internal, "contraction \"" + std::string(labels) + "\": " + why);
}

struct Labels {
  std::string a, b, out;
};

Labels split(std::string_view labels) {
  const size_t comma = labels.find(','), arrow = labels.find("->");
  if (comma == std::string_view::npos || arrow == std::string_view::npos || arrow < comma)
    refuse(labels, "expected the form ab,bc->ac");
  return {std::string(labels.substr(0, comma)),
          std::string(labels.substr(comma + 1, arrow - comma - 1)),
          std::string(labels.substr(arrow + 2))};
}

bool has(const std::string& where, char label) { return where.find(label) != std::string::npos; }

// Where a label stands decides its part: Batch in all three, M in a and out, N in b and out, C in
// both operands.
enum Part { Batch, M, N, C };

struct Group {
  Part part;
  int64_t size, a, b, out;  // strides, 0 where it does not stand
};

// Matrix products per second on one core, in flops, for choosing among layouts only.
double seconds(double m, double n, double k) {
  const double rate = 80e9 * (m / (m + 6)) * (n / (n + 12)) * (k / (k + 12));
  return 0.2e-6 + 2 * m * n * k / rate;
}
constexpr double kPackSeconds = 0.7e-9;  // an element rearranged

class Planner {
 public:
  Planner(std::string_view text, const Shape& a, const Shape& b)
      : text_(text), names_(split(text)) {
    read(names_.a, a);
    read(names_.b, b);
    for (char label : names_.out)
      if (!has(names_.a, label) && !has(names_.b, label)) refuse(text_, "a result label is new");
    for (const std::string* where : {&names_.a, &names_.b, &names_.out})
      for (char label : *where) {
        const int stands = has(names_.a, label) + has(names_.b, label) + has(names_.out, label);
        if (stands < 2) refuse(text_, std::string("label ") + label + " stands alone");
        if (std::count(where->begin(), where->end(), label) != 1)
          refuse(text_, std::string("label ") + label + " stands twice in one tensor");
      }
  }

  DotPlan best() {
    DotPlan best;
    double least = std::numeric_limits<double>::infinity();
    // Every choice of tensors to rearrange; the first of equals, so fewest rearranged.
    for (int packed : {0, 1, 2, 4, 3, 5, 6, 7})
      consider(packed & 1, packed & 2, packed & 4, best, least);
    return best;
  }

 private:
  void read(const std::string& names, const Shape& shape) {
    if (names.size() != shape.size())
      refuse(text_, "an operand of rank " + std::to_string(shape.size()) + " for \"" + names + '"');
    for (size_t i = 0; i < names.size(); ++i) {
      int64_t& size = sizes_[static_cast<unsigned char>(names[i])];
      if (size >= 0 && size != shape[i])
        refuse(text_, std::string("label ") + names[i] + " is both " + std::to_string(size) +
                          " and " + std::to_string(shape[i]));
      size = shape[i];
    }
  }

  Part partOf(char label) const {
    const bool a = has(names_.a, label), b = has(names_.b, label), out = has(names_.out, label);
    return a && b && out ? Batch : a && out ? M : b && out ? N : C;
  }

  int64_t sizeOf(char label) const { return sizes_[static_cast<unsigned char>(label)]; }

  std::string only(const std::string& names, Part part) const {
    std::string kept;
    for (char label : names)
      if (partOf(label) == part) kept += label;
    return kept;
  }

  int64_t strideIn(const std::string& names, char label) const {
    int64_t stride = 1;
    for (size_t i = names.size(); i-- > 0; stride *= sizeOf(names[i]))
      if (names[i] == label) return stride;
    return 0;
  }

  // Labels that follow one another wherever they stand act as one.
  std::vector<Group> groups(const Labels& names) const {
    std::vector<Group> found;
    char before = 0;
    for (char label : names.out + only(names.a, C)) {
      if (sizeOf(label) == 1) continue;
      const Group group{partOf(label), sizeOf(label), strideIn(names.a, label),
                        strideIn(names.b, label), strideIn(names.out, label)};
      Group* last = before ? &found.back() : nullptr;
      if (last && last->part == group.part && last->a == group.a * group.size &&
          last->b == group.b * group.size && last->out == group.out * group.size) {
        *last = {group.part, last->size * group.size, group.a, group.b, group.out};
      } else {
        found.push_back(group);
      }
      before = label;
    }
    return found;
  }

  Shape shapeOf(const std::string& names) const {
    Shape shape;
    for (char label : names) shape.push_back(sizeOf(label));
    return shape;
  }

  DotPlan::Pack rearrange(const std::string& from, const std::string& to) const {
    std::vector<int64_t> perm;
    for (char label : to) perm.push_back(static_cast<int64_t>(from.find(label)));
    DotPlan::Pack pack;
    pack.used = true;
    pack.copy = planPermute(shapeOf(from), perm);
    pack.elements = pack.copy.toElements;
    return pack;
  }

  void consider(bool packA, bool packB, bool packOut, DotPlan& best, double& least) {
    const std::string batch = only(packOut ? names_.a : names_.out, Batch);
    const std::string rows = only(packOut ? names_.a : names_.out, M);
    const std::string columns = only(packOut ? names_.b : names_.out, N);
    const std::string summed = only(packA ? names_.b : names_.a, C);
    Labels names = names_;
    if (packA) names.a = batch + rows + summed;
    if (packB) names.b = batch + summed + columns;
    if (packOut) names.out = batch + rows + columns;
    if ((packA && names.a == names_.a) || (packB && names.b == names_.b) ||
        (packOut && names.out == names_.out))
      return;

    DotPlan plan;
    double cost = 0;
    if (packA) plan.packA = rearrange(names_.a, names.a);
    if (packB) plan.packB = rearrange(names_.b, names.b);
    if (packOut) plan.unpackOut = rearrange(names.out, names_.out);
    for (const auto* pack : {&plan.packA, &plan.packB, &plan.unpackOut})
      cost += kPackSeconds * static_cast<double>(pack->elements);

    const auto all = groups(names);
    const Group one{M, 1, 0, 0, 0};
    std::vector<const Group*> ms{&one}, ns{&one}, ks{&one};
    for (const Group& group : all) {
      if (group.part == M) ms.push_back(&group);
      if (group.part == N) ns.push_back(&group);
      if (group.part == C) ks.push_back(&group);
    }
    for (const Group* m : ms)
      for (const Group* n : ns)
        for (const Group* k : ks) {
          if (!unit(*m, *k, m->a, k->a) || !unit(*k, *n, k->b, n->b) ||
              !unit(*m, *n, m->out, n->out))
            continue;
          double calls = 1, sums = 1;
          for (const Group& group : all)
            if (&group != m && &group != n && &group != k) {
              calls *= static_cast<double>(group.size);
              if (group.part == C) sums *= static_cast<double>(group.size);
            }
          double total = cost + calls * seconds(m->size, n->size, k->size);
          if (sums > 1) total += calls * 0.1e-9 * static_cast<double>(m->size * n->size);
          if (total >= least) continue;
          least = total;
          best = plan;
          fill(best, all, m, n, k);
        }
  }

  // A matrix that BLAS takes: one of the two axes has stride 1, or is no axis at all.
  static bool unit(const Group& p, const Group& q, int64_t strideP, int64_t strideQ) {
    return (strideP == 1 && p.size > 1) || (strideQ == 1 && q.size > 1) || p.size == 1 ||
           q.size == 1;
  }

  void fill(DotPlan& plan, const std::vector<Group>& all, const Group* m, const Group* n,
            const Group* k) const {
    plan.m = m->size;
    plan.n = n->size;
    plan.k = k->size;
    plan.aRow = m->a, plan.aCol = k->a;
    plan.bRow = k->b, plan.bCol = n->b;
    plan.oRow = m->out, plan.oCol = n->out;
    for (int pass = 0; pass < 2; ++pass)
      for (const Group& group : all)
        if (&group != m && &group != n && &group != k && (group.part == C) == (pass == 1))
          plan.loops.push_back({group.size, group.a, group.b, group.out, group.part == C});
    // The kernel writes rows: a result with stride-1 rows is computed transposed.
    if (plan.n == 1 ? plan.oRow == 1 && plan.m > 1 : plan.oCol != 1) {
      std::swap(plan.m, plan.n);
      std::swap(plan.aRow, plan.bCol);
      std::swap(plan.aCol, plan.bRow);
      std::swap(plan.oRow, plan.oCol);
      plan.swapped = true;
      for (auto& loop : plan.loops) std::swap(loop.a, loop.b);
    }
    // Axes of size 1 get strides that make the matrix a valid one.
    if (plan.n == 1) plan.oCol = plan.bCol = 1;
    if (plan.k == 1) plan.aCol = 1, plan.bRow = plan.bCol == 1 ? plan.n : 1;
    if (plan.m == 1) plan.aRow = plan.aCol == 1 ? plan.k : 1, plan.oRow = plan.n;
    plan.outShape = shapeOf(names_.out);
    plan.outElements = 1;
    for (int64_t size : plan.outShape) plan.outElements *= size;
    plan.flops = 2.0 * static_cast<double>(plan.m) * static_cast<double>(plan.n) *
                 static_cast<double>(plan.k);
    for (const auto& loop : plan.loops) plan.flops *= static_cast<double>(loop.size);
    constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
    for (int64_t value :
         {plan.m, plan.n, plan.k, plan.aRow, plan.aCol, plan.bRow, plan.bCol, plan.oRow})
      if (value > kMost) refuse(text_, "a matrix with a side or stride over 2^31");
  }

  std::string_view text_;
  Labels names_;
  std::vector<int64_t> sizes_ = std::vector<int64_t>(256, -1);
};

int64_t padded(int64_t elements) { return (elements + 15) / 16 * 16; }

template <class T>
struct Call {
  const DotPlan& plan;
  const T* a;
  const T* b;
  T* out;

  void loop(size_t depth, int64_t a0, int64_t b0, int64_t o0, bool accumulate) const {
    if (depth == plan.loops.size()) {
      gemm(plan.m, plan.n, plan.k, a + a0, plan.aRow, plan.aCol, b + b0, plan.bRow, plan.bCol,
           out + o0, plan.oRow, accumulate);
      return;
    }
    const auto& loop = plan.loops[depth];
    for (int64_t i = 0; i < loop.size; ++i)
      this->loop(depth + 1, a0 + i * loop.a, b0 + i * loop.b, o0 + i * loop.out,
                 accumulate || (loop.summed && i > 0));
  }
};

}  // namespace

DotPlan planDot(std::string_view labels, const Shape& a, const Shape& b) {
  Planner planner(labels, a, b);
  return planner.best();
}

int64_t scratchBytes(const DotPlan& plan, size_t elementSize) {
  int64_t elements = 0;
  for (const auto* pack : {&plan.packA, &plan.packB, &plan.unpackOut})
    elements += padded(pack->elements);
  return elements * static_cast<int64_t>(elementSize);
}

template <class T>
void runDot(const DotPlan& plan, const T* a, const T* b, T* out, bool accumulate, T* scratch) {
  if (plan.outElements == 0) return;
  if (plan.flops == 0) {
    if (!accumulate) std::fill_n(out, plan.outElements, T{});
    return;
  }
  if (plan.packA.used) {
    runCopy(plan.packA.copy, a, scratch);
    a = scratch;
    scratch += padded(plan.packA.elements);
  }
  if (plan.packB.used) {
    runCopy(plan.packB.copy, b, scratch);
    b = scratch;
    scratch += padded(plan.packB.elements);
  }
  if (plan.swapped) std::swap(a, b);
  if (plan.unpackOut.used) {
    Call<T>{plan, a, b, scratch}.loop(0, 0, 0, 0, false);
    if (accumulate)
      runCopyAdd(plan.unpackOut.copy, scratch, out);
    else
      runCopy(plan.unpackOut.copy, scratch, out);
  } else {
    Call<T>{plan, a, b, out}.loop(0, 0, 0, 0, accumulate);
  }
}

template void runDot<float>(const DotPlan&, const float*, const float*, float*, bool, float*);
template void runDot<double>(const DotPlan&, const double*, const double*, double*, bool, double*);

}  // namespace eigenscope
