// What an engine does besides sums: the outputs of single samples, and images of directions.
#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "curvature/variant.h"
#include "run/pool.h"

namespace eigenscope {

template <class T>
void Engine::visitAs(const T* x, int64_t width, int64_t first, int64_t last, int64_t chunk,
                     const Visitor& visitor, Task& task) {
  Variant& v = variant({fixedBatch_ > 0 ? fixedBatch_ : 1, 1}, width);
  if (!v.program.tangents.empty()) {
    const int64_t size = count(v.program.tangents[0].shape) / width;
    setDirections(v, x, width, size, {0});
  }
  int64_t dim = 0;
  for (int64_t size : v.tensorSize) dim += size;

  const int64_t rowBytes = width * dim * static_cast<int64_t>(sizeof(T));
  const int64_t each = v.bytes(Space::Work) + v.bytes(Space::Residual) + v.bytes(Space::Partial) +
                       v.bytes(Space::Collected) + v.executor->scratchBytes() + rowBytes;
  if (each > budget_)
    throw Error(ErrorKind::MemoryBudget, "the rows of one sample need about " +
                                             std::to_string(each) + " bytes; the budget is " +
                                             std::to_string(budget_) + ": raise --max-memory");
  const int64_t chunks = (last - first + chunk - 1) / chunk;
  const int workers =
      static_cast<int>(std::clamp<int64_t>(std::min(budget_ / each, chunks), 1, threads_));
  workspaces_.resize(std::max(workspaces_.size(), static_cast<size_t>(workers)));

  parallel(workers, chunks, [&](int worker, int64_t c) {
    Worker& own = workspaces_[static_cast<size_t>(worker)];
    Frame frame;
    for (Space space : kShared)
      frame.base[static_cast<int>(space)] = v.shared[static_cast<int>(space)].data();
    auto place = [&](Space space, Buffer& buffer) {
      frame.base[static_cast<int>(space)] = ensure(buffer, v.bytes(space))->data();
    };
    place(Space::Work, own.work);
    place(Space::Residual, own.residual);
    place(Space::Partial, own.partial);
    place(Space::Collected, own.collected);
    frame.scratch = ensure(own.scratch, v.executor->scratchBytes())->data();
    frame.feed = this;
    T* rows = ensure(own.rows, rowBytes)->template as<T>();
    const int64_t begin = first + c * chunk, end = std::min(last, begin + chunk);
    for (int64_t n = begin; n < end; ++n) {
      task.check();
      frame.begin = n;
      std::memset(own.partial.data(), 0, static_cast<size_t>(v.bytes(Space::Partial)));
      v.executor->run(Stage::Primal, frame);
      v.executor->run(Stage::Tangent, frame);
      const T* partial = own.partial.as<T>();
      for (const Sum& sum : v.program.sums)
        std::copy_n(partial + sum.offset, sum.size, frame.at<T>(sum.collected));
      v.executor->run(Stage::Post, frame);
      size_t next = 0;
      int64_t offset = 0;
      for (size_t i = 0; i < v.product.outputs.size(); ++i) {
        const int64_t size = v.tensorSize[i];
        const bool zero = v.product.outputs[i] == kNone;
        // What has no directions is the same for all rows.
        const bool repeats = !zero && count(v.program.outputShapes[next]) == size;
        const T* from = zero ? nullptr : frame.at<T>(v.program.outputs[next++]);
        for (int64_t k = 0; k < width; ++k) {
          T* to = rows + k * dim + offset;
          if (zero)
            std::fill_n(to, size, T{0});
          else
            std::copy_n(from + (repeats ? 0 : k * size), size, to);
        }
        offset += size;
      }
      visitor(c, n, rows);
    }
  });
  peakBytes_ = std::max(peakBytes_, heldBytes());
}

void Engine::visit(const void* x, int64_t width, int64_t first, int64_t last, int64_t chunk,
                   const Visitor& visitor, Task& task) {
  std::lock_guard lock(mutex_);
  if (options_.precision == Precision::F32)
    visitAs(static_cast<const float*>(x), width, first, last, chunk, visitor, task);
  else
    visitAs(static_cast<const double*>(x), width, first, last, chunk, visitor, task);
}

template <class T>
void Engine::imagesAs(const T* x, T* y, int64_t width, Task& task) {
  Variant& main = mainVariant(width);
  Variant* tail = tailVariant(width);
  std::vector<int64_t> offsets = {0};
  for (int64_t size : main.tensorSize) offsets.push_back(offsets.back() + size);
  for (Variant* v : {&main, tail})
    if (v) setDirections(*v, x, width, offsets.back(), offsets);
  if (main.product.outputs[0] == kNone)
    throw Error(ErrorKind::Option, "the network's output does not depend on the parameters");
  const int64_t rowSize = count(main.program.outputShapes[0]) / (width * batch_);
  const int64_t all = problem_->samples * rowSize;
  workspaces_.resize(std::max(workspaces_.size(), static_cast<size_t>(workers_)));
  parallel(workers_, microBatches_, [&](int worker, int64_t m) {
    task.check();
    Worker& own = workspaces_[static_cast<size_t>(worker)];
    const Rows rows = rowsOf(m);
    Variant& v = rows.valid == batch_ ? main : *tail;
    Frame frame;
    for (Space space : kShared)
      frame.base[static_cast<int>(space)] = v.shared[static_cast<int>(space)].data();
    frame.base[static_cast<int>(Space::Work)] = ensure(own.work, v.bytes(Space::Work))->data();
    frame.base[static_cast<int>(Space::Residual)] =
        ensure(own.residual, v.bytes(Space::Residual))->data();
    frame.scratch = ensure(own.scratch, v.executor->scratchBytes())->data();
    frame.feed = this;
    frame.begin = m * batch_;
    v.executor->run(Stage::Primal, frame);
    v.executor->run(Stage::Tangent, frame);
    const T* from = frame.at<T>(v.program.outputs[0]);
    for (int64_t k = 0; k < width; ++k)
      std::copy_n(from + k * rows.rows * rowSize, rows.valid * rowSize,
                  y + k * all + m * batch_ * rowSize);
  });
}

void Engine::images(const void* x, void* y, int64_t width, Task& task) {
  std::lock_guard lock(mutex_);
  if (options_.precision == Precision::F32)
    imagesAs(static_cast<const float*>(x), static_cast<float*>(y), width, task);
  else
    imagesAs(static_cast<const double*>(x), static_cast<double*>(y), width, task);
}

void Engine::setExtraInput(Array array) {
  std::lock_guard lock(mutex_);
  if (extra_) slots_.pop_back();
  extra_ = std::move(array);
  slots_.push_back(&*extra_);
}

}  // namespace eigenscope
