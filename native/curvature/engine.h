#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "base/buffer.h"
#include "curvature/programs.h"
#include "run/executor.h"

namespace eigenscope {

// Runs a program over the whole data set: micro-batches on the threads of the pool, sums over
// chunks of them in the computing precision, chunks in index order into f64 totals. What a worker
// computes depends on sizes only, so results are the same bits for any number of threads.
//
// The linearisation (Space::Residual) of as many micro-batches as the memory budget allows is kept
// from one product to the next.
class Engine : public Feed {
 public:
  using Build = std::function<ProductGraph(const Rows& rows, int64_t directions)>;

  // `tensors`: what the vectors of a product are made of. `directionsAtMost` = 0: no directions.
  // `fixedBatch` > 0: the graph takes exactly so many samples, and the last micro-batch is padded.
  Engine(std::shared_ptr<const Problem> problem, const RunOptions& options, int64_t fixedBatch,
         std::vector<int64_t> tensors, Build build, int64_t directionsAtMost);
  ~Engine() override;

  // y[k] = scale * program(x[k]) for `count` directions; x and y are vectors of the concatenated
  // tangent tensors, in the computing precision. Outputs that are zero are written as zeros.
  void product(const void* x, void* y, int64_t count, double scale, Task& task);

  // The same network with other values of its parameters.
  void moveTo(std::shared_ptr<const Problem> problem);

  // Totals of a program without directions: f64, in the order of its outputs.
  std::vector<std::vector<double>> totals(Task& task);

  // Local outputs of a program without directions, for samples [0, n): a row each, or, where the
  // output has no rows, all of it for each micro-batch.
  std::vector<double> locals(int64_t n, Task& task);
  Shape localShape();  // of the first output, with the main micro-batch's rows

  // One sample at a time: runs the program for `width` directions, the same for every sample, on
  // samples [first, last), chunks of `chunk` of them on one thread each, in order. The visitor gets
  // the outputs, width x (sum of the tensors' sizes) row-major in the computing precision.
  using Visitor = std::function<void(int64_t chunk, int64_t sample, const void* rows)>;
  void visit(const void* x, int64_t width, int64_t first, int64_t last, int64_t chunk,
             const Visitor& visitor, Task& task);

  // Local outputs of a program with directions, [width, rows, ...]: y[k] gets those of direction k
  // for all samples, in order.
  void images(const void* x, void* y, int64_t width, Task& task);

  // A further input, behind those of the problem; kept until the next call.
  void setExtraInput(Array array);

  void load(int64_t slot, int64_t begin, int64_t rows, Type type, Precision precision,
            void* out) const override;

  OperatorReport report() const;
  std::string printPlan();
  int64_t heldBytes() const;

 private:
  struct Variant;
  struct Worker {  // one thread's own memory
    Buffer work, residual, scratch;
    Buffer partial, collected, rows;  // of visit
  };

  template <class T>
  void visitAs(const T* x, int64_t width, int64_t first, int64_t last, int64_t chunk,
               const Visitor& visitor, Task& task);
  template <class T>
  void imagesAs(const T* x, T* y, int64_t width, Task& task);
  template <class T>
  void setDirections(Variant& v, const T* x, int64_t width, int64_t dim,
                     const std::vector<int64_t>& offsets);

  template <class T>
  void productAs(const T* x, T* y, int64_t count, double scale, Task& task);
  template <class T>
  void block(const T* x, T* y, int64_t width, double scale, Task& task);
  template <class T>
  void sweep(Variant& main, Variant* tail, Task& task);  // leaves sums in totals_, tailTotals_
  template <class T>
  void finish(Variant& v, const std::vector<double>& totals, double scale);

  void loadParameters(Variant& v) const;
  Program planned(const ProductGraph& product, int64_t directions) const;
  Variant& variant(const Rows& rows, int64_t directions);
  Variant& mainVariant(int64_t directions) { return variant({batch_, batch_}, directions); }
  Variant* tailVariant(int64_t directions);  // of the last micro-batch, where it is another
  void chooseBatch();
  void planMemory();
  Rows rowsOf(int64_t microBatch) const;
  int64_t bytesWithoutCache(const Variant& v, int64_t width, int workers) const;
  int64_t chunkOf(const Variant& main) const;

  std::shared_ptr<const Problem> problem_;
  RunOptions options_;
  std::vector<int64_t> tensors_;
  Build build_;
  int64_t directionsAtMost_, fixedBatch_;
  int64_t batch_ = 0, microBatches_ = 0;
  bool batchIsGiven_ = false;  // and no shortage of memory changes it
  int threads_ = 1, workers_ = 1;
  int64_t budget_ = 0;
  std::map<std::array<int64_t, 3>, std::unique_ptr<Variant>> variants_;  // rows, valid, directions
  std::vector<const Array*> slots_;
  std::optional<Array> extra_;
  // Work space, kept from one product to the next so that pages are touched once.
  std::vector<Worker> workspaces_;
  std::vector<Buffer> partials_;
  std::vector<double> totals_, tailTotals_;
  // Kept linearisations, by micro-batch; of programs with the same residual layout.
  std::vector<Buffer> kept_;
  std::vector<char> filled_;
  std::string keptLayout_;
  std::map<int64_t, std::vector<double>> primalTotals_;  // by length of a chunk
  int64_t keptAtMost_ = 0;
  mutable int64_t peakBytes_ = 0;
  int64_t plannedBytes_ = 0;  // before the first product
  mutable std::mutex mutex_;  // one product at a time
};

}  // namespace eigenscope
