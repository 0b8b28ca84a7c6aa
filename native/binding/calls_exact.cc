// Exact quantities of an operator, and what is made of the rows of single samples.
#include <algorithm>
#include <cstring>
#include <limits>

#include "binding/calls.h"
#include "curvature/exact.h"
#include "linalg/lapack.h"
#include "spectral/compose.h"
#include "spectral/exact_spectrum.h"

namespace eigenscope::binding {

namespace {

using CurvaturePtr = std::shared_ptr<CurvatureLeaf>;

CurvaturePtr curvatureOf(const CallInputs& inputs) {
  return std::dynamic_pointer_cast<CurvatureLeaf>(inputs.op());
}

CurvaturePtr requireCurvature(const CallInputs& inputs, const char* what) {
  CurvaturePtr leaf = curvatureOf(inputs);
  if (!leaf)
    throw Error(ErrorKind::Option, std::string(what) +
                                       ": expected an operator of a network, restricted to whole "
                                       "tensors at most; got one that is composed or a function");
  return leaf;
}

std::unique_ptr<SampleRows> requireRows(const CurvatureLeaf& leaf, const char* what) {
  if (leaf.mixesSamples()) return leaf.rows(RowKind::Jacobian);  // throws the reason
  auto rows = leaf.rows();
  if (!rows)
    throw Error(ErrorKind::Option, std::string(what) +
                                       ": expected a Gauss-Newton or Fisher matrix, which is a sum "
                                       "over the samples' own gradients; got another Hessian");
  return rows;
}

constexpr NameRow kRowKinds[] = {{"jacobian", static_cast<int>(RowKind::Jacobian)},
                                 {"ggn", static_cast<int>(RowKind::Ggn)},
                                 {"mc", static_cast<int>(RowKind::Mc)},
                                 {"empirical", static_cast<int>(RowKind::Empirical)}};

constexpr NameRow kRoutes[] = {{"auto", 0}, {"dense", 1}, {"dual", 2}};

void copyRow(const void* from, void* to, int64_t numbers, Precision precision) {
  std::memcpy(to, from, static_cast<std::size_t>(numbers) * bytesOf(precision));
}

}  // namespace

// {method: auto | dense | dual, vectors: count, memory}: all eigenvalues.
Work exactSpectrumCall(CallInputs& inputs) {
  const Options& given = inputs.options();
  const int route = oneOf<int>(given, "method", kRoutes, "auto");
  const int64_t vectors = given.integer("vectors", 0), memory = given.integer("memory", 0);
  const OperatorPtr op = inputs.op();
  if (vectors < 0 || vectors > op->dim())
    given.fail("vectors", "a number from 0 to " + std::to_string(op->dim()));
  const CurvaturePtr leaf =
      route == 2 ? requireCurvature(inputs, "exactSpectrum, method dual") : curvatureOf(inputs);
  return [=](Task& task) {
    std::unique_ptr<SampleRows> rows;
    if (route == 2)
      rows = requireRows(*leaf, "exactSpectrum, method dual");
    else if (route == 0 && leaf)
      rows = leaf->rows();
    if (rows && route == 0 && (rows->count() >= rows->dim() || vectors > rows->count()))
      rows.reset();
    ExactSpectrum found = rows ? dualSpectrum(*rows, vectors, memory, task)
                               : denseSpectrum(*op, vectors, memory, task);
    return Fields{{"values", std::move(found.values)}, {"vectors", std::move(found.vectors)},
                  {"method", std::move(found.method)}, {"order", found.order},
                  {"products", found.products},        {"warnings", std::move(found.warnings)}};
  };
}

// {}: the diagonal of a sum of outer products.
Work exactDiagonalCall(CallInputs& inputs) {
  const CurvaturePtr leaf = requireCurvature(inputs, "the exact diagonal");
  return [leaf](Task& task) {
    const auto rows = requireRows(*leaf, "the exact diagonal");
    return Fields{{"diagonal", exactDiagonal(*rows, task)}, {"rows", rows->count()}};
  };
}

// {rows: a kind, memory}: the Gram matrix of the samples' rows, and its eigenvalues.
Work gramCall(CallInputs& inputs) {
  const Options& given = inputs.options();
  const auto kind = oneOf<RowKind>(given, "rows", kRowKinds, "jacobian");
  const int64_t memory = given.integer("memory", 0);
  const CurvaturePtr leaf = requireCurvature(inputs, "the Gram matrix");
  return [=](Task& task) {
    const auto rows = leaf->rows(kind);
    std::vector<double> matrix = gramMatrix(*rows, memory, task);
    const int64_t order = rows->count();
    std::vector<double> work = matrix;
    std::vector<double> values = symmetricEigenvalues(order, work.data(), order);
    std::reverse(values.begin(), values.end());
    return Fields{{"matrix", std::move(matrix)},
                  {"values", std::move(values)},
                  {"samples", rows->samples()},
                  {"perSample", rows->perSample()},
                  {"scale", rows->scale()}};
  };
}

// {rows: a kind, or "own", that of the operator}: how many rows a sample has, and the factor of
// their outer products.
Work rowsShapeCall(CallInputs& inputs) {
  const bool own = inputs.options().string("rows", "") == "own";
  const auto kind =
      own ? RowKind::Jacobian : oneOf<RowKind>(inputs.options(), "rows", kRowKinds, "jacobian");
  const CurvaturePtr leaf = requireCurvature(inputs, "the samples' rows");
  return [=](Task&) {
    const auto rows = own ? requireRows(*leaf, "the samples' rows") : leaf->rows(kind);
    return Fields{{"samples", rows->samples()},
                  {"perSample", rows->perSample()},
                  {"scale", rows->scale()},
                  {"split", rows->splitShape()}};
  };
}

// {rows: a kind, first, last, out}: the rows of samples [first, last), perSample x dim each.
Work sampleRowsCall(CallInputs& inputs) {
  const Options& given = inputs.options();
  const auto kind = oneOf<RowKind>(given, "rows", kRowKinds, "empirical");
  const int64_t first = given.integer("first", 0), last = given.integer("last", 0);
  const View out = inputs.vectors("out");
  const CurvaturePtr leaf = requireCurvature(inputs, "the samples' rows");
  return [=](Task& task) {
    const auto rows = leaf->rows(kind);
    const int64_t dim = rows->dim(), each = rows->perSample();
    if (first < 0 || last > rows->samples() || first >= last ||
        static_cast<int64_t>(out.length) != (last - first) * each * dim)
      throw Error(ErrorKind::Internal, "the samples' rows do not fit what is there for them");
    auto* to = static_cast<std::byte*>(out.data);
    rows->visit(
        first, last, rows->chunk(),
        [&](const SampleRows::Block& block) {
          const int64_t at = ((block.sample - first) * each + block.first) * dim;
          copyRow(block.rows, to + at * static_cast<int64_t>(bytesOf(rows->precision())),
                  block.count * dim, rows->precision());
        },
        task);
    return Fields{{"samples", last - first}, {"perSample", each}, {"scale", rows->scale()}};
  };
}

// {in, out, count, transposed, factor}: J V, or J^T U, or with `factor` J^T S U.
Work jacobianCall(CallInputs& inputs) {
  const Options& given = inputs.options();
  const int64_t count = given.integer("count", 1);
  const bool transposed = given.boolean("transposed", false);
  const RowKind kind = given.boolean("factor", false) ? RowKind::Ggn : RowKind::Jacobian;
  const View in = inputs.vectors("in"), out = inputs.vectors("out");
  const CurvaturePtr leaf = requireCurvature(inputs, "the Jacobian");
  return [=](Task& task) {
    leaf->jacobian(task, [&](JacobianMaps& maps) {
      const int64_t columns = maps.dim() * count, rows = maps.rows() * count;
      const auto given = static_cast<int64_t>(in.length), made = static_cast<int64_t>(out.length);
      if (given != (transposed ? rows : columns) || made != (transposed ? columns : rows))
        throw Error(ErrorKind::Option,
                    "the Jacobian has " + std::to_string(maps.rows()) + " rows and " +
                        std::to_string(maps.dim()) + " columns; got " + std::to_string(given) +
                        " numbers for " + std::to_string(count) +
                        (transposed ? " products from the left" : " products from the right"));
      if (transposed)
        maps.transposed(kind, in.data, out.data, count, task);
      else
        maps.product(in.data, out.data, count, task);
    });
    return Fields{};
  };
}

// {direction: a Float64Array of all parameters of the model}: the loss there.
Work riskCall(CallInputs& inputs) {
  const CurvaturePtr leaf = requireCurvature(inputs, "the loss");
  const View direction = inputs.doubles("direction", leaf->parameterCount());
  return [=](Task& task) {
    return Fields{{"loss", leaf->risk(static_cast<const double*>(direction.data), task).loss}};
  };
}

// {direction: as for risk}: the network's output there.
Work outputsCall(CallInputs& inputs) {
  const CurvaturePtr leaf = requireCurvature(inputs, "the network's output");
  const View direction = inputs.doubles("direction", leaf->parameterCount());
  return [=](Task& task) {
    Forward found = leaf->outputs(static_cast<const double*>(direction.data), task);
    return Fields{{"values", std::move(found.values)}, {"shape", std::move(found.shape)}};
  };
}

// {indices: coordinates of all blocks, sizes: of each, memory}: dense diagonal blocks.
Work blockDiagonalCall(CallInputs& inputs) {
  const Options& given = inputs.options();
  const std::vector<int64_t> indices = given.integers("indices"), sizes = given.integers("sizes");
  const int64_t memory = given.integer("memory", 0);
  std::vector<std::vector<int64_t>> blocks;
  auto at = indices.begin();
  for (int64_t size : sizes) {
    if (size < 1 || size > indices.end() - at)
      given.fail("sizes", "the lengths of the blocks in indices");
    blocks.emplace_back(at, at + size);
    at += size;
  }
  const CurvaturePtr leaf = curvatureOf(inputs);
  const OperatorPtr op = inputs.op();
  return [=](Task& task) {
    const auto rows = leaf ? leaf->rows() : nullptr;
    if (rows) return Fields{{"matrices", blockDiagonal(*rows, blocks, memory, task)}};
    std::vector<double> matrices;
    for (const auto& block : blocks) {
      const auto order = static_cast<int64_t>(block.size());
      requireDense(order, 2, memory, "a diagonal block");
      const OperatorPtr part = restrictOperator(op, block);
      ProductCounter products(*part, task, std::numeric_limits<int64_t>::max());
      std::vector<double> matrix = matrixOf(products, true);
      symmetricPart(matrix, order);
      matrices.insert(matrices.end(), matrix.begin(), matrix.end());
    }
    return Fields{{"matrices", std::move(matrices)}};
  };
}

// {}: see ClassMeans in curvature/exact.h.
Work classMeansCall(CallInputs& inputs) {
  const CurvaturePtr leaf = requireCurvature(inputs, "the class decomposition");
  return [=](Task& task) {
    const auto rows = leaf->rows(RowKind::Jacobian);
    ClassMeans found = classMeans(*rows, task);
    return Fields{{"classes", found.classes},
                  {"weights", std::move(found.weights)},
                  {"means", std::move(found.means)},
                  {"squares", std::move(found.squares)}};
  };
}

}  // namespace eigenscope::binding
