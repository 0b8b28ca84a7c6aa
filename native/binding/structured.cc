#include "binding/structured.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "binding/calls.h"
#include "binding/common.h"
#include "binding/job.h"
#include "binding/operator.h"
#include "binding/problem.h"
#include "curvature/kfac.h"

namespace eigenscope::binding {

StructuredLeaf::StructuredLeaf(Napi::Env env, std::shared_ptr<StructuredOperator> op)
    : operator_(std::move(op)),
      dim_(operator_->dim()),
      threads_(operator_->threads()),
      precision_(operator_->precision()),
      index_(operator_->index().begin(), operator_->index().end()),
      held_(operator_->heldBytes()),
      mailbox_(Mailbox::of(env)) {
  account(env);
}

StructuredLeaf::~StructuredLeaf() {
  const int64_t accounted = accounted_;
  if (accounted == 0) return;
  if (auto mailbox = mailbox_.lock())
    mailbox->post([accounted](Napi::Env env) {
      Napi::MemoryManagement::AdjustExternalMemory(env, -accounted);
    });
}

std::shared_ptr<StructuredOperator> StructuredLeaf::get() {
  std::lock_guard lock(mutex_);
  if (!operator_)
    throw Error(ErrorKind::Option, "the operator was disposed of; make it again to go on");
  return operator_;
}

void StructuredLeaf::apply(const void* x, void* y, int64_t count, Task& task) {
  get()->apply(x, y, count, task);
}

void StructuredLeaf::account(Napi::Env env) {
  const int64_t held = held_.load();
  if (held != accounted_)
    Napi::MemoryManagement::AdjustExternalMemory(env, held - std::exchange(accounted_, held));
}

void StructuredLeaf::free() {
  std::lock_guard lock(mutex_);
  operator_.reset();
  held_ = 0;
}

std::shared_ptr<StructuredLeaf> structuredOf(const OperatorPtr& op, const char* what) {
  auto leaf = std::dynamic_pointer_cast<StructuredLeaf>(op);
  if (!leaf)
    throw Error(ErrorKind::Option, std::string(what) +
                                       ": expected a structured operator, of kfac or "
                                       "structuredOperator; sums, restrictions and the like of "
                                       "one have no blocks");
  return leaf;
}

// ---- computations -----------------------------------------------------------------------------

namespace {

std::vector<Fields> rowsOf(const StructuredOperator& op) {
  std::vector<Fields> rows;
  for (const auto& entry : op.entries())
    rows.push_back(Fields{{"name", entry.name},
                          {"kind", std::string(entry.block->kind())},
                          {"size", entry.block->size()},
                          {"trace", entry.block->trace()},
                          {"frobenius", std::sqrt(entry.block->squares())}});
  return rows;
}

}  // namespace

// What costs no decomposition.
Work structuredBlocksCall(CallInputs& inputs) {
  const auto leaf = structuredOf(inputs.op(), "structuredBlocks");
  return [leaf](Task&) {
    const auto op = leaf->get();
    return Fields{{"trace", op->trace()}, {"frobenius", op->frobenius()}, {"blocks", rowsOf(*op)}};
  };
}

// All eigenvalues block by block, descending in each.
Work structuredEigenvaluesCall(CallInputs& inputs) {
  const auto leaf = structuredOf(inputs.op(), "structuredEigenvalues");
  return [leaf](Task& task) {
    const auto op = leaf->get();
    std::vector<double> values;
    values.reserve(static_cast<std::size_t>(op->dim()));
    for (const auto& own : op->eigenvalues(task))
      values.insert(values.end(), own.begin(), own.end());
    return Fields{{"values", std::move(values)}};
  };
}

// {damping}: of the damped operator.
Work structuredDeterminantCall(CallInputs& inputs) {
  const auto leaf = structuredOf(inputs.op(), "structuredDeterminant");
  const double damping = inputs.options().number("damping", 0);
  return [leaf, damping](Task& task) {
    const auto determinant = leaf->get()->determinant(damping, task);
    return Fields{{"sign", static_cast<int64_t>(determinant.sign)}, {"logAbs", determinant.logAbs}};
  };
}

// {block}: what a block is made of.
Work structuredPartsCall(CallInputs& inputs) {
  const auto leaf = structuredOf(inputs.op(), "structuredParts");
  const int64_t block = inputs.options().integer("block", 0);
  return [leaf, block](Task&) {
    const auto op = leaf->get();
    if (block < 0 || block >= static_cast<int64_t>(op->entries().size()))
      throw Error(ErrorKind::Option, "block: expected 0 to " +
                                         std::to_string(op->entries().size() - 1) + ", got " +
                                         std::to_string(block));
    const auto& entry = op->entries()[static_cast<std::size_t>(block)];
    std::vector<Fields> parts;
    for (auto& part : entry.block->parts())
      parts.push_back(Fields{{"name", part.name}, {"shape", part.shape}, {"values", part.values}});
    const std::vector<double> coordinates(entry.coordinates.begin(), entry.coordinates.end());
    return Fields{{"coordinates", coordinates}, {"parts", std::move(parts)}};
  };
}

// ---- making one -------------------------------------------------------------------------------

namespace {

constexpr NameRow kTypes[] = {{"type-2", static_cast<int>(OperatorKind::FisherType2)},
                              {"mc", static_cast<int>(OperatorKind::FisherMc)},
                              {"empirical", static_cast<int>(OperatorKind::FisherEmpirical)}};
constexpr NameRow kSharing[] = {{"expand", static_cast<int>(Sharing::Expand)},
                                {"reduce", static_cast<int>(Sharing::Reduce)}};
constexpr NameRow kOthers[] = {{"error", static_cast<int>(OthersBlock::Refuse)},
                               {"identity", static_cast<int>(OthersBlock::Identity)},
                               {"diagonal", static_cast<int>(OthersBlock::Diagonal)}};
constexpr NameRow kDamping[] = {{"exact", static_cast<int>(Damping::Exact)},
                                {"heuristic", static_cast<int>(Damping::Heuristic)}};

Napi::Object wrapStructured(Napi::Env env, std::shared_ptr<StructuredOperator> op) {
  const LeafPtr leaf = std::make_shared<StructuredLeaf>(env, std::move(op));
  return wrapOperator(env, {leaf, {leaf}});
}

// kfacOperator(model, data, loss, options, onProgress): {operator, report}
Napi::Value kfacOperator(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto problem = problemOf(info[0], info[1], info[2], true);
    const Options given(info[3], "kfac");
    KfacOptions options;
    static_cast<RunOptions&>(options) = runOptionsOf(info[3]);
    options.kind = oneOf<OperatorKind>(given, "type", kTypes, "type-2");
    options.sharing = oneOf<Sharing>(given, "sharing", kSharing, "expand");
    options.others = oneOf<OthersBlock>(given, "others", kOthers, "error");
    options.corrected = given.boolean("eigenvalueCorrected", false);
    options.joint = given.boolean("joint", false);
    options.tensors = given.integers("tensors");
    options.draws = given.integer("draws", options.draws);
    options.seed = given.natural("seed", options.seed);
    auto made = std::make_shared<Kfac>();
    Call call;
    call.work = [=](Task& task) { *made = kfac(problem, options, task); };
    call.result = [made](Napi::Env env) -> Napi::Value {
      Napi::Object result = Napi::Object::New(env);
      result.Set("operator", wrapStructured(env, std::move(made->op)));
      result.Set("report", reportOf(env, made->report));
      return result;
    };
    return start(info.Env(), std::move(call), info[4]);
  });
}

