#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "onnx/lower_value.h"
#include "onnx/model.h"

namespace eigenscope::onnx {

using Results = std::vector<Value>;  // one a node output; later ones may be left out

// A model whose inputs were exported with a fixed batch, bound to another one.
struct StaticBatch {
  int64_t declared = 0, bound = 0;
  bool active() const { return declared != bound; }
};

// One ONNX node while it is lowered: what a lowering function is given.
class Call {
 public:
  Call(Builder& builder, const NodeDef& node, int64_t opset, std::vector<Value> inputs,
       std::vector<bool> present, bool onlyUse, bool fold, const StaticBatch& batch, int64_t rows,
       std::vector<std::string>& warnings)
      : b(builder),
        node(node),
        opset(opset),
        onlyUse(onlyUse),
        fold(fold),
        batch(batch),
        rows(rows),
        inputs_(std::move(inputs)),
        present_(std::move(present)),
        warnings_(warnings) {}

  Builder& b;
  const NodeDef& node;
  const int64_t opset;
  const bool onlyUse;  // no other node reads the first input
  const bool fold;     // a normalisation may go into the weights of the linear map before it
  const StaticBatch& batch;
  const int64_t rows;  // samples that the graph is lowered for

  size_t inputs() const { return inputs_.size(); }
  bool has(size_t i) const { return i < inputs_.size() && present_[i]; }
  const Value& in(size_t i) const;  // throws where it is absent
  Shape shape(size_t i) const { return b.shape(in(i)); }
  int64_t rank(size_t i) const { return b.rank(in(i)); }

  bool hasAttribute(const char* name) const { return node.attributes.count(name) > 0; }
  int64_t integer(const char* name, int64_t fallback) const;
  double number(const char* name, double fallback) const;
  std::string text(const char* name, const char* fallback) const;
  Axes ints(const char* name, const Axes& fallback = {}) const;

  // A known input as integers. Throws UnsupportedOperator where it depends on data or parameters.
  Axes known(size_t i) const;
  // What was an attribute in old opsets and is an input in new ones; nullopt where absent.
  std::optional<Axes> setting(const char* attribute, size_t input) const;
  std::optional<double> knownNumber(size_t i) const;

  [[noreturn]] void mismatch(const std::string& message) const {
    throw Error(ErrorKind::DataMismatch, message);
  }
  [[noreturn]] void unsupported(const std::string& message) const {
    throw Error(ErrorKind::UnsupportedOperator, message);
  }
  void warn(const std::string& message) const;

 private:
  std::vector<Value> inputs_;
  std::vector<bool> present_;
  std::vector<std::string>& warnings_;
};

// "fc1" (Gemm), or the output where the node has no name.
std::string describe(const NodeDef& node);

}  // namespace eigenscope::onnx
