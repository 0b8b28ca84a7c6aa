#include "curvature/sample_rows.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "curvature/mixing.h"
#include "run/pool.h"

namespace eigenscope {

namespace {

constexpr int64_t kWidth = 16;  // rows that one program makes at most
constexpr int64_t kChunk = 16, kChunks = 64;

bool takesDirections(RowKind kind) { return kind == RowKind::Jacobian || kind == RowKind::Ggn; }

double scaleOf(const Problem& problem, const TargetPlan& targets, const OperatorOptions& options,
               RowKind kind) {
  switch (kind) {
    case RowKind::Jacobian: return 1;
    case RowKind::Ggn: return productScale(problem, targets, OperatorKind::Ggn);
    case RowKind::Mc:
      return productScale(problem, targets, OperatorKind::FisherMc) /
             static_cast<double>(options.draws);
    case RowKind::Empirical: return productScale(problem, targets, OperatorKind::FisherEmpirical);
  }
  return 1;
}

}  // namespace

std::optional<RowKind> rowKindOf(OperatorKind kind) {
  switch (kind) {
    case OperatorKind::Ggn:
    case OperatorKind::FisherType2: return RowKind::Ggn;
    case OperatorKind::FisherMc: return RowKind::Mc;
    case OperatorKind::FisherEmpirical: return RowKind::Empirical;
    default: return std::nullopt;
  }
}

SampleRows::SampleRows(std::shared_ptr<const Problem> problem, const OperatorOptions& options,
                       RowKind kind, bool factors)
    : problem_(std::move(problem)), options_(options), kind_(kind), prepared_(prepare(*problem_)) {
  refuseMixedSamples(*problem_, "rows of single samples");
  if (options_.tensors.empty()) {
    options_.tensors.resize(problem_->parameters.size());
    std::iota(options_.tensors.begin(), options_.tensors.end(), 0);
  }
  for (int64_t i : options_.tensors) dim_ += problem_->parameters.at(i).size;
  scale_ = scaleOf(*problem_, prepared_.targets, options_, kind_);
  const int64_t one = prepared_.fixedBatch > 0 ? prepared_.fixedBatch : 1;
  if (takesDirections(kind_)) {
    split_ = eigenscope::splitShape(*problem_, prepared_.targets, one);
    perSample_ = eigenscope::count(split_);
  } else {
    perSample_ = kind_ == RowKind::Mc ? options_.draws : 1;
  }
  width_ = takesDirections(kind_) ? std::min(kWidth, perSample_) : perSample_;
  RunOptions run = options_;
  run.batch = prepared_.fixedBatch > 0 ? 0 : 1;
  if (factors) {
    dim_ = 0;
    buildOuterRows(*problem_, prepared_.targets, options_, kind_, {one, 1}, width_, &outer_);
    for (const OuterTensor& tensor : outer_) dim_ += tensor.left + tensor.right;
    if (dim_ == 0) return;
  }
  engine_ = std::make_unique<Engine>(
      problem_, run, prepared_.fixedBatch, options_.tensors,
      [this, factors](const Rows& rows, int64_t k) {
        const int64_t width = takesDirections(kind_) ? k : perSample_;
        return factors ? buildOuterRows(*problem_, prepared_.targets, options_, kind_, rows, width,
                                        nullptr)
                       : buildRows(*problem_, prepared_.targets, options_, kind_, rows, width);
      },
      1);
}

int64_t SampleRows::chunk() const { return std::clamp<int64_t>(samples() / kChunks, 1, kChunk); }

void SampleRows::visit(int64_t first, int64_t last, int64_t chunk, const Visitor& visitor,
                       Task& task) {
  auto pass = [&](const void* x, int64_t from, int64_t width) {
    engine_->visit(
        x, width, first, last, chunk,
        [&](int64_t c, int64_t sample, const void* rows) {
          visitor({c, sample, from, width, rows});
        },
        task);
  };
  if (!takesDirections(kind_)) return pass(nullptr, 0, perSample_);
  // Unit vectors of the split, a block at a time.
  for (int64_t from = 0; from < perSample_; from += width_) {
    const int64_t width = std::min(width_, perSample_ - from);
    auto units = [&](auto one) {
      std::vector<decltype(one)> x(static_cast<size_t>(width * perSample_));
      for (int64_t k = 0; k < width; ++k) x[static_cast<size_t>(k * perSample_ + from + k)] = one;
      pass(x.data(), from, width);
    };
    if (options_.precision == Precision::F32)
      units(1.0F);
    else
      units(1.0);
  }
}

std::vector<double> SampleRows::sum(int64_t size, const Adder& add, Task& task) {
  constexpr int64_t kRun = 1 << 15;
  const int threads = options_.threads > 0 ? options_.threads : availableThreads();
  const int64_t chunk = this->chunk(), chunks = (samples() + chunk - 1) / chunk;
  const int64_t wave = std::min<int64_t>(chunks, 2 * threads);
  std::vector<double> total(static_cast<size_t>(size));
  std::vector<std::vector<double>> partial(static_cast<size_t>(wave));
  for (int64_t done = 0; done < chunks; done += wave) {
    const int64_t here = std::min(wave, chunks - done);
    for (int64_t c = 0; c < here; ++c)
      partial[static_cast<size_t>(c)].assign(static_cast<size_t>(size), 0.0);
    visit(
        done * chunk, std::min(samples(), (done + here) * chunk), chunk,
        [&](const Block& block) { add(block, partial[static_cast<size_t>(block.chunk)].data()); },
        task);
    // Chunk by chunk in index order for every number, whoever adds it.
    parallel(threads, (size + kRun - 1) / kRun, [&](int, int64_t r) {
      const int64_t from = r * kRun, to = std::min(size, from + kRun);
      for (int64_t c = 0; c < here; ++c) {
        const double* sums = partial[static_cast<size_t>(c)].data();
        for (int64_t i = from; i < to; ++i) total[static_cast<size_t>(i)] += sums[i];
      }
    });
    if (task.report)
      task.report({0, -1, static_cast<double>(done + here) / static_cast<double>(chunks)});
  }
  return total;
}

}  // namespace eigenscope
