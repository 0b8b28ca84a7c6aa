#include "curvature/exact.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "base/memory.h"
#include "curvature/jacobian.h"
#include "linalg/blas.h"
#include "linalg/lapack.h"
#include "run/pool.h"

namespace eigenscope {

namespace {

int threadsOf(const SampleRows& rows) {
  return rows.options().threads > 0 ? rows.options().threads : availableThreads();
}

// `add` for the type of the rows.
template <class F>
void typed(const SampleRows& rows, F&& f) {
  if (rows.precision() == Precision::F32)
    f(0.0F);
  else
    f(0.0);
}

// C += A^T A for the `order` columns of A, of `length` entries each: the upper triangle, by tiles
// that threads share.
void addGram(int threads, int64_t order, int64_t length, const double* a, double* c) {
  constexpr int64_t kTile = 192;
  const int64_t tiles = (order + kTile - 1) / kTile;
  std::vector<std::pair<int64_t, int64_t>> pairs;
  for (int64_t j = 0; j < tiles; ++j)
    for (int64_t i = 0; i <= j; ++i) pairs.emplace_back(i, j);
  parallel(threads, static_cast<int64_t>(pairs.size()), [&](int, int64_t t) {
    const int64_t i = pairs[static_cast<size_t>(t)].first * kTile;
    const int64_t j = pairs[static_cast<size_t>(t)].second * kTile;
    gemm('T', 'N', std::min(kTile, order - i), std::min(kTile, order - j), length, 1.0,
         a + i * length, length, a + j * length, length, 1.0, c + j * order + i, order);
  });
}

// A view that keeps nothing alive: the rows do.
std::shared_ptr<const Problem> borrowed(const SampleRows& rows) {
  return {std::shared_ptr<const Problem>(), &rows.problem()};
}

// A run of coordinates, and the tensors they belong to.
struct Run {
  std::vector<int64_t> tensors;  // positions in the problem's parameters
  int64_t begin, end;            // coordinates of these tensors
};

// Tensors as many as fit; one that does not fit by itself, in pieces.
std::vector<Run> runsOf(const Problem& problem, const std::vector<int64_t>& tensors, int64_t most) {
  std::vector<Run> runs;
  int64_t filled = most;
  for (int64_t tensor : tensors) {
    const int64_t size = problem.parameters.at(tensor).size;
    if (filled + size <= most) {
      runs.back().tensors.push_back(tensor);
      runs.back().end += size;
      filled += size;
      continue;
    }
    for (int64_t at = 0; at < size; at += most)
      runs.push_back({{tensor}, at, std::min(size, at + most)});
    filled = size <= most ? size : most;
  }
  return runs;
}

}  // namespace

namespace {

// The diagonal of R^T R over all of `rows`.
std::vector<double> squaresOf(SampleRows& rows, Task& task) {
  const int64_t dim = rows.dim();
  std::vector<double> squares;
  typed(rows, [&](auto zero) {
    using T = decltype(zero);
    squares = rows.sum(
        dim,
        [dim](const SampleRows::Block& block, double* sums) {
          const T* row = block.as<T>();
          for (int64_t k = 0; k < block.count; ++k, row += dim)
            for (int64_t i = 0; i < dim; ++i) {
              const double x = row[i];
              sums[i] += x * x;
            }
        },
        task);
  });
  return squares;
}

// For the tensors whose rows are outer products a (x) d_k: sum over samples of a^2 (x) sum_k d_k^2,
// each in its layout, by position in the options' tensors. One matrix product for many samples.
std::map<int64_t, std::vector<double>> outerSquares(SampleRows& rows, Task& task) {
  constexpr int64_t kSegment = 1024, kColumns = 64;
  SampleRows factors(borrowed(rows), rows.options(), rows.kind(), true);
  std::map<int64_t, std::vector<double>> found;
  for (const OuterTensor& tensor : factors.outerTensors())
    if (tensor.layout != OuterTensor::Layout::Other)
      found[tensor.at].assign(static_cast<size_t>(tensor.left * tensor.right), 0.0);
  if (found.empty()) return found;
  const int64_t dim = factors.dim(), samples = rows.samples();
  std::vector<double> squares;
  for (int64_t first = 0; first < samples; first += kSegment) {
    const int64_t segment = std::min(kSegment, samples - first);
    squares.assign(static_cast<size_t>(segment * dim), 0.0);
    typed(rows, [&](auto zero) {
      using T = decltype(zero);
      factors.visit(
          first, first + segment, rows.chunk(),
          [&](const SampleRows::Block& block) {
            double* to = squares.data() + (block.sample - first) * dim;
            const T* row = block.as<T>();
            for (const OuterTensor& tensor : factors.outerTensors()) {
              for (int64_t i = 0; i < tensor.left; ++i) to[i] = double(row[i]) * row[i];
              for (int64_t k = 0; k < block.count; ++k)
                for (int64_t i = tensor.left; i < tensor.left + tensor.right; ++i)
                  to[i] += double(row[k * dim + i]) * row[k * dim + i];
              row += tensor.left + tensor.right;
              to += tensor.left + tensor.right;
            }
          },
          task);
    });
    task.check();
    const double* from = squares.data();
    for (const OuterTensor& tensor : factors.outerTensors()) {
      const bool leftFirst = tensor.layout == OuterTensor::Layout::LeftRight;
      const double* outer = leftFirst ? from : from + tensor.left;
      const double* inner = leftFirst ? from + tensor.left : from;
      const int64_t columns = leftFirst ? tensor.left : tensor.right;
      const int64_t length = leftFirst ? tensor.right : tensor.left;
      from += tensor.left + tensor.right;
      if (tensor.layout == OuterTensor::Layout::Other) continue;
      double* sums = found.at(tensor.at).data();
      parallel(threadsOf(rows), (columns + kColumns - 1) / kColumns, [&](int, int64_t tile) {
        const int64_t begin = tile * kColumns;
        gemm('N', 'T', length, std::min(kColumns, columns - begin), segment, 1.0, inner, dim,
             outer + begin, dim, 1.0, sums + begin * length, length);
      });
    }
    if (task.report) task.report({0, -1, static_cast<double>(first + segment) / double(samples)});
  }
  return found;
}

}  // namespace

std::vector<double> exactDiagonal(SampleRows& rows, Task& task) {
  std::map<int64_t, std::vector<double>> parts = outerSquares(rows, task);
  OperatorOptions options = rows.options();
  options.tensors.clear();
  const std::vector<int64_t>& all = rows.options().tensors;
  for (size_t i = 0; i < all.size(); ++i)
    if (!parts.count(static_cast<int64_t>(i))) options.tensors.push_back(all[i]);
  std::vector<double> rest, diagonal;
  if (!options.tensors.empty()) {
    SampleRows others(borrowed(rows), options, rows.kind());
    rest = squaresOf(others, task);
  }
  auto next = rest.begin();
  for (size_t i = 0; i < all.size(); ++i) {
    const int64_t size = rows.problem().parameters.at(all[i]).size;
    const auto outer = parts.find(static_cast<int64_t>(i));
    const auto from = outer != parts.end() ? outer->second.begin() : next;
    diagonal.insert(diagonal.end(), from, from + size);
    if (outer == parts.end()) next += size;
  }
  for (double& d : diagonal) d *= rows.scale();
  return diagonal;
}

namespace {

// Adds R R^T of the tensors whose rows are outer products a (x) d: the elementwise product of the
// Gram matrices of the factors, whatever the size of the layer. Removes them from `tensors`.
void addOuterTensors(SampleRows& rows, std::vector<int64_t>& tensors, std::vector<double>& gram,
                     Task& task) {
  const int64_t order = rows.count(), each = rows.perSample(), samples = rows.samples();
  SampleRows factors(borrowed(rows), rows.options(), rows.kind(), true);
  if (factors.outerTensors().empty()) return;
  const int64_t dim = factors.dim();
  std::vector<double> all(static_cast<size_t>(order * dim));
  typed(rows, [&](auto zero) {
    using T = decltype(zero);
    factors.visit(
        0, samples, rows.chunk(),
        [&](const SampleRows::Block& block) {
          const T* row = block.as<T>();
          std::copy(row, row + block.count * dim,
                    all.begin() + (block.sample * each + block.first) * dim);
        },
        task);
  });
  const int threads = threadsOf(rows);
  std::vector<double> left, right, ofLeft, ofRight;
  int64_t offset = 0;
  std::vector<int64_t> rest;
  for (const OuterTensor& tensor : factors.outerTensors()) {
    task.check();
    auto columns = [&](int64_t count, int64_t stride, int64_t from, int64_t length,
                       std::vector<double>& to) {
      to.resize(static_cast<size_t>(count * length));
      for (int64_t r = 0; r < count; ++r)
        std::copy_n(all.begin() + r * stride * dim + from, length, to.begin() + r * length);
    };
    columns(samples, each, offset, tensor.left, left);
    columns(order, 1, offset + tensor.left, tensor.right, right);
    offset += tensor.left + tensor.right;
    ofLeft.assign(static_cast<size_t>(samples * samples), 0.0);
    ofRight.assign(static_cast<size_t>(order * order), 0.0);
    addGram(threads, samples, tensor.left, left.data(), ofLeft.data());
    addGram(threads, order, tensor.right, right.data(), ofRight.data());
    parallel(threads, order, [&](int, int64_t j) {
      for (int64_t i = 0; i <= j; ++i)
        gram[static_cast<size_t>(j * order + i)] +=
            ofLeft[static_cast<size_t>(j / each * samples + i / each)] *
            ofRight[static_cast<size_t>(j * order + i)];
    });
  }
  for (size_t i = 0; i < tensors.size(); ++i)
    if (std::none_of(
            factors.outerTensors().begin(), factors.outerTensors().end(),
            [&](const OuterTensor& tensor) { return tensor.at == static_cast<int64_t>(i); }))
      rest.push_back(tensors[i]);
  tensors = std::move(rest);
}

}  // namespace

std::vector<double> gramMatrix(SampleRows& rows, int64_t memory, Task& task) {
  constexpr int64_t kEnough = int64_t{2} << 30;
  const int64_t order = rows.count(), each = rows.perSample();
  requireDense(order, 2, memory, "the Gram matrix of the samples' rows");
  const int64_t have = memory > 0 ? memory : availableMemory() * 4 / 5;
  const int64_t room = std::min(kEnough, have - 16 * order * order);
  const int64_t most = std::clamp<int64_t>(room / (8 * order), 64, rows.dim());
  const int threads = threadsOf(rows);
  std::vector<double> gram(static_cast<size_t>(order * order));
  std::vector<int64_t> tensors = rows.options().tensors;
  addOuterTensors(rows, tensors, gram, task);
  std::vector<double> columns;
  const std::vector<Run> runs = runsOf(rows.problem(), tensors, most);
  for (size_t r = 0; r < runs.size(); ++r) {
    const Run& run = runs[r];
    const int64_t length = run.end - run.begin;
    OperatorOptions options = rows.options();
    options.tensors = run.tensors;
    SampleRows part(borrowed(rows), options, rows.kind());
    columns.resize(static_cast<size_t>(length * order));
    const int64_t dim = part.dim();
    typed(rows, [&](auto zero) {
      using T = decltype(zero);
      part.visit(
          0, rows.samples(), rows.chunk(),
          [&](const SampleRows::Block& block) {
            const T* row = block.as<T>();
            double* to = columns.data() + (block.sample * each + block.first) * length;
            for (int64_t k = 0; k < block.count; ++k, row += dim, to += length)
              std::copy(row + run.begin, row + run.end, to);
          },
          task);
    });
    task.check();
    addGram(threads, order, length, columns.data(), gram.data());
    if (task.report) task.report({order, -1, static_cast<double>(r + 1) / double(runs.size())});
  }
  for (int64_t j = 0; j < order; ++j)
    for (int64_t i = 0; i <= j; ++i)
      gram[static_cast<size_t>(i * order + j)] = gram[static_cast<size_t>(j * order + i)] *=
          rows.scale();
  return gram;
}

namespace {

// v[k] = R^T u[k] / |R^T u[k]| for the first `vectors` columns from the end of u.
template <class T>
std::vector<double> eigenvectorsOf(SampleRows& rows, const std::vector<double>& u, int64_t order,
                                   int64_t vectors, Task& task) {
  const int64_t dim = rows.dim(), each = rows.perSample();
  // Each row goes into all vectors: one product of a thin matrix.
  std::vector<double> v = rows.sum(
      vectors * dim,
      [&](const SampleRows::Block& block, double* sums) {
        const T* row = block.as<T>();
        for (int64_t k = 0; k < block.count; ++k, row += dim) {
          const int64_t at = block.sample * each + block.first + k;
          for (int64_t j = 0; j < vectors; ++j) {
            const double factor = u[static_cast<size_t>((order - 1 - j) * order + at)];
            double* to = sums + j * dim;
            for (int64_t i = 0; i < dim; ++i) to[i] += factor * row[i];
          }
        }
      },
      task);
  for (int64_t j = 0; j < vectors; ++j) {
    const double length = norm2(dim, v.data() + j * dim);
    if (length > 0)
      for (int64_t i = 0; i < dim; ++i) v[static_cast<size_t>(j * dim + i)] /= length;
  }
  return v;
}

}  // namespace

ExactSpectrum dualSpectrum(SampleRows& rows, int64_t vectors, int64_t memory, Task& task) {
  const int64_t order = rows.count(), dim = rows.dim();
  if (vectors > order)
    throw Error(ErrorKind::Option, "vectors: expected at most " + std::to_string(order) +
                                       ", the number of rows, of which all others are orthogonal " +
                                       "to the matrix; got " + std::to_string(vectors));
  std::vector<double> gram = gramMatrix(rows, memory, task);
  task.check();
  ExactSpectrum found;
  found.method = "dual";
  found.order = order;
  found.products = order;
  found.values = vectors > 0 ? symmetricEigen(order, gram.data(), order)
                             : symmetricEigenvalues(order, gram.data(), order);
  task.check();
  std::reverse(found.values.begin(), found.values.end());
  // The others are zero: A has no more than `order` that are not.
  found.values.resize(static_cast<size_t>(dim), 0.0);
  if (vectors > 0)
    typed(rows, [&](auto zero) {
      found.vectors = eigenvectorsOf<decltype(zero)>(rows, gram, order, vectors, task);
    });
  return found;
}

std::vector<double> blockDiagonal(SampleRows& rows, const std::vector<std::vector<int64_t>>& blocks,
                                  int64_t memory, Task& task) {
  std::vector<int64_t> offsets = {0};
  double bytes = 0;
  for (const auto& block : blocks) {
    const auto n = static_cast<int64_t>(block.size());
    for (int64_t i : block)
      if (i < 0 || i >= rows.dim())
        throw Error(ErrorKind::Option, "blocks: expected coordinates from 0 to " +
                                           std::to_string(rows.dim() - 1) + ", got " +
                                           std::to_string(i));
    offsets.push_back(offsets.back() + n * n);
    bytes += 8.0 * static_cast<double>(n) * static_cast<double>(n);
  }
  const int64_t have = memory > 0 ? memory : availableMemory() * 4 / 5;
  const double need = bytes * (1 + 2 * threadsOf(rows));
  if (need > static_cast<double>(have))
    throw Error(ErrorKind::MemoryBudget,
                "the diagonal blocks need about " + std::to_string(static_cast<int64_t>(need)) +
                    " bytes, and " + std::to_string(have) +
                    " are there: take smaller blocks (unit instead of layer), or raise the memory "
                    "limit");
  const int64_t dim = rows.dim();
  std::vector<double> found;
  typed(rows, [&](auto zero) {
    using T = decltype(zero);
    found = rows.sum(
        offsets.back(),
        [&](const SampleRows::Block& given, double* sums) {
          std::vector<double> part;
          for (size_t b = 0; b < blocks.size(); ++b) {
            const auto n = static_cast<int64_t>(blocks[b].size());
            part.resize(static_cast<size_t>(n * given.count));
            for (int64_t k = 0; k < given.count; ++k)
              for (int64_t i = 0; i < n; ++i)
                part[static_cast<size_t>(k * n + i)] =
                    given.as<T>()[k * dim + blocks[b][static_cast<size_t>(i)]];
            gemm('N', 'T', n, n, given.count, 1.0, part.data(), n, part.data(), n, 1.0,
                 sums + offsets[b], n);
          }
        },
        task);
  });
  for (double& x : found) x *= rows.scale();
  return found;
}

ClassMeans classMeans(SampleRows& rows, Task& task) {
  const LossOptions& loss = rows.problem().loss;
  const bool plain = loss.name == "cross-entropy" && loss.mean && loss.classWeights.empty() &&
                     loss.labelSmoothing == 0 && rows.problem().targets &&
                     !isFloating(rows.problem().targets->type()) && rows.splitShape().size() == 1 &&
                     rows.problem().targets->rowSize() == 1;
  if (!plain || rows.kind() != RowKind::Jacobian)
    throw Error(ErrorKind::Option,
                "the class decomposition needs cross-entropy with mean reduction on one label a "
                "sample, without class weights and label smoothing; got the loss " +
                    loss.name);
  const int64_t classes = rows.perSample(), dim = rows.dim(), samples = rows.samples();
  if (classes > 16)
    throw Error(ErrorKind::Option,
                "the class decomposition takes up to 16 classes, got " + std::to_string(classes));
  RunOptions run = rows.options();
  Task quiet;
  quiet.cancelled = task.cancelled.load();
  const Forward logits = evaluateForward(rows.problem(), run, samples, quiet);
  std::vector<int64_t> labels(static_cast<size_t>(samples));
  convertRows(*rows.problem().targets, 0, samples, labels.data());

  const int64_t pairs = classes * classes;
  std::vector<double> sums;
  typed(rows, [&](auto zero) {
    using T = decltype(zero);
    // Means, then squares, then weights.
    sums = rows.sum(
        pairs * (dim + 2),
        [&](const SampleRows::Block& block, double* out) {
          const int64_t n = block.sample, c = labels[static_cast<size_t>(n)];
          if (c < 0 || c >= classes) return;
          const double* z = logits.values.data() + n * classes;
          std::vector<double> p(static_cast<size_t>(classes)), mean(static_cast<size_t>(dim));
          const double top = *std::max_element(z, z + classes);
          double total = 0;
          for (int64_t k = 0; k < classes; ++k)
            total += p[static_cast<size_t>(k)] = std::exp(z[k] - top);
          for (double& x : p) x /= total;
          const T* row = block.as<T>();
          for (int64_t k = 0; k < classes; ++k)
            for (int64_t i = 0; i < dim; ++i)
              mean[static_cast<size_t>(i)] += p[static_cast<size_t>(k)] * row[k * dim + i];
          for (int64_t k = 0; k < classes; ++k) {
            const double w = p[static_cast<size_t>(k)] / static_cast<double>(samples);
            double* to = out + (c * classes + k) * dim;
            double square = 0;
            for (int64_t i = 0; i < dim; ++i) {
              const double delta = mean[static_cast<size_t>(i)] - row[k * dim + i];
              to[i] += w * delta;
              square += delta * delta;
            }
            out[pairs * dim + c * classes + k] += w * square;
            out[pairs * (dim + 1) + c * classes + k] += w;
          }
        },
        task);
  });
  ClassMeans found;
  found.classes = classes;
  found.squares.assign(sums.begin() + pairs * dim, sums.begin() + pairs * (dim + 1));
  found.weights.assign(sums.begin() + pairs * (dim + 1), sums.end());
  sums.resize(static_cast<size_t>(pairs * dim));
  for (int64_t q = 0; q < pairs; ++q) {
    const double w = found.weights[static_cast<size_t>(q)];
    if (w > 0)
      for (int64_t i = 0; i < dim; ++i) sums[static_cast<size_t>(q * dim + i)] /= w;
  }
  found.means = std::move(sums);
  return found;
}

}  // namespace eigenscope
