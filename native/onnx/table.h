#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "onnx/lower.h"

namespace eigenscope::onnx {

// How a derivative passes through an operator.
enum class Grade {
  Smooth,     // by those of the primitives it becomes
  Piecewise,  // the same, with the kinks of docs/conventions.md
  Zero,       // integer-valued or piecewise constant: the derivative is 0
  Fold,       // evaluated while the model is read; its inputs must not depend on data or parameters
};
const char* nameOf(Grade grade);

// Forms of the newest opset are taken for later ones too, with a warning when a file is read. Rows
// from kFirstOpset on have had the same form ever since; other forms before kOldestOpset are not
// known.
inline constexpr int kOldestOpset = 6, kFirstOpset = 1, kNewestOpset = 28, kAnyOutputs = 1 << 20;

// One ONNX operator, or one form of it. To add an operator: a row in the table of its group, and
// beside it a function that says it in values (onnx/lower_value.h). Derivatives follow.
struct Operator {
  std::string_view name;
  std::string_view domain = {};  // "" for ONNX's own
  Grade grade = Grade::Smooth;
  Results (*lower)(Call&) = nullptr;
  int since = kOldestOpset, until = kNewestOpset;
  int outputs = 1;               // outputs that may be used
  bool sequences = false;        // takes a sequence of tensors
  std::string_view limits = {};  // what of ONNX's definition is not taken, for people
  // The reason why this node is not taken, or "". Sees attributes only: shapes come later.
  std::string (*refuse)(const NodeDef& node) = nullptr;

  std::string fullName() const { return qualified(std::string(domain), std::string(name)); }
};

// The groups, each in its own file with its functions.
std::span<const Operator> elementwiseOperators();
std::span<const Operator> linearOperators();
std::span<const Operator> convOperators();
std::span<const Operator> poolOperators();
std::span<const Operator> normalizationOperators();
std::span<const Operator> reduceOperators();
std::span<const Operator> shapeOperators();
std::span<const Operator> indexOperators();
std::span<const Operator> scatterOperators();
std::span<const Operator> recurrentOperators();
std::span<const Operator> resizeOperators();
std::span<const Operator> attentionOperators();
std::span<const Operator> controlOperators();
std::span<const Operator> dropoutOperators();
std::span<const Operator> samplingOperators();
std::span<const Operator> lossOperators();
std::span<const Operator> microsoftOperators();

// All rows, by domain, name and opset.
const std::vector<Operator>& operators();

// The row for this node, or null with the reason.
const Operator* findOperator(const NodeDef& node, int64_t opset, std::string& reason);

}  // namespace eigenscope::onnx
