#include "onnx/modes.h"

#include <algorithm>

namespace eigenscope::onnx {

namespace {

bool normalisesBatches(const NodeDef& node) {
  return node.domain.empty() &&
         (node.op == "BatchNormalization" || node.op == "MeanVarianceNormalization");
}

Attribute whole(int64_t value) {
  Attribute attribute;
  attribute.ints = {value};
  return attribute;
}

}  // namespace

void applyModes(Model& model, const Modes& modes) {
  int64_t number = 0;
  for (NodeDef& node : model.nodes) {
    if (modes.batchNorm != Modes::Statistics::AsStored && normalisesBatches(node)) {
      node.ofBatch = modes.batchNorm == Modes::Statistics::Batch;
      if (node.op == "BatchNormalization") {
        node.attributes.erase("training_mode");
        if (model.opset < 7) node.attributes["is_test"] = whole(1);
      }
    }
    if (node.op != "Dropout" || !node.domain.empty()) continue;
    if (modes.dropout) node.mask = MaskKey{*modes.dropout, number};
    ++number;
  }
  model.statisticsBatch = modes.batch;
}

bool usesBatchStatistics(const Model& model) {
  return std::any_of(model.nodes.begin(), model.nodes.end(), [](const NodeDef& node) {
    if (!node.ofBatch) return false;
    if (node.op == "BatchNormalization") return true;
    auto axes = node.attributes.find("axes");
    if (axes == node.attributes.end()) return true;  // 0, 2, 3
    const auto& ints = axes->second.ints;
    // Negative axes are counted from an end that only shapes tell.
    return std::any_of(ints.begin(), ints.end(), [](int64_t axis) { return axis <= 0; });
  });
}

bool usesDropout(const Model& model) {
  return std::any_of(model.nodes.begin(), model.nodes.end(),
                     [](const NodeDef& node) { return node.mask.has_value(); });
}

}  // namespace eigenscope::onnx