// structuredInverse(operator, {damping, how}, onProgress): an operator
Napi::Value structuredInverse(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto leaf = structuredOf(composedOf(info[0]).op, "inverse");
    const Options given(info[1], "inverse");
    const double damping = given.number("damping", 0);
    const auto how = oneOf<Damping>(given, "how", kDamping, "exact");
    auto usage = std::make_shared<Usage>(composedOf(info[0]).leaves);
    auto made = std::make_shared<std::shared_ptr<StructuredOperator>>();
    Call call;
    call.holds.push_back(info[0]);
    call.work = [=](Task& task) {
      (void)usage;
      *made = leaf->get()->inverse(damping, how, task);
    };
    call.result = [made](Napi::Env env) -> Napi::Value {
      return wrapStructured(env, std::move(*made));
    };
    return start(info.Env(), std::move(call), info[2]);
  });
}

std::vector<double> copied(const Options& given, const char* name) {
  const View view = viewOf(given.get(name), std::string("blocks: ") + name, napi_float64_array);
  const auto values = view.as<const double>();
  return {values.begin(), values.end()};
}

// structuredOperator(like, blocks): of the dimension, precision and parameters of another operator.
// A block is {name, indices, diagonal} or {name, indices, matrix, semiDefinite}.
Napi::Value structuredOperator(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Composed& like = composedOf(info[0]);
    std::vector<StructuredOperator::Entry> entries;
    Napi::Array blocks = info[1].As<Napi::Array>();
    for (uint32_t i = 0; i < blocks.Length(); ++i) {
      const Options given(blocks.Get(i), "blocks");
      StructuredOperator::Entry entry;
      entry.name = given.string("name", "block " + std::to_string(i));
      entry.coordinates = given.integers("indices");
      const auto size = static_cast<int64_t>(entry.coordinates.size());
      std::vector<double> values = copied(given, given.has("matrix") ? "matrix" : "diagonal");
      const int64_t wanted = given.has("matrix") ? size * size : size;
      if (static_cast<int64_t>(values.size()) != wanted)
        throw Error(ErrorKind::Option, "blocks: " + entry.name + ": expected " +
                                           std::to_string(wanted) + " numbers for " +
                                           std::to_string(size) + " indices, got " +
                                           std::to_string(values.size()));
      entry.block = given.has("matrix")
                        ? denseBlock(size, std::move(values), given.boolean("semiDefinite", false))
                        : diagonalBlock(std::move(values));
      entries.push_back(std::move(entry));
    }
    int threads = 1;
    for (const LeafPtr& leaf : like.leaves) threads = std::max(threads, leaf->threads());
    const auto index = like.op->index();
    return wrapStructured(info.Env(),
                          std::make_shared<StructuredOperator>(
                              std::move(entries), like.op->dim(), like.op->precision(),
                              std::vector<int64_t>(index.begin(), index.end()), threads));
  });
}

}  // namespace

void exportStructured(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*f)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, f, name));
  };
  add("kfacOperator", kfacOperator);
  add("structuredInverse", structuredInverse);
  add("structuredOperator", structuredOperator);
}

}  // namespace eigenscope::binding
