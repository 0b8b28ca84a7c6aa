#pragma once

#include <napi.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "binding/leaf.h"
#include "spectral/structured.h"

namespace eigenscope::binding {

// An operator whose blocks the core holds.
class StructuredLeaf : public Leaf {
 public:
  StructuredLeaf(Napi::Env env, std::shared_ptr<StructuredOperator> op);
  ~StructuredLeaf() override;

  int64_t dim() const override { return dim_; }
  int threads() const override { return threads_; }
  Precision precision() const override { return precision_; }
  std::span<const int64_t> index() const override { return index_; }
  void apply(const void* x, void* y, int64_t count, Task& task) override;

  // While a call is registered with the leaf.
  std::shared_ptr<StructuredOperator> get();

  void account(Napi::Env env) override;

 protected:
  void free() override;

 private:
  std::mutex mutex_;
  std::shared_ptr<StructuredOperator> operator_;
  const int64_t dim_;
  const int threads_;
  const Precision precision_;
  const std::vector<int64_t> index_;
  std::atomic<int64_t> held_;
  int64_t accounted_ = 0;
  const std::weak_ptr<Mailbox> mailbox_;
};

// Of a leaf; throws Error (Option) where the operator is of another kind.
std::shared_ptr<StructuredLeaf> structuredOf(const OperatorPtr& op, const char* what);

// exports.kfacOperator, structuredInverse, structuredOperator; see lib/native.ts.
void exportStructured(Napi::Env env, Napi::Object exports);

}  // namespace eigenscope::binding
