#include "onnx/table.h"

#include <algorithm>
#include <tuple>

namespace eigenscope::onnx {

const char* nameOf(Grade grade) {
  static constexpr const char* kNames[] = {"smooth", "piecewise", "zero", "fold"};
  return kNames[static_cast<size_t>(grade)];
}

const std::vector<Operator>& operators() {
  static const std::vector<Operator> all = [] {
    std::vector<Operator> rows;
    for (auto group :
         {elementwiseOperators(), linearOperators(), convOperators(), poolOperators(),
          normalizationOperators(), reduceOperators(), shapeOperators(), indexOperators(),
          scatterOperators(), recurrentOperators(), resizeOperators(), attentionOperators(),
          controlOperators(), dropoutOperators(), lossOperators(), samplingOperators(),
          microsoftOperators()})
      rows.insert(rows.end(), group.begin(), group.end());
    std::sort(rows.begin(), rows.end(), [](const Operator& a, const Operator& b) {
      return std::tie(a.domain, a.name, a.since) < std::tie(b.domain, b.name, b.since);
    });
    return rows;
  }();
  return all;
}

const Operator* findOperator(const NodeDef& node, int64_t opset, std::string& reason) {
  bool knownDomain = false;
  reason = "no lowering exists for this operator";
  for (const Operator& row : operators()) {
    if (row.domain != node.domain) continue;
    knownDomain = true;
    if (row.name != node.op) continue;
    if (opset < row.since || (opset > row.until && row.until < kNewestOpset)) {
      reason = "its form in opset " + std::to_string(opset) + " is not supported";
      if (opset < kOldestOpset)
        reason +=
            "; export the model again with opset_version=17, or convert it with "
            "onnx.version_converter";
      continue;
    }
    reason = row.refuse ? row.refuse(node) : "";
    return reason.empty() ? &row : nullptr;
  }
  if (!knownDomain) reason = "operators of the domain " + node.domain + " are not supported";
  return nullptr;
}

}  // namespace eigenscope::onnx
