#include "onnx/table.h"

#include <algorithm>

namespace eigenscope::onnx {

const char* nameOf(Grade grade) {
  static constexpr const char* kNames[] = {"smooth", "piecewise", "zero", "fold"};
  return kNames[static_cast<size_t>(grade)];
}

const std::vector<Operator>& operators() {
  static const std::vector<Operator> all = [] {
    std::vector<Operator> rows;
    for (auto group : {elementwiseOperators(), linearOperators(), convOperators(), poolOperators(),
                       normalizationOperators(), reduceOperators(), shapeOperators(),
                       indexOperators(), lossOperators()})
      rows.insert(rows.end(), group.begin(), group.end());
    std::sort(rows.begin(), rows.end(), [](const Operator& a, const Operator& b) {
      return a.name != b.name ? a.name < b.name : a.since < b.since;
    });
    return rows;
  }();
  return all;
}

const Operator* findOperator(const NodeDef& node, int64_t opset, std::string& reason) {
  if (!node.domain.empty() && node.domain != "ai.onnx") {
    reason = "operators of the domain " + node.domain + " are not supported";
    return nullptr;
  }
  reason = "no lowering exists for this operator";
  for (const Operator& row : operators()) {
    if (row.name != node.op) continue;
    if (opset < row.since || opset > row.until) {
      reason = "its form in opset " + std::to_string(opset) + " is not supported";
      continue;
    }
    reason = row.refuse ? row.refuse(node) : "";
    return reason.empty() ? &row : nullptr;
  }
  return nullptr;
}

}  // namespace eigenscope::onnx
