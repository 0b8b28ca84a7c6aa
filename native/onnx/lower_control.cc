#include "onnx/table.h"

// Control flow, which is written out when a model is read (lib/model/control.ts): the nodes of both
// branches of an If come before it, and loops are gone.
namespace eigenscope::onnx {

namespace {

// The condition, then the results of both branches; those of the branch not taken have no value.
Results chosen(Call& c) {
  const Value& condition = c.in(0);
  if (!condition.known() || condition.host->size() != 1)
    c.unsupported("its condition (\"" + c.node.in[0] +
                  "\") depends on data or parameters; only conditions on shapes and constants are "
                  "taken");
  const size_t each = (c.inputs() - 1) / 2;
  const size_t first = condition.host->at(0) != 0 ? 1 : 1 + each;
  Results results;
  for (size_t i = 0; i < each; ++i) results.push_back(c.has(first + i) ? c.in(first + i) : Value());
  return results;
}

std::string refuseLoop(const NodeDef& node) {
  auto reason = node.attributes.find("refused");
  return reason == node.attributes.end() || reason->second.strings.empty()
             ? "it was not written out"
             : reason->second.strings[0];
}

Results writtenOut(Call& c) { c.unsupported(refuseLoop(c.node)); }

const Operator kTable[] = {
    {.name = "If",
     .lower = chosen,
     .outputs = kAnyOutputs,
     .sequences = true,
     .limits = "a condition on shapes and constants"},
    {.name = "Loop",
     .lower = writtenOut,
     .outputs = kAnyOutputs,
     .sequences = true,
     .limits = "a trip count that the file stores, of at most 4,096; no condition of its own",
     .refuse = refuseLoop},
    {.name = "Scan",
     .lower = writtenOut,
     .outputs = kAnyOutputs,
     .sequences = true,
     .limits = "a length that the file fixes, of at most 4,096",
     .refuse = refuseLoop},
};

}  // namespace

std::span<const Operator> controlOperators() { return kTable; }

}  // namespace eigenscope::onnx
