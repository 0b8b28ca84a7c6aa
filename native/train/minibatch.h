#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "curvature/prepare.h"
#include "curvature/programs.h"
#include "run/executor.h"

namespace eigenscope {

// Loss and gradient of any samples of a data set, at parameters that move from call to call.
//
// A minibatch is cut into pieces whose borders depend on sizes only; threads take pieces, and the
// sums of pieces are added in their order, so results are the same bits for any number of threads.
// One program serves all pieces of one size, and parameters move without compiling anew. Data stay
// where they are: the rows of a piece are gathered and converted as the program asks for them.
class Minibatches : public Feed {
 public:
  // Reads data, targets and parameters once; throws as makeOperator.
  Minibatches(std::shared_ptr<const Problem> problem, const RunOptions& options, int64_t batchSize);
  ~Minibatches() override;

  int64_t dim() const { return dim_; }
  int64_t samples() const { return problem_->samples; }
  // That are worth their waking for elementwise work on so many numbers.
  int threadsFor(int64_t numbers) const;
  const Problem& problem() const { return *problem_; }
  const RunOptions& options() const { return options_; }

  // The loss, with the denominator of these samples, and its gradient at `theta`, both dim()
  // numbers of the computing precision (T).
  template <class T>
  double gradient(std::span<const int64_t> samples, const T* theta, T* gradient, Task& task);

  // Feed: rows [begin, begin + rows) of the minibatch at hand.
  void load(int64_t slot, int64_t begin, int64_t rows, Type type, Precision precision,
            void* out) const override;

  int64_t heldBytes() const;

 private:
  struct Piece;   // a compiled program for pieces of one size
  struct Worker;  // one thread's own memory

  Piece& piece(int64_t valid);
  template <class T>
  void move(Piece& piece, const T* theta) const;
  double denominatorOf(std::span<const int64_t> samples) const;
  void weighSamples();
  int64_t pieceOf(int64_t batchSize);

  std::shared_ptr<const Problem> problem_;
  RunOptions options_;
  Prepared prepared_;
  int threads_;
  int64_t dim_ = 0, pieceSize_ = 1;
  std::vector<const Array*> slots_;
  std::map<int64_t, std::unique_ptr<Piece>> pieces_;  // by samples that count
  std::vector<Worker> workers_;
  std::vector<Buffer> partials_;
  std::vector<double> weights_;  // what each sample adds to the denominator; empty: `weight_` each
  double weight_ = 1;
  std::span<const int64_t> batch_;  // at hand
};

}  // namespace eigenscope
