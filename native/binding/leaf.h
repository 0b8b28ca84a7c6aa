#pragma once

#include <napi.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "binding/mailbox.h"
#include "curvature/jacobian.h"
#include "curvature/outputs.h"
#include "curvature/problem.h"
#include "curvature/sample_rows.h"
#include "onnx/modes.h"
#include "run/pool.h"
#include "spectral/operator.h"
#include "train/trainer.h"

namespace eigenscope::binding {

// The operators that others are composed of. A call registers with the leaves of its operator, so
// that disposing of one lets the calls under way finish and then frees its memory.
class Leaf : public LinearOperator {
 public:
  // On the JavaScript thread, when a call starts. Throws Error (Option) once disposed of.
  void enterCall();
  // On any thread, when the call's thread is done.
  void leaveCall();

  // Refuses further calls, and frees when those under way are done.
  void dispose();
  // Frees likewise, and builds again when it is used again.
  void release();

  // That its products run on; solvers work on their vectors with as many.
  virtual int threads() const { return 1; }

  // JavaScript thread: tells V8 how much memory the leaf holds now.
  virtual void account(Napi::Env) {}

 protected:
  virtual void free() {}

 private:
  std::mutex mutex_;
  int64_t calls_ = 0;
  bool disposed_ = false, releasing_ = false;
};
using LeafPtr = std::shared_ptr<Leaf>;

// Lets one caller in at a time, in the order in which they came.
class Turnstile {
 public:
  class Pass {
   public:
    explicit Pass(Turnstile& turnstile) : turnstile_(turnstile) {}
    ~Pass() { turnstile_.leave(); }
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;

   private:
    Turnstile& turnstile_;
  };

  // Waits for its turn; throws Error (Abort) when the task is cancelled meanwhile.
  [[nodiscard]] Pass enter(Task& task);

 private:
  void leave();

  std::mutex mutex_;
  std::condition_variable moved_;
  std::deque<uint64_t> queue_;
  uint64_t next_ = 0;
};

// A curvature operator that is compiled on its first use, on the thread of that call: making one
// costs nothing, and its errors reach the promise of the first call.
class CurvatureLeaf : public Leaf {
 public:
  CurvatureLeaf(Napi::Env env, std::shared_ptr<const Problem> problem, OperatorOptions options);
  ~CurvatureLeaf() override;

  int64_t dim() const override { return dim_; }
  int threads() const override {
    return options_.threads > 0 ? options_.threads : availableThreads();
  }
  Precision precision() const override { return options_.precision; }
  std::span<const int64_t> index() const override { return index_; }
  void apply(const void* x, void* y, int64_t count, Task& task) override;

  // Build the operator where it is not built yet.
  OperatorReport report(Task& task);
  std::string plan(Task& task);

  bool sumsRows() const { return rowKindOf(options_.kind).has_value(); }
  // Whether samples depend on each other, so that there are no rows of single ones.
  bool mixesSamples() const { return onnx::usesBatchStatistics(*problem_->model); }
  // Rows of single samples, of the kind that the operator is the sum of; null where it is of none.
  std::unique_ptr<SampleRows> rows() const;
  // Rows of another kind, of the same network, data, loss and tensors.
  std::unique_ptr<SampleRows> rows(RowKind kind) const;
  // The Jacobian of the same, kept for further calls; `use` has it to itself.
  void jacobian(Task& task, const std::function<void(JacobianMaps&)>& use);

  // Of the whole model.
  int64_t parameterCount() const;
  // The loss at the parameters of the model + direction, compiled once for many calls.
  Risk risk(const double* direction, Task& task);
  // The network's output there, compiled once as well.
  Forward outputs(const double* direction, Task& task);
  // Steps of training on the same network, data and loss, compiled once for a batch size. Forgets
  // its programs when the operator is released.
  std::vector<double> train(int64_t batchSize, const TrainOptions& options, TrainState& state,
                            std::span<const double> rates, std::span<const uint8_t> keep,
                            Task& task);

  // The same operator on some of its tensors, by position in the problem's parameters.
  LeafPtr restricted(Napi::Env env, std::vector<int64_t> tensors) const;

  void account(Napi::Env env) override;

 protected:
  void free() override;

 private:
  std::shared_ptr<CurvatureOperator> built();

  const std::shared_ptr<const Problem> problem_;
  const OperatorOptions options_;
  int64_t dim_ = 0;
  std::vector<int64_t> index_;
  Turnstile turnstile_;
  std::mutex mutex_;  // of the next
  std::shared_ptr<CurvatureOperator> operator_;
  std::unique_ptr<JacobianMaps> jacobian_;  // behind the turnstile, and the next
  std::unique_ptr<RiskEvaluator> risk_;
  std::unique_ptr<OutputEvaluator> outputs_;
  std::unique_ptr<Trainer> trainer_;
  std::atomic<int64_t> held_{0};
  const std::weak_ptr<Mailbox> mailbox_;
  int64_t accounted_ = 0;  // JavaScript thread only, or the last owner
};

// An operator whose products a JavaScript function computes, on the JavaScript thread. The thread
// that wants one waits.
class FunctionLeaf : public Leaf {
 public:
  FunctionLeaf(Napi::Env env, int64_t dim, Precision precision)
      : dim_(dim), precision_(precision), mailbox_(Mailbox::of(env)) {}

  int64_t dim() const override { return dim_; }
  Precision precision() const override { return precision_; }
  void apply(const void* x, void* y, int64_t count, Task& task) override;

  // JavaScript thread: the object whose property "respond" is the function
  // (block, count, answer) => void, where answer(error or undefined, block) may be called later.
  // Referred to weakly, since the function may well refer to the operator; calls hold the object.
  void attach(Napi::Object handle) { handle_ = Napi::Weak(handle); }
  // JavaScript thread: must precede the end of the environment and of the leaf.
  void detach() { handle_.Reset(); }

 private:
  struct Exchange;
  void ask(Napi::Env env, const std::shared_ptr<Exchange>& exchange);

  const int64_t dim_;
  const Precision precision_;
  const std::weak_ptr<Mailbox> mailbox_;
  Napi::ObjectReference handle_;
};

}  // namespace eigenscope::binding
