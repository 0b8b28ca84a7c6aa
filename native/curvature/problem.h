#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/array.h"
#include "onnx/model.h"
#include "spectral/operator.h"

namespace eigenscope {

// How the network's output is compared with the targets; names and formulas are PyTorch's.
struct LossOptions {
  std::string name = "cross-entropy";  // a row of the table in loss.cc
  bool mean = true;                    // reduction "mean" or "sum"
  double labelSmoothing = 0;
  int64_t ignoreIndex = -100;
  std::vector<double> classWeights;  // empty: 1
  std::vector<double> posWeight;     // bce-with-logits; empty: 1
  double delta = 1;                  // huber: delta; smooth-l1: beta
  std::optional<int64_t> classAxis;  // default 1, PyTorch's
};

// A network, a data set and a loss: what every operator is made of. Immutable.
struct Problem {
  std::shared_ptr<const onnx::Model> model;
  std::vector<onnx::Parameter> parameters;  // those that are differentiated, in their order
  std::map<std::string, Array> inputs;      // by the model's input names, all with `samples` rows
  std::optional<Array> targets;             // none for the loss "output"
  int64_t samples = 0;
  std::string output;  // the chosen output; "" = the first
  LossOptions loss;
};

enum class OperatorKind { Hessian, Ggn, Functional, FisherType2, FisherMc, FisherEmpirical };

struct RunOptions {
  Precision precision = Precision::F32;
  int threads = 0;                // 0: all cores of the machine
  int64_t batch = 0;              // samples a micro-batch; 0: from model, shapes and precision
  int64_t maxMemory = 0;          // bytes for linearisation and work space; 0: what is available
  bool keepLinearisation = true;  // from one product to the next, as far as memory allows
};

struct OperatorOptions : RunOptions {
  OperatorKind kind = OperatorKind::Hessian;
  std::vector<int64_t> tensors;  // positions in Problem::parameters; empty = all
  int64_t draws = 1;             // FisherMc: per sample
  uint64_t seed = 0;             // FisherMc
};

// What a finished or running operator tells of itself.
struct OperatorReport {
  std::string split;  // where the Gauss-Newton split lies: a value's name and what it is
  int64_t batch = 0;  // micro-batch size in use
  int64_t microBatches = 0;
  int64_t cachedMicroBatches = 0;  // whose linearisation is kept
  int64_t peakBytes = 0;           // of work space and residuals; before a product: planned
  int threads = 0;
  std::vector<std::string> warnings;
};

// A symmetric operator on the chosen parameter tensors. dim() is their total size.
class CurvatureOperator : public LinearOperator {
 public:
  virtual OperatorReport report() const = 0;
  virtual std::string printPlan() const = 0;  // for `inspect --plan`
  virtual int64_t heldBytes() const = 0;      // memory that V8 does not see
};

// Throws Option, DataMismatch (targets that do not fit the loss, labels out of range, NaN in data
// or parameters, by tensor and index), UnsupportedOperator, MemoryBudget.
std::shared_ptr<CurvatureOperator> makeOperator(std::shared_ptr<const Problem> problem,
                                                const OperatorOptions& options);

struct Risk {
  double loss = 0;
  std::vector<double> gradient;  // of all parameters, in f64; empty unless asked for
  double gradientNorm = 0;
  OperatorReport report;
};

Risk evaluateRisk(const Problem& problem, const RunOptions& options, bool gradient, Task& task);

// The same at many places: compiled once.
class RiskEvaluator {
 public:
  RiskEvaluator(std::shared_ptr<const Problem> problem, const RunOptions& options, bool gradient);
  ~RiskEvaluator();

  // At the parameters + step * direction, all of the problem's in their order, kept in float64; a
  // null direction is none.
  Risk at(const double* direction, double step, Task& task);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The chosen output for samples [0, n), row-major in f64, and its shape.
struct Forward {
  std::vector<double> values;
  Shape shape;
};
Forward evaluateForward(const Problem& problem, const RunOptions& options, int64_t n, Task& task);

}  // namespace eigenscope
