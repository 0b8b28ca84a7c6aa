#include "binding/leaf.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <numeric>
#include <utility>

#include "binding/common.h"
#include "binding/job.h"

namespace eigenscope::binding {

namespace {

// How often a waiting thread looks whether its call was cancelled.
constexpr auto kGlance = std::chrono::milliseconds(20);

}  // namespace

// ---- Leaf -----------------------------------------------------------------------------------

void Leaf::enterCall() {
  std::lock_guard lock(mutex_);
  if (disposed_)
    throw Error(ErrorKind::Option,
                "the operator, or one that it is made of, was disposed of; make it again");
  ++calls_;
  releasing_ = false;
}

void Leaf::leaveCall() {
  std::lock_guard lock(mutex_);
  if (--calls_ == 0 && (disposed_ || releasing_)) free();
}

void Leaf::dispose() {
  std::lock_guard lock(mutex_);
  disposed_ = true;
  if (calls_ == 0) free();
}

void Leaf::release() {
  std::lock_guard lock(mutex_);
  releasing_ = true;
  if (calls_ == 0) free();
}

// ---- Turnstile ------------------------------------------------------------------------------

Turnstile::Pass Turnstile::enter(Task& task) {
  std::unique_lock lock(mutex_);
  const uint64_t ticket = next_++;
  queue_.push_back(ticket);
  while (queue_.front() != ticket) {
    moved_.wait_for(lock, kGlance);
    if (task.cancelled.load()) {
      queue_.erase(std::find(queue_.begin(), queue_.end(), ticket));
      moved_.notify_all();
      task.check();
    }
  }
  return Pass(*this);
}

void Turnstile::leave() {
  std::lock_guard lock(mutex_);
  queue_.pop_front();
  moved_.notify_all();
}

// ---- CurvatureLeaf --------------------------------------------------------------------------

CurvatureLeaf::CurvatureLeaf(Napi::Env env, std::shared_ptr<const Problem> problem,
                             OperatorOptions options)
    : problem_(std::move(problem)), options_(std::move(options)), mailbox_(Mailbox::of(env)) {
  const auto& parameters = problem_->parameters;
  if (options_.tensors.empty()) {
    for (const onnx::Parameter& parameter : parameters) dim_ += parameter.size;
    return;
  }
  for (int64_t position : options_.tensors) {
    const onnx::Parameter& parameter = parameters.at(static_cast<std::size_t>(position));
    index_.resize(index_.size() + static_cast<std::size_t>(parameter.size));
    std::iota(index_.end() - parameter.size, index_.end(), parameter.offset);
  }
  dim_ = static_cast<int64_t>(index_.size());
}

CurvatureLeaf::~CurvatureLeaf() {
  const int64_t accounted = accounted_;
  if (accounted == 0) return;
  if (auto mailbox = mailbox_.lock())
    mailbox->post([accounted](Napi::Env env) {
      Napi::MemoryManagement::AdjustExternalMemory(env, -accounted);
    });
}

std::shared_ptr<CurvatureOperator> CurvatureLeaf::built() {
  {
    std::lock_guard lock(mutex_);
    if (operator_) return operator_;
  }
  auto made = makeOperator(problem_, options_);
  std::lock_guard lock(mutex_);
  operator_ = std::move(made);
  return operator_;
}

void CurvatureLeaf::apply(const void* x, void* y, int64_t count, Task& task) {
  const Turnstile::Pass pass = turnstile_.enter(task);
  const auto op = built();
  op->apply(x, y, count, task);
  held_ = op->heldBytes();
}

std::unique_ptr<SampleRows> CurvatureLeaf::rows() const {
  const auto kind = rowKindOf(options_.kind);
  // Without rows, what can be had from products is.
  return kind && !mixesSamples() ? rows(*kind) : nullptr;
}

std::unique_ptr<SampleRows> CurvatureLeaf::rows(RowKind kind) const {
  return std::make_unique<SampleRows>(problem_, options_, kind);
}

void CurvatureLeaf::jacobian(Task& task, const std::function<void(JacobianMaps&)>& use) {
  const Turnstile::Pass pass = turnstile_.enter(task);
  if (!jacobian_) jacobian_ = std::make_unique<JacobianMaps>(problem_, options_);
  use(*jacobian_);
}

int64_t CurvatureLeaf::parameterCount() const {
  int64_t size = 0;
  for (const onnx::Parameter& parameter : problem_->parameters) size += parameter.size;
  return size;
}

Risk CurvatureLeaf::risk(const double* direction, Task& task) {
  const Turnstile::Pass pass = turnstile_.enter(task);
  if (!risk_) risk_ = std::make_unique<RiskEvaluator>(problem_, options_, false);
  return risk_->at(direction, 1, task);
}

Forward CurvatureLeaf::outputs(const double* direction, Task& task) {
  const Turnstile::Pass pass = turnstile_.enter(task);
  if (!outputs_) outputs_ = std::make_unique<OutputEvaluator>(problem_, options_);
  return outputs_->at(direction, task);
}

std::vector<double> CurvatureLeaf::train(int64_t batchSize, const TrainOptions& options,
                                         TrainState& state, std::span<const double> rates,
                                         std::span<const uint8_t> keep, Task& task) {
  const Turnstile::Pass pass = turnstile_.enter(task);
  if (!trainer_ || trainer_->batchSize() != batchSize)
    trainer_ = std::make_unique<Trainer>(problem_, options_, batchSize);
  auto losses = trainer_->run(options, state, rates, keep, task);
  held_ = trainer_->heldBytes();
  return losses;
}

OperatorReport CurvatureLeaf::report(Task& task) {
  const Turnstile::Pass pass = turnstile_.enter(task);
  const auto op = built();
  held_ = op->heldBytes();
  return op->report();
}

std::string CurvatureLeaf::plan(Task& task) {
  const Turnstile::Pass pass = turnstile_.enter(task);
  return built()->printPlan();
}

LeafPtr CurvatureLeaf::restricted(Napi::Env env, std::vector<int64_t> tensors) const {
  OperatorOptions options = options_;
  options.tensors = std::move(tensors);
  return std::make_shared<CurvatureLeaf>(env, problem_, std::move(options));
}

void CurvatureLeaf::account(Napi::Env env) {
  const int64_t held = held_.load();
  if (held != accounted_)
    Napi::MemoryManagement::AdjustExternalMemory(env, held - std::exchange(accounted_, held));
}

void CurvatureLeaf::free() {
  std::lock_guard lock(mutex_);
  operator_.reset();
  jacobian_.reset();
  risk_.reset();
  outputs_.reset();
  trainer_.reset();
  held_ = 0;
}

// ---- FunctionLeaf ---------------------------------------------------------------------------

// One product, between the thread that wants it and the JavaScript thread that computes it.
struct FunctionLeaf::Exchange {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::byte> in, out;
  int64_t count = 0;
  bool answered = false;
  std::exception_ptr error;

