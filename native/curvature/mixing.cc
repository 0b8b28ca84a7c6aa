#include "curvature/mixing.h"

#include <string>

#include "base/error.h"
#include "onnx/modes.h"

namespace eigenscope {

int64_t statisticsBatch(const Problem& problem, const RunOptions& options, int64_t fixedBatch) {
  if (!onnx::usesBatchStatistics(*problem.model)) return 0;
  const int64_t samples = problem.samples, ofModel = problem.model->statisticsBatch;
  if (ofModel > 0 && options.batch > 0 && ofModel != options.batch)
    throw Error(ErrorKind::Option,
                "batch: the model was loaded for statistics of batches of " +
                    std::to_string(ofModel) + "; received " + std::to_string(options.batch) +
                    ": the size of a batch is part of what is computed, so leave it out here");
  int64_t batch = ofModel > 0 ? ofModel : options.batch;
  if (fixedBatch > 0 && batch > 0 && batch != fixedBatch)
    throw Error(ErrorKind::Option, "batch: the graph takes exactly " + std::to_string(fixedBatch) +
                                       " samples at once; received " + std::to_string(batch));
  if (fixedBatch > 0) batch = fixedBatch;
  if (batch == 0) batch = samples;
  if (samples % batch != 0)
    throw Error(
        ErrorKind::Option,
        "batch: with statistics of the batch, expected a number of samples that batches of " +
            std::to_string(batch) + " divide; received " + std::to_string(samples) +
            ": the last batch would be smaller and its statistics others; take " +
            (samples < batch ? "a smaller batch"
                             : std::to_string(samples / batch * batch) + " samples") +
            ", or another batch size");
  return batch;
}

void refuseMixedSamples(const Problem& problem, const char* what) {
  if (!onnx::usesBatchStatistics(*problem.model)) return;
  throw Error(
      ErrorKind::Option,
      std::string(what) +
          ": not defined with statistics of the batch: every sample's loss depends on all "
          "samples of its batch, so that there is no gradient of a single sample. The "
          "Hessian, its parts, the Gauss-Newton matrix, gradient and loss are; for the rest "
          "load the model with batchNorm \"running\"");
}

}  // namespace eigenscope
