#include "spectral/quadrature.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/philox.h"

namespace eigenscope {

namespace {

// Columns of random numbers of their own, see base/philox.h.
constexpr uint64_t kProbeColumn = uint64_t{1} << 40;
constexpr int64_t kMostLanes = 16;
constexpr double kResolutionRoundings = 32;

ProbeRule ruleOf(const Tridiagonal& t) {
  ProbeRule rule{t, {}, {}, {}};
  const TridiagonalEigen eigen = eigenOf(t, t.steps());
  rule.nodes = eigen.values;
  for (int64_t j = 0; j < eigen.size(); ++j) {
    rule.weights.push_back(eigen.first(j) * eigen.first(j));
    rule.residuals.push_back(t.beta() * std::abs(eigen.last(j)));
  }
  return rule;
}

}  // namespace

void fillProbes(double* out, int64_t dim, int64_t count, ProbeType type, uint64_t seed,
                int64_t first, std::span<const int64_t> index) {
  if (type == ProbeType::Gaussian)
    fillGaussian(out, dim, count, seed, kProbeColumn + first, index);
  else
    fillRademacher(out, dim, count, seed, kProbeColumn + first, index);
}

double resolutionOf(double scale, Precision precision) {
  return kResolutionRoundings * roundingOf(precision) * scale;
}

void checkProbes(const char* where, const LinearOperator& op, int64_t probes, int64_t steps,
                 int64_t blockSize) {
  const auto atLeastOne = [&](const char* name, int64_t value, int64_t least) {
    if (value < least)
      throw Error(ErrorKind::Option, std::string(where) + ": " + name + ": expected at least " +
                                         std::to_string(least) + ", got " + std::to_string(value));
  };
  atLeastOne("dim", op.dim(), 1);
  atLeastOne("probes", probes, 1);
  atLeastOne("steps", steps, 1);
  atLeastOne("blockSize", blockSize, 0);
}

QuadratureResult lanczosQuadrature(LinearOperator& op, const QuadratureOptions& options,
                                   Task& task) {
  checkProbes("lanczosQuadrature", op, options.probes, options.steps, options.blockSize);
  const int64_t dim = op.dim(), steps = std::min(options.steps, dim);
  const int64_t wanted =
      std::min(options.probes, options.blockSize > 0 ? options.blockSize : kMostLanes);
  QuadratureResult result;
  result.blockSize = lanesFor(op, wanted, steps, options.memoryBudget, "Lanczos quadrature");
  ProductCounter counter(op, task, std::numeric_limits<int64_t>::max());
  const ShareDone share(task, options.probes * steps);
  LanczosBlock block(counter, result.blockSize, steps, options.threads);
  std::vector<double> starts(result.blockSize * dim);
  for (int64_t first = 0; first < options.probes; first += result.blockSize) {
    const int64_t count = std::min(result.blockSize, options.probes - first);
    fillProbes(starts.data(), dim, count, options.type, options.seed, first, op.index());
    block.begin(starts.data(), count);
    while (block.step()) {
    }
    for (int64_t j = 0; j < count; ++j) {
      result.rules.push_back(ruleOf(block.tridiagonal(j)));
      const std::vector<double>& nodes = result.rules.back().nodes;
      result.scale = std::max({result.scale, std::abs(nodes.front()), std::abs(nodes.back())});
    }
  }
  result.products = counter.products();
  const std::string warning = lanczosWarning(block.asymmetry(), op.precision());
  if (!warning.empty()) result.warnings.push_back(warning);
  return result;
}

}  // namespace eigenscope
