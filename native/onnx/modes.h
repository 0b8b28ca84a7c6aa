#pragma once

#include <cstdint>
#include <optional>

#include "onnx/model.h"

namespace eigenscope::onnx {

// How the nodes act that have two ways to, one of training and one of inference.
struct Modes {
  // Statistics of BatchNormalization: as each node says, where batch statistics are refused; the
  // stored ones; or those of each batch.
  enum class Statistics { AsStored, Running, Batch };
  Statistics batchNorm = Statistics::AsStored;
  int64_t batch = 0;  // of Batch: samples of one batch; 0: the run says
  std::optional<uint64_t> dropout =
      std::nullopt;  // seed of the masks; none: Dropout is the identity
};

// Writes the modes into the nodes. A Dropout node's number is its place among those of the file, so
// this comes before anything is taken away.
void applyModes(Model& model, const Modes& modes);

// Whether a node normalises with statistics of the batch, so that samples depend on each other.
bool usesBatchStatistics(const Model& model);
// Whether Dropout has a mask.
bool usesDropout(const Model& model);

}  // namespace eigenscope::onnx
