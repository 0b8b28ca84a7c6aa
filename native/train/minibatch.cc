#include "train/minibatch.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/memory.h"
#include "onnx/modes.h"
#include "run/pool.h"

namespace eigenscope {

namespace {

constexpr Space kShared[] = {Space::Constant, Space::Global, Space::Direction, Space::Collected};

// Numbers that one task adds up, long enough that taking a task costs little.
constexpr int64_t kRun = 1 << 14;

std::byte* ensure(Buffer& buffer, int64_t bytes) {
  if (buffer.bytes() < bytes) buffer = Buffer(bytes);
  return buffer.data();
}

}  // namespace

struct Minibatches::Piece {
  ProductGraph product;
  Program program;
  std::unique_ptr<Executor> executor;
  Buffer shared[kSpaces];
  Buffer scratch;
  struct Run {  // numbers of a sum that one task adds up
    const Sum* sum;
    int64_t from, to;
  };
  std::vector<Run> runs;

  int64_t bytes(Space space) const { return program.bytes[static_cast<int>(space)]; }
  Frame frame() {
    Frame frame;
    for (Space space : kShared)
      frame.base[static_cast<int>(space)] = shared[static_cast<int>(space)].data();
    frame.scratch = scratch.data();
    return frame;
  }
};

struct Minibatches::Worker {
  Buffer work, residual, scratch;
};

Minibatches::Minibatches(std::shared_ptr<const Problem> problem, const RunOptions& options,
                         int64_t batchSize)
    : problem_(std::move(problem)),
      options_(options),
      prepared_(prepare(*problem_)),
      threads_(options.threads > 0 ? options.threads : availableThreads()) {
  if (onnx::usesBatchStatistics(*problem_->model) || onnx::usesDropout(*problem_->model))
    throw Error(ErrorKind::Option,
                "train: expected a model loaded without batchNorm \"batch\" and dropout: training "
                "takes the stored statistics and no masks");
  for (const auto& [name, array] : problem_->inputs) slots_.push_back(&array);
  if (problem_->targets) slots_.push_back(&*problem_->targets);
  for (const onnx::Parameter& parameter : problem_->parameters) dim_ += parameter.size;
  weighSamples();
  pieceSize_ = pieceOf(std::min(batchSize, samples()));
}

Minibatches::~Minibatches() = default;

// What each sample adds to the denominator of the mean: the weights of its targets that are not
// ignored, or the number of its items, the same for each.
void Minibatches::weighSamples() {
  const LossOptions& loss = problem_->loss;
  const TargetPlan& plan = prepared_.targets;
  if (!loss.mean) return;
  weight_ = plan.denominator / static_cast<double>(samples());
  if (plan.kind != TargetKind::Labels) return;
  const Array& y = *problem_->targets;
  if (loss.classWeights.empty() && plan.items == samples() * y.rowSize()) return;
  std::vector<int64_t> labels(static_cast<size_t>(y.rowSize()));
  for (int64_t n = 0; n < y.rows(); ++n) {
    convertRows(y, n, n + 1, labels.data());
    double sum = 0;
    for (int64_t label : labels)
      if (label != loss.ignoreIndex)
        sum += loss.classWeights.empty() ? 1 : loss.classWeights[static_cast<size_t>(label)];
    weights_.push_back(sum);
  }
}

double Minibatches::denominatorOf(std::span<const int64_t> samples) const {
  if (!problem_->loss.mean) return 1;
  if (weights_.empty()) return weight_ * static_cast<double>(samples.size());
  double sum = 0;
  for (int64_t n : samples) sum += weights_[static_cast<size_t>(n)];
  return sum;
}

// Samples a piece. Each piece adds a gradient of its own, so pieces are large where parameters are
// many beside the work of a sample; there are few, as minibatches are small and threads share them.
int64_t Minibatches::pieceOf(int64_t batchSize) {
  if (prepared_.fixedBatch > 0) return prepared_.fixedBatch;
  constexpr int64_t kMost = 16, kLeast = 16;
  constexpr double kFlopsPerAddition = 30, kShare = 0.1;
  pieceSize_ = std::min(batchSize, kLeast);
  const Program& program = piece(pieceSize_).program;
  const double flops =
      std::max(1.0, (program.primalFlops + program.tangentFlops) / static_cast<double>(pieceSize_));
  const double wanted = static_cast<double>(dim_) * kFlopsPerAddition / (kShare * flops);
  const auto least = static_cast<int64_t>(std::min(wanted, static_cast<double>(batchSize)));
  int64_t pieces = std::clamp<int64_t>(batchSize / std::max(kLeast, least), 1, kMost);
  // At least two, for the second thread.
  if (pieces == 1 && batchSize >= 2 * kLeast) pieces = 2;
  return (batchSize + pieces - 1) / pieces;
}

Minibatches::Piece& Minibatches::piece(int64_t valid) {
  auto& slot = pieces_[valid];
  if (slot) return *slot;
  auto made = std::make_unique<Piece>();
  const int64_t rows = prepared_.fixedBatch > 0 ? prepared_.fixedBatch : valid;
  made->product = buildRisk(*problem_, prepared_.targets, {rows, valid}, true);
  std::vector<Id> outputs;
  for (Id id : made->product.outputs)
    if (id != kNone) outputs.push_back(id);
  made->program = compile(made->product.graph, outputs, options_.precision, 0);
  made->executor = std::make_unique<Executor>(made->program, made->product.graph);
  for (Space space : kShared) made->shared[static_cast<int>(space)] = Buffer(made->bytes(space));
  made->scratch = Buffer(made->executor->scratchBytes());
  for (const Sum& sum : made->program.sums)
    for (int64_t from = 0; from < sum.size; from += kRun)
      made->runs.push_back({&sum, from, std::min(sum.size, from + kRun)});
  Frame frame = made->frame();
  made->executor->run(Stage::Constant, frame);

  const int64_t budget = options_.maxMemory > 0 ? options_.maxMemory : availableMemory() * 4 / 5;
  const int64_t each = made->bytes(Space::Work) + made->bytes(Space::Residual) +
                       made->bytes(Space::Partial) + made->executor->scratchBytes();
  if (each > budget)
    throw Error(ErrorKind::MemoryBudget,
                "a step needs about " + std::to_string(each) + " bytes for " +
                    std::to_string(valid) + " samples at once; the budget is " +
                    std::to_string(budget) + ": raise --max-memory, or use a smaller batch size");
  threads_ =
      static_cast<int>(std::clamp<int64_t>(budget / std::max<int64_t>(each, 1), 1, threads_));
  slot = std::move(made);
  return *slot;
}

void Minibatches::load(int64_t slot, int64_t begin, int64_t rows, Type type, Precision precision,
                       void* out) const {
  const Array& array = *slots_.at(static_cast<size_t>(slot));
  const auto last = static_cast<int64_t>(batch_.size()) - 1;
  // Padding repeats the last sample, so that it is as good as any.
  auto sampleAt = [&](int64_t r) { return batch_[static_cast<size_t>(std::min(begin + r, last))]; };
  const int64_t rowBytes = array.rowSize() * static_cast<int64_t>(bytesOf(array.type()));
  thread_local std::vector<std::byte> gathered;
  gathered.resize(static_cast<size_t>(rows * rowBytes));
  for (int64_t r = 0; r < rows; ++r)
    std::memcpy(gathered.data() + r * rowBytes, array.bytes().data() + sampleAt(r) * rowBytes,
                static_cast<size_t>(rowBytes));
  Shape shape = array.shape();
  shape[0] = rows;
  Array piece(array.name(), array.type(), std::move(shape),
              borrowBytes(array.source(), gathered.data(), gathered.size(), nullptr),
              array.bigEndian());
  if (array.normalize()) piece = piece.normalized(*array.normalize());
  switch (type) {
    case Type::Int: return convertRows(piece, 0, rows, static_cast<int32_t*>(out));
    case Type::Bool: return convertRows(piece, 0, rows, static_cast<uint8_t*>(out));
    case Type::Real:
      return precision == Precision::F32 ? convertRows(piece, 0, rows, static_cast<float*>(out))
                                         : convertRows(piece, 0, rows, static_cast<double*>(out));
  }
}

// Other parameters, and what depends on nothing else.
template <class T>
void Minibatches::move(Piece& piece, const T* theta) const {
  Frame frame = piece.frame();
  for (const Leaf& leaf : piece.program.parameters) {
    const onnx::Parameter& parameter = problem_->parameters[static_cast<size_t>(leaf.number)];
    std::copy_n(theta + parameter.offset, parameter.size, frame.at<T>(leaf.place));
  }
  piece.executor->run(Stage::Setup, frame);
}

template <class T>
double Minibatches::gradient(std::span<const int64_t> samples, const T* theta, T* gradient,
                             Task& task) {
  task.check();
  for (const Array* array : slots_) array->check();
  const auto n = static_cast<int64_t>(samples.size());
  const double denominator = denominatorOf(samples);
  if (!(denominator > 0))
    throw Error(ErrorKind::DataMismatch,
                "every target of a minibatch is ignored or has weight 0: the mean has no terms; "
                "take a larger batch size, or leave such samples out");
  batch_ = samples;
  const int64_t pieces = (n + pieceSize_ - 1) / pieceSize_;
  const int64_t lastSize = n - (pieces - 1) * pieceSize_;
  // The last piece, where it is another one, has a program of its own.
  Piece* main = pieces > 1 || lastSize == pieceSize_ ? &piece(pieceSize_) : nullptr;
  Piece* tail = lastSize == pieceSize_ ? nullptr : &piece(lastSize);
  const int64_t whole = tail ? pieces - 1 : pieces;
  if (partials_.size() < static_cast<size_t>(pieces)) partials_.resize(static_cast<size_t>(pieces));
  if (workers_.size() < static_cast<size_t>(threads_))
    workers_.resize(static_cast<size_t>(threads_));
  for (Piece* p : {main, tail})
    if (p) move(*p, theta);

  parallel(threads_, pieces, [&](int number, int64_t at) {
    task.check();
    Piece& p = at < whole ? *main : *tail;
    Worker& worker = workers_[static_cast<size_t>(number)];
    Buffer& partial = partials_[static_cast<size_t>(at)];
    ensure(partial, p.bytes(Space::Partial));
    if (partial.bytes())
      std::memset(partial.data(), 0, static_cast<size_t>(p.bytes(Space::Partial)));
    Frame frame = p.frame();
    frame.base[static_cast<int>(Space::Work)] = ensure(worker.work, p.bytes(Space::Work));
    frame.base[static_cast<int>(Space::Residual)] =
        ensure(worker.residual, p.bytes(Space::Residual));
    frame.base[static_cast<int>(Space::Partial)] = partial.data();
    frame.scratch = ensure(worker.scratch, p.executor->scratchBytes());
    frame.feed = this;
    frame.begin = at * pieceSize_;
    p.executor->run(Stage::Primal, frame);
    p.executor->run(Stage::Tangent, frame);
  });

  // Piece by piece in their order for every number, whoever adds it; then what follows from the
  // sums, which is linear.
  const double scale = 1 / denominator;
  double loss = 0;
  std::fill_n(gradient, dim_, T{0});
  auto finish = [&](Piece& p, int64_t first, int64_t last) {
    Frame frame = p.frame();
    parallel(threadsFor(p.program.sumElements), static_cast<int64_t>(p.runs.size()),
             [&](int, int64_t r) {
               const auto [sum, from, to] = p.runs[static_cast<size_t>(r)];
               T* out = frame.at<T>(sum->collected);
               const T* part = partials_[static_cast<size_t>(first)].template as<T>() + sum->offset;
               for (int64_t i = from; i < to; ++i) out[i] = part[i];
               for (int64_t at = first + 1; at < last; ++at) {
                 part = partials_[static_cast<size_t>(at)].template as<T>() + sum->offset;
                 for (int64_t i = from; i < to; ++i) out[i] += part[i];
               }
             });
    p.executor->run(Stage::Post, frame);
    size_t next = 0;
    for (size_t o = 0; o < p.product.outputs.size(); ++o) {
      if (p.product.outputs[o] == kNone) continue;
      const T* from = frame.at<T>(p.program.outputs[next++]);
      if (o == 0) {
        loss += static_cast<double>(*from) * scale;
        continue;
      }
      const onnx::Parameter& parameter = problem_->parameters[o - 1];
      T* to = gradient + parameter.offset;
      const T factor = static_cast<T>(scale);
      for (int64_t i = 0; i < parameter.size; ++i) to[i] += factor * from[i];
    }
  };
  if (main) finish(*main, 0, whole);
  if (tail) finish(*tail, whole, pieces);
  return loss;
}

// Waking threads costs more than adding few numbers.
int Minibatches::threadsFor(int64_t numbers) const { return numbers > 2 * kRun ? threads_ : 1; }

int64_t Minibatches::heldBytes() const {
  int64_t bytes = 0;
  for (const auto& [size, p] : pieces_)
    for (Space space : kShared) bytes += p->shared[static_cast<int>(space)].bytes();
  for (const Buffer& partial : partials_) bytes += partial.bytes();
  for (const Worker& worker : workers_)
    bytes += worker.work.bytes() + worker.residual.bytes() + worker.scratch.bytes();
  return bytes;
}

template double Minibatches::gradient(std::span<const int64_t>, const float*, float*, Task&);
template double Minibatches::gradient(std::span<const int64_t>, const double*, double*, Task&);

}  // namespace eigenscope
