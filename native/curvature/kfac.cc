#include "curvature/kfac.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/memory.h"
#include "curvature/engine.h"
#include "curvature/exact.h"
#include "curvature/kfac_programs.h"
#include "curvature/mixing.h"
#include "linalg/lapack.h"
#include "run/pool.h"

namespace eigenscope {

namespace {

// Columns of one pass over the data; a network with more outputs takes several.
constexpr int64_t kColumns = 64;

using Totals = std::vector<std::vector<double>>;

// One block while it is made: groups of factors, in the order of the network's rows.
struct Making {
  std::string name;
  int64_t groups, out, in;
  bool bias;
  std::vector<int64_t> coordinates;  // groups x out x in
  std::vector<double> a, b;          // groups x in x in, groups x out x out
  KfacBasis basis;
  std::vector<double> corrected;  // groups x out x in
};

void addTo(std::vector<double>& sum, const std::vector<double>& term) {
  if (sum.empty()) sum.assign(term.size(), 0.0);
  for (size_t i = 0; i < term.size(); ++i) sum[i] += term[i];
}

// The factors are sums of outer products: what is not symmetric is rounding.
void symmetrise(std::vector<double>& matrices, int64_t groups, int64_t n, double factor) {
  for (int64_t g = 0; g < groups; ++g) {
    double* m = matrices.data() + g * n * n;
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j <= i; ++j)
        m[i * n + j] = m[j * n + i] = (m[i * n + j] + m[j * n + i]) / 2 * factor;
  }
}

std::shared_ptr<const std::vector<double>> eigenvectors(const std::vector<double>& matrices,
                                                        int64_t groups, int64_t n) {
  auto vectors = std::make_shared<std::vector<double>>(matrices);
  for (int64_t g = 0; g < groups; ++g) symmetricEigen(n, vectors->data() + g * n * n, n);
  return vectors;
}

// Ranks of the keys: entry i of the result is where the i-th smallest stands.
std::vector<int64_t> sortedOrder(const std::vector<int64_t>& keys) {
  std::vector<int64_t> order(keys.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int64_t x, int64_t y) {
    return keys[static_cast<size_t>(x)] < keys[static_cast<size_t>(y)];
  });
  return order;
}

Prepared preparedFor(const Problem& problem) {
  refuseMixedSamples(problem, "kfac");
  return prepare(problem);
}

class Maker {
 public:
  Maker(const std::shared_ptr<const Problem>& problem, const KfacOptions& options, Task& task)
      : problem_(problem),
        options_(options),
        task_(task),
        prepared_(preparedFor(*problem)),
        plan_{*problem, prepared_.targets, options_, chosen()},
        threads_(options.threads > 0 ? options.threads : availableThreads()) {
    scale_ = productScale(*problem_, prepared_.targets, options_.kind);
    if (options_.kind == OperatorKind::FisherMc) scale_ /= static_cast<double>(options_.draws);
  }

  Kfac run() {
    const int64_t rows =
        prepared_.fixedBatch > 0 ? prepared_.fixedBatch : std::min<int64_t>(problem_->samples, 2);
    layers_ = kfacLayers(plan_, rows);
    columns_ = kfacColumns(plan_, rows);
    if (options_.others == OthersBlock::Refuse && !layers_.others.empty()) refuse();
    place();
    checkMemory();
    factors();
    if (options_.corrected) correct();
    return assemble();
  }

 private:
  std::vector<int64_t> chosen() const {
    std::vector<int64_t> tensors = options_.tensors;
    if (tensors.empty()) {
      tensors.resize(problem_->parameters.size());
      std::iota(tensors.begin(), tensors.end(), 0);
    }
    return tensors;
  }

  const onnx::Parameter& parameter(int64_t i) const {
    return problem_->parameters[static_cast<size_t>(i)];
  }

