#include "spectral/inverse.h"

#include <cstring>
#include <utility>

namespace eigenscope {

namespace {

// Keeps a call from reporting products of its own among those of the call that it belongs to.
class Silence {
 public:
  explicit Silence(Task& task) : task_(task), report_(std::exchange(task.report, nullptr)) {}
  ~Silence() { task_.report = std::move(report_); }
  Silence(const Silence&) = delete;
  Silence& operator=(const Silence&) = delete;

 private:
  Task& task_;
  std::function<void(const Progress&)> report_;
};

class Inverse final : public LinearOperator {
 public:
  Inverse(OperatorPtr part, SolveOptions options, bool lenient)
      : solver_(std::move(part), std::move(options)), lenient_(lenient) {}

  int64_t dim() const override { return solver_.op()->dim(); }
  Precision precision() const override { return solver_.op()->precision(); }
  std::span<const int64_t> index() const override { return solver_.op()->index(); }

  void apply(const void* x, void* y, int64_t count, Task& task) override {
    const Silence silence(task);
    const SolveResult result = solver_.solve(x, nullptr, count, task);
    if (!result.converged && !lenient_)
      throw Error(ErrorKind::NotConverged,
                  "a product of the inverse did not converge: " + result.reason);
    std::memcpy(y, result.solution.data(), result.solution.size());
  }

 private:
  LinearSolver solver_;
  const bool lenient_;
};

}  // namespace

OperatorPtr inverseOperator(OperatorPtr part, SolveOptions options, bool lenient) {
  if (!part) throw Error(ErrorKind::Option, "an operator was expected, got none");
  return std::make_shared<Inverse>(std::move(part), std::move(options), lenient);
}

}  // namespace eigenscope
