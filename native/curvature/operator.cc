#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "curvature/engine.h"
#include "curvature/mixing.h"
#include "curvature/prepare.h"
#include "curvature/problem.h"

namespace eigenscope {

namespace {

// Directions that one program takes at most; more are cut into blocks. Beyond this a wider block
// gains nothing (the matrix products are wide already) and costs memory.
constexpr int64_t kDirections = 16;

template <class T>
bool allFinite(const T* values, int64_t n) {
  return std::all_of(values, values + n, [](T value) { return std::isfinite(value); });
}

class ProductOperator : public CurvatureOperator {
 public:
  ProductOperator(std::shared_ptr<const Problem> problem, const OperatorOptions& options)
      : problem_(std::move(problem)), options_(options) {
    if (options_.tensors.empty()) {
      options_.tensors.resize(problem_->parameters.size());
      std::iota(options_.tensors.begin(), options_.tensors.end(), 0);
    }
    for (int64_t i : options_.tensors) dim_ += problem_->parameters.at(i).size;
    if (dim_ == 0)
      throw Error(ErrorKind::Option,
                  "parameters: expected at least one tensor to differentiate by; none was chosen, "
                  "or the model has none");
    if (options_.kind == OperatorKind::FisherMc && options_.draws < 1)
      throw Error(ErrorKind::Option,
                  "draws: expected at least 1; received " + std::to_string(options_.draws));
    if (options_.kind == OperatorKind::FisherMc)
      refuseMixedSamples(*problem_, "the mc Fisher matrix");
    if (options_.kind == OperatorKind::FisherEmpirical)
      refuseMixedSamples(*problem_, "the empirical Fisher matrix");
    Prepared prepared = prepare(*problem_);
    targets_ = std::move(prepared.targets);
    for (int64_t i : options_.tensors) {
      const auto& parameter = problem_->parameters.at(i);
      for (int64_t j = 0; j < parameter.size; ++j) index_.push_back(parameter.offset + j);
    }
    if (static_cast<size_t>(dim_) == index_.size() && index_.front() == 0 &&
        index_.back() == dim_ - 1)
      index_.clear();
    engine_ = std::make_unique<Engine>(
        problem_, options_, prepared.fixedBatch, options_.tensors,
        [this](const Rows& rows, int64_t k) {
          return buildProduct(*problem_, targets_, options_, rows, k);
        },
        kDirections);
  }

  int64_t dim() const override { return dim_; }
  Precision precision() const override { return options_.precision; }
  std::span<const int64_t> index() const override { return index_; }

  void apply(const void* x, void* y, int64_t count, Task& task) override {
    engine_->product(x, y, count, productScale(*problem_, targets_, options_.kind), task);
    const bool finite = options_.precision == Precision::F32
                            ? allFinite(static_cast<const float*>(y), count * dim_)
                            : allFinite(static_cast<const double*>(y), count * dim_);
    if (finite) return;
    evaluateRisk(*problem_, options_, false, task);  // names the sample where the loss is to blame
    throw Error(ErrorKind::DataMismatch,
                "a product of the operator is not finite although the loss is: a derivative of the "
                "network is infinite or too large for the precision; try float64, and look for "
                "roots, powers and quotients at 0");
  }

  OperatorReport report() const override { return engine_->report(); }
  std::string printPlan() const override { return engine_->printPlan(); }
  int64_t heldBytes() const override { return engine_->heldBytes(); }

 private:
  std::shared_ptr<const Problem> problem_;
  OperatorOptions options_;
  TargetPlan targets_;
  int64_t dim_ = 0;
  std::vector<int64_t> index_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace

std::shared_ptr<CurvatureOperator> makeOperator(std::shared_ptr<const Problem> problem,
                                                const OperatorOptions& options) {
  return std::make_shared<ProductOperator>(std::move(problem), options);
}

}  // namespace eigenscope