  [[noreturn]] void refuse() const {
    std::string text = "kfac: expected weights and biases of linear and convolution layers only; " +
                       std::to_string(layers_.others.size()) + " of the tensors " +
                       (layers_.others.size() == 1 ? "is" : "are") + " something else:";
    constexpr size_t kMost = 20;
    for (size_t i = 0; i < std::min(kMost, layers_.others.size()); ++i)
      text +=
          "\n  " + parameter(layers_.others[i].parameter).name + ": " + layers_.others[i].reason;
    if (layers_.others.size() > kMost)
      text += "\n  and " + std::to_string(layers_.others.size() - kMost) + " more";
    throw Error(ErrorKind::Option,
                text +
                    "\nGive others: \"diagonal\" (their exact diagonal) or \"identity\", or "
                    "leave the tensors out with params and exclude");
  }

  // Where the tensors and blocks lie in the operator.
  void place() {
    offsets_.assign(problem_->parameters.size(), -1);
    for (int64_t i : plan_.tensors) {
      offsets_[static_cast<size_t>(i)] = dim_;
      dim_ += parameter(i).size;
      for (int64_t j = 0; j < parameter(i).size; ++j) index_.push_back(parameter(i).offset + j);
    }
    if (dim_ == 0)
      throw Error(ErrorKind::Option, "kfac: expected at least one tensor; none was chosen");
    if (index_.front() == 0 && index_.back() == dim_ - 1) index_.clear();
    for (const KfacLayer& block : layers_.blocks) {
      const LinearLayer& layer = layers_.layers[static_cast<size_t>(block.layer)];
      Making making{parameter(layer.parameter).name,
                    layer.groups,
                    layer.out,
                    layer.in,
                    layer.bias,
                    {},
                    {},
                    {},
                    {},
                    {}};
      const int64_t offset = offsets_[static_cast<size_t>(layer.parameter)];
      for (int64_t p : layer.order) making.coordinates.push_back(offset + p);
      if (block.bias >= 0) withBias(making, layers_.layers[static_cast<size_t>(block.bias)]);
      making_.push_back(std::move(making));
    }
  }

  void withBias(Making& making, const LinearLayer& bias) const {
    making.name += " + " + parameter(bias.parameter).name;
    const int64_t offset = offsets_[static_cast<size_t>(bias.parameter)];
    std::vector<int64_t> joined;
    for (int64_t o = 0; o < making.out; ++o) {
      const auto row = making.coordinates.begin() + o * making.in;
      joined.insert(joined.end(), row, row + making.in);
      joined.push_back(offset + bias.order[static_cast<size_t>(o)]);
    }
    making.coordinates = std::move(joined);
    ++making.in;
  }

  void checkMemory() const {
    int64_t need = 0, largest = 0;
    std::string name;
    for (const Making& m : making_) {
      // Sums, factors and their eigenvectors.
      const int64_t bytes = 4 * m.groups * (m.out * m.out + m.in * m.in) * 8;
      need += bytes;
      if (bytes > largest) largest = bytes, name = m.name;
    }
    const int64_t have = options_.maxMemory > 0 ? options_.maxMemory : availableMemory() * 4 / 5;
    if (need > have)
      throw Error(ErrorKind::MemoryBudget,
                  "kfac: the factors take about " + std::to_string(need) + " bytes, " +
                      std::to_string(largest) + " of them for " + name + "; the budget is " +
                      std::to_string(have) + ": leave large tensors out with exclude, or raise " +
                      "maxMemory");
  }

  Totals totals(const Engine::Build& build, double done, double share) {
    task_.check();
    Engine engine(problem_, options_, prepared_.fixedBatch, {}, build, 0);
    Totals totals = engine.totals(task_);
    report_ = engine.report();
    if (task_.report) task_.report({0, -1, done + share});
    return totals;
  }

  // Calls visit(columns, first pass?, share done before, share) for the passes over the data.
  template <class Visit>
  void passes(double from, double to, Visit visit) {
    const int64_t all = (columns_ + kColumns - 1) / kColumns;
    for (int64_t p = 0; p < all; ++p) {
      const Columns columns{p * kColumns, std::min(kColumns, columns_ - p * kColumns)};
      const double share = (to - from) / static_cast<double>(all);
      visit(columns, p == 0, from + share * static_cast<double>(p), share);
    }
  }

  double half() const { return options_.corrected ? 0.5 : 0.95; }

