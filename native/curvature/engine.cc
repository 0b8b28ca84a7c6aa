#include "curvature/engine.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/memory.h"
#include "curvature/mixing.h"
#include "curvature/variant.h"
#include "run/pool.h"

namespace eigenscope {

namespace {

constexpr int64_t kWaves = 2;  // chunks a worker computes between two rounds of additions

int64_t powerOfTwoBelow(int64_t n) {
  int64_t p = 1;
  while (2 * p <= n) p *= 2;
  return p;
}

}  // namespace

Engine::Engine(std::shared_ptr<const Problem> problem, const RunOptions& options,
               int64_t fixedBatch, std::vector<int64_t> tensors, Build build,
               int64_t directionsAtMost)
    : problem_(std::move(problem)),
      options_(options),
      tensors_(std::move(tensors)),
      build_(std::move(build)),
      directionsAtMost_(directionsAtMost),
      fixedBatch_(fixedBatch) {
  for (const auto& [name, array] : problem_->inputs) slots_.push_back(&array);
  if (problem_->targets) slots_.push_back(&*problem_->targets);
  threads_ = options.threads > 0 ? options.threads : availableThreads();
  budget_ = options.maxMemory > 0 ? options.maxMemory : availableMemory() * 4 / 5;
  batchIsGiven_ = options_.batch > 0 || fixedBatch_ > 0;
  chooseBatch();
  planMemory();
}

Engine::~Engine() = default;

void Engine::load(int64_t slot, int64_t begin, int64_t rows, Type type, Precision precision,
                  void* out) const {
  const Array& array = *slots_.at(static_cast<size_t>(slot));
  auto convert = [&]<class E>(E* to) {
    // Padding repeats the last sample, so that it is as good as any.
    const int64_t have = std::min(rows, problem_->samples - begin);
    const int64_t first = have > 0 ? begin : problem_->samples - 1, n = std::max<int64_t>(have, 1);
    convertRows(array, first, first + n, to);
    for (int64_t r = n; r < rows; ++r)
      std::copy_n(to + (n - 1) * array.rowSize(), array.rowSize(), to + r * array.rowSize());
  };
  switch (type) {
    case Type::Int: return convert(static_cast<int32_t*>(out));
    case Type::Bool: return convert(static_cast<uint8_t*>(out));
    case Type::Real:
      return precision == Precision::F32 ? convert(static_cast<float*>(out))
                                         : convert(static_cast<double*>(out));
  }
}

// ---- sizes
// ---------------------------------------------------------------------------------------

// A micro-batch is as large as its tangents' working set stays near a core's cache, at most 256
// samples, and small enough that there is work for many threads. It depends on model, shapes and
// precision only. With statistics of the batch, it is the batch.
void Engine::chooseBatch() {
  const int64_t n = problem_->samples;
  const int64_t ofStatistics = statisticsBatch(*problem_, options_, fixedBatch_);
  if (ofStatistics > 0) {
    batch_ = ofStatistics;
    batchIsGiven_ = true;
  } else if (fixedBatch_ > 0) {
    if (options_.batch > 0 && options_.batch != fixedBatch_)
      throw Error(ErrorKind::Option,
                  "batch: the graph takes exactly " + std::to_string(fixedBatch_) +
                      " samples at once; received " + std::to_string(options_.batch) +
                      ": leave it out, or export with a dynamic batch axis");
    batch_ = fixedBatch_;
  } else if (options_.batch > 0) {
    batch_ = std::min(options_.batch, n);
  } else {
    constexpr int64_t kTrial = 8, kNearCache = 3 << 20, kMost = 256, kManyBatches = 16,
                      kEnough = 128;
    const int64_t trial = std::min(n, kTrial);
    const int64_t k = directionsAtMost_ > 0 ? 1 : 0;
    const Program program = planned(build_({trial, trial}, k), k);
    const int64_t perRow =
        std::max<int64_t>(1, program.bytes[static_cast<int>(Space::Work)] / trial);
    batch_ = std::clamp<int64_t>(powerOfTwoBelow(kNearCache / perRow + 1), 1, kMost);
    batch_ = std::min(batch_,
                      std::max(kEnough, powerOfTwoBelow(std::max<int64_t>(1, n / kManyBatches))));
    batch_ = std::min(batch_, n);
  }
  microBatches_ = (n + batch_ - 1) / batch_;
}

// What blocks of `width` directions take on `workers` threads, by the program for one.
int64_t Engine::bytesWithoutCache(const Variant& v, int64_t width, int workers) const {
  const int64_t w = std::max<int64_t>(1, width);
  const int64_t sums = v.program.sumElements * static_cast<int64_t>(sizeof(double));
  const int64_t once = v.bytes(Space::Constant) + v.bytes(Space::Global) +
                       w * (v.bytes(Space::Direction) + v.bytes(Space::Collected) + sums);
  const int64_t each = w * (v.bytes(Space::Work) + kWaves * v.bytes(Space::Partial)) +
                       v.bytes(Space::Residual) + v.executor->scratchBytes();
  return once + workers * each;
}

// The width of a block follows from sizes alone. Short of memory, first fewer linearisations are
// kept, then fewer workers run at once; last, width and micro-batch shrink.
void Engine::planMemory() {
  constexpr int64_t kBlockBytes = 256 << 20;
  bool first = true;
  for (;;) {
    Variant& v = mainVariant(directionsAtMost_ > 0 ? 1 : 0);
    while (first && directionsAtMost_ > 1 &&
           bytesWithoutCache(v, directionsAtMost_, 1) > kBlockBytes)
      directionsAtMost_ /= 2;
    first = false;
    workers_ = static_cast<int>(std::min<int64_t>(threads_, microBatches_));
    while (workers_ > 1 && bytesWithoutCache(v, directionsAtMost_, workers_) > budget_) --workers_;
    const int64_t need = bytesWithoutCache(v, directionsAtMost_, workers_);
    if (need <= budget_) {
      plannedBytes_ = need;
      keptAtMost_ =
          options_.keepLinearisation && v.hasTangent() && v.bytes(Space::Residual) > 0
              ? std::clamp<int64_t>((budget_ - need) / v.bytes(Space::Residual), 0, microBatches_)
              : 0;
      return;
    }
    if (directionsAtMost_ > 1) {
      directionsAtMost_ /= 2;
      continue;
    }
    if (batch_ == 1 || batchIsGiven_)
      throw Error(ErrorKind::MemoryBudget,
                  "a product needs about " + std::to_string(need) + " bytes with one thread and " +
                      std::to_string(batch_) + " samples at once; the budget is " +
                      std::to_string(budget_) + ": raise --max-memory, or use a smaller --batch");
    batch_ /= 2;
    microBatches_ = (problem_->samples + batch_ - 1) / batch_;
    variants_.clear();
  }
}

Rows Engine::rowsOf(int64_t microBatch) const {
  const int64_t valid = std::min(batch_, problem_->samples - microBatch * batch_);
  return {fixedBatch_ > 0 ? batch_ : valid, valid};
}

Engine::Variant* Engine::tailVariant(int64_t directions) {
  const Rows last = rowsOf(microBatches_ - 1);
  return last.valid == batch_ ? nullptr : &variant(last, directions);
}

// Micro-batches whose sums are added in the computing precision. Long enough that adding partial
// sums costs little beside the products, short enough that threads share the work.
int64_t Engine::chunkOf(const Variant& main) const {
  constexpr double kFlopsPerAddition = 100, kShare = 0.03;
  constexpr int64_t kChunks = 32;
  const double flops = std::max(1.0, main.program.tangentFlops + main.program.primalFlops);
  const auto wanted = static_cast<int64_t>(static_cast<double>(main.program.sumElements) *
                                           kFlopsPerAddition / (kShare * flops));
  const int64_t most = std::max<int64_t>(1, microBatches_ / kChunks);
  return std::clamp<int64_t>(wanted, 1, most);
}

Program Engine::planned(const ProductGraph& product, int64_t directions) const {
  std::vector<Id> outputs;
  for (Id id : product.outputs)
    if (id != kNone) outputs.push_back(id);
  return compile(product.graph, outputs, options_.precision, directions);
}

Engine::Variant& Engine::variant(const Rows& rows, int64_t directions) {
  auto& slot = variants_[{rows.rows, rows.valid, directions}];
  if (slot) return *slot;
  auto v = std::make_unique<Variant>();
  v->product = build_(rows, directions);
  v->program = planned(v->product, directions);
  v->executor = std::make_unique<Executor>(v->program, v->product.graph);
  v->tensorSize = v->product.sizes;
  for (int64_t tensor : v->product.sizes.empty() ? tensors_ : std::vector<int64_t>())
    v->tensorSize.push_back(problem_->parameters.at(static_cast<size_t>(tensor)).size);
  for (Space space : kShared) v->shared[static_cast<int>(space)] = Buffer(v->bytes(space));
  v->layout = std::to_string(rows.rows) + "/" + std::to_string(v->bytes(Space::Residual));
  for (const Step& step : v->program.stages[static_cast<int>(Stage::Primal)])
    for (const Place& out : step.out)
      if (out.space == Space::Residual)
        v->layout += " " + std::to_string(out.offset) + name(v->product.graph[step.node].op) +
                     show(v->product.graph.shape(step.node));

  const auto width = static_cast<int64_t>(bytesOf(options_.precision));
  for (const Step& step : v->program.stages[static_cast<int>(Stage::Primal)])
    for (const Place& out : step.out) {
      if (out.space != Space::Partial) continue;
      const auto& sums = v->program.sums;
      const auto sum = std::find_if(sums.begin(), sums.end(), [&](const Sum& candidate) {
        return candidate.offset * width == out.offset;
      });
      auto same = [&](const Sum& other) { return other.offset == sum->offset; };
      if (std::any_of(v->primalSums.begin(), v->primalSums.end(), same)) continue;
      v->primalSums.push_back(*sum);
      v->layout += " sum" + std::to_string(sum->size);
    }

  loadParameters(*v);
  slot = std::move(v);
  return *slot;
}

// Parameters, and what depends on nothing else.
void Engine::loadParameters(Variant& v) const {
  for (const Leaf& leaf : v.program.parameters) {
    const Array& value = problem_->parameters.at(static_cast<size_t>(leaf.number)).value;
    std::byte* to = v.shared[static_cast<int>(leaf.place.space)].data() + leaf.place.offset;
    // A scalar has no rows to convert one by one.
    const Array flat = value.reshaped({value.size()});
    if (options_.precision == Precision::F32)
      convertRows(flat, 0, value.size(), reinterpret_cast<float*>(to));
    else
      convertRows(flat, 0, value.size(), reinterpret_cast<double*>(to));
  }
  Frame frame;
  Buffer scratch(v.executor->scratchBytes());
  for (Space space : kShared)
    frame.base[static_cast<int>(space)] = v.shared[static_cast<int>(space)].data();
  frame.scratch = scratch.data();
  v.executor->run(Stage::Constant, frame);
  v.executor->run(Stage::Setup, frame);
}

void Engine::moveTo(std::shared_ptr<const Problem> problem) {
  std::lock_guard lock(mutex_);
  if (problem == problem_) return;
  problem_ = std::move(problem);
  slots_.clear();
  for (const auto& [name, array] : problem_->inputs) slots_.push_back(&array);
  if (problem_->targets) slots_.push_back(&*problem_->targets);
  if (extra_) slots_.push_back(&*extra_);
  for (auto& [key, v] : variants_)
    if (v) loadParameters(*v);
  // Linearisations belong to the place that was left.
  kept_.clear();
  filled_.clear();
  keptLayout_.clear();
  primalTotals_.clear();
}

// ---- running
// -------------------------------------------------------------------------------------

template <class T>
void Engine::sweep(Variant& main, Variant* tail, Task& task) {
  const int64_t elements = main.program.sumElements;
  const int64_t chunk = chunkOf(main);
  // The last micro-batch, where it is another one, is a chunk of its own: its program has other
  // sums, in another order.
  const int64_t whole = tail ? microBatches_ - 1 : microBatches_;
  const int64_t chunks = (whole + chunk - 1) / chunk + (tail ? 1 : 0);
  // Several chunks wait for one pass of additions, each in its own partial sums.
  const int64_t wave = std::min<int64_t>(chunks, kWaves * workers_);

  workspaces_.resize(static_cast<size_t>(workers_));
  if (partials_.size() < static_cast<size_t>(wave)) partials_.resize(static_cast<size_t>(wave));
  const int64_t partialBytes =
      std::max(main.bytes(Space::Partial), tail ? tail->bytes(Space::Partial) : 0);
  for (int64_t c = 0; c < wave; ++c) ensure(partials_[static_cast<size_t>(c)], partialBytes);
  totals_.assign(static_cast<size_t>(elements), 0.0);

  // Programs of one micro-batch size share their residuals whatever their number of directions.
  const bool keeps = main.hasTangent();
  const std::string layout = main.layout + (tail ? "; " + tail->layout : "");
  if (keeps && keptLayout_ != layout) {
    keptLayout_ = layout;
    kept_.clear();
    kept_.resize(static_cast<size_t>(microBatches_));
    filled_.assign(static_cast<size_t>(microBatches_), 0);
    primalTotals_.clear();
  }
  // What the primal stage sums is kept with the residuals, as that stage is then skipped: for each
  // length of the chunks, on which its rounding depends.
  const bool sumsPrimal =
      keeps && (!main.primalSums.empty() || (tail && !tail->primalSums.empty()));
  const auto known = primalTotals_.find(chunk);
  const bool restores = sumsPrimal && known != primalTotals_.end();
  if (sumsPrimal && !restores) std::fill(filled_.begin(), filled_.end(), 0);

  auto runOne = [&](Worker& worker, int64_t m, std::byte* partial) {
    task.check();
    Variant& v = rowsOf(m).valid == batch_ ? main : *tail;
    Frame frame;
    for (Space space : kShared)
      frame.base[static_cast<int>(space)] = v.shared[static_cast<int>(space)].data();
    frame.base[static_cast<int>(Space::Work)] = ensure(worker.work, v.bytes(Space::Work))->data();
    frame.base[static_cast<int>(Space::Partial)] = partial;
    frame.scratch = ensure(worker.scratch, v.executor->scratchBytes())->data();
    frame.feed = this;
    frame.begin = m * batch_;
    bool linearised = false;
    if (keeps && m < keptAtMost_) {
      Buffer& own = kept_[static_cast<size_t>(m)];
      if (own.bytes() < v.bytes(Space::Residual)) own = Buffer(v.bytes(Space::Residual));
      frame.base[static_cast<int>(Space::Residual)] = own.data();
      linearised = filled_[static_cast<size_t>(m)];
    } else {
      frame.base[static_cast<int>(Space::Residual)] =
          ensure(worker.residual, v.bytes(Space::Residual))->data();
    }
    if (!linearised) {
      v.executor->run(Stage::Primal, frame);
      if (keeps && m < keptAtMost_) filled_[static_cast<size_t>(m)] = 1;
    }
    v.executor->run(Stage::Tangent, frame);
  };

  for (int64_t first = 0; first < chunks; first += wave) {
    const int64_t here = std::min(wave, chunks - first);
    const int64_t ofMain = tail && first + here == chunks ? here - 1 : here;
    parallel(workers_, here, [&](int worker, int64_t c) {
      const Buffer& partial = partials_[static_cast<size_t>(c)];
      if (partial.bytes()) std::memset(partial.data(), 0, static_cast<size_t>(partialBytes));
      const int64_t begin = c < ofMain ? (first + c) * chunk : whole;
      const int64_t end = c < ofMain ? std::min(begin + chunk, whole) : microBatches_;
      for (int64_t m = begin; m < end; ++m)
        runOne(workspaces_[static_cast<size_t>(worker)], m, partial.data());
    });
    // Chunk by chunk in index order for every element, whoever adds it.
    constexpr int64_t kRun = 1 << 15;
    parallel(workers_, (elements + kRun - 1) / kRun, [&](int, int64_t r) {
      const int64_t from = r * kRun, to = std::min(elements, from + kRun);
      for (int64_t c = 0; c < ofMain; ++c) {
        const T* partial = partials_[static_cast<size_t>(c)].template as<T>();
        double* total = totals_.data();
        for (int64_t i = from; i < to; ++i) total[i] += partial[i];
      }
    });
    if (ofMain < here) {
      const T* partial = partials_[static_cast<size_t>(ofMain)].template as<T>();
      tailTotals_.assign(partial, partial + tail->program.sumElements);
    }
  }

  if (sumsPrimal) {
    std::vector<double> made;
    int64_t at = 0;
    auto keepOrRestore = [&](const Variant& v, std::vector<double>& totals) {
      for (const Sum& sum : v.primalSums) {
        double* total = totals.data() + sum.offset;
        if (restores)
          std::copy_n(known->second.data() + at, sum.size, total);
        else
          made.insert(made.end(), total, total + sum.size);
        at += sum.size;
      }
    };
    keepOrRestore(main, totals_);
    if (tail) keepOrRestore(*tail, tailTotals_);
    if (!restores) primalTotals_.emplace(chunk, std::move(made));
  }
  peakBytes_ = std::max(peakBytes_, heldBytes());
}

// Scaled totals to their places, then what follows from them, which is linear.
template <class T>
void Engine::finish(Variant& v, const std::vector<double>& totals, double scale) {
  Buffer& collected = v.shared[static_cast<int>(Space::Collected)];
  for (const Sum& sum : v.program.sums) {
    T* to = reinterpret_cast<T*>(collected.data() + sum.collected.offset);
    for (int64_t i = 0; i < sum.size; ++i)
      to[i] = static_cast<T>(totals[static_cast<size_t>(sum.offset + i)] * scale);
  }
  Frame frame;
  for (Space space : kShared)
    frame.base[static_cast<int>(space)] = v.shared[static_cast<int>(space)].data();
  Buffer scratch(v.executor->scratchBytes());
  frame.scratch = scratch.data();
  v.executor->run(Stage::Post, frame);
}

// Tangent leaf i takes offsets[i] onwards of each of the `width` vectors of length dim.
template <class T>
void Engine::setDirections(Variant& v, const T* x, int64_t width, int64_t dim,
                           const std::vector<int64_t>& offsets) {
  Frame frame;
  for (Space space : kShared)
    frame.base[static_cast<int>(space)] = v.shared[static_cast<int>(space)].data();
  for (const Leaf& leaf : v.program.tangents) {
    T* to = frame.at<T>(leaf.place);
    const int64_t size = count(leaf.shape) / width;
    for (int64_t k = 0; k < width; ++k)
      std::copy_n(x + k * dim + offsets[static_cast<size_t>(leaf.number)], size, to + k * size);
  }
  Buffer scratch(v.executor->scratchBytes());
  frame.scratch = scratch.data();
  v.executor->run(Stage::Direction, frame);
}

template <class T>
void Engine::block(const T* x, T* y, int64_t width, double scale, Task& task) {
  Variant& main = mainVariant(width);
  Variant* tail = tailVariant(width);

  // Where each tensor begins in a vector.
  std::vector<int64_t> offsets = {0};
  for (size_t i = 0; i < main.product.outputs.size(); ++i)
    offsets.push_back(offsets.back() + main.tensorSize[i]);
  const int64_t dim = offsets.back();

  for (Variant* v : {&main, tail})
    if (v) setDirections(*v, x, width, dim, offsets);

  sweep<T>(main, tail, task);
  finish<T>(main, totals_, scale);
  if (tail) finish<T>(*tail, tailTotals_, scale);

  std::fill_n(y, width * dim, T{0});
  for (const Variant* v : {&main, tail}) {
    if (!v) continue;
    size_t next = 0;
    for (size_t i = 0; i < v->product.outputs.size(); ++i) {
      if (v->product.outputs[i] == kNone) continue;
      const int64_t size = v->tensorSize[i];
      const Place& place = v->program.outputs[next++];
      const T* from = reinterpret_cast<const T*>(v->shared[static_cast<int>(place.space)].data() +
                                                 place.offset);
      for (int64_t k = 0; k < width; ++k) {
        T* to = y + k * dim + offsets[i];
        for (int64_t j = 0; j < size; ++j) to[j] += from[k * size + j];
      }
    }
  }
}

template <class T>
void Engine::productAs(const T* x, T* y, int64_t count, double scale, Task& task) {
  std::lock_guard lock(mutex_);
  int64_t dim = 0;
  for (int64_t size : mainVariant(1).tensorSize) dim += size;
  // Powers of two only, so that few programs serve every number of directions.
  for (int64_t done = 0; done < count;) {
    const int64_t width = std::min(directionsAtMost_, powerOfTwoBelow(count - done));
    block(x + done * dim, y + done * dim, width, scale, task);
    done += width;
  }
}

void Engine::product(const void* x, void* y, int64_t count, double scale, Task& task) {
  if (options_.precision == Precision::F32)
    productAs(static_cast<const float*>(x), static_cast<float*>(y), count, scale, task);
  else
    productAs(static_cast<const double*>(x), static_cast<double*>(y), count, scale, task);
}

std::vector<std::vector<double>> Engine::totals(Task& task) {
  std::lock_guard lock(mutex_);
  Variant& main = mainVariant(0);
  Variant* tail = tailVariant(0);
  std::vector<std::vector<double>> out(main.product.outputs.size());
  auto add = [&](Variant& v, const std::vector<double>& totals, auto zero) {
    using T = decltype(zero);
    finish<T>(v, totals, 1);
    size_t next = 0;
    for (size_t o = 0; o < out.size(); ++o) {
      if (v.product.outputs[o] == kNone) continue;
      const Place place = v.program.outputs[next];
      const int64_t n = eigenscope::count(v.program.outputShapes[next]);
      ++next;
      // A total that nothing else was made of keeps its 53 bits.
      const auto sum =
          std::find_if(v.program.sums.begin(), v.program.sums.end(),
                       [&](const Sum& s) { return s.collected.offset == place.offset; });
      const T* from =
          reinterpret_cast<const T*>(v.shared[static_cast<int>(place.space)].data() + place.offset);
      out[o].resize(static_cast<size_t>(n), 0.0);
      for (int64_t i = 0; i < n; ++i)
        out[o][static_cast<size_t>(i)] += sum != v.program.sums.end()
                                              ? totals[static_cast<size_t>(sum->offset + i)]
                                              : static_cast<double>(from[i]);
    }
  };
  auto run = [&](auto zero) {
    sweep<decltype(zero)>(main, tail, task);
    add(main, totals_, zero);
    if (tail) add(*tail, tailTotals_, zero);
  };
  if (options_.precision == Precision::F32)
    run(0.0F);
  else
    run(0.0);
  return out;
}

Shape Engine::localShape() { return mainVariant(0).program.outputShapes.at(0); }

std::vector<double> Engine::locals(int64_t n, Task& task) {
  std::lock_guard lock(mutex_);
  std::vector<double> out;
  Worker worker;
  for (int64_t m = 0; m * batch_ < n; ++m) {
    task.check();
    Variant& v = variant(rowsOf(m), 0);
    Frame frame;
    for (Space space : kShared)
      frame.base[static_cast<int>(space)] = v.shared[static_cast<int>(space)].data();
    frame.base[static_cast<int>(Space::Work)] = ensure(worker.work, v.bytes(Space::Work))->data();
    frame.base[static_cast<int>(Space::Residual)] =
        ensure(worker.residual, v.bytes(Space::Residual))->data();
    frame.scratch = ensure(worker.scratch, v.executor->scratchBytes())->data();
    frame.feed = this;
    frame.begin = m * batch_;
    v.executor->run(Stage::Primal, frame);
    const Rows rows = rowsOf(m);
    const int64_t wanted = std::min(rows.valid, n - m * batch_);
    const Shape& shape = v.program.outputShapes[0];
    const bool byRow = !shape.empty() && shape[0] == rows.rows;
    const int64_t elements = byRow ? count(shape) / rows.rows * wanted : count(shape);
    for (int64_t i = 0; i < elements; ++i)
      out.push_back(options_.precision == Precision::F32
                        ? static_cast<double>(frame.at<float>(v.program.outputs[0])[i])
                        : frame.at<double>(v.program.outputs[0])[i]);
  }
  return out;
}

int64_t Engine::heldBytes() const {
  int64_t bytes = 0;
  for (const auto& [key, v] : variants_)
    if (v)
      for (Space space : kShared) bytes += v->shared[static_cast<int>(space)].bytes();
  for (const Buffer& kept : kept_) bytes += kept.bytes();
  for (const auto& [chunk, totals] : primalTotals_)
    bytes += static_cast<int64_t>(totals.size() * sizeof(double));
  for (const Buffer& partial : partials_) bytes += partial.bytes();
  for (const Worker& w : workspaces_)
    bytes += w.work.bytes() + w.residual.bytes() + w.scratch.bytes();
  bytes += static_cast<int64_t>(totals_.capacity() * sizeof(double));
  return bytes;
}

OperatorReport Engine::report() const {
  OperatorReport report;
  for (const auto& [key, v] : variants_)
    if (v) {
      report.split = v->product.split;
      report.warnings = v->product.warnings;
    }
  report.batch = batch_;
  report.microBatches = microBatches_;
  report.cachedMicroBatches = std::min(keptAtMost_, microBatches_);
  report.peakBytes = peakBytes_ > 0 ? peakBytes_ : plannedBytes_;
  report.threads = workers_;
  return report;
}

std::string Engine::printPlan() {
  std::lock_guard lock(mutex_);
  Variant& v = mainVariant(directionsAtMost_ > 0 ? 1 : 0);
  return print(v.program, v.product.graph);
}

template void Engine::setDirections(Variant&, const float*, int64_t, int64_t,
                                    const std::vector<int64_t>&);
template void Engine::setDirections(Variant&, const double*, int64_t, int64_t,
                                    const std::vector<int64_t>&);

}  // namespace eigenscope
