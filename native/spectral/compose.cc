#include "spectral/compose.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "linalg/blas.h"

namespace eigenscope {

namespace {

[[noreturn]] void refuse(const std::string& message) { throw Error(ErrorKind::Option, message); }

const char* nameOf(Precision precision) {
  return precision == Precision::F32 ? "float32" : "float64";
}

void requireNumber(const char* what, double value) {
  if (!std::isfinite(value))
    refuse(std::string(what) + " must be a finite number, got " + std::to_string(value));
}

void requireOperator(const OperatorPtr& part) {
  if (!part) refuse("an operator was expected, got none");
}

// Runs a body written for one number type with the pointers of either.
template <class Body>
void typed(Precision precision, const void* x, void* y, Body body) {
  if (precision == Precision::F32)
    body(static_cast<const float*>(x), static_cast<float*>(y));
  else
    body(static_cast<const double*>(x), static_cast<double*>(y));
}

class Composed : public LinearOperator {
 public:
  explicit Composed(OperatorPtr part) : part_(std::move(part)) {}
  int64_t dim() const override { return part_->dim(); }
  Precision precision() const override { return part_->precision(); }
  std::span<const int64_t> index() const override { return part_->index(); }

 protected:
  OperatorPtr part_;
};

class Sum final : public Composed {
 public:
  explicit Sum(std::vector<OperatorPtr> parts) : Composed(parts[0]), parts_(std::move(parts)) {}

  void apply(const void* x, void* y, int64_t count, Task& task) override {
    parts_[0]->apply(x, y, count, task);
    std::vector<std::byte> term(dim() * count * bytesOf(precision()));
    for (std::size_t p = 1; p < parts_.size(); ++p) {
      task.check();
      parts_[p]->apply(x, term.data(), count, task);
      typed(precision(), term.data(), y, [&](auto* from, auto* to) {
        for (int64_t i = 0; i < dim() * count; ++i) to[i] += from[i];
      });
    }
  }

 private:
  std::vector<OperatorPtr> parts_;
};

// factor A + amount I, in one pass.
class Affine final : public Composed {
 public:
  Affine(OperatorPtr part, double factor, double amount)
      : Composed(std::move(part)), factor_(factor), amount_(amount) {}

  void apply(const void* x, void* y, int64_t count, Task& task) override {
    part_->apply(x, y, count, task);
    typed(precision(), x, y, [&](auto* from, auto* to) {
      using T = std::remove_pointer_t<decltype(to)>;
      for (int64_t i = 0; i < dim() * count; ++i)
        to[i] = static_cast<T>(factor_ * to[i] + amount_ * from[i]);
    });
  }

 private:
  double factor_, amount_;
};

class Restriction final : public Composed {
 public:
  Restriction(OperatorPtr part, std::vector<int64_t> coordinates)
      : Composed(std::move(part)), coordinates_(std::move(coordinates)), index_(coordinates_) {
    const std::span<const int64_t> outer = part_->index();
    if (!outer.empty())
      for (int64_t& i : index_) i = outer[i];
  }

  int64_t dim() const override { return coordinates_.size(); }
  std::span<const int64_t> index() const override { return index_; }

  void apply(const void* x, void* y, int64_t count, Task& task) override {
    const int64_t full = part_->dim(), size = dim();
    const std::size_t bytes = full * count * bytesOf(precision());
    std::vector<std::byte> in(bytes), out(bytes);
    typed(precision(), x, in.data(), [&](auto* from, auto* to) {
      for (int64_t j = 0; j < count; ++j)
        for (int64_t i = 0; i < size; ++i) to[j * full + coordinates_[i]] = from[j * size + i];
    });
    part_->apply(in.data(), out.data(), count, task);
    typed(precision(), out.data(), y, [&](auto* from, auto* to) {
      for (int64_t j = 0; j < count; ++j)
        for (int64_t i = 0; i < size; ++i) to[j * size + i] = from[j * full + coordinates_[i]];
    });
  }

 private:
  std::vector<int64_t> coordinates_, index_;
};

class Projection final : public Composed {
 public:
  Projection(OperatorPtr part, std::vector<uint8_t> mask)
      : Composed(std::move(part)), mask_(std::move(mask)) {}

  void apply(const void* x, void* y, int64_t count, Task& task) override {
    std::vector<std::byte> in(dim() * count * bytesOf(precision()));
    typed(precision(), x, in.data(), [&](auto* from, auto* to) { select(from, to, count); });
    part_->apply(in.data(), y, count, task);
    typed(precision(), y, y, [&](auto* from, auto* to) { select(from, to, count); });
  }

 private:
  template <class T>
  void select(const T* from, T* to, int64_t count) const {
    const int64_t size = dim();
    for (int64_t j = 0; j < count; ++j)
      for (int64_t i = 0; i < size; ++i) to[j * size + i] = mask_[i] ? from[j * size + i] : T{0};
  }

  std::vector<uint8_t> mask_;
};

template <class T>
class Dense final : public LinearOperator {
 public:
  Dense(const std::vector<double>& matrix, int64_t dim)
      : matrix_(matrix.begin(), matrix.end()), dim_(dim) {}

  int64_t dim() const override { return dim_; }
  Precision precision() const override { return precisionOf<T>(); }

  void apply(const void* x, void* y, int64_t count, Task& task) override {
    task.check();
    gemm('T', 'N', dim_, count, dim_, T{1}, matrix_.data(), dim_, static_cast<const T*>(x), dim_,
         T{0}, static_cast<T*>(y), dim_);
  }