  void factors() {
    passes(0, half(), [&](const Columns& columns, bool first, double done, double share) {
      const Totals sums = totals(
          [&](const Rows& rows, int64_t) { return buildFactors(plan_, rows, columns, first); },
          done, share);
      for (size_t b = 0; b < making_.size(); ++b) {
        if (first) making_[b].a = sums[2 * b];
        addTo(making_[b].b, sums[2 * b + 1]);
      }
    });
    for (size_t b = 0; b < making_.size(); ++b) {
      Making& m = making_[b];
      const LinearLayer& layer = layers_.layers[static_cast<size_t>(layers_.blocks[b].layer)];
      if (m.bias) m.a.assign(static_cast<size_t>(m.groups), 1.0);
      m.a.resize(static_cast<size_t>(m.groups * m.in * m.in), 0.0);
      m.b.resize(static_cast<size_t>(m.groups * m.out * m.out), 0.0);
      // Rows of `a` over the data; reduce has one a sample.
      const double positions = options_.sharing == Sharing::Reduce ? 1.0 : layer.positions;
      const double inputs =
          m.bias ? 1.0 : 1.0 / (static_cast<double>(problem_->samples) * positions);
      symmetrise(m.a, m.groups, m.in, inputs);
      symmetrise(m.b, m.groups, m.out, scale_ * layer.coefficient * layer.coefficient);
    }
    requireFinite();
  }

  void requireFinite() const {
    for (const Making& m : making_)
      for (const auto* values : {&m.a, &m.b})
        for (double value : *values)
          if (!std::isfinite(value))
            throw Error(ErrorKind::DataMismatch,
                        "kfac: the factors of " + m.name +
                            " are not finite: the loss or a derivative of the network is infinite "
                            "or too large for the precision; try float64");
  }

  void correct() {
    parallel(threads_, 2 * static_cast<int64_t>(making_.size()), [&](int, int64_t i) {
      task_.check();
      Making& m = making_[static_cast<size_t>(i / 2)];
      if (i % 2)
        m.basis.out = eigenvectors(m.b, m.groups, m.out);
      else
        m.basis.in = eigenvectors(m.a, m.groups, m.in);
    });
    std::vector<KfacBasis> bases;
    for (const Making& m : making_) bases.push_back(m.basis);
    passes(half(), 0.95, [&](const Columns& columns, bool, double done, double share) {
      const Totals sums = totals(
          [&](const Rows& rows, int64_t) { return buildCorrections(plan_, rows, columns, bases); },
          done, share);
      for (size_t b = 0; b < making_.size(); ++b) addTo(making_[b].corrected, sums[b]);
    });
    for (size_t b = 0; b < making_.size(); ++b) {
      const LinearLayer& layer = layers_.layers[static_cast<size_t>(layers_.blocks[b].layer)];
      making_[b].corrected.resize(
          static_cast<size_t>(making_[b].groups * making_[b].out * making_[b].in), 0.0);
      for (double& value : making_[b].corrected)
        value *= scale_ * layer.coefficient * layer.coefficient;
    }
  }

  // A group of a layer, its rows and columns in the order of the tensor.
  StructuredOperator::Entry entryOf(const Making& m, int64_t group) const {
    const int64_t out = m.out, in = m.in, size = out * in;
    const int64_t* at = m.coordinates.data() + group * size;
    std::vector<int64_t> rowKeys, columnKeys(at, at + in);
    for (int64_t o = 0; o < out; ++o) rowKeys.push_back(at[o * in]);
    const std::vector<int64_t> rows = sortedOrder(rowKeys), columns = sortedOrder(columnKeys);
    StructuredOperator::Entry entry;
    entry.name = m.name + (m.groups > 1 ? "[" + std::to_string(group) + "]" : "");
    for (int64_t o : rows)
      for (int64_t i : columns) entry.coordinates.push_back(at[o * in + i]);
    // Matrix [n, n] with both axes in the new order, or the columns of a basis with their entries.
    auto sorted = [](const double* matrix, const std::vector<int64_t>& order, bool both) {
      const size_t n = order.size();
      std::vector<double> result(n * n);
      for (size_t i = 0; i < n; ++i)
        for (size_t j = 0; j < n; ++j)
          result[i * n + j] = matrix[(both ? static_cast<size_t>(order[i]) : i) * n +
                                     static_cast<size_t>(order[j])];
      return result;
    };
    if (!options_.corrected) {
      entry.block = kroneckerBlock(out, in, sorted(m.b.data() + group * out * out, rows, true),
                                   sorted(m.a.data() + group * in * in, columns, true), true);
      return entry;
    }
    auto basis = [&](const Values& vectors, int64_t n, const std::vector<int64_t>& order) {
      return std::make_shared<const std::vector<double>>(
          sorted(vectors->data() + group * n * n, order, false));
    };
    entry.block = eigenBlock(
        out, in, basis(m.basis.out, out, rows), m.bias ? nullptr : basis(m.basis.in, in, columns),
        {m.corrected.begin() + group * size, m.corrected.begin() + (group + 1) * size});
    return entry;
  }