  void answer(std::exception_ptr failure) {
    std::lock_guard lock(mutex);
    if (answered) return;
    answered = true;
    error = std::move(failure);
    changed.notify_all();
  }
  void fail(ErrorKind kind, const std::string& message) {
    answer(std::make_exception_ptr(Error(kind, message)));
  }
};

namespace {

template <class T>
void requireFinite(const void* data, int64_t dim, int64_t count) {
  const T* values = static_cast<const T*>(data);
  for (int64_t i = 0; i < dim * count; ++i)
    if (!std::isfinite(values[i]))
      throw Error(ErrorKind::DataMismatch,
                  "linearOperator: apply returned " + std::to_string(values[i]) +
                      " for coordinate " + std::to_string(i % dim) + " of vector " +
                      std::to_string(i / dim) + "; every number must be finite");
}

}  // namespace

void FunctionLeaf::apply(const void* x, void* y, int64_t count, Task& task) {
  auto mailbox = mailbox_.lock();
  if (!mailbox) throw Error(ErrorKind::Abort, "the environment is ending");
  auto exchange = std::make_shared<Exchange>();
  const std::size_t bytes = static_cast<std::size_t>(dim_ * count) * bytesOf(precision_);
  const auto* block = static_cast<const std::byte*>(x);
  exchange->in.assign(block, block + bytes);
  exchange->count = count;
  // The call that this belongs to holds the handle, and with it this leaf.
  if (!mailbox->post([this, exchange](Napi::Env env) { ask(env, exchange); }))
    throw Error(ErrorKind::Abort, "the environment is ending");
  mailbox.reset();
  {
    std::unique_lock lock(exchange->mutex);
    while (!exchange->answered) {
      exchange->changed.wait_for(lock, kGlance);
      if (exchange->answered || !task.cancelled.load()) continue;
      exchange->answered = true;  // a question not yet asked is not asked any more
      task.check();
    }
    if (exchange->error) std::rethrow_exception(exchange->error);
  }
  std::memcpy(y, exchange->out.data(), bytes);
  if (precision_ == Precision::F32)
    requireFinite<float>(y, dim_, count);
  else
    requireFinite<double>(y, dim_, count);
}

void FunctionLeaf::ask(Napi::Env env, const std::shared_ptr<Exchange>& exchange) {
  {
    std::lock_guard lock(exchange->mutex);
    if (exchange->answered) return;
  }
  Napi::Object handle = handle_.IsEmpty() ? Napi::Object() : handle_.Value();
  if (handle.IsEmpty())
    return exchange->fail(ErrorKind::Abort, "linearOperator: the function is gone");
  const bool single = precision_ == Precision::F32;
  const std::size_t length = static_cast<std::size_t>(dim_ * exchange->count);
  Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(env, exchange->in.size());
  std::memcpy(buffer.Data(), exchange->in.data(), exchange->in.size());
  exchange->in = {};
  Napi::Value block = single ? Napi::Value(Napi::Float32Array::New(env, length, buffer, 0))
                             : Napi::Value(Napi::Float64Array::New(env, length, buffer, 0));

  const auto answer = [exchange, single, length](const Napi::CallbackInfo& info) {
    try {
      Napi::Value error = info[0];
      if (error.IsObject()) {
        Napi::Value message = error.As<Napi::Object>().Get("message");
        throw ScriptError(Mailbox::of(info.Env())->hold(error),
                          message.IsString() ? message.As<Napi::String>().Utf8Value() : "");
      }
      const View view = viewOf(info[1], "linearOperator: the result of apply",
                               single ? napi_float32_array : napi_float64_array);
      if (view.length != length)
        throw Error(ErrorKind::DataMismatch, "linearOperator: expected apply to return " +
                                                 std::to_string(length) + " numbers, got " +
                                                 std::to_string(view.length));
      const auto* data = static_cast<const std::byte*>(view.data);
      exchange->out.assign(data, data + view.bytes);
      exchange->answer(nullptr);
    } catch (...) {
      exchange->answer(std::current_exception());
    }
  };
  try {
    handle.Get("respond").As<Napi::Function>().Call(
        handle, {block, Napi::Number::New(env, static_cast<double>(exchange->count)),
                 Napi::Function::New(env, answer, "answer")});
  } catch (const Napi::Error& error) {
    exchange->answer(std::make_exception_ptr(
        ScriptError(Mailbox::of(env)->hold(error.Value()), error.Message())));
  }
}

}  // namespace eigenscope::binding
