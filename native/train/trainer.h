#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "train/minibatch.h"
#include "train/optimizer.h"

namespace eigenscope {

// The order in which an epoch takes the samples: a permutation that depends on seed, epoch and
// their number alone (Fisher and Yates), or theirs in the data.
std::vector<int64_t> epochOrder(int64_t samples, bool shuffle, uint64_t seed, uint64_t epoch);

struct TrainOptions {
  OptimizerOptions optimizer;
  bool shuffle = true, dropLast = false;
  uint64_t seed = 0;
};

// Where a run stands. All numbers are float64, also in float32, so that nothing is lost.
struct TrainState {
  int64_t step = 0;                        // in the order of samples
  int64_t updates = 0;                     // that the moments have seen
  std::span<double> theta, first, second;  // empty where the rule has no such moments
};

// Runs many steps of stochastic gradient descent without leaving the core. Compiled once.
class Trainer {
 public:
  // Throws as makeOperator.
  Trainer(std::shared_ptr<const Problem> problem, const RunOptions& run, int64_t batchSize)
      : batchSize_(batchSize), batches_(std::move(problem), run, batchSize) {}

  int64_t batchSize() const { return batchSize_; }
  int64_t heldBytes() const { return batches_.heldBytes(); }

  // A step for each rate, from `state`, which is left as it is unless all are made. `keep` (a byte
  // a parameter, or empty) says what moves. Returns the loss of each minibatch, before its step.
  // Throws NotConverged where a loss is not finite.
  std::vector<double> run(const TrainOptions& options, TrainState& state,
                          std::span<const double> rates, std::span<const uint8_t> keep, Task& task);

 private:
  template <class T>
  std::vector<double> runAs(const TrainOptions& options, TrainState& state,
                            std::span<const double> rates, std::span<const uint8_t> keep,
                            Task& task);

  int64_t batchSize_;
  Minibatches batches_;
};

}  // namespace eigenscope
