#include "curvature/jacobian.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/error.h"

namespace eigenscope {

namespace {

constexpr int64_t kWidth = 16;  // vectors that one program takes at most

}  // namespace

JacobianMaps::JacobianMaps(std::shared_ptr<const Problem> problem, const OperatorOptions& options)
    : problem_(std::move(problem)), options_(options), prepared_(prepare(*problem_)) {
  if (options_.tensors.empty()) {
    options_.tensors.resize(problem_->parameters.size());
    std::iota(options_.tensors.begin(), options_.tensors.end(), 0);
  }
  for (int64_t i : options_.tensors) dim_ += problem_->parameters.at(i).size;
  const int64_t trial =
      prepared_.fixedBatch > 0 ? prepared_.fixedBatch : std::min<int64_t>(2, problem_->samples);
  split_ = eigenscope::splitShape(*problem_, prepared_.targets, trial);
}

JacobianMaps::~JacobianMaps() = default;

Engine& JacobianMaps::images() {
  if (!images_)
    images_ = std::make_unique<Engine>(
        problem_, options_, prepared_.fixedBatch, options_.tensors,
        [this](const Rows& rows, int64_t k) {
          return buildImages(*problem_, prepared_.targets, options_, rows, k);
        },
        kWidth);
  return *images_;
}

Engine& JacobianMaps::pullback(RowKind kind) {
  auto& engine = pullbacks_[kind == RowKind::Ggn];
  if (!engine)
    engine = std::make_unique<Engine>(
        problem_, options_, prepared_.fixedBatch, options_.tensors,
        [this, kind](const Rows& rows, int64_t k) {
          return buildPullback(*problem_, prepared_.targets, options_, kind, rows, k);
        },
        kWidth);
  return *engine;
}

void JacobianMaps::product(const void* x, void* y, int64_t count, Task& task) {
  const auto bytes = static_cast<int64_t>(bytesOf(options_.precision));
  for (int64_t done = 0; done < count;) {
    const int64_t width = std::min(kWidth, count - done);
    images().images(static_cast<const std::byte*>(x) + done * dim_ * bytes,
                    static_cast<std::byte*>(y) + done * rows() * bytes, width, task);
    done += width;
  }
}

void JacobianMaps::transposed(RowKind kind, const void* u, void* y, int64_t count, Task& task) {
  const auto number = static_cast<int64_t>(bytesOf(options_.precision));
  const int64_t n = samples(), width = eigenscope::count(split_);
  const auto* from = static_cast<const std::byte*>(u);
  const ElementType type =
      options_.precision == Precision::F32 ? ElementType::F32 : ElementType::F64;
  // Programs exist for powers of two, as for products.
  for (int64_t done = 0; done < count;) {
    int64_t k = std::min(kWidth, count - done);
    while ((k & (k - 1)) != 0) k &= k - 1;
    // Samples first: each micro-batch reads its own.
    std::vector<std::byte> rows(static_cast<size_t>(n * k * width * number));
    for (int64_t s = 0; s < n; ++s)
      for (int64_t j = 0; j < k; ++j)
        std::memcpy(rows.data() + (s * k + j) * width * number,
                    from + ((done + j) * n + s) * width * number,
                    static_cast<size_t>(width * number));
    Shape shape = split_;
    shape.insert(shape.begin(), k);
    shape.insert(shape.begin(), n);
    Engine& engine = pullback(kind);
    engine.setExtraInput(
        Array("cotangents", type, shape, copyBytes("cotangents", rows.data(), rows.size())));
    engine.product(nullptr, static_cast<std::byte*>(y) + done * dim_ * number, k, 1, task);
    done += k;
  }
}

}  // namespace eigenscope