 private:
  std::vector<T> matrix_;
  int64_t dim_;
};

// Computed in double whatever the precision: differences of it and another operator are taken.
template <class T>
class LowRank final : public LinearOperator {
 public:
  LowRank(std::vector<double> vectors, std::vector<double> weights, int64_t dim)
      : vectors_(std::move(vectors)), weights_(std::move(weights)), dim_(dim) {}

  int64_t dim() const override { return dim_; }
  Precision precision() const override { return precisionOf<T>(); }

  void apply(const void* x, void* y, int64_t count, Task& task) override {
    const auto rank = static_cast<int64_t>(weights_.size());
    const T* in = static_cast<const T*>(x);
    T* out = static_cast<T*>(y);
    std::vector<double> wide(static_cast<size_t>(dim_)), inner(static_cast<size_t>(rank));
    for (int64_t j = 0; j < count; ++j) {
      task.check();
      std::copy_n(in + j * dim_, dim_, wide.begin());
      gemv('T', dim_, rank, 1.0, vectors_.data(), dim_, wide.data(), 0.0, inner.data());
      for (int64_t k = 0; k < rank; ++k) inner[static_cast<size_t>(k)] *= weights_[k];
      gemv('N', dim_, rank, 1.0, vectors_.data(), dim_, inner.data(), 0.0, wide.data());
      std::copy_n(wide.begin(), dim_, out + j * dim_);
    }
  }

 private:
  const std::vector<double> vectors_, weights_;
  const int64_t dim_;
};

}  // namespace

OperatorPtr addOperators(std::vector<OperatorPtr> parts) {
  if (parts.empty()) refuse("a sum of operators needs at least one, got none");
  for (const OperatorPtr& part : parts) requireOperator(part);
  const LinearOperator& first = *parts[0];
  for (std::size_t p = 1; p < parts.size(); ++p) {
    const std::string which = "operator " + std::to_string(p) + " of the sum";
    if (parts[p]->dim() != first.dim())
      refuse(which + " has dimension " + std::to_string(parts[p]->dim()) + ", the first has " +
             std::to_string(first.dim()) + "; restrict both to the same parameters");
    if (parts[p]->precision() != first.precision())
      refuse(which + " is " + nameOf(parts[p]->precision()) + ", the first is " +
             nameOf(first.precision()) + "; make both in the same precision");
    if (!std::ranges::equal(parts[p]->index(), first.index()))
      refuse(which + " is over other parameters than the first; restrict both by the same mask");
  }
  return std::make_shared<Sum>(std::move(parts));
}

OperatorPtr scaleOperator(OperatorPtr part, double factor) {
  requireOperator(part);
  requireNumber("the factor of an operator", factor);
  return std::make_shared<Affine>(std::move(part), factor, 0.0);
}

OperatorPtr shiftOperator(OperatorPtr part, double amount) {
  requireOperator(part);
  requireNumber("the shift of an operator", amount);
  return std::make_shared<Affine>(std::move(part), 1.0, amount);
}

OperatorPtr restrictOperator(OperatorPtr part, std::vector<int64_t> coordinates) {
  requireOperator(part);
  if (coordinates.empty())
    refuse("a restriction needs at least one coordinate, got none; check the mask or the globs");
  std::vector<bool> seen(part->dim(), false);
  for (int64_t i : coordinates) {
    if (i < 0 || i >= part->dim())
      refuse("a restriction takes coordinates from 0 to " + std::to_string(part->dim() - 1) +
             ", got " + std::to_string(i));
    if (seen[i])
      refuse("a restriction takes each coordinate once, got " + std::to_string(i) + " twice");
    seen[i] = true;
  }
  return std::make_shared<Restriction>(std::move(part), std::move(coordinates));
}

std::vector<int64_t> coordinatesOf(std::span<const uint8_t> mask) {
  std::vector<int64_t> coordinates;
  for (std::size_t i = 0; i < mask.size(); ++i)
    if (mask[i]) coordinates.push_back(i);
  return coordinates;
}

OperatorPtr projectOperator(OperatorPtr part, std::vector<uint8_t> mask) {
  requireOperator(part);
  if (static_cast<int64_t>(mask.size()) != part->dim())
    refuse("the mask of a projection needs " + std::to_string(part->dim()) +
           " entries, one a coordinate, got " + std::to_string(mask.size()));
  return std::make_shared<Projection>(std::move(part), std::move(mask));
}

OperatorPtr denseOperator(std::vector<double> matrix, int64_t dim, Precision precision) {
  if (dim < 1 || static_cast<int64_t>(matrix.size()) != dim * dim)
    refuse("a dense operator of dimension " + std::to_string(dim) + " needs " +
           std::to_string(dim * dim) + " entries, got " + std::to_string(matrix.size()));
  if (precision == Precision::F32) return std::make_shared<Dense<float>>(matrix, dim);
  return std::make_shared<Dense<double>>(matrix, dim);
}

OperatorPtr lowRankOperator(std::vector<double> vectors, std::vector<double> weights, int64_t dim,
                            Precision precision) {
  if (dim < 1 || weights.empty() || vectors.size() != weights.size() * static_cast<size_t>(dim))
    refuse("a low-rank operator of dimension " + std::to_string(dim) + " with " +
           std::to_string(weights.size()) + " weights needs " +
           std::to_string(static_cast<int64_t>(weights.size()) * dim) + " numbers, got " +
           std::to_string(vectors.size()));
  if (precision == Precision::F32)
    return std::make_shared<LowRank<float>>(std::move(vectors), std::move(weights), dim);
  return std::make_shared<LowRank<double>>(std::move(vectors), std::move(weights), dim);
}

}  // namespace eigenscope