  Kfac assemble() {
    std::vector<StructuredOperator::Entry> entries;
    for (const Making& m : making_)
      for (int64_t g = 0; g < m.groups; ++g) entries.push_back(entryOf(m, g));
    addOthers(entries);
    std::sort(entries.begin(), entries.end(), [](const auto& x, const auto& y) {
      return x.coordinates.front() < y.coordinates.front();
    });
    Kfac result;
    result.op = std::make_shared<StructuredOperator>(std::move(entries), dim_, options_.precision,
                                                     std::move(index_), threads_);
    result.report = report_;
    constexpr int64_t kMany = 1000;
    if (columns_ > kMany && options_.kind == OperatorKind::FisherType2)
      result.report.warnings.push_back(
          "type-2 took " + std::to_string(columns_) +
          " backward passes a sample, one an output: mc with a few draws costs less");
    if (task_.report) task_.report({0, -1, 1});
    return result;
  }

  void addOthers(std::vector<StructuredOperator::Entry>& entries) {
    if (layers_.others.empty()) return;
    std::vector<double> diagonal;
    if (options_.others == OthersBlock::Diagonal) {
      OperatorOptions options;
      static_cast<RunOptions&>(options) = options_;
      options.kind = options_.kind;
      options.draws = options_.draws;
      options.seed = options_.seed;
      for (const OtherParameter& other : layers_.others) options.tensors.push_back(other.parameter);
      SampleRows rows(problem_, options, *rowKindOf(options.kind));
      diagonal = exactDiagonal(rows, task_);
    }
    size_t done = 0;
    for (const OtherParameter& other : layers_.others) {
      const onnx::Parameter& tensor = parameter(other.parameter);
      const auto size = static_cast<size_t>(tensor.size);
      StructuredOperator::Entry entry{tensor.name, std::vector<int64_t>(size), nullptr};
      std::iota(entry.coordinates.begin(), entry.coordinates.end(),
                offsets_[static_cast<size_t>(other.parameter)]);
      if (diagonal.empty())
        entry.block = scaledIdentityBlock(tensor.size, 1);
      else
        entry.block = diagonalBlock({diagonal.begin() + static_cast<int64_t>(done),
                                     diagonal.begin() + static_cast<int64_t>(done + size)});
      done += size;
      if (size > 0) entries.push_back(std::move(entry));
    }
  }

  std::shared_ptr<const Problem> problem_;
  const KfacOptions options_;
  Task& task_;
  const Prepared prepared_;
  const KfacPlan plan_;
  const int threads_;
  double scale_ = 1;
  KfacLayers layers_;
  int64_t columns_ = 0, dim_ = 0;
  std::vector<int64_t> offsets_, index_;
  std::vector<Making> making_;
  OperatorReport report_;
};

}  // namespace

Kfac kfac(const std::shared_ptr<const Problem>& problem, const KfacOptions& options, Task& task) {
  if (options.kind == OperatorKind::FisherMc && options.draws < 1)
    throw Error(ErrorKind::Option,
                "draws: expected at least 1; received " + std::to_string(options.draws));
  return Maker(problem, options, task).run();
}

}  // namespace eigenscope
